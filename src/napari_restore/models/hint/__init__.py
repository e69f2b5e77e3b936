"""HINT in two sizes."""
