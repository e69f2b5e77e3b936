"""Attention views: what each head of a network attends to for one query."""
