"""Outputs of a model and their gradients with respect to the pixels, tile by tile."""
