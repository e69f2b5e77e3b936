"""Metrics of fused pictures: whatever the tones, of clipped pixels, and MEF-SSIM."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from napari_restore.errors import BadParameter
from napari_restore.metrics import mef_ssim, metric_of, psnr, psnr_clipped, psnr_matched
from napari_restore.metrics._matched import isotonic, matched


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def test_pooling_is_isotonic_regression(rng: np.random.Generator):
    values, weights = rng.normal(size=200) + np.arange(200) / 50, rng.uniform(0.1, 3, 200)
    expected = IsotonicRegression().fit(np.arange(200), values, weights).predict(np.arange(200))
    np.testing.assert_allclose(isotonic(values, weights), expected, atol=1e-12)


def test_a_rising_curve_is_no_error(rng: np.random.Generator):
    truth = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    toned = np.rint(255 * (truth / 255) ** 0.5).astype(np.uint8)
    back = psnr_matched(truth, toned, 255)
    assert psnr(truth, toned, 255) < 20 and back == np.inf
    # A curve that falls is one.
    assert psnr_matched(255 - truth, truth, 255) < 15


def test_curves_are_those_of_isotonic_regression(rng: np.random.Generator):
    truth = rng.integers(0, 256, (30, 40, 3)).astype(np.float32)
    other = np.clip(truth * 0.6 + rng.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    valid = rng.random(truth.shape[:2]) > 0.3
    fit = IsotonicRegression(out_of_bounds="clip")
    found = matched(other, truth, 255, valid)
    for channel in range(3):
        expected = fit.fit(other[..., channel][valid], truth[..., channel][valid])
        predicted = expected.predict(other[..., channel][valid])
        np.testing.assert_allclose(found[..., channel][valid], predicted, atol=1e-3)


def test_clipped_pixels_are_those_of_the_middle_frame(rng: np.random.Generator):
    truth = rng.uniform(0.2, 0.8, (32, 32, 3)).astype(np.float32)
    middle = truth.copy()
    middle[8:16] = 1
    frames = [truth * 0.5, middle, np.ones_like(truth)]
    restored = truth.copy()
    restored[8:16] += 0.05 * rng.standard_normal(restored[8:16].shape)
    alone = psnr_clipped(restored, truth, 1, frames=frames)
    curve = matched(restored, truth, 1)
    assert alone == pytest.approx(psnr(curve[8:16], truth[8:16], 1))
    assert alone < psnr_matched(restored, truth, 1)
    assert np.isnan(psnr_clipped(truth, truth, 1, frames=[truth] * 3))
    assert metric_of("psnr_clipped").needs_frames


def literal(fused: np.ndarray, frames: list[np.ndarray]) -> float:
    """MEF-SSIM at one scale by windows, in the words of the paper; (h, w) 0 to 255."""
    place = np.arange(11) - 5
    gauss = np.exp(-0.5 * (place / 1.5) ** 2)
    window = np.outer(gauss, gauss) / gauss.sum() ** 2
    scores = []
    for y in range(fused.shape[0] - 10):
        for x in range(fused.shape[1] - 10):
            patches = [frame[y : y + 11, x : x + 11] for frame in frames]
            own = fused[y : y + 11, x : x + 11]
            centred = [patch - patch.mean() for patch in patches]
            sizes = np.array([np.sqrt((patch**2).sum()) for patch in centred])
            together = np.sqrt((np.sum(centred, axis=0) ** 2).sum())
            agreement = (together + 1e-3) / (sizes.sum() + 1e-3)
            power = np.clip(np.tan(np.pi / 2 * min(agreement, 1)), 0, 10)
            weights = (sizes / 11) ** power + 1e-3
            weights /= weights.sum()
            structure = sum(
                w * patch / (size + 1e-3)
                for w, patch, size in zip(weights, centred, sizes, strict=True)
            )
            wanted = sizes.max() * structure / np.sqrt((structure**2).sum())

            def covariance(a: np.ndarray, b: np.ndarray) -> float:
                return float((window * a * b).sum() - (window * a).sum() * (window * b).sum())

            constant = (0.03 * 255) ** 2
            spread = covariance(wanted, wanted) + covariance(own, own)
            scores.append((2 * covariance(wanted, own) + constant) / (spread + constant))
    return float(np.mean(scores))


def test_mef_ssim_equals_a_literal_program(rng: np.random.Generator):
    shape = (48, 56)
    base = rng.uniform(0, 255, shape)
    for _ in range(3):
        base = (base + np.roll(base, 1, 0) + np.roll(base, 1, 1)) / 3
    base = (base - base.min()) / np.ptp(base) * 255
    frames = [np.clip(base * gain + shift, 0, 255) for gain, shift in ((0.4, 0), (1, 10), (1.8, 5))]
    fused = 0.5 * frames[1] + 0.3 * frames[0] + rng.normal(0, 3, shape)

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
