"""Layers: how images and results are shown, and where they lie."""
