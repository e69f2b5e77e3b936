"""Polygons, gradients and painted masks, read and stored."""
