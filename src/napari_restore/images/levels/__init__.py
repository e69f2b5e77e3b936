"""Levels of an image: halved, built, streamed, shown."""
