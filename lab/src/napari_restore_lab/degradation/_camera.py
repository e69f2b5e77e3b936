"""Noise of cameras: photons and reading on the mosaic of a sensor, and what developing makes of them.

Noise that is independent on the sensor is not so in a picture: demosaicing, smoothing and resizing
spread it, the matrix mixes it into colours, the curve lifts it in shadows, sharpening and JPEG change
its grain. The truth is the same picture without noise, developed in the same way. After Brooks and
others, "Unprocessing images for learned raw denoising", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_restore.extension import light_of_srgb, srgb_of_light
from napari_restore_lab.degradation._bracket import styled
from napari_restore_lab.degradation._low_light import LowLight, compressed, log_uniform, quantised
from napari_restore_lab.synthetic_haze import LUMA

Array = npt.NDArray[np.float32]
Triple = tuple[float, float, float]

FULL_WELL = (10_000.0, 80_000.0)
"""Range of the electrons of a saturated pixel at ISO 100, from compact cameras to full frames;
log-uniform."""
FEWEST = 100.0
"""Least electrons of a saturated pixel: small sensors end at a lower ISO."""
READ_BEFORE = (1.0, 5.0)
"""Range of the noise of reading before the amplifier, in electrons at any ISO; log-uniform."""
READ_AFTER = (3.0, 30.0)
"""Range of that after the amplifier, in electrons at ISO 100 and less at higher ones; log-uniform."""
BANDED = 0.3
"""Share of cameras whose rows or columns have noise of their own."""
BANDING = (0.05, 0.35)
"""Range of this noise, as a share of that of reading."""
RED, BLUE = (1.4, 3.0), (1.1, 2.6)
"""Ranges of the gains of white balance; log-uniform."""
MIXED = (
    ((0.0, 0.0), (0.18, 0.4), (-0.1, 0.17)),
    ((0.03, 0.16), (0.0, 0.0), (-0.03, 0.25)),
    ((-0.01, 0.05), (0.17, 0.3), (0.0, 0.0)),
)
"""Ranges of what a colour of the sensor takes from the other linear sRGB colours, a row each: those of
the cameras of the Darmstadt Noise Dataset (Plötz and Roth, CVPR 2017), by their DNG matrices."""
EXPOSURE = (0.45, 1.0)
"""Range of the share of saturation at which green is white."""
CONTRAST = (0.9, 1.6)
"""Range of the exponent of a picture style's curve; log-uniform."""
SMOOTHED_COLOUR, SMOOTHED_LUMA, SHARPENED, RESIZED, COMPRESSED = 0.4, 0.3, 0.6, 0.3, 0.5
"""Shares of cameras that do so."""
SCALE = (0.3, 1.0)
"""Range of the pixels of the picture per pixel of the sensor, of resized ones; log-uniform."""
QUALITY = (80, 99)
"""Range of the quality of JPEG, the upper end excluded."""
FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@dataclass(frozen=True)
class Camera:
    """A sensor at one ISO, and how its picture is developed."""

    electrons: float
    """Electrons of a saturated pixel."""
    read: float
    """Standard deviation of the noise of reading, in electrons."""
    banding: float
    """Standard deviation of the noise of whole rows, in electrons."""
    upright: bool
    """Whether columns have it in place of rows."""
    bits: int
    """Of the file of the sensor; a sixteenth of its range lies below black."""
    exposure: float
    """Share of saturation at which green is white."""
    gains: Triple
    """Of white balance."""
    matrix: tuple[tuple[float, ...], ...]
    """Linear sRGB to balanced colours of the sensor; rows add up to 1."""
    phase: tuple[int, int]
    """(y, x) of the first red pixel, 0 or 1; green is beside it, blue diagonal."""
    demosaicing: str
    """One of `DEMOSAICINGS`."""
    contrast: float
    """Exponent of the curve of a picture style after that of sRGB; 1: none."""
    lens: float
    """Weight of each neighbour in the blur of the optics, along either axis."""
    smoothed_colour: int
    """Passes of smoothing of colours, each twice as wide; 0: none."""
    smoothed_luma: float
    """Share of the finest structures of luma that is smoothed away."""
    sharpening: float
    """Factor on the structures that are added again."""
    scale: float
    """Pixels of the picture per pixel of the sensor, at most 1."""
    resampling: Image.Resampling
    quality: int | None
    """Of JPEG; None: not compressed."""
    subsampling: int
    """Of the colours of JPEG: 0 none, 2 by two."""


