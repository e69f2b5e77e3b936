"""Level of clear land in a distribution of haze values, and monotone curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def clear_level(haze: npt.NDArray[Any]) -> float:
    """Return the value up to which pixels count as clear; 0 for an empty array.

    The clearest tenth is taken as one side of the scatter of clear land; its mirror image belongs
    to the clear part too.
    """
    if haze.size == 0:
        return 0.0
    lowest, tenth = np.percentile(haze, [1, 10])
    return float(2 * tenth - lowest)


def monotone(curve: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `curve` smoothed over three points and made non-decreasing, its first point kept.

    It is the mean of the smallest rising curve above and the largest one below.
    """
    padded = np.concatenate([curve[:1], curve, curve[-1:]])
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    smooth[0] = curve[0]
    above = np.maximum.accumulate(smooth)
    below = np.minimum.accumulate(smooth[::-1])[::-1]
    rising: npt.NDArray[np.float64] = (above + below) / 2
    rising = rising - rising[0] + curve[0]
    return rising
