"""Values of 8 bits in 16 bits, and back.

White is 255 of 8 bits and 65535 = 257 · 255 of 16. As 257 is odd, the half between two values of 8
bits lies between two of 16: rounding to 16 bits and then to 8 gives what rounding to 8 bits gives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

STEP = 257
"""Steps of 16 bits in one of 8."""


def in_16_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return uint8 values as uint16, exactly; in the memory layout of `values`."""
    return values * np.uint16(STEP)


def in_8_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the nearest uint8 value of uint16 ones; in the memory layout of `values`."""
    wide: npt.NDArray[Any] = values.astype(np.uint32)
    wide += STEP // 2
    wide //= STEP
    return wide.astype(np.uint8)
