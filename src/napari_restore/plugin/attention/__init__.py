"""Attention: what each head of a network looks at for a pixel, in a tab of its own."""
