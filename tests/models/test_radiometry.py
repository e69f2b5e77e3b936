"""Haze on a 16-bit scene goes as well as on the same scene in 8 bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_restore.models import context_of, load

LANDSAT_ZERO = 5000.0
"""Digital number of zero reflectance: −0.1 / 0.00002 (USGS Landsat 8 handbook)."""


@pytest.fixture(scope="module")
def scene(data_dir: Path) -> np.ndarray:
    """Landsat 8 bands 4, 3, 2 of Tokyo, (H, W, 3) uint16."""
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(data_dir / "geotiff" / "landsat8_tokyo_b432_uint16.tif") as file:
        return np.moveaxis(file.read(), 0, 2)


def gain(
    source: np.ndarray, clear: np.ndarray, valid: np.ndarray, black: float, white: float
) -> float:
    """PSNR after minus before `dcp`, in the model's range."""

    def to_model(values: np.ndarray) -> np.ndarray:
        return (np.asarray(values, np.float64) - black) / (white - black)

    context = context_of(source, valid)
    model = load("dcp")
    statistics = model.prepare(context, to_model, (0, 1, 2))
    x = torch.from_numpy(to_model(source).astype(np.float32)).permute(2, 0, 1)[None]
    y = model(x, statistics, torch.from_numpy(valid)[None, None])[0].permute(1, 2, 0).numpy()
    before, after = (
        10 * np.log10(((a - to_model(clear))[valid] ** 2).mean())
        for a in (to_model(source), y.clip(0, 1))
    )
    return float(before - after)


@pytest.mark.parametrize("transmission", [0.8, 0.6, 0.4])
@pytest.mark.slow
@pytest.mark.ids("nightly", "0.8", "0.6")
def test_bit_depth_does_not_matter(scene: np.ndarray, transmission: float) -> None:
    valid = scene.min(axis=2) > 0
    black, white = LANDSAT_ZERO, float(np.percentile(scene[valid], 99.9))
    airlight = black + 0.9 * (white - black)
    hazy = scene * transmission + airlight * (1 - transmission)
    hazy[~valid] = 0
    sixteen = gain(hazy.round().astype(np.uint16), scene, valid, black, white)
    small, small_clear = (
        ((v - black) * 255 / (white - black)).clip(0, 255).round().astype(np.uint8)
        for v in (hazy, scene)
    )
    eight = gain(small, small_clear, valid, 0, 255)
    assert abs(sixteen - eight) < 0.5
    # The scene has some haze of its own, whose removal counts as an error here.
    assert sixteen > (0 if transmission > 0.7 else 6)
