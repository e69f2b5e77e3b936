"""Degradations of a scene by name: the same in every validation."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import PurePath

import numpy as np
import numpy.typing as npt

from napari_restore_lab._questions import Degradation
from napari_restore_lab.degradation._bracket import FOR_SCORES, draw_bracket, take_bracket
from napari_restore_lab.degradation._camera import draw_camera, photograph
from napari_restore_lab.degradation._low_light import add_noise, darken, draw_low_light

Array = npt.NDArray[np.float32]

SCORED: Mapping[str, tuple[float, ...]] = {
    "noise": (15.0, 25.0, 50.0),
    "lowlight": (5.0, 12.0),
    "bracket": (2.0,),
}
"""Levels at which networks are scored: sigma in 255ths, factor of too little light, steps in EV."""
SCORED_ISO = (3200, 12800)
"""ISO of cameras at which networks against noise are scored, too."""
CLIPPED = (0.05, 0.2)
"""Range of the share of clipped pixels in the middle frame of scored brackets."""
MOTION = (0.75, 0.5)
"""Motion in scored brackets, as for `draw_motion`."""


def degraded_scene(
    clear: Array, name: str, degradation: Degradation, level: float, seed: int
) -> tuple[Array, Array]:
    """Return an image (h, w, 3), display values 0 to 1, degraded at a level as in `SCORED`.

    Returns
    -------
    tuple
        The degraded image (h, w, 3), of a bracket its frames (h, w, 9); and the truth (h, w, 3),
        which is `clear` but for brackets. All randomness follows from seed, level and the stem of
        the file's name.
    """
    rng = _generator(f"{seed}/{degradation}/{level:g}", name)
    if degradation == "noise":
        return add_noise(clear, level, rng), clear
    if degradation == "lowlight":
        return darken(clear, draw_low_light(rng, (level, level), compressed=0.5), rng), clear
    bracket = draw_bracket(rng, (level, level), CLIPPED, jpeg=0.5, curve=FOR_SCORES)
    # Objects that move are cut from the scene itself, turned round.
    return take_bracket(clear, clear[::-1, ::-1], bracket, MOTION, rng)


def camera_scene(clear: Array, name: str, iso: int, seed: int) -> tuple[Array, Array]:
    """Return an image (h, w, 3), display values 0 to 1, by a camera at an ISO; and its truth.

    The camera as well as its noise follow from seed, ISO and the stem of the file's name.
    """
    rng = _generator(f"{seed}/camera/{iso}", name)
    return photograph(clear, draw_camera(rng, (iso, iso)), rng)


def _generator(kind: str, name: str) -> np.random.Generator:
    digest = sha256(f"{kind}/{PurePath(name).stem}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, "<u4").tolist())
