"""Reader of camera RAW through rawpy: developed once, with neutral settings, to 16 bits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import open_file
from napari_restore.errors import UnreadableImage
from napari_restore.images._reader import extended, strip_level
from napari_restore.images._source import Box
from napari_restore.images._suffixes import RAW_SUFFIXES
from napari_restore.images.files.claims import check_whole_size
from napari_restore.images.files.raw import dng_crop, raw_tags
from napari_restore.images.readers._whole import Picture, WholeReader
from napari_restore.images.values.facts import resolve
from napari_restore.images.values.working_space import srgb_profile

LEAST = 0.45
"""Share of a side that a crop keeps at least; LibRaw, too, takes smaller ones for errors."""


class RawReader(WholeReader):
    """A developed photo (H, W, 3) uint16 in sRGB, upright; (H, W, 1) of a sensor without colours.

    White balance as shot or as given, sRGB curve, no automatic brightening: the measured values, only
    made visible. The settings are recorded under the tag "RAW".
    """

    KIND = "a RAW photo"
    REPAIR = "Check the file, or develop it to a 16-bit TIFF with another program."

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        if path.suffix.lower() not in RAW_SUFFIXES or not head:
            return False
        # ENVI's flat files are called .raw as well.
        return path.suffix.lower() != ".raw" or not path.with_suffix(".hdr").is_file()

    balance: tuple[float, ...]
    """Factors of red, green, blue and the second green."""

    def __init__(
        self, path: Path, head: bytes = b"", balance: Sequence[float] | None = None
    ) -> None:
        self._is_as_shot, self.balance = balance is None, tuple(map(float, balance or ()))
        super().__init__(path)
        level, self.random_access = strip_level(*self.levels[0][:2], 2 * self.bands)
        self.levels = (level,)
        # The mosaic of the sensor, and the picture made of it.
        self.block_bytes = 8 * math.prod(self._developed)

    def _header(self) -> Picture:
        with _opened(self.path) as raw:
            stated, baseline = dng_crop(self.path, (raw.sizes.raw_height, raw.sizes.raw_width))
            self._developed, self._box = picture_in(raw.sizes, stated)
            check_whole_size(self.path.name, 6 * math.prod(self._developed))
            colours = ("gray",) if raw.num_colors == 1 else ("red", "green", "blue")
            if self._is_as_shot:
                self.balance = tuple(map(float, raw.camera_whitebalance))
                self.notes.append("RAW was developed with the white balance as shot, in sRGB.")
        y0, x0, y1, x1 = self._box
        height, width = y1 - y0, x1 - x0
        size = resolve([("default crop", (height, width)), ("sensor", self._developed)])
        self.notes += size.disputes("size", lambda sides: f"{sides[1]} × {sides[0]}")
        if baseline:
            ev = f"{baseline:+.3g}".replace("-", "−")
            self.notes.append(
                f"Its baseline exposure of {ev} EV is left out: values are as measured."
            )
        tags = raw_tags(self.path)
        settings = {
            "white_balance": ("as shot " if self._is_as_shot else "")
            + " ".join(f"{v:g}" for v in self.balance),
            "color_space": "sRGB",
            "gamma": "sRGB curve (2.4, 12.92)",
        }
        about = {
            "driver": "RAW",
            "tags": {"RAW": settings},
            "is_display": True,
            "icc": srgb_profile(len(colours)),
            "exif": tags.exif,
            "xmp": tags.xmp,
            "iptc": tags.iptc,
        }
        return Picture(height, width, np.uint16, colours, about)

    def fingerprint(self) -> str:
        """Return a hex digest of the file, and of a white balance other than its own or a crop."""
        own = super().fingerprint()
        other = "" if self._is_as_shot else f" {self.balance!r}"
        if self._box != (0, 0, *self._developed):
            other += f" {self._box}"
        return extended(own, other)

    def _decode(self) -> npt.NDArray[np.uint16]:
        with _opened(self.path) as raw:
            import rawpy

            pixels: npt.NDArray[np.uint16] = raw.postprocess(
                output_bps=16,
                use_camera_wb=self._is_as_shot,
                user_wb=None if self._is_as_shot else list(self.balance),
                no_auto_bright=True,
                output_color=rawpy.ColorSpace.sRGB,
                gamma=(2.4, 12.92),
            )
        expected = (*self._developed, self.bands)
        if pixels.shape != expected:
            raise UnreadableImage(
                f"{self.path.name} develops to {pixels.shape}, not {expected}.",
                "Develop it to a 16-bit TIFF with another program.",
            )
        y0, x0, y1, x1 = self._box
        return pixels[y0:y1, x0:x1]


def picture_in(sizes: Any, stated: Sequence[int] | None) -> tuple[tuple[int, int], Box]:
    """Return height and width of what LibRaw develops, upright, and which part of it is the picture."""
    # What a DNG says of that is `stated`; of others new versions of LibRaw know what their cameras
    # say.
    height, width = int(sizes.iheight), int(sizes.iwidth)
    names = ("height", "width", "top_margin", "left_margin")
    rows, columns, y, x = (getattr(sizes, f"crop_{name}", 0) for name in names)
    if stated is None and min(rows / height, columns / width) >= LEAST:
        stated = (y, x, y + rows, x + columns)
    y0, x0, y1, x1 = whole = (0, 0, height, width)
    if stated is not None and (sizes.height, sizes.width) == (height, width):
        y0, y1 = (stated[at] - int(sizes.top_margin) for at in (0, 2))
        x0, x1 = (stated[at] - int(sizes.left_margin) for at in (1, 3))
        y1, x1 = min(height, y1), min(width, x1)
        if not (0 <= y0 < y1 and 0 <= x0 < x1):
            y0, x0, y1, x1 = whole
    # LibRaw's bits; orientations 5 and 7 are 4 and 7 there.
    if sizes.flip & 2:
        y0, y1 = height - y1, height - y0
    if sizes.flip & 1:
        x0, x1 = width - x1, width - x0
    if sizes.flip & 4:
        return (width, height), (x0, y0, x1, y1)
    return (height, width), (y0, x0, y1, x1)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Give rawpy's handle of a file; turn its errors into one sentence."""
    try:
        import rawpy
    except ImportError as error:
        raise UnreadableImage(
            f"{path.name} is a RAW photo, and rawpy is not installed.",
            "Install it: pip install rawpy.",
        ) from error
    try:
        # As bytes from Python: LibRaw misreads some names on Windows.
        with open_file(path) as file, rawpy.imread(file) as raw:
            yield raw
    except rawpy.LibRawError as error:
        text = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise UnreadableImage(
            f"{path.name} cannot be developed: {text}.",
            "Check the file, or develop it to a 16-bit TIFF with another program.",
        ) from error
