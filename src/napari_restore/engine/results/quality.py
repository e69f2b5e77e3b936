"""Bits of the quality map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region

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


def change_bits(source: npt.NDArray[Any], written: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return (h, w) bits that compare pixels (h, w, C) before and after."""
    changed = written != source
    if not changed.any():
        return np.full(source.shape[:2], QUALITY["unchanged"], np.uint8)
    quality = (~_any_band(changed)).view(np.uint8) * np.uint8(QUALITY["unchanged"])
    if written.dtype.kind in "iu":
        limits = np.iinfo(written.dtype)
        # Black or white now and not before.
        for limit, name in ((limits.min, "clipped_low"), (limits.max, "clipped_high")):
            hit = written == limit
            if hit.any():
                hit &= changed
                quality |= _any_band(hit).view(np.uint8) * np.uint8(QUALITY[name])
    return quality


def _any_band(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return (h, w): whether any of (h, w, C); much faster than `any` over so short an axis."""
    result = flags[..., 0].copy()
    for band in range(1, flags.shape[2]):
        result |= flags[..., band]
    return result
