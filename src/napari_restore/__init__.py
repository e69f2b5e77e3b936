"""Restore huge images region by region, and attribute a restoration to its input."""

import lazy_loader

_lazily, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Return what the stub offers, or the version that was installed, when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-restore")
    return _lazily(name)


# Sub-packages are attributes, too, but no part of the public interface.
__all__ = [
    "Region",
    "__version__",
    "attend",
    "attribute",
    "attribute_table",
    "band_math",
    "band_math_change",
    "brackets",
    "connect",
    "fuse",
    "info",
    "load_model",
    "open_bracket",
    "open_image",
    "plan",
    "rerun",
    "restore",
    "start",
]
