"""Brackets: three exposures of a scene that is wider than the range of the middle one.

A photo's lights and shadows are stretched into radiance, the truth is all of that range, and each
frame is what a camera keeps of it: clipped, noisy and rounded to 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_restore.extension import light_of_srgb, srgb_of_light
from napari_restore_lab.degradation._low_light import compressed, log_uniform, quantised
from napari_restore_lab.synthetic_haze import LUMA

Array = npt.NDArray[np.float32]

WIDEST = 3.0
"""EV above the white of the middle frame that the truth still shows as white."""
KEPT = 0.72
"""Share of the truth's range up to the middle frame's white: what the camera's curve gives is scaled
by it, the rest is for what lies above."""
LIFT = 0.7
"""Exponent of the truth after that, which brings medium tones back and lifts shadows."""
LIGHTS = (1.0, 3.5)
"""Range of the EV by which the lights of a photo are stretched."""
LIGHTS_FROM = (0.5, 0.85)
"""Range of the quantile of luma from which on they are."""
SHADOWS = (0.0, 2.0)
"""Range of the EV by which the shadows are stretched."""
FULL_WELL = (1500.0, 30000.0)
"""Range of the electrons of a white pixel; log-uniform."""
READ_NOISE = (1.0, 10.0)
"""Range of the noise of reading in electrons; log-uniform."""
UNEVEN = 0.2
"""Largest EV by which the steps down and up differ from each other."""
CONTRAST = (0.85, 1.8)
"""Range of the exponent of a picture style's curve after the camera's; log-uniform. Without it a
network knew the few curves of its training only."""
QUALITY = (85, 99)
"""Range of the quality of JPEG, the upper end excluded."""


def _sigmoid(light: Array) -> Array:
    power = light ** np.float32(0.9)
    curve: Array = np.float32(1.6) * power / (power + np.float32(0.6))
    return curve


def _beta_gamma(light: Array) -> Array:
    safe = np.maximum(light, np.float32(1e-6))
    curve: Array = np.exp(np.float32(1.1258) * (1 - safe ** np.float32(-0.3293)))
    return curve


def _preferred(light: Array) -> Array:
    gain = math.exp(1.29)
    power = np.float32(gain) * light ** np.float32(4.35)
    curve: Array = (power / (power + 1) * np.float32((gain + 1) / gain)) ** np.float32(0.14)
    return curve


CURVES: Mapping[str, Callable[[Array], Array]] = {
    "srgb": srgb_of_light,
    "sigmoid": _sigmoid,
    "preferred": _preferred,
    "beta-gamma": _beta_gamma,
}
"""Camera responses: light 0 to 1 to display values 0 to 1.

sRGB; the others with the parameters of Ying and others, "A new low-light image enhancement algorithm
using camera response model", ICCV workshops 2017, scaled so that white is 1."""
FOR_SCORES = "beta-gamma"
"""The curve that is kept for scores."""


@dataclass(frozen=True)
class CaptureSettings:
    """How three frames were taken."""

    steps: tuple[float, float]
    """EV of the dark frame below, and of the bright frame above the middle one."""
    clipped: float
    """Share of the pixels of the middle frame that are beyond its white in some channel."""
    lights: float
    """EV by which lights are stretched."""
    lights_from: float
    """Quantile of luma from which on they are."""
    shadows: float
    """EV by which shadows are stretched."""
    curve: str
    contrast: float
    """Exponent of the curve of a picture style; 1: none."""
    electrons: float
    """Electrons of a white pixel."""
    read: float
    """Standard deviation of the noise of reading, in electrons."""
    qualities: tuple[int | None, ...]
    """Of the JPEG of each frame; None: not compressed."""

    def response(self, light: Array) -> Array:
        """Return display values of light, both 0 to 1."""
        return styled(CURVES[self.curve](light), self.contrast)


def draw_bracket(
    rng: np.random.Generator,
    ev: tuple[float, float],
    clipped: tuple[float, float],
    jpeg: float,
    curve: str | None = None,
) -> CaptureSettings:
    """Draw a bracket with steps of `ev`, JPEG with the probability `jpeg`."""
    step = float(rng.uniform(*ev))
    down, up = (max(0.3, step + float(rng.uniform(-UNEVEN, UNEVEN))) for _ in range(2))
    names = [name for name in CURVES if name != FOR_SCORES]
    is_compressed = rng.random() < jpeg
    return CaptureSettings(
        (down, up),
        float(rng.uniform(*clipped)),
        float(rng.uniform(*LIGHTS)),
        float(rng.uniform(*LIGHTS_FROM)),
        float(rng.uniform(*SHADOWS)),
        names[int(rng.integers(len(names)))] if curve is None else curve,
        log_uniform(rng, CONTRAST) if curve is None else 1.0,
        log_uniform(rng, FULL_WELL),
        log_uniform(rng, READ_NOISE),
        tuple(int(rng.integers(*QUALITY)) if is_compressed else None for _ in range(3)),
    )


