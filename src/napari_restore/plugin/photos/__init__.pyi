from ._photo_strip import PhotoStrip

__all__ = ["PhotoStrip"]
