"""The shipped weights brighten a dark picture and remove its noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import rasterio
import torch

from napari_restore.models import load


@pytest.mark.slow
def test_a_dark_picture_becomes_bright(sample: Path) -> None:
    with rasterio.open(sample) as file:
        lit = torch.from_numpy(file.read((1, 2, 3))[:, 100:260, 100:260] / 255).float()[None]
    noise = 0.01 * torch.randn(lit.shape, generator=torch.Generator().manual_seed(0))
    # An eighth of the light, by the exponent of sRGB.
    dark = (lit * 8 ** (-1 / 2.2) + noise).clamp(0, 1)
    with torch.inference_mode():
        restored = load("hint-small-lowlight")(dark)
    assert 1.5 * dark.mean() < restored.mean() < 1.3 * lit.mean()
    # Noise grows less than light.
    steps = [(x[..., 1:] - x[..., :-1]).abs().mean() / x.mean() for x in (dark, restored, lit)]
    assert steps[1] < steps[0]


@pytest.mark.slow
def test_a_well_exposed_picture_stays(sample: Path) -> None:
    with rasterio.open(sample) as file:
        x = torch.from_numpy(file.read((1, 2, 3))[:, 100:260, 100:260] / 255).float()[None]
    # Its median is that of a well exposed picture.
    lit = (x * 0.45 / x.median()).clamp(0, 1)
    with torch.inference_mode():
        restored = load("hint-small-lowlight")(lit)
    assert (restored - lit).square().mean() < 1e-3
