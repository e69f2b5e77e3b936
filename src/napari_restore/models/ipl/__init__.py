"""IPL in two sizes."""
