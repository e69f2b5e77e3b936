"""Synthetic haze, training, and evaluation of the shipped weights."""
