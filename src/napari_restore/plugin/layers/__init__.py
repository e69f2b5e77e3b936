"""Layers of images and results: their pixels, display, place, order and names."""
