"""Metrics of fused pictures: whatever the tones, of clipped pixels, and MEF-SSIM."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.isotonic import IsotonicRegression

from napari_restore.errors import BadParameter
from napari_restore.metrics import (
    mef_ssim,
    mef_ssim_dynamic,
    metric_of,
    psnr,
    psnr_clipped,
    psnr_matched,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def test_a_rising_curve_is_no_error(rng: np.random.Generator):
    truth = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    toned = np.rint(255 * (truth / 255) ** 0.5).astype(np.uint8)
    back = psnr_matched(truth, toned, 255)
    assert psnr(truth, toned, 255) < 20 and back == np.inf
    # A curve that falls is one.
    assert psnr_matched(255 - truth, truth, 255) < 15


def fitted(other: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`other` through the rising curve of each channel that comes next to `truth`."""
    found = np.zeros(truth.shape, np.float32)
    for channel in range(3):
        given, wanted = other[..., channel], truth[..., channel]
        fit = IsotonicRegression().fit(given[valid], wanted[valid])
        found[..., channel][valid] = fit.predict(given[valid])
    return found


def test_curves_are_those_of_isotonic_regression(rng: np.random.Generator):
    truth = rng.integers(0, 256, (30, 40, 3)).astype(np.float32)
    other = np.clip(truth * 0.6 + rng.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    valid = rng.random(truth.shape[:2]) > 0.3
    found = psnr_matched(other, truth, 255, valid)
    assert found == pytest.approx(psnr(fitted(other, truth, valid), truth, 255, valid), abs=1e-3)


def test_clipped_pixels_are_those_of_the_middle_frame(rng: np.random.Generator):
    truth = rng.uniform(0.2, 0.8, (32, 32, 3)).astype(np.float32)
    middle = truth.copy()
    middle[8:16] = 1
    frames = [truth * 0.5, middle, np.ones_like(truth)]
    restored = truth.copy()
    restored[8:16] += 0.05 * rng.standard_normal(restored[8:16].shape)
    # Values of 8 bits, of which each is a step of the curve.
    restored = np.rint(255 * restored).astype(np.float32) / 255
    alone = psnr_clipped(restored, truth, 1, frames=frames)
    curve = fitted(restored, truth, np.ones((32, 32), bool))
    assert alone == pytest.approx(psnr(curve[8:16], truth[8:16], 1), abs=1e-3)
    assert alone < psnr_matched(restored, truth, 1)
    assert np.isnan(psnr_clipped(truth, truth, 1, frames=[truth] * 3))
    assert metric_of("psnr_clipped").needs_frames


PLACE = np.arange(11) - 5
GAUSS = np.exp(-0.5 * (PLACE / 1.5) ** 2)
GAUSSIAN = np.outer(GAUSS, GAUSS) / GAUSS.sum() ** 2
CONSTANT = (0.03 * 255) ** 2


def similar(wanted: np.ndarray, own: np.ndarray) -> float:
    """SSIM without means of two windows."""

    def covariance(a: np.ndarray, b: np.ndarray) -> float:
        means = (GAUSSIAN * a).sum() * (GAUSSIAN * b).sum()
        return float((GAUSSIAN * a * b).sum() - means)

    spread = covariance(wanted, wanted) + covariance(own, own)
    return (2 * covariance(wanted, own) + CONSTANT) / (spread + CONSTANT)


def mixture(centred: list[np.ndarray], sizes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The wanted structure of a window: as long as the longest of the contents."""
    structure = sum(
        w * patch / (size + 1e-3) for w, patch, size in zip(weights, centred, sizes, strict=True)
    )
    length = np.sqrt((structure**2).sum())
    return structure * (sizes.max() / length if length else 0)


def contents(frames: list[np.ndarray], y: int, x: int) -> tuple[list[np.ndarray], np.ndarray]:
    """A window of each frame without its mean, and their lengths."""
    patches = [frame[y : y + 11, x : x + 11] for frame in frames]
    centred = [patch - patch.mean() for patch in patches]
    return centred, np.array([np.sqrt((patch**2).sum()) for patch in centred])


def literal(fused: np.ndarray, frames: list[np.ndarray]) -> float:
    """MEF-SSIM at one scale by windows, in the words of the paper; (h, w) 0 to 255."""
    scores = []
    for y in range(fused.shape[0] - 10):
        for x in range(fused.shape[1] - 10):
            centred, sizes = contents(frames, y, x)
            together = np.sqrt((np.sum(centred, axis=0) ** 2).sum())
            agreement = (together + 1e-3) / (sizes.sum() + 1e-3)
            power = np.clip(np.tan(np.pi / 2 * min(agreement, 1)), 0, 10)
            weights = (sizes / 11) ** power + 1e-3
            wanted = mixture(centred, sizes, weights / weights.sum())
            scores.append(similar(wanted, fused[y : y + 11, x : x + 11]))
    return float(np.mean(scores))


def literal_dynamic(fused: np.ndarray, frames: list[np.ndarray]) -> tuple[float, float]:
    """MEF-SSIMd by windows, in the words of the paper, and the share of static windows."""
    rows, columns = (side - 10 for side in fused.shape)
    places = [(y, x) for y in range(rows) for x in range(columns)]
    static = np.ones((rows, columns), bool)
    for first in range(len(frames)):
        for other in range(first + 1, len(frames)):
            alike = np.zeros((rows, columns), bool)
            for y, x in places:
                (a, b), sizes = contents([frames[first], frames[other]], y, x)
                spread = sizes[0] * sizes[1] / 121
                alike[y, x] = ((a * b).sum() / 121 + CONSTANT) / (spread + CONSTANT) >= 0.5
            static &= opened(alike)

    def curve(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """`values` in the tones of `wanted`: the middle of a level's ranks decides."""
        ranked = np.sort(wanted, axis=None)
        levels = {}
        for level in np.unique(values):
            rank = (values < level).sum() + (values == level).sum() / 2
            levels[level] = ranked[int(np.ceil(rank)) - 1]
        return np.vectorize(levels.get)(values)

    def score(used: list[np.ndarray], chosen: np.ndarray) -> float:
        scores = []
        for y, x in places:
            if chosen[y, x]:
                centred, sizes = contents(used, y, x)
                weights = (sizes + 1e-3) ** 4 + 1e-3
                wanted = mixture(centred, sizes, weights / weights.sum())
                scores.append(similar(wanted, fused[y : y + 11, x : x + 11]))
        return float(np.mean(scores))

    parts = []
    for k, reference in enumerate(frames):
        toned = [f if n == k else curve(reference, f) for n, f in enumerate(frames)]
        parts.append(score(toned, ~static))
    return (score(frames, static) + max(parts)) / 2, float(static.mean())


def opened(flags: np.ndarray) -> np.ndarray:
    """A morphological opening by a disk with the radius 11."""
    y, x = np.mgrid[-11:12, -11:12]
    disk = y**2 + x**2 <= 11**2
    around = sliding_window_view(np.pad(flags, 11, constant_values=True), disk.shape)
    eroded = (around | ~disk).all((2, 3))
    around = sliding_window_view(np.pad(eroded, 11), disk.shape)
    return (around & disk).any((2, 3))


def smooth(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A picture (h, w), 0 to 255."""
    base = rng.uniform(0, 255, shape)
    for _ in range(3):
        base = (base + np.roll(base, 1, 0) + np.roll(base, 1, 1)) / 3
    return (base - base.min()) / np.ptp(base) * 255


def test_mef_ssim_equals_a_literal_program(rng: np.random.Generator):
    base = smooth(rng, (48, 56))
    frames = [np.clip(base * gain + shift, 0, 255) for gain, shift in ((0.4, 0), (1, 10), (1.8, 5))]
    fused = 0.5 * frames[1] + 0.3 * frames[0] + rng.normal(0, 3, base.shape)

    def halved(image: np.ndarray) -> np.ndarray:
        return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean((1, 3))

    levels, pictures = [], [fused, *frames]
    for _ in range(3):
        levels.append(literal(pictures[0], pictures[1:]))
        pictures = [halved(picture) for picture in pictures]
    weights = np.array([0.0448, 0.2856, 0.3001])
    expected = np.prod(np.array(levels) ** (weights / weights.sum()))
    assert mef_ssim(fused, frames, 255) == pytest.approx(expected, abs=1e-6)
    assert mef_ssim(fused / 255, [f / 255 for f in frames], 1) == pytest.approx(expected, abs=1e-6)


def test_mef_ssim_of_colours_masks_and_bad_input(rng: np.random.Generator):
    frame = rng.uniform(0, 1, (64, 64, 3))
    assert mef_ssim(frame, [frame, frame], 1) == pytest.approx(1, abs=1e-4)
    spoilt = frame.copy()
    spoilt[:8] = 0
    valid = np.ones((64, 64), bool)
    valid[:8] = False
    assert mef_ssim(spoilt, [frame, frame], 1) < 0.98
    assert mef_ssim(spoilt, [frame, frame], 1, valid) == pytest.approx(1, abs=1e-4)
    with pytest.raises(BadParameter, match="frames of its size"):
        mef_ssim(frame, [frame[:32]], 1)
    with pytest.raises(BadParameter, match="does not fit"):
        mef_ssim(frame, [frame], 1, valid[:3])


def moved(rng: np.random.Generator) -> list[np.ndarray]:
    """Three exposures (64, 60) of a scene; the right part of the last one is another."""
    base, other = smooth(rng, (64, 60)), smooth(rng, (64, 60))
    frames = [np.clip(base * gain, 0, 255) for gain in (0.4, 1.0, 1.8)]
    frames[2][:, 40:] = np.clip(other[:, 40:] * 1.8, 0, 255)
    return [np.rint(frame) for frame in frames]


@pytest.mark.slow
def test_mef_ssim_of_moving_things_equals_a_literal_program(rng: np.random.Generator):
    frames = moved(rng)
    fused = 0.5 * frames[1] + 0.3 * frames[0] + rng.normal(0, 3, frames[0].shape)
    expected, static = literal_dynamic(fused, frames)
    assert 0.3 < static < 0.7
    assert mef_ssim_dynamic(fused, frames, 255) == pytest.approx(expected, abs=1e-6)


def test_a_double_contour_is_no_structure(rng: np.random.Generator):
    frames = moved(rng)
    double = (frames[0] + frames[1] + frames[2]) / 3
    follows_one = double.copy()
    follows_one[:, 30:] = (frames[0] + frames[1])[:, 30:] / 2
    good, bad = (mef_ssim_dynamic(picture, frames, 255) for picture in (follows_one, double))
    assert good > bad + 0.05
    # Without motion, and where the moving part does not count, the static part is all.
    still = [frames[0], frames[1], frames[1]]
    valid = np.ones(double.shape, bool)
    valid[:, 30:] = False
    for picture in (double, follows_one):
        assert 0 < mef_ssim_dynamic(picture, still, 255) <= 1
    alone = [mef_ssim_dynamic(p, frames, 255, valid) for p in (double, follows_one)]
    assert alone[0] == alone[1] > bad
    assert metric_of("mef_ssim_dynamic").needs_frames