def take_bracket(
    clear: Array,
    other: Array,
    bracket: CaptureSettings,
    motion: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Take three frames of a photo (h, w, 3), display values 0 to 1.

    Parameters
    ----------
    clear
        The scene.
    other
        Another photo of the same size, of which parts move through the scene.
    bracket
        Exposures, noise and curve.
    motion
        Share of brackets with objects that move, and their largest way; as for `draw_motion`.
    rng
        Of motion and noise.

    Returns
    -------
    tuple
        Frames (h, w, 9), dark to bright, in 8 bits, and the truth (h, w, 3): the middle frame's
        scene, from black to `WIDEST` EV above its white, by the curve of `shown`.
    """
    scene, white = radiance(clear, bracket)
    moving = light_of_srgb(other) / white * np.float32(2.0 ** rng.uniform(-1, 1))
    moves = draw_motion(rng, scene.shape[:2], *motion)
    taken = [
        _taken(moves.scene(scene, moving, number), ev, number, bracket, rng)
        for number, ev in enumerate((-bracket.steps[0], 0.0, bracket.steps[1]))
    ]
    truth = shown(moves.scene(scene, moving, Motion.MIDDLE), bracket.response)
    return np.concatenate(taken, axis=2), truth


def radiance(clear: Array, bracket: CaptureSettings) -> tuple[Array, np.float32]:
    """Return linear light (h, w, 3) in units of the middle frame's white, and that white's.

    Lights rise by a smooth step of their luma, up to what the dark frame still holds; shadows fall
    by another. `Bracket.clipped` of the pixels lie above 1.
    """
    light = light_of_srgb(clear)
    luma = light @ LUMA
    begin, most = np.quantile(luma[::2, ::2], [bracket.lights_from, 1.0])
    rise = _step(luma, float(begin), float(most)) * bracket.lights
    low, middle = np.quantile(luma[::2, ::2], [0.0, 0.5])
    fall = (1 - _step(luma, float(low), float(middle))) * bracket.shadows
    light = light * np.exp2(rise - fall).astype(np.float32)[..., None]
    brightest = light.max(axis=2)
    white = max(float(np.quantile(brightest[::2, ::2], 1 - bracket.clipped)), 1e-4)
    light /= np.float32(white)
    top = float(np.log2(max(np.quantile(brightest[::2, ::2], 0.998) / white, 1e-4)))
    if top > bracket.steps[0]:
        # What lies above white is compressed to fit the dark frame, by one factor for all channels.
        above = np.log2(np.maximum(light.max(axis=2), 1))
        light *= np.exp2(above * (bracket.steps[0] / top - 1)).astype(np.float32)[..., None]
    return light, np.float32(white)


def shown(light: Array, curve: Callable[[Array], Array]) -> Array:
    """Return light in units of white as display values 0 to 1, up to `WIDEST` EV above white.

    Below white by the camera's `curve`, as in the middle frame; above it by a logarithm, for each
    channel. So whatever the camera, the truth is one function of the middle frame where that is not
    clipped.
    """
    above = np.log2(np.clip(light, 1, np.float32(2.0**WIDEST))) / np.float32(WIDEST)
    display = np.float32(KEPT) * curve(np.minimum(light, 1)) + np.float32(1 - KEPT) * above
    lifted: Array = np.power(display, np.float32(LIFT), dtype=np.float32)
    return lifted


def _taken(
    scene: Array, ev: float, number: int, bracket: CaptureSettings, rng: np.random.Generator
) -> Array:
    """Return a frame (h, w, 3): photons and reading as in Foi et al., IEEE TIP 17, 2008."""
    electrons = scene * np.float32(2.0**ev * bracket.electrons)
    spread = np.sqrt(electrons + np.float32(bracket.read**2))
    electrons = electrons + spread * rng.standard_normal(scene.shape, np.float32)
    light = np.clip(electrons / np.float32(bracket.electrons), 0, 1)
    frame = quantised(bracket.response(light))
    quality = bracket.qualities[number]
    return frame if quality is None else compressed(frame, quality)


def styled(values: Array, contrast: float) -> Array:
    """Return values 0 to 1 by a curve like an S, which black, medium grey and white stay on.

    That of 1 / `contrast` is its inverse.
    """
    if contrast == 1:
        return values
    power = np.power(np.clip(values, 0, 1), np.float32(contrast), dtype=np.float32)
    rest = np.power(np.clip(1 - values, 0, 1), np.float32(contrast), dtype=np.float32)
    styled: Array = power / (power + rest)
    return styled


def _step(values: Array, low: float, high: float) -> Array:
    """Return the smooth step from 0 at `low` to 1 at `high`."""
    share = np.clip((values - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)
    step: Array = share * share * (3 - 2 * share)
    return step


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
