"""Haze of a scene by name: the same in pairs, evaluation and validation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import adaptive_avg_pool2d

from napari_restore_lab._questions import SceneKind
from napari_restore_lab.synthetic_haze._draw import STRENGTH, draw_haze
from napari_restore_lab.synthetic_haze._sampled import enlarged
from napari_restore_lab.synthetic_haze._scatter import Haze

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LUMA = np.array((0.2126, 0.7152, 0.0722), np.float32)
GUIDE = 160
"""Cells along the longer side of the guide of a synthetic distance, at any size."""


@dataclass(frozen=True)
class ClearScene:
    """A clear image, as haze is drawn for it."""

    name: str
    """File name, of which only the stem counts."""
    kind: SceneKind
    """"aerial" or "natural"."""
    clear: Array
    """(h, w, 3) display values 0 to 1: the image, or a reduced version."""
    valid: Mask
    """(H, W), the size of the haze; where it is False the optical depth is 0."""
    distance: Array | None = None
    """(H, W), 0 near to 1 far, or None if unknown."""
    is_light: bool = False
    """Values are linear in light, as sensor counts: haze is added in them."""


def haze_scene(
    scene: ClearScene,
    *,
    spectrum: str,
    seed: int,
    strength: tuple[float, float] = STRENGTH,
) -> Haze:
    """Draw the haze of a scene from `seed` and file name, equal up to scale at any size.

    It is grey for a grey image. `spectrum` and `strength` as for `draw_haze`.
    """
    digest = sha256(f"{seed}/{PurePath(scene.name).stem}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(digest, "<u4").tolist())
    clear, valid = scene.clear, scene.valid
    visible = _at(valid, (clear.shape[0], clear.shape[1]))
    guide = None
    if scene.kind == "natural" and scene.distance is None:
        guide = _guide(clear, visible, (valid.shape[0], valid.shape[1]))
    haze = draw_haze(
        rng,
        (valid.shape[0], valid.shape[1]),
        scene=scene.kind,
        spectrum=spectrum,
        distance=scene.distance,
        guide=guide,
        strength=strength,
    )
    if (clear == clear[..., :1]).all(axis=2)[visible].all():
        airlight = np.full(3, haze.airlight.mean(), np.float32)
        haze = replace(haze, airlight=airlight, exponent=0.0)
    depth = np.where(valid, haze.depth, np.float32(0))
    return replace(haze, depth=depth, linear=haze.linear and not scene.is_light)


def _at(valid: Mask, shape: tuple[int, int]) -> Mask:
    """Resample flags to another size by nearest neighbour."""
    if valid.shape == shape:
        return valid
    y, x = (
        ((np.arange(side) + 0.5) * whole / side).astype(np.intp)
        for side, whole in zip(shape, valid.shape, strict=True)
    )
    picked: Mask = valid[y[:, None], x]
    return picked


def _guide(clear: Array, visible: Mask, shape: tuple[int, int]) -> Array:
    """Return luminance at `shape`, smoothed equally at every size; the mean for invalid pixels."""
    luma = np.clip(clear @ LUMA, 0, 1).astype(np.float32)
    luma[~visible] = luma[visible].mean() if visible.any() else 0
    scale = min(1.0, GUIDE / max(luma.shape))
    cells = tuple(max(1, round(side * scale)) for side in luma.shape)
    small = adaptive_avg_pool2d(torch.from_numpy(luma)[None, None], cells)[0, 0].numpy()
    return enlarged(small, shape)
