"""Restore huge images region by region, and attribute a restoration to its input."""

import lazy_loader

_lazily, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Return what the stub offers, or the version that was installed, when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-restore")
    return _lazily(name)


# Sub-packages are attributes, too, but no part of the public interface.
_PARTS = {"api", "engine", "errors", "images", "questions", "records"}
__all__ = ["__version__", *sorted({*_names} - _PARTS)]
