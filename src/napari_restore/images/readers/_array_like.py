"""PIL images and torch tensors as arrays (H, W, C); neither library is imported for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_restore.errors import UnreadableImage

MOST_BANDS = 16
"""An axis that is no longer than this may be that of the bands."""
_PICTURES = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N", "F", "RGB", "RGBA"}
"""Modes of PIL whose values are those of the picture; all others are converted to RGB(A)."""


def as_array(source: Any) -> Any:
    """Return `source` with ``shape`` and ``dtype``, in the order (H, W) or (H, W, C).

    PIL images, torch tensors (C, H, W) or (1, C, H, W), and whatever else numpy takes; arrays and
    lists of levels as they are. Raises `UnreadableImage`.
    """
    if isinstance(source, (list, tuple)):
        return [as_array(level) for level in source]
    if hasattr(source, "getbands") and hasattr(source, "mode"):
        return _of_picture(source)
    if hasattr(source, "detach") and hasattr(source, "permute"):
        return _of_tensor(source)
    if hasattr(source, "__array__") and not (hasattr(source, "shape") and hasattr(source, "dtype")):
        return np.asarray(source)
    return source


def has_grey_and_alpha(source: Any) -> bool:
    """Return whether a PIL image has grey and alpha, which its array does not show."""
    return getattr(source, "mode", None) == "LA"


def _of_picture(picture: Any) -> Any:
    mode, info = picture.mode, getattr(picture, "info", {})
    if mode not in _PICTURES:
        clear = mode in ("PA", "La", "RGBa") or "transparency" in info
        picture = picture.convert("RGBA" if clear else "RGB")
    return np.asarray(picture)


def _of_tensor(tensor: Any) -> Any:
    """Return (H, W) or (H, W, C) on the CPU.

    A tensor of three axes is (C, H, W), as in torch.
    """
    shape = tuple(tensor.shape)
    if len(shape) == 4:
        if shape[0] != 1:
            raise UnreadableImage(
                f"A tensor of shape {shape} contains {shape[0]} images.",
                "Give one of them, for instance tensor[0].",
            )
        tensor, shape = tensor[0], shape[1:]
    bands_last = len(shape) == 3 and shape[2] <= MOST_BANDS < shape[0]
    if len(shape) == 3 and not bands_last:
        tensor = tensor.permute(1, 2, 0)
    tensor = tensor.detach().cpu()
    # numpy has no bfloat16.
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
