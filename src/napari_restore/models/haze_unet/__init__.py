"""A small convolutional network for haze."""
