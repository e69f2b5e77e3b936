from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from napari_restore.errors import BadParameter, InputError
from napari_restore.images import open_image
from napari_restore.metrics import Metric, metric_of
from napari_restore_lab.score import (
    ScoredRange,
    change_of,
    methods_of,
    reference_of,
    scale_of,
    scores_of,
)

RGB = "red=1,green=2,blue=3"
BYTES = ScoredRange((0, 1, 2), (0.0, 0.0, 0.0), 255.0, True)


def noise(height: int = 30, width: int = 40, bands: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (height, width, bands), np.uint8)


def on_a_map(path: Path, pixels: np.ndarray) -> str:
    height, width, bands = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": bands}
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 5e6)}
    with rasterio.open(path, "w", dtype=pixels.dtype, **profile, **place) as file:
        file.write(pixels.transpose(2, 0, 1))
    return str(path)


def record(black: list[float] | None, white: float) -> dict:
    return {"input": {"black": black, "white": white}}


def test_values_count_between_black_and_white_of_the_run():
    codes = noise().astype(np.uint16) * 20 + 5000
    image = open_image(codes, bands=RGB)
    scale = scale_of(image, record([5000.0] * 3, 10100.0))
    assert scale == ScoredRange((0, 1, 2), (5000.0,) * 3, 10100.0, True)
    reference = reference_of(image, image, scale, None)
    np.testing.assert_allclose(reference.light, noise() / np.float32(255), rtol=1e-6)
    other = codes.copy()
    other[...] += 51 * 20
    scores = scores_of(other, reference, scale, {"psnr": metric_of("psnr")})
    assert scores["psnr"] == pytest.approx(20 * np.log10(5), rel=1e-5)


def test_red_green_and_blue_count_wherever_they_lie():
    pixels = noise(bands=4)
    hazy = open_image(pixels, bands="nir=1,blue=2,green=3,red=4")
    scale = scale_of(hazy, record(None, 255))
    assert scale.bands == (3, 2, 1) and scale.colour
    clear = open_image(pixels[..., [3, 2, 1]], bands=RGB)
    reference = reference_of(hazy, clear, scale, None)
    assert scores_of(pixels, reference, scale, {"psnr": metric_of("psnr")})["psnr"] == float("inf")


def test_colour_metrics_say_nothing_of_other_bands():
    pixels = noise(bands=2)
    image = open_image(pixels)
    scale = scale_of(image, record(None, 255))
    reference = reference_of(image, image, scale, None)
    metrics = {name: metric_of(name) for name in ("ssim", "ciede2000", "psnr_y")}
    scores = scores_of(pixels, reference, scale, metrics)
    assert scores["ssim"] == pytest.approx(1)
    assert np.isnan(scores["ciede2000"]) and np.isnan(scores["psnr_y"])


def test_a_clear_picture_of_another_type_has_a_range_of_its_own():
    hazy = open_image(noise(), bands=RGB)
    clear = open_image(noise().astype(np.uint16) * 257, bands=RGB)
    reference = reference_of(hazy, clear, BYTES, None)
    np.testing.assert_allclose(reference.light, noise() / np.float32(255), rtol=1e-6)


def test_different_sizes_are_refused_but_for_the_margin_of_reside():
    clear = noise(50, 60)
    whole = open_image(clear, bands=RGB)
    cut = open_image(np.ascontiguousarray(clear[10:40, 10:50]), bands=RGB)
    reference = reference_of(cut, whole, BYTES, None)
    np.testing.assert_allclose(reference.light, clear[10:40, 10:50] / np.float32(255), rtol=1e-6)
    with pytest.raises(InputError, match=r"has 40 × 30 pixels, but .* has 60 × 49"):
        reference_of(cut, open_image(clear[:49], bands=RGB), BYTES, None)


def test_black_borders_nodata_and_what_the_case_says_do_not_count(tmp_path):
    pixels = noise(60, 80)
    bordered = pixels.copy()
    bordered[:, :8] = 0
    # Dark things inside are no border, and neither is a white sky.
    bordered[20:30, 20:30] = 0
    bordered[:6, 20:] = 255
    photo = open_image(bordered, bands=RGB)
    mosaic = open_image(on_a_map(tmp_path / "mosaic.tif", bordered), bands=RGB)
    valid = np.ones((60, 80), bool)
    valid[-5:] = False
    expected = valid.copy()
    expected[:, :10] = False  # two more, which compression may have stained
    for hazy, clear in ((mosaic, mosaic), (mosaic, photo), (photo, mosaic)):
        assert np.array_equal(reference_of(hazy, clear, BYTES, valid).valid, expected)
    # The black edge of a photo is a part of it.
    assert np.array_equal(reference_of(photo, photo, BYTES, valid).valid, valid)

    holes = pixels.astype(np.float32) / 255
    holes[7, 9] = np.nan
    image = open_image(holes, bands=RGB)
    scale = ScoredRange((0, 1, 2), (0.0,) * 3, 1.0, True)
    full = open_image(pixels.astype(np.float32) / 255, bands=RGB)
    for hazy, clear in ((image, full), (full, image)):
        counts = reference_of(hazy, clear, scale, None).valid
        assert not counts[7, 9] and counts.sum() == 60 * 80 - 1


def test_scores_of_a_photo_with_a_black_edge_are_those_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    clear, hazy = noise(40, 50), noise(40, 50, seed=1)
    clear[:, :12] = hazy[:, :12] = 0
    hazy[:, 9:12] = 4
    images = [open_image(pixels, bands=RGB) for pixels in (hazy, clear)]
    reference = reference_of(*images, BYTES, None)
    names = {name: metric_of(name) for name in ("psnr", "ssim")}
    scores = scores_of(hazy, reference, BYTES, names)
    assert scores["psnr"] == pytest.approx(metrics.peak_signal_noise_ratio(clear, hazy))
    expected = metrics.structural_similarity(
        clear,
        hazy,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert scores["ssim"] == pytest.approx(expected, abs=1e-6)


def test_what_a_method_does_to_a_clear_picture():
    before = noise()
    after = before.copy()
    after[:10] = np.where(before[:10] > 99, before[:10] - 10, before[:10] + 10)
    valid = np.ones((30, 40), bool)
    valid[:5] = False
    told = change_of(after, before, BYTES, valid)
    assert told["clear_unchanged"] == pytest.approx(0.8)
    assert told["clear_change"] == 0
    assert told["clear_psnr"] == pytest.approx(20 * np.log10(25.5) + 10 * np.log10(5), rel=1e-5)
    assert change_of(after, before, BYTES, ~valid)["clear_change"] == 10
    assert np.isnan(change_of(after, before, BYTES, valid & False)["clear_psnr"])


def test_a_metric_that_fails_is_named():
    def broken(a, b, data_range, valid):
        raise ZeroDivisionError("division by zero")

    image = open_image(noise(), bands=RGB)
    reference = reference_of(image, image, BYTES, None)
    with pytest.raises(BadParameter, match=r"The metric theirs failed: division by zero\."):
        scores_of(noise(), reference, BYTES, {"theirs": Metric(broken)})


def test_light_is_not_scored() -> None:
    with pytest.raises(BadParameter, match="gives light"):
        methods_of(["radiance"], degradation="bracket")
