"""Where the frames of a hand-held bracket lie on the grid of the reference.

Crops all over the picture are compared by phase correlation of their ranked grey values, which an
exposure does not change; a similarity or homography is fitted to the displacements by RANSAC, and
refined on the frame as it then lies: first on a coarse level, then on the pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter, option
from napari_restore.images._source import Box
from napari_restore.images.brackets._exposure import coarse_view, overview_of
from napari_restore.images.readers.registered import RegisteredReader, scaled_matrix

if TYPE_CHECKING:
    from napari_restore.images._image import Image

Array = npt.NDArray[np.float64]
Grey = npt.NDArray[np.floating[Any]]
Spectrum = npt.NDArray[np.complexfloating[Any, Any]]
CROP, COARSE_CROP = 384, 256
"""Side in pixels of the crops that are compared, and of those of a coarse level."""
COARSE = 1200
"""Longest side in pixels of the coarse level."""
CROPS = 5
"""Crops along a side of the picture."""
ROUNDS = 3
FREQUENCIES = 0.15
"""Standard deviation, in cycles per pixel, of what of the spectrum counts: above it is noise."""
CLEAR_PEAK = 12.0
"""Height of a correlation's peak over its standard deviation, from which it is trusted."""
FEWEST = 3
"""Crops that must agree."""
ENOUGH = (8, 6)
"""Crops from which a homography is fitted, and a similarity; half of them must agree."""
AGREE = 1.5
"""Pixels that crops that agree may be off by."""
STILL = 0.1
"""Pixels that a corner has moved by in a round, below which another one changes nothing."""
RANKS = 1 << 12
"""Steps of grey values whose ranks are distinguished."""
WHOLE = 0.25
"""Pixels that a placement may be off by to be taken as a shift by whole pixels."""
DOUBT = 2.0
"""Standard errors within which corners say nothing."""
LARGEST_RESIDUAL = 2.0
UNSURE = 1.0
"""Pixels from which on the likely error of a corner is reported."""
KEPT = 256
"""Placements that are kept."""


@dataclass(frozen=True)
class Placement:
    """A frame on the grid of the reference."""

    matrix: tuple[float, ...]
    """Homography, row by row, from (x, y, 1) of the reference's pixel centres to the frame's."""
    residual: float | None
    """Median distance in pixels of the crops from it; None where no crops were compared."""
    corners: float = 0.0
    """Pixels by which a corner is likely to be off: crops may lie far from it."""

    @property
    def is_in_place(self) -> bool:
        """Whether the frame lies where the reference does."""
        return self.matrix == (1, 0, 0, 0, 1, 0, 0, 0, 1)


_placed: OrderedDict[tuple[Any, ...], Placement | None] = OrderedDict()


def place(
    reference: Image,
    frame: Image,
    start: Sequence[float] | None = None,
    crops: Sequence[Crops] = (),
) -> Placement | None:
    """Return where `frame` lies on the grid of `reference`; None where it fits nowhere.

    `start` is a matrix near the result; None: found on an overview. `crops` are those of the
    reference, of `crops_of`, which serve for all its frames. What was found is kept by the content of
    both. Raises `BadParameter` without scikit-image.
    """
    key = (reference.fingerprint, frame.fingerprint, None if start is None else tuple(start))
    # Another thread may drop it at any time.
    with suppress(KeyError):
        return _placed[key]
    found = _placed[key] = _place(reference, frame, start, crops or crops_of(reference))
    while len(_placed) > KEPT:
        _placed.popitem(last=False)
    return found


def place_roughly(reference: Image, frame: Image) -> Placement:
    """Return a shift by whole pixels found on an overview, none where it is not clear: quick."""
    small, other = overview_of(reference), overview_of(frame)
    (dy, dx), peak = displacement(small, other)
    scale = reference.height / len(small) if peak >= CLEAR_PEAK else 0.0
    return Placement((1, 0, round(dx * scale), 0, 1, round(dy * scale), 0, 0, 1), None)


