from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_restore.errors import BadParameter
from napari_restore.metrics import (
    _comparable,
    ciede2000,
    luma,
    metric_ids,
    metric_of,
    psnr,
    psnr_y,
    ssim,
    ssim_y,
)
from napari_restore.metrics._ciede2000 import difference


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


# Pairs of CIELAB and their ΔE₀₀ from table 1 of Sharma, Wu and Dalal 2005: hues around the
# blue corner, greys, hues that are opposite to 0.001, large and tiny differences.
SHARMA = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, -0.001, 2.49), (50, 0.0009, -2.49), 4.8045),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("one", "other", "expected"), SHARMA)
def test_ciede2000_of_the_published_pairs(one: tuple, other: tuple, expected: float):
    labs = np.array([one], float), np.array([other], float)
    assert difference(*labs)[0] == pytest.approx(expected, abs=5e-5)
    assert difference(*labs[::-1])[0] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 255), (np.float32, 1)])
def test_ciede2000_is_that_of_scikit_image(dtype: type, scale: float):
    colour = pytest.importorskip("skimage.color")
    rng = np.random.default_rng(5)
    a = rng.random((40, 30, 3)) * scale
    b = np.clip(a + rng.normal(0, 0.2 * scale, a.shape), 0, scale)
    a[:3], b[:2], a[5, :9] = 0, scale, a[5, :9, :1]
    a, b = a.astype(dtype), b.astype(dtype)
    valid = rng.random((40, 30)) < 0.7
    expected = colour.deltaE_ciede2000(
        *(colour.rgb2lab(x.astype(np.float64) / scale) for x in (a, b))
    )
    assert ciede2000(a, b, scale, valid) == pytest.approx(expected[valid].mean(), rel=1e-6)
    assert ciede2000(a, a, scale) == 0
    assert np.isnan(ciede2000(a, b, scale, valid & False))


def test_luma_by_hand_and_its_metrics():
    rgb = np.zeros((20, 20, 3), np.uint8)
    rgb[..., 1] = 255
    assert luma(rgb, 255)[3, 4] == pytest.approx((128.553 + 16) / 255)
    assert luma(np.full((1, 1, 3), 1.0), 1)[0, 0] == pytest.approx(235 / 255)
    # Red and blue that change against each other leave Y alone.
    other = rgb.astype(float)
    other[..., 0] += 24.966
    other[..., 2] -= 65.481
    assert psnr_y(rgb, other, 255) > 100 > psnr(rgb, other, 255)
    grey = rgb.astype(float) + 51
    assert psnr_y(rgb, grey, 255) == pytest.approx(-20 * np.log10(0.2 * 219 / 255), rel=1e-5)
    assert ssim_y(rgb, rgb, 255) == pytest.approx(1)


@pytest.mark.parametrize("measure", [ciede2000, psnr_y, ssim_y])
def test_colour_needs_three_bands(measure: object):
    assert callable(measure)
    with pytest.raises(BadParameter, match="colours"):
        measure(np.ones((20, 20, 4)), np.ones((20, 20, 4)), 1)


def test_large_images_are_summed_in_strips(monkeypatch: pytest.MonkeyPatch):
    a, b = pair((60, 70, 3), np.uint8, 255)
    whole = [measure(a, b, 255) for measure in (psnr, ciede2000)]
    monkeypatch.setattr(_comparable, "STRIP_PIXELS", 300)
    assert [measure(a, b, 255) for measure in (psnr, ciede2000)] == pytest.approx(whole, rel=1e-12)


def test_other_packages_add_metrics_and_a_broken_one_spoils_nothing(offered: Callable[..., None]):
    def rmse(a: object, b: object, data_range: float, valid: object = None) -> float:
        return 0.25

    rmse.higher_is_better = False  # type: ignore[attr-defined]
    objects = {"rmse": rmse, "worse": ImportError("no torch"), "odd": 3}
    offered("napari_restore.metrics", objects)
    assert metric_ids() == (
        *("psnr", "ssim", "ciede2000", "psnr_y", "ssim_y"),
        *("psnr_matched", "psnr_clipped", "mef_ssim", "mef_ssim_dynamic", "rmse"),
    )
    assert metric_of("rmse").function(1, 2, 3) == 0.25
    assert not metric_of("rmse").higher_is_better and metric_of("psnr").higher_is_better
    assert not metric_of("ciede2000").higher_is_better
    with pytest.raises(BadParameter, match="no torch"):
        metric_of("worse")
    with pytest.raises(BadParameter, match="no function"):
        metric_of("odd")
    with pytest.raises(BadParameter, match="psnr"):
        metric_of("psrn")


def test_the_metric_of_the_docs_runs(monkeypatch: pytest.MonkeyPatch, offered: Callable[..., None]):
    """With a network in place of the package's, which is the mean absolute difference."""
    import re
    import sys
    import types
    from pathlib import Path

    import torch

    page = Path(__file__).parents[1] / "docs" / "training" / "evaluate.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "napari_restore.metrics" in block]
    names: dict[str, object] = {}
    exec(code, names)

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            assert x.shape == (1, 3, 8, 9) and float(x.min()) >= -1 and float(x.max()) <= 1
            return (x - y).abs().mean()

    package = types.SimpleNamespace(LPIPS=lambda net: Network())
    monkeypatch.setitem(sys.modules, "lpips", package)
    offered("napari_restore.metrics", {"lpips": names["lpips_alex"]})
    metric = metric_of("lpips")
    a = np.full((8, 9, 3), 51, np.uint8)
    b, valid = a.copy(), np.ones((8, 9), bool)
    b[0], b[1], valid[1] = 102, 255, False
    # One row of eight by a fifth of 2.
    assert metric.function(a, b, 255, valid) == pytest.approx(0.4 / 8)
    assert not metric.higher_is_better
