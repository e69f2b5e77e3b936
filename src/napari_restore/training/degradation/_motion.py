"""What moves between the frames of a bracket: the camera by a little, and objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]

JITTER = 0.1
"""Standard deviation in pixels of the shift that an alignment leaves: corners are off by less
(benchmarks/alignment.py)."""
SHAKEN = 0.15
"""Share of brackets without an alignment."""
SHIFT = 8.0
"""Largest shift of these in pixels."""
TURN = 0.3
"""Largest rotation of these in degrees."""
OBJECTS = 3
"""Most objects that move."""
EXTENT = (0.04, 0.2)
"""Range of the radius of an object, as a share of the shorter side."""
BUMPS = 4
"""Waves of an object's outline."""


@dataclass(frozen=True)
class Placed:
    """An object: where it is in each frame, and its outline."""

    centres: tuple[tuple[float, float], ...]
    """(y, x) in pixels, by frame."""
    radius: float
    squeeze: float
    """Ratio of its axes."""
    turn: float
    """Direction of the longer axis in radians."""
    bumps: tuple[tuple[float, float], ...]
    """Amplitude, as a share of the radius, and phase of each wave of the outline."""

    def mask(self, shape: tuple[int, int], frame: int) -> Array:
        """Return its share (h, w) of each pixel, with an edge of one pixel."""
        y, x = self.centres[frame]
        rows = (np.arange(shape[0], dtype=np.float32) - np.float32(y))[:, None]
        columns = (np.arange(shape[1], dtype=np.float32) - np.float32(x))[None]
        cosine, sine = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        along, across = cosine * columns + sine * rows, cosine * rows - sine * columns
        across = across * np.float32(self.squeeze)
        distance = np.hypot(along, across)
        angle = np.arctan2(across, along)
        outline = np.float32(self.radius) * np.ones_like(angle)
        for wave, (amplitude, phase) in enumerate(self.bumps, start=2):
            outline += np.float32(self.radius * amplitude) * np.sin(wave * angle + phase)
        share: Array = np.clip(outline - distance + np.float32(0.5), 0, 1).astype(np.float32)
        return share


@dataclass(frozen=True)
class Motion:
    """Positions of camera and objects in three frames."""

    MIDDLE: ClassVar[int] = 1
    """Number of the frame whose scene is the truth."""
    cameras: tuple[tuple[float, float, float], ...]
    """Shift (y, x) in pixels and rotation in degrees, by frame; none for the middle one."""
    objects: tuple[Placed, ...]

    def scene(self, still: Array, moving: Array, frame: int) -> Array:
        """Return the light (h, w, 3) of a frame: objects, cut from `moving`, before `still`."""
        light = still
        for placed in self.objects:
            share = placed.mask(still.shape[:2], frame)[..., None]
            # The object takes its content along.
            shift = np.subtract(placed.centres[frame], placed.centres[self.MIDDLE])
            content = np.roll(moving, tuple(np.rint(shift).astype(int)), axis=(0, 1))
            light = light * (1 - share) + content * share
        return _seen_from(light, *self.cameras[frame])


def draw_motion(
    rng: np.random.Generator, shape: tuple[int, int], moved: float, farthest: float
) -> Motion:
    """Draw a motion.

    Parameters
    ----------
    rng
        Source of all random numbers.
    shape
        (h, w) of the frames.
    moved
        Share of brackets in which objects move.
    farthest
        Largest way of an object between two frames, as a share of the shorter side.
    """
    shaken = rng.random() < SHAKEN

    def camera() -> tuple[float, float, float]:
        y, x = rng.uniform(-SHIFT, SHIFT, 2) if shaken else rng.normal(0, JITTER, 2)
        return float(y), float(x), float(rng.uniform(-TURN, TURN)) if shaken else 0.0

    cameras = (camera(), (0.0, 0.0, 0.0), camera())
    if rng.random() >= moved:
        return Motion(cameras, ())
    count = int(rng.integers(1, OBJECTS + 1))
    return Motion(cameras, tuple(_object(rng, shape, farthest) for _ in range(count)))


def _object(rng: np.random.Generator, shape: tuple[int, int], farthest: float) -> Placed:
    short = min(shape)
    middle = rng.uniform(0, 1, 2) * shape
    ways = []
    for _ in range(2):
        length = float(np.exp(rng.uniform(np.log(0.03), np.log(farthest)))) * short
        angle = rng.uniform(0, 2 * np.pi)
        ways.append(np.array((np.sin(angle), np.cos(angle))) * length)
    places = (middle + ways[0], middle, middle + ways[1])
    return Placed(
        tuple((float(y), float(x)) for y, x in places),
        float(np.exp(rng.uniform(*np.log(EXTENT)))) * short,
        float(rng.uniform(1, 3)),
        float(rng.uniform(0, np.pi)),
        tuple(
            (float(rng.uniform(0, 0.3 / wave)), float(rng.uniform(0, 2 * np.pi)))
            for wave in range(1, BUMPS + 1)
        ),
    )


def _seen_from(light: Array, y: float, x: float, turn: float) -> Array:
    """Return light (h, w, 3) shifted and rotated about its centre, cubic; edges are reflected."""
    if y == x == turn == 0:
        return light
    height, width = light.shape[:2]
    margin = int(np.ceil(max(abs(y), abs(x)) + abs(np.radians(turn)) * max(height, width))) + 3
    wide = np.pad(light, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    cosine, sine = float(np.cos(np.radians(turn))), float(np.sin(np.radians(turn)))
    cy, cx = height / 2, width / 2
    # Pillow maps the centres of output pixels to positions in the input.
    across = (cosine, -sine, cx - cosine * cx + sine * cy + x + margin)
    down = (sine, cosine, cy - sine * cx - cosine * cy + y + margin)
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(wide[..., channel])).transform(
                (width, height),
                Image.Transform.AFFINE,
                (*across, *down),
                Image.Resampling.BICUBIC,
            )
        )
        for channel in range(light.shape[2])
    ]
    seen: Array = np.maximum(np.stack(planes, axis=2), 0)
    return seen
