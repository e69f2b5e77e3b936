"""What values mean: roles of bands, sensors, colours, validity, the way to a model's range."""
