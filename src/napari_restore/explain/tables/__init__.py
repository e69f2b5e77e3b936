"""Tables of the measures of many attributions, by image, box and model."""