def draw_camera(rng: np.random.Generator, iso: tuple[float, float]) -> Camera:
    """Draw a camera at a log-uniform ISO."""

    def share(chance: float, value: float) -> float:
        return value if rng.random() < chance else 0.0

    gain = log_uniform(rng, iso) / 100
    read = float(np.hypot(log_uniform(rng, READ_BEFORE), log_uniform(rng, READ_AFTER) / gain))
    mixed = np.array([[rng.uniform(*limits) for limits in row] for row in MIXED])
    mixed += np.diag(1 - mixed.sum(axis=1))
    return Camera(
        electrons=max(FEWEST, log_uniform(rng, FULL_WELL) / gain),
        read=read,
        banding=share(BANDED, read * rng.uniform(*BANDING)),
        upright=bool(rng.random() < 0.3),
        bits=int(rng.choice([12, 14])),
        exposure=float(rng.uniform(*EXPOSURE)),
        gains=(log_uniform(rng, RED), 1.0, log_uniform(rng, BLUE)),
        matrix=tuple(map(tuple, mixed.tolist())),
        phase=(int(rng.integers(2)), int(rng.integers(2))),
        demosaicing=tuple(DEMOSAICINGS)[int(rng.integers(len(DEMOSAICINGS)))],
        contrast=log_uniform(rng, CONTRAST),
        lens=float(rng.uniform(0, 0.15)),
        smoothed_colour=int(share(SMOOTHED_COLOUR, float(rng.integers(1, 4)))),
        smoothed_luma=share(SMOOTHED_LUMA, rng.uniform(0.2, 0.8)),
        sharpening=share(SHARPENED, rng.uniform(0.2, 1.2)),
        scale=share(RESIZED, log_uniform(rng, SCALE)) or 1.0,
        resampling=FILTERS[int(rng.integers(len(FILTERS)))],
        quality=int(rng.integers(*QUALITY)) if rng.random() < COMPRESSED else None,
        subsampling=int(rng.choice([0, 2])),
    )


def photograph(
    clear: Array,
    camera: Camera,
    rng: np.random.Generator,
    light: LowLight | None = None,
) -> tuple[Array, Array]:
    """Take a picture of a scene (h, w, 3), display values 0 to 1.

    Parameters
    ----------
    clear
        The scene.
    camera
        With its ISO.
    rng
        Of the noise.
    light
        How much too little of it there is, and the error of white balance; all else is the camera's.

    Returns
    -------
    tuple
        The picture (h, w, 3) in 8 bits, and the truth (h, w, 3): the picture without noise and JPEG,
        of enough light and the right white balance.
    """
    height, width = clear.shape[:2]
    tall, broad = (2 * int(np.ceil(side / camera.scale / 2)) for side in (height, width))
    if camera.scale == 1:
        # An odd side: the last row or column has no partner in the mosaic.
        scene = np.pad(clear, ((0, tall - height), (0, broad - width), (0, 0)), mode="edge")
    else:
        scene = _resized(clear, (tall, broad), Image.Resampling.BICUBIC)
    mosaic = exposed_mosaic(scene, camera)
    right: Triple = (1.0, 1.0, 1.0)
    factor, cast = (1.0, right) if light is None else (light.factor, light.balance)
    taken = read_out(mosaic / np.float32(factor), camera, rng)

    def shown(values: Array, cast: Triple) -> Array:
        picture = developed(values, camera, cast)
        if camera.scale == 1:
            return np.ascontiguousarray(picture[:height, :width])
        return np.clip(_resized(picture, (height, width), camera.resampling), 0, 1)

    noisy = quantised(shown(taken, cast))
    if camera.quality is not None:
        noisy = compressed(noisy, camera.quality, camera.subsampling)
    return noisy, shown(mosaic, right)


def exposed_mosaic(scene: Array, camera: Camera) -> Array:
    """Return what the pixels of the sensor (h, w), even sides, hold without noise: 1 is saturation."""
    wide = np.pad(scene, ((1, 1), (1, 1), (0, 0)), mode="edge")
    lens = np.float32(camera.lens)
    blurred: Array = wide[1:-1] * (1 - 2 * lens) + (wide[:-2] + wide[2:]) * lens
    blurred = blurred[:, 1:-1] * (1 - 2 * lens) + (blurred[:, :-2] + blurred[:, 2:]) * lens
    light = light_of_srgb(styled(blurred, 1 / camera.contrast))
    scales = camera.exposure / np.array(camera.gains)[:, None]
    seen = light @ (np.array(camera.matrix) * scales).T.astype(np.float32)
    mosaic = np.empty(scene.shape[:2], np.float32)
    for colour, site in sites(camera.phase):
        mosaic[site] = np.clip(seen[..., colour][site], 0, 1)
    return mosaic


