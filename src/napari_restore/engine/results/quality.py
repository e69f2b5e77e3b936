"""Bits of the quality map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.images import Image, Radiometry

QUALITY = {
    "unchanged": 1,
    "clipped_low": 2,
    "clipped_high": 4,
    "low_transmission": 8,
    "excluded": 16,
    "nodata": 32,
}
"""Name → bit."""
ABOUT_CHANGE = QUALITY["unchanged"] | QUALITY["clipped_low"] | QUALITY["clipped_high"]
"""The bits of `change_bits`."""
SEEN = 64
"""Bit of a value that changes by `SEEN_LEVELS` or more; in `value_bits` alone."""
SEEN_LEVELS = 2
"""Least change of a photo that shows on a screen, in levels of 255."""
FLOAT_BLACK = 2.0**-16
"""Floats this near to black, in ranges from black to white, are black: about a step of 16 bits."""


@dataclass(frozen=True)
class Limits:
    """What is black and white in an image, band by band, in its own values."""

    black: tuple[float, ...]
    """Values below are black …"""
    white: float | None
    """… and those from this on white; None: none is, as values beyond white are kept."""
    seen: float | None = None
    """Least change that shows; None where values are no display values."""

    @classmethod
    def of(cls, image: Image, radiometry: Radiometry) -> Limits:
        """Return the limits of `image` with the black and white of a run."""
        # Integers are black or white at the ends of their range as well. Nothing is written as
        # nodata (`Radiometry.apply_change`), so that the value beside it counts where it lies at a
        # limit.
        zeros, white, is_photo = radiometry.black.tolist(), radiometry.white, image.is_photo
        seen = SEEN_LEVELS * (white - min(zeros)) / 255
        if image.dtype.kind == "f":
            lows = tuple(zero + FLOAT_BLACK * (white - zero) for zero in zeros)
            return cls(lows, white if is_photo else None, seen if is_photo else None)
        whole = np.iinfo(image.dtype)
        ends = [int(np.ceil(max(zero, whole.min))) for zero in zeros]
        high = min(whole.max, int(np.ceil(white))) if is_photo else int(whole.max)
        return cls(
            tuple(end + 1 + (image.nodata == end) for end in ends),
            high - (image.nodata == high),
            # Of unsigned numbers every difference is one of them.
            int(np.ceil(seen)) if is_photo and image.dtype.kind == "u" else None,
        )


def count_quality(
    quality: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_] | None = None,
    failed: npt.NDArray[np.bool_] | None = None,
) -> dict[str, int]:
    """Return the number of pixels, valid ones, those with each bit of `quality`, and failures.

    Arrays are of one shape; `valid` None: all of them, `failed` (not finite) None: none.
    """
    counts = {name: int(np.count_nonzero(quality & bit)) for name, bit in QUALITY.items()}
    counts["pixels"] = counts["valid"] = quality.size
    if valid is not None:
        counts["valid"] = int(np.count_nonzero(valid))
        # Pixels that do not count are not counted as unchanged.
        counts["unchanged"] -= counts["pixels"] - counts["valid"]
    if failed is not None:
        counts["not_finite"] = int(np.count_nonzero(failed if valid is None else failed & valid))
    return counts


def parts_inside(core: Region, targets: Iterable[Region]) -> list[Region] | None:
    """Return the parts of `core` that lie in `targets`; None where all of it lies in one."""
    parts = sorted({part for t in targets if not (part := core.intersect(t)).is_empty})
    return None if core in parts else parts


def disjoint(boxes: Iterable[Region]) -> list[Region]:
    """Return boxes that cover just what `boxes` do, each pixel once."""
    result: list[Region] = []
    for box in boxes:
        left = [box]
        for other in result:
            left = [piece for one in left for piece in _without(one, other)]
        result += left
    return result


def _without(box: Region, other: Region) -> list[Region]:
    """Return `box` without `other`, as up to four boxes."""
    cut = box.intersect(other)
    if cut.is_empty:
        return [box]
    pieces = (
        Region(box.y0, box.x0, cut.y0, box.x1),
        Region(cut.y1, box.x0, box.y1, box.x1),
        Region(cut.y0, box.x0, cut.y1, cut.x0),
        Region(cut.y0, cut.x1, cut.y1, box.x1),
    )
    return [piece for piece in pieces if not piece.is_empty]


def value_bits(
    source: npt.NDArray[Any], written: npt.NDArray[Any], limits: Limits
) -> npt.NDArray[np.uint8]:
    """Return (C, h, w) bits of values before and after, (h, w, C): `ABOUT_CHANGE` and `SEEN`."""
    # Clipped is what is black or white now and was not before.
    bits = np.empty((source.shape[2], *source.shape[:2]), np.uint8)
    for band, plane in enumerate(bits):
        # Whole rows of one band are compared many times faster than every third value.
        before, after = (np.ascontiguousarray(each[..., band]) for each in (source, written))
        np.equal(after, before, out=plane.view(np.bool_))
        if plane.all():
            continue
        black, white = limits.black[band], limits.white
        if (hit := after < black).any():
            hit &= ~(before < black)
            plane |= hit.view(np.uint8) * np.uint8(QUALITY["clipped_low"])
        if white is not None and (hit := after >= white).any():
            hit &= ~(before >= white)
            plane |= hit.view(np.uint8) * np.uint8(QUALITY["clipped_high"])
        if limits.seen is not None:
            change = np.maximum(after, before)
            change -= np.minimum(after, before)
            plane |= (change >= limits.seen).view(np.uint8) * np.uint8(SEEN)
    return bits


def change_bits(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the (h, w) bits of pixels from those of `value_bits`: unchanged in all bands, or clipped in any."""
    unchanged = np.bitwise_and.reduce(bits, axis=0) & np.uint8(QUALITY["unchanged"])
    clipped = np.bitwise_or.reduce(bits, axis=0) & np.uint8(ABOUT_CHANGE - QUALITY["unchanged"])
    result: npt.NDArray[np.uint8] = unchanged | clipped
    return result


def count_values(bits: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Return the counts of `value_bits` (C, …): pixels with a change that shows, and `clipped_in` each band."""
    found = {"seen": int(np.count_nonzero(np.bitwise_or.reduce(bits, axis=0) & SEEN))}
    for name in ("clipped_low", "clipped_high"):
        for band, plane in enumerate(bits):
            found[clipped_in(name, band)] = int(np.count_nonzero(plane & QUALITY[name]))
    return {name: count for name, count in found.items() if count}


def clipped_in(name: str, band: int) -> str:
    """Return the name of the count of a bit of `QUALITY` in one band."""
    return f"{name} {band}"
