"""Smooth maps and their values at pixels."""

from __future__ import annotations

import torch

from napari_restore.models.atmosphere import BilinearSampler, smooth


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


def test_a_chequered_pattern_of_cells_is_not_drawn():
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(12), indexing="ij")
    for pattern in (rows + columns, rows, columns):
        cells = (0.5 + (pattern % 2).float())[None, None]
        inner = smooth(cells, 8, (72, 96))[0, 0, 24:-24, 24:-24]
        assert torch.allclose(inner, torch.ones_like(inner), atol=1e-6)
    # What changes over more cells is.
    wide = smooth((rows // 4 % 2).float()[None, None], 8, (72, 96))
    assert wide.max() - wide.min() > 0.7