def read_out(mosaic: Array, camera: Camera, rng: np.random.Generator) -> Array:
    """Return a mosaic (h, w) with noise of photons, reading and rows, as its file holds it."""
    counted = rng.poisson(mosaic * np.float64(camera.electrons)).astype(np.float32)
    counted += np.float32(camera.read) * rng.standard_normal(mosaic.shape, np.float32)
    if camera.banding:
        lines = (1, mosaic.shape[1]) if camera.upright else (mosaic.shape[0], 1)
        counted += np.float32(camera.banding) * rng.standard_normal(lines, np.float32)
    steps = np.float32(15 * 2 ** (camera.bits - 4))
    codes = np.rint(counted * (steps / np.float32(camera.electrons)))
    read: Array = np.clip(codes / steps, np.float32(-1 / 15), 1)
    return read


def developed(mosaic: Array, camera: Camera, cast: Triple = (1.0, 1.0, 1.0)) -> Array:
    """Return display values (h, w, 3) 0 to 1 of a mosaic (h, w); `cast` are factors on its gains."""
    sensed = DEMOSAICINGS[camera.demosaicing](mosaic, camera.phase)
    gains = np.array(camera.gains) * cast / camera.exposure
    light = sensed @ (np.linalg.inv(camera.matrix) * gains).T.astype(np.float32)
    picture = styled(srgb_of_light(np.clip(light, 0, 1)), camera.contrast)
    luma = (picture @ LUMA)[..., None]
    colours = picture - luma
    for step in range(camera.smoothed_colour):
        colours = _smoothed(colours, 2**step)
    fine = luma - _smoothed(luma, 1)
    luma = luma - np.float32(camera.smoothed_luma) * fine
    if camera.sharpening:
        wide = _smoothed(_smoothed(luma, 1), 2 if camera.smoothed_luma else 1)
        luma = luma + np.float32(camera.sharpening) * (luma - wide)
    shown: Array = np.clip(colours + luma, 0, 1)
    return shown


Site = tuple[slice, slice]


def sites(phase: tuple[int, int]) -> tuple[tuple[int, Site], ...]:
    """Return colour (0 red, 1 green, 2 blue) and pixels of red, both greens and blue."""
    y, x = phase
    rows, columns = (
        (slice(y, None, 2), slice(1 - y, None, 2)),
        (slice(x, None, 2), slice(1 - x, None, 2)),
    )
    return (
        (0, (rows[0], columns[0])),
        (1, (rows[0], columns[1])),
        (1, (rows[1], columns[0])),
        (2, (rows[1], columns[1])),
    )


def bilinear(mosaic: Array, phase: tuple[int, int]) -> Array:
    """Return colours (h, w, 3) of a mosaic (h, w): each from its own nearest pixels."""
    (red, _, _, blue), around = sites(phase), _surroundings(mosaic)
    green = mosaic.copy()
    for _, site in (red, blue):
        green[site] = _cross(around(site), 1) / 4
    planes = [_spread(mosaic, red[1]), green, _spread(mosaic, blue[1])]
    return np.stack(planes, axis=2)


def gradient_corrected(mosaic: Array, phase: tuple[int, int]) -> Array:
    """Return colours (h, w, 3) of a mosaic (h, w): linear, with the gradients of the pixel's own colour.

    Source: Malvar, He, Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned
    color images", ICASSP 2004.
    """
    out = np.empty((*mosaic.shape, 3), np.float32)
    (_, red), (_, beside), (_, below), (_, blue) = sites(phase)
    around = _surroundings(mosaic)
    for own, other, site in ((0, 2, red), (2, 0, blue)):
        at = around(site)
        centre, far = at(0, 0), _cross(at, 2)
        out[(*site, own)] = centre
        out[(*site, 1)] = centre / 2 + _cross(at, 1) / 4 - far / 8
        out[(*site, other)] = centre * 0.75 + _diagonal(at) / 4 - far * np.float32(3 / 16)
    for along, across, site in ((0, 2, beside), (2, 0, below)):
        at = around(site)
        flat, steep = at(0, -2) + at(0, 2), at(-2, 0) + at(2, 0)
        rest = at(0, 0) * 5 - _diagonal(at)
        out[(*site, 1)] = at(0, 0)
        out[(*site, along)] = (rest + 4 * (at(0, -1) + at(0, 1)) - flat + steep / 2) / 8
        out[(*site, across)] = (rest + 4 * (at(-1, 0) + at(1, 0)) - steep + flat / 2) / 8
    return out


