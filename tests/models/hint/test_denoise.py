"""The shipped weights remove noise and leave clean pixels alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import rasterio
import torch
from torch import Tensor

from napari_restore.models import load


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * torch.log10((one.double() - other.double()).square().mean()))


@pytest.mark.parametrize(("sigma", "least"), [(0, 45.0), (15, 33.0), (50, 27.0)])
@pytest.mark.ids("slow", "15-33.0")
def test_noise_is_removed(sample: Path, sigma: int, least: float) -> None:
    with rasterio.open(sample) as file:
        clean = torch.from_numpy(file.read((1, 2, 3))[:, 100:260, 100:260] / 255).float()[None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = (clean + sigma / 255 * noise).clamp(0, 1)
    with torch.inference_mode():
        restored = load("hint-small-denoise")(noisy)
    assert psnr(restored, clean) >= least
    assert sigma == 0 or psnr(restored, clean) > psnr(noisy, clean) + 4
