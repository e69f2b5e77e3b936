from ._photos_view import PhotosView

__all__ = ["PhotosView"]
