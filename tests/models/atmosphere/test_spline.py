"""Smooth maps and their values at pixels."""

from __future__ import annotations

import pytest
import torch

from napari_restore.models.atmosphere.cells import Light
from napari_restore.models.atmosphere.inversion import THICKEST
from napari_restore.models.atmosphere.spline import BilinearSampler, guided, smooth


def test_a_smooth_map_stays_between_its_cells_and_keeps_a_slope():
    cells = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    fine = smooth(cells, 8, (40, 56))
    assert fine.shape == (1, 2, 40, 56)
    assert fine.min() >= cells.min() and fine.max() <= cells.max()
    slope = torch.arange(9.0).expand(1, 1, 5, 9)
    inner = smooth(slope, 8, (40, 72))[0, 0, 20, 24:48]
    assert torch.allclose(inner.diff(), torch.full((23,), 1 / 8), atol=1e-5)


def test_a_smooth_map_has_no_kinks():
    cells = torch.zeros(1, 1, 1, 9)
    cells[..., 4] = 1
    line = smooth(cells, 16, (1, 144))[0, 0, 0]
    # A cubic B-spline's second difference is at most 2 / 16² here, a line's corner 1 / 16.
    assert line.diff().diff().abs().max() < 0.02


def test_values_at_pixels_are_those_between_the_map_s():
    maps = torch.arange(4.0)[None, None, :, None] * 10 + torch.arange(5.0)
    values = BilinearSampler(maps, 4.0, (0, 0), 1.0, (16, 20)).rows(0, 16)[0, 0]
    y = ((torch.arange(16) + 0.5) / 4 - 0.5).clamp(0, 3)
    x = ((torch.arange(20) + 0.5) / 4 - 0.5).clamp(0, 4)
    assert torch.allclose(values, y[:, None] * 10 + x, atol=1e-5)


def test_a_coarser_level_sees_the_same_places():
    maps = torch.randn(1, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    fine = BilinearSampler(maps, 8.0, (0, 0), 1.0, (160, 160)).rows(0, 160)
    level = BilinearSampler(maps, 8.0, (0, 0), 4.0, (40, 40)).rows(0, 40)
    means = torch.nn.functional.avg_pool2d(fine, 4)
    assert (level - means).abs().max() < 0.2 * fine.std()


def even_light(height: int, width: int, variance: float = 0.0) -> Light:
    one = torch.ones(1, 1, height, width)
    return Light(one, 0.4 * one, variance * one)


@pytest.mark.parametrize("variance", (0.0, 0.01))
def test_a_chequered_pattern_of_cells_is_not_drawn(variance):
    rows, columns = torch.meshgrid(torch.arange(11), torch.arange(14), indexing="ij")
    light = even_light(11, 14, variance)
    for pattern in (rows + columns, rows, columns):
        cells = (0.5 + (pattern % 2).float())[None, None]
        inner = guided(cells, cells, light)[..., 3:-3, 3:-3]
        assert torch.allclose(inner, torch.ones_like(inner), atol=1e-5)
    # What changes over more cells is.
    wide = (rows // 5 % 2).float()[None, None]
    lines = guided(wide, torch.zeros_like(wide), light)[:, :1]
    assert lines.max() - lines.min() > 0.7


def means_of_cells(pixels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(pixels, 8)


def lines_of(
    depth: torch.Tensor, luminance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, Light]:
    """Return offset and slope of the line of least squares through the pixels of each cell."""
    share = depth / THICKEST
    logit = torch.log(share / (1 - share))
    mean, level = means_of_cells(luminance), means_of_cells(logit)
    variance = (means_of_cells(luminance**2) - mean**2).clamp(min=0)
    slope = (means_of_cells(luminance * logit) - mean * level) / (variance + 1e-5)
    return level - slope * (mean - 0.5), slope, Light(torch.ones_like(mean), mean, variance)


def depth_from(cells: torch.Tensor, luminance: torch.Tensor) -> torch.Tensor:
    offset, slope = smooth(cells, 8, luminance.shape[2:]).split(1, 1)
    return THICKEST * torch.sigmoid(offset + slope * (luminance - 0.5))


@pytest.mark.parametrize("edge", (128, 125, 131))
def test_haze_of_a_bright_side_is_not_on_a_dark_one(edge):
    columns = torch.arange(256).expand(1, 1, 96, 256)
    far = columns >= edge
    transmission = torch.where(far, 0.4, 0.8)
    scene = torch.where(far, 0.5, 0.12)
    hazy = scene * transmission + 0.85 * (1 - transmission)
    offset, slope, light = lines_of(-transmission.log(), hazy)

    def error(cells: torch.Tensor) -> float:
        """Return the largest error of the dark side, as a share of the step."""
        known = torch.exp(-depth_from(cells, hazy))
        seen = (hazy - 0.85 * (1 - known)) / known
        dark = (seen - scene)[0, 0, 48, :edge].abs()
        return float(dark.max()) / (0.5 - 0.12)

    assert error(guided(offset, slope, light)) < 0.03
    # Means of the lines of cells make it too dark.
    assert error(torch.cat([offset, slope], 1)) > 0.06


def test_smooth_haze_over_a_textured_scene_is_as_smooth():
    rng = torch.Generator().manual_seed(2)
    columns = torch.arange(256).expand(1, 1, 160, 256)
    depth = 0.3 + 0.6 * columns / 256
    transmission = torch.exp(-depth)
    scene = 0.3 + 0.12 * torch.randn(1, 1, 160, 256, generator=rng)
    hazy = scene * transmission + 0.85 * (1 - transmission)
    offset, slope, light = lines_of(depth, hazy)
    inner = (..., slice(32, -32), slice(32, -32))
    found = (depth_from(guided(offset, slope, light), hazy) - depth)[inner]
    assert found.abs().mean() < 0.01
    assert found.std() < 0.015


def test_without_a_valid_pixel_lines_are_means():
    rng = torch.Generator().manual_seed(3)
    offset, slope = (torch.randn(1, 1, 20, 9, generator=rng) for _ in range(2))
    light = even_light(20, 9)
    hidden = light._replace(share=0 * light.share, mean=0 * light.mean)
    lines = guided(offset, slope, hidden)
    assert torch.isfinite(lines).all()
    assert torch.allclose(lines[:, 1:], guided(offset, slope, light)[:, 1:], atol=1e-4)


def test_invalid_cells_do_not_count():
    rng = torch.Generator().manual_seed(4)
    offset = torch.randn(1, 1, 9, 20, generator=rng)
    light = Light(*(torch.rand(1, 1, 9, 20, generator=rng) for _ in range(3)))
    light.share[..., 12:] = 0
    other = offset.clone()
    other[..., 12:] += 5
    slope = torch.zeros_like(offset)
    before, after = (guided(each, slope, light)[..., :12] for each in (offset, other))
    assert torch.allclose(before, after, atol=1e-3)
