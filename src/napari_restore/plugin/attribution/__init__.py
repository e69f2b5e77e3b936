"""The Attribution tab: which pixels of the image made a part of the result."""
