"""What is computed once from a whole image, and which bands a model sees."""
