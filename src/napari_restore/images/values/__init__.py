"""Meaning of values: roles of bands, sensors, colours, validity, conversion to a model's range."""
