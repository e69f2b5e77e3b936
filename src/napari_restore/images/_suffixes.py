"""Suffixes by which files are taken for images in a folder, and offered to the window."""

from __future__ import annotations

from typing import Final

IMAGE_SUFFIXES: Final = frozenset(
    ".tif .tiff .jp2 .vrt .img .png .jpg .jpeg .webp .exr .heic .heif .hif "
    ".dng .cr2 .cr3 .nef .arw .orf .raf .rw2 .zarr".split()
)
"""In lower case. A file that is named is opened whatever its suffix; `napari.yaml` has the same."""
