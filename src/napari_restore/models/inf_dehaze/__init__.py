"""Inf-Dehaze in four sizes."""