class Crops:
    """Crops all over a level of the reference, with the spectra of what they show."""

    def __init__(self, image: Image, side: int) -> None:
        """Prepare crops of `side` pixels at most; spectra are computed when they are needed."""
        self.image = image
        self.side = side = max(1, min(side, image.height // 2, image.width // 2))
        rows, columns = (
            np.unique(np.linspace(0, length - side, CROPS).astype(int)).tolist()
            for length in (image.height, image.width)
        )
        self.boxes = [(y, x, y + side, x + side) for y in rows for x in columns]
        self.spectra: dict[Box, Spectrum] = {}

    def spectrum(self, box: Box) -> Spectrum:
        """Return the spectrum of the crop `box`; kept."""
        if box not in self.spectra:
            self.spectra[box] = _spectrum(_grey(self.image.read(box), self.image))
        return self.spectra[box]


def crops_of(reference: Image) -> list[Crops]:
    """Return the crops of a reference: of a coarse level, where it is much smaller, and of the image."""
    fine = Crops(reference, CROP)
    coarse = coarse_view(reference, COARSE)
    return [fine] if coarse is reference else [Crops(coarse, COARSE_CROP), fine]


def _place(
    reference: Image, frame: Image, start: Sequence[float] | None, crops: Sequence[Crops]
) -> Placement | None:
    try:
        from skimage.measure import ransac
        from skimage.transform import ProjectiveTransform, SimilarityTransform
    except ImportError:
        raise BadParameter(
            "Frames are aligned by scikit-image, which is not installed.",
            f'Run pip install "napari-restore[fuse]", or use {option("align", "off")}.',
        ) from None
    if start is None:
        start = place_roughly(reference, frame).matrix
    matrix = np.array(start, np.float64).reshape(3, 3)
    kinds = (ProjectiveTransform, SimilarityTransform)
    fitted = None
    for each in crops:
        view = frame if each.image is reference else coarse_view(frame, COARSE)
        scale = each.image.scale // reference.scale
        if view.scale != scale * frame.scale:
            continue  # it has other levels
        for _ in range(ROUNDS):
            fitted = _fit(list(_pairs(each, view, scaled_matrix(matrix, scale))), kinds, ransac)
            if fitted is None:
                break
            found = scaled_matrix(fitted.matrix, 1 / scale)
            change = _moved(found, reference) - _moved(matrix, reference)
            matrix = found
            # What a coarse level finds is refined.
            if np.abs(change).max() < STILL * scale**2:
                break
    if fitted is None or fitted.residual > LARGEST_RESIDUAL:
        return None
    error = _corner_error(fitted, reference)
    rounded = tuple(_rounded(matrix, reference, fitted, error).ravel().tolist())
    return Placement(rounded, fitted.residual, error)


@dataclass(frozen=True)
class _PairFit:
    matrix: Array
    residual: float
    """Median distance of the pairs that agree."""
    kind: Any = None
    """Kind of transform; None: a shift by whole pixels."""
    at: Any = ()
    """Points (n, 2) of the reference that agree."""
    there: Any = ()
    """Those of the frame."""


def _corner_error(fit: _PairFit, reference: Image) -> float:
    """Return the standard error in pixels of the worst corner, by the jackknife of Quenouille and Tukey."""
    if fit.kind is None:
        return 0.0
    # One pair of points after the other is left out; 0 for a shift by whole pixels.
    corners = []
    for number in range(len(fit.at)):
        rest = [np.delete(points, number, axis=0) for points in (fit.at, fit.there)]
        if hasattr(fit.kind, "from_estimate"):
            found = fit.kind.from_estimate(*rest)
        else:
            found = fit.kind()
            found = found if found.estimate(*rest) else None
        if found:
            corners.append(_moved(np.asarray(found.params, np.float64), reference))
    if len(corners) < 2:
        return float("inf")
    spread = np.sqrt((len(corners) - 1) * np.var(corners, axis=0).sum(axis=0))
    return float(spread.max())


def _fit(pairs: Sequence[tuple[Any, Any]], kinds: Sequence[Any], ransac: Any) -> _PairFit | None:
    """Return the transform that most pairs of points agree on; None where too few agree."""
    if len(pairs) < FEWEST:
        return None
    at, there = (np.array(points) for points in zip(*pairs, strict=True))
    # Of `kinds` the most general that enough pairs support, a shift by whole pixels for few.
    for kind, needed in zip(kinds, ENOUGH, strict=True):
        if len(pairs) < needed:
            continue
        with np.errstate(all="ignore"):
            # With a seed, so that a bracket lies alike every time.
            found, inliers = ransac((at, there), kind, 4, AGREE, max_trials=300, rng=0)
        if found is not None and inliers is not None and inliers.sum() >= needed / 2:
            own, other = at[inliers], there[inliers]
            residual = float(np.median(found.residuals(own, other)))
            return _PairFit(np.asarray(found.params, np.float64), residual, kind, own, other)
    shift = np.rint(np.median(there - at, axis=0))
    distance = np.linalg.norm(there - at - shift, axis=1)
    agreeing = distance[distance <= AGREE]
    if len(agreeing) < FEWEST:
        return None
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]])
    return _PairFit(matrix, float(np.median(agreeing)))


def _pairs(crops: Crops, frame: Image, matrix: Array) -> Iterator[tuple[Any, Any]]:
    """Yield points (x, y) of the reference and of the frame that show the same."""
    reference, middle = crops.image, (crops.side - 1) / 2
    placed = RegisteredReader(frame, matrix, (reference.height, reference.width))
    for box in crops.boxes:
        if not placed.shows(box):
            continue
        there = placed.pixels(box, made=lambda pixels: _grey(pixels, frame)[..., None])[..., 0]
        (dy, dx), peak = _shift_between(crops.spectrum(box), _spectrum(there), there.shape)
        if peak >= CLEAR_PEAK and max(abs(dy), abs(dx)) < crops.side / 4:
            across, down = box[1] + middle, box[0] + middle
            seen = matrix @ np.array([across + dx, down + dy, 1.0])
            yield (across, down), seen[:2] / seen[2]


