from __future__ import annotations

import numpy as np
import pytest

from napari_restore.errors import BadParameter
from napari_restore.metrics import psnr, ssim


def pair(shape: tuple[int, ...], dtype: type, scale: float, seed: int = 3) -> tuple:
    random = np.random.default_rng(seed)
    a = random.random(shape)
    a = np.cumsum(a, 1) / np.arange(1, shape[1] + 1).reshape(1, -1, *[1] * (len(shape) - 2))
    b = np.clip(a + random.normal(0, 0.05, shape), 0, 1)
    return (a * scale).astype(dtype), (b * scale).astype(dtype)


def test_psnr_by_hand():
    a = np.zeros((4, 5), np.uint8)
    b = np.full((4, 5), 16, np.uint8)
    assert psnr(a, b, 255) == pytest.approx(10 * np.log10(255**2 / 256))
    assert psnr(b, a, 255) == psnr(a, b, 255)
    assert psnr(a, a, 255) == float("inf")


def test_ssim_by_hand_for_flat_images():
    # Without variance SSIM is (2ab + C1) / (a² + b² + C1).
    a, b, c1 = 0.25, 0.5, 0.01**2
    value = ssim(np.full((12, 13), a), np.full((12, 13), b), 1.0)
    assert value == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))
    assert ssim(np.full((12, 13), a), np.full((12, 13), a), 1.0) == pytest.approx(1)


@pytest.mark.parametrize(
    ("shape", "dtype", "scale"),
    [
        ((40, 57), np.uint8, 255),
        ((64, 33, 3), np.uint8, 255),
        ((50, 50, 4), np.uint16, 9000),
        ((31, 30), np.float64, 1),
    ],
)
def test_they_are_those_of_scikit_image(shape: tuple[int, ...], dtype: type, scale: float):
    reference = pytest.importorskip("skimage.metrics")
    a, b = pair(shape, dtype, scale)
    assert psnr(a, b, scale) == pytest.approx(
        reference.peak_signal_noise_ratio(a, b, data_range=scale), rel=1e-9
    )
    expected = reference.structural_similarity(
        a,
        b,
        data_range=scale,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2 if len(shape) == 3 else None,
    )
    assert 0.1 < expected < 0.99
    assert ssim(a, b, scale) == pytest.approx(expected, rel=1e-7)


def test_invalid_pixels_do_not_count():
    a, b = pair((60, 70, 3), np.float64, 1)
    broken = b.copy()
    broken[20:30, 5:9] = 7
    broken[40, 60, 1] = np.nan
    valid = np.ones((60, 70), bool)
    valid[20:30, 5:9] = False
    # NaN is found without being told; the square is not.
    kept = valid.copy()
    kept[40, 60] = False
    expected = 10 * np.log10(1 / np.mean((a - b)[kept] ** 2))
    assert psnr(a, broken, 1, valid) == pytest.approx(expected)
    assert ssim(a, broken, 1, valid) == pytest.approx(ssim(a, b, 1, kept), rel=1e-12)
    assert ssim(a, broken, 1) < ssim(a, b, 1) - 0.01


def test_windows_that_touch_an_invalid_pixel_are_left_out():
    a, b = pair((11, 40), np.float64, 1)
    valid = np.ones((11, 40), bool)
    valid[5, 20] = False
    # Left of column 20 lie the windows of columns 0 … 19, right of it those of 21 … 39.
    parts = [(a[:, :20], b[:, :20], 10), (a[:, 21:], b[:, 21:], 9)]
    expected = sum(ssim(x, y, 1) * n for x, y, n in parts) / 19
    assert ssim(a, b, 1, valid) == pytest.approx(expected)


def test_nothing_to_compare_is_nan():
    a, b = pair((20, 20), np.float64, 1)
    nothing = np.zeros((20, 20), bool)
    assert np.isnan(psnr(a, b, 1, nothing))
    assert np.isnan(ssim(a, b, 1, nothing))
    assert np.isnan(ssim(a[:10], b[:10], 1))


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_what_cannot_be_compared_is_refused(measure: object):
    assert callable(measure)
    with pytest.raises(BadParameter, match="cannot be compared"):
        measure(np.ones((20, 20)), np.ones((20, 21)), 1)
    with pytest.raises(BadParameter, match="no white"):
        measure(np.ones((20, 20)), np.ones((20, 20)), 0)
    with pytest.raises(BadParameter, match="mask"):
        measure(np.ones((20, 20)), np.ones((20, 20)), 1, np.ones((20, 19)))


def test_arguments_are_left_as_they_were():
    a, b = pair((20, 20), np.float64, 1)
    before = a.copy(), b.copy()
    ssim(a, b, 1, np.eye(20) == 0)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])