def edge_directed(mosaic: Array, phase: tuple[int, int]) -> Array:
    """Return colours (h, w, 3) of a mosaic (h, w): green along edges, then differences from green.

    Source: Hamilton and Adams, US patent 5 629 734, 1997, which has expired.
    """
    (red, _, _, blue), around = sites(phase), _surroundings(mosaic)
    green = mosaic.copy()
    for _, site in (red, blue):
        at = around(site)
        twice = 2 * at(0, 0)
        bent = (twice - at(0, -2) - at(0, 2), twice - at(-2, 0) - at(2, 0))
        ends = ((at(0, -1), at(0, 1)), (at(-1, 0), at(1, 0)))
        flat, steep = ((a + b) / 2 + c / 4 for (a, b), c in zip(ends, bent, strict=True))
        rough = [np.abs(a - b) + np.abs(c) for (a, b), c in zip(ends, bent, strict=True)]
        chosen = np.where(rough[0] < rough[1], flat, steep)
        green[site] = np.where(rough[0] == rough[1], (flat + steep) / 2, chosen)
    planes = [green + _spread(mosaic - green, site) for _, site in (red, blue)]
    return np.stack([planes[0], green, planes[1]], axis=2)


DEMOSAICINGS: Mapping[str, Callable[[Array, tuple[int, int]], Array]] = {
    "bilinear": bilinear,
    "gradient-corrected": gradient_corrected,
    "edge-directed": edge_directed,
}
"""Ways from a mosaic (h, w) of even sides with its phase to colours (h, w, 3)."""
At = Callable[[int, int], Array]


def _surroundings(mosaic: Array) -> Callable[[Site], At]:
    """Return, for the pixels of a site, a function of (dy, dx) ≤ 2 to their neighbours there."""
    # Reflected about the outermost pixels, so that the pattern goes on.
    wide = np.pad(mosaic, 2, mode="reflect")
    height, width = mosaic.shape

    def around(site: Site) -> At:
        y, x = (part.start + 2 for part in site)
        return lambda dy, dx: wide[y + dy :: 2, x + dx :: 2][: height // 2, : width // 2]

    return around


def _cross(at: At, reach: int) -> Array:
    total: Array = at(-reach, 0) + at(reach, 0) + at(0, -reach) + at(0, reach)
    return total


def _diagonal(at: At) -> Array:
    total: Array = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
    return total


def _spread(plane: Array, site: Site) -> Array:
    """Return a plane (h, w) interpolated linearly between the pixels of a site, one in four."""
    own = np.zeros_like(plane)
    own[site] = plane[site]
    wide = np.pad(own, 1, mode="reflect")
    half = np.float32(0.5)
    rows = wide[1:-1] + (wide[:-2] + wide[2:]) * half
    spread: Array = rows[:, 1:-1] + (rows[:, :-2] + rows[:, 2:]) * half
    return spread


def _smoothed(values: Array, step: int) -> Array:
    """Return (h, w, C) smoothed by 1, 2, 1 at distances of `step` along either axis."""
    wide = np.pad(values, ((step, step), (step, step), (0, 0)), mode="edge")
    half, quarter = np.float32(0.5), np.float32(0.25)
    rows = wide[step:-step] * half + (wide[: -2 * step] + wide[2 * step :]) * quarter
    out: Array = rows[:, step:-step] * half
    out += (rows[:, : -2 * step] + rows[:, 2 * step :]) * quarter
    return out


def _resized(picture: Array, shape: tuple[int, int], method: Image.Resampling) -> Array:
    """Return display values (h, w, 3) resized to `shape` (h, w)."""
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane)).resize((shape[1], shape[0]), method)
        )
        for plane in np.moveaxis(picture, 2, 0)
    ]
    return np.stack(planes, axis=2)