def displacement(reference: Grey, other: Grey) -> tuple[tuple[float, float], float]:
    """Return how far (dy, dx) `other` (h, w) shows the same further down and right, and how clearly."""
    # By phase correlation of ranked values; to about a tenth of a pixel, by a parabola at the peak.
    return _shift_between(_spectrum(reference), _spectrum(other), reference.shape)


def _shift_between(
    reference: Spectrum, other: Spectrum, shape: tuple[int, ...]
) -> tuple[tuple[float, float], float]:
    """Return what `displacement` does for the spectra of pictures of `shape`."""
    product = other * np.conj(reference)
    product /= np.abs(product) + np.float32(1e-12)
    product *= _low_frequencies(shape)
    surface = np.fft.irfft2(product, shape)
    peak = np.unravel_index(int(surface.argmax()), surface.shape)
    spread = float(surface.std())
    found = []
    for axis, (at, length) in enumerate(zip(peak, surface.shape, strict=True)):
        line: Array = np.take(surface, [peak[1 - axis]], 1 - axis).ravel()
        before, here, after = (float(line[(int(at) + step) % length]) for step in (-1, 0, 1))
        bend = before - 2 * here + after
        sub = 0.5 * (before - after) / bend if bend < 0 else 0.0
        found.append(((int(at) + length // 2) % length) - length // 2 + sub)
    return (found[0], found[1]), float(surface.max()) / spread if spread else 0.0


@lru_cache(maxsize=8)
def _low_frequencies(shape: tuple[int, ...]) -> Grey:
    """Return the weights of the frequencies of a spectrum of pictures of `shape`."""
    down, across = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    return np.exp(-(down**2 + across**2) / (2 * FREQUENCIES**2)).astype(np.float32)


@lru_cache(maxsize=8)
def _fading(shape: tuple[int, ...]) -> Grey:
    """Return weights (h, w) that are 0 at the edges."""
    return np.outer(*(np.hanning(n + 2)[1:-1] for n in shape)).astype(np.float32)


def _spectrum(values: Grey) -> Spectrum:
    """Return the spectrum of the ranks of values (h, w), the same for any exposure."""
    # Of every ninth value: the ranks of neighbours are alike.
    low, high = np.quantile(values[::3, ::3], (0.001, 0.999))
    if not high > low:
        return np.fft.rfft2(np.zeros(values.shape, np.float32))
    steps = ((values - np.float32(low)) * np.float32((RANKS - 1) / (high - low))).clip(0, RANKS - 1)
    place = steps.astype(np.intp)
    counts = np.bincount(place.ravel(), minlength=RANKS)
    ranks = ((counts.cumsum() - counts / 2) * (2 / values.size) - 1).astype(np.float32)
    faded = ranks[place]
    faded -= faded.mean()
    faded *= _fading(values.shape)
    return np.fft.rfft2(faded)


def _grey(pixels: npt.NDArray[Any], image: Image) -> Grey:
    """Return the mean (h, w) of the bands of pixels (h, w, C); 0 where it is no number."""
    grey = np.zeros(pixels.shape[:2], np.float32)
    for band in image.data_bands:
        grey += pixels[..., band]
    grey /= len(image.data_bands)
    return np.nan_to_num(grey, copy=False)


def _rounded(matrix: Array, image: Image, fit: _PairFit, error: float) -> Array:
    """Return a shift by whole pixels where that is as good; else `matrix` itself."""
    # It is where the corners agree, or where they are too uncertain, by `error`, and the crops
    # agree: of a frame that is mostly clipped these may lie close together.
    moved = _moved(matrix, image)
    shift = np.rint(moved.mean(axis=1))
    off = np.abs(moved - shift[:, None]).max()
    if off > WHOLE and off <= DOUBT * error and len(fit.at):
        apart = fit.there - fit.at
        shift = np.rint(np.median(apart, axis=0))
        off = np.median(np.abs(apart - shift).max(axis=1))
    if off > WHOLE:
        scaled: Array = matrix / matrix[2, 2]
        return scaled
    return np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]])


def _moved(matrix: Array, image: Image) -> Array:
    """Return by how much (x, y) the corners of an image lie elsewhere in the frame, (2, 4)."""
    corners = np.array([[x, y, 1.0] for y in (0, image.height - 1) for x in (0, image.width - 1)]).T
    seen = matrix @ corners
    moved: Array = (seen / seen[2] - corners)[:2]
    return moved
