"""Reader of AVIF photos through Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._profile import Profile
from napari_restore.images._reader import first_of
from napari_restore.images._source import Level
from napari_restore.images.files import (
    EXIF_HEADER,
    check_whole_size,
    orientation_of,
    sidecar_xmp,
)
from napari_restore.images.readers._jpeg import decoder_errors
from napari_restore.images.readers._whole import WholeReader

BRANDS = frozenset((b"avif", b"avis"))
"""Kinds of file (AV1 Image File Format) that AVIF photos name as their own."""
CHUNK = 512


class AvifReader(WholeReader):
    """A photo (H, W, 3 or 4) uint8, before its orientation; decoded once, as a whole."""

    PRIORITY: ClassVar[int] = 30
    random_access = False

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        return head[4:8] == b"ftyp" and head[8:12] in BRANDS

    def __init__(self, path: Path, head: bytes = b"") -> None:
        super().__init__(path)
        with decoder_errors(path), _opened(path) as photo:
            width, height = photo.size
            info, pictures = dict(photo.info), int(getattr(photo, "n_frames", 1))
            has_alpha = photo.mode == "RGBA"
            # With the file's own turns, which Pillow adds to it.
            exif = photo.getexif().tobytes() if photo.getexif() else b""
        self.bands, self.dtype = 4 if has_alpha else 3, np.dtype(np.uint8)
        self.block_bytes = height * width * self.bands
        check_whole_size(path.name, self.block_bytes)
        self.levels = (Level(height, width, min(CHUNK, height), min(CHUNK, width)),)
        self.notes += first_of(pictures)
        self.may_be_invalid = has_alpha
        stored = EXIF_HEADER + (info.get("exif") or exif).removeprefix(EXIF_HEADER)
        colours = ("red", "green", "blue")
        self.profile = Profile(
            driver="AVIF",
            colorinterp=(*colours, "alpha") if has_alpha else colours,
            masks="alpha" if has_alpha else "none",
            icc=info.get("icc_profile") or None,
            exif=stored if stored != EXIF_HEADER else None,
            xmp=sidecar_xmp(path) or info.get("xmp") or None,
            orientation=orientation_of(exif),
            is_display=True,
        )

    def _decode(self) -> npt.NDArray[Any]:
        with decoder_errors(self.path), _opened(self.path) as photo:
            pixels = np.asarray(photo)
        if pixels.shape != (*self.levels[0][:2], self.bands):
            raise UnreadableImage(f"{self.path.name} has changed.", "Open it again.")
        return pixels


def _opened(path: Path) -> Any:
    """Return Pillow's picture, not decoded yet."""
    from PIL.AvifImagePlugin import AvifImageFile

    # The class itself, not Image.open: that refuses large images by their size.
    return AvifImageFile(path)
