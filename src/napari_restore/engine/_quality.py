"""The bits of the quality map."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

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


def change_bits(source: npt.NDArray[Any], written: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(h, w) bits that compare pixels (h, w, C) before and after."""
    changed = written != source
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
    """(h, w): whether any of (h, w, C); much faster than `any` over so short an axis."""
    found = flags[..., 0].copy()
    for band in range(1, flags.shape[2]):
        found |= flags[..., band]
    return found
