"""anDehazeFormer, a normalised transformer with a global cache."""
