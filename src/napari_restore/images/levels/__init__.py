"""Pyramid levels of an image: halved, built, streamed, shown."""
