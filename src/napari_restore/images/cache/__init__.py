"""Caches: decoded chunks in memory, finished levels on disk."""
