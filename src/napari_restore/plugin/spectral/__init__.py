"""What the bands of a map tell: combinations of them on the screen, indices, and spectra."""
