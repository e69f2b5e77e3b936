"""Attention views: what each head of a network looks at for one place of an image."""
