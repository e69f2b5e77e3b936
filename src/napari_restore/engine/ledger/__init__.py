"""Tiles on disk while a run lasts: the store, its journal and its lock."""
