"""Haze from the whole image: a network on the overview, then pixelwise inversion."""
