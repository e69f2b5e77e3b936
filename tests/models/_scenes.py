"""Small seeded images."""

from __future__ import annotations

import torch
from torch import Tensor


def smooth(height: int, width: int, seed: int, cells: int = 4) -> Tensor:
    """(1, 1, H, W) smooth noise over all of [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, cells, cells, generator=generator)
    field = torch.nn.functional.interpolate(
        coarse, (height, width), mode="bicubic", align_corners=True
    )
    return (field - field.min()) / (field.max() - field.min()).clamp(min=1e-6)


def land(height: int, width: int, bands: int = 3, seed: int = 0) -> Tensor:
    """(1, C, H, W) brownish ground with dark objects everywhere, in [0.01, 0.6].

    The first band (blue) is the darkest; a few roofs are as bright as haze.
    """
    generator = torch.Generator().manual_seed(seed)
    relief = smooth(height, width, seed + 1, 9) * 0.3
    texture = torch.rand(1, 1, height, width, generator=generator) ** 2 * 0.25
    tint = torch.linspace(0.6, 1.0, bands)[None, :, None, None]
    ground = 0.01 + (relief + texture) * (texture > 0.02) * tint
    roofs = torch.rand(1, 1, height, width, generator=generator) > 0.99
    return torch.where(roofs, 0.8, ground)


def hazed(scene: Tensor, transmission: Tensor | float, airlight: float = 0.9) -> Tensor:
    """The scene behind haze of one colour that is thickest in the first band (blue)."""
    bands = scene.shape[1]
    falloff = torch.linspace(1.25, 0.85, bands)[None, :, None, None] if bands > 1 else 1.0
    t = torch.as_tensor(transmission, dtype=torch.float32) ** falloff
    return scene * t + airlight * (1 - t)


def psnr(a: Tensor, b: Tensor) -> float:
    error = float(((a.clamp(0, 1) - b.clamp(0, 1)) ** 2).mean())
    return -10 * float(torch.log10(torch.tensor(max(error, 1e-12))))
