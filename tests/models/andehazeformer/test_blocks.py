"""Blocks, and weights of unit length."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.models.andehazeformer._small import TINY, network, pictures

from napari_restore.models.andehazeformer.blocks import (
    Embedding,
    Guide,
    filled,
    ranks_of,
    windows_of,
)
from napari_restore.models.andehazeformer.sphere import ChannelScale, SphereLinear, unit


def test_unit() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-8, 0.0]], requires_grad=True)
    torch.testing.assert_close(unit(x), torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))
    unit(x).sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


def test_scale_learns_as_that_of_ngpt() -> None:
    ours, theirs = ChannelScale(4, 0.05, 0.2), torch.full((4,), 0.2, requires_grad=True)
    steps = [torch.optim.Adam([p], lr=0.01) for p in (ours.shift, theirs)]
    goal = torch.tensor([0.1, 0.02, 0.05, -0.1])
    for _ in range(20):
        for value, step in zip((ours(), theirs * (0.05 / 0.2)), steps, strict=True):
            step.zero_grad()
            (value - goal).square().sum().backward()
            step.step()
    torch.testing.assert_close(ours(), theirs * (0.05 / 0.2))


def test_after_step_sets_every_matrix_to_unit_length() -> None:
    model = network().float().requires_grad_(True).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(pictures(1, 32, 32).float()).square().mean().backward()
    optimiser.step()
    model.requires_grad_(False)
    matrices = [m for m in model.modules() if isinstance(m, SphereLinear)]
    assert max(float((m.weight.norm(dim=m.dim) - 1).abs().max()) for m in matrices) > 0.01
    model.after_step()
    for matrix in matrices:
        torch.testing.assert_close(
            matrix.weight.norm(dim=matrix.dim), torch.ones(matrix.weight.shape[1 - matrix.dim])
        )
    # Layers that read tokens have unit rows, those that write them unit columns.
    attention, mlp = model.windows[0].attention, model.windows[0].mlp
    assert [m.dim for m in (attention.query, attention.key_value, mlp.into)] == [1, 1, 1]
    assert [m.dim for m in (attention.out, mlp.out, model.embedding.patch)] == [0, 0, 0]


def test_the_twin_has_free_weights() -> None:
    model = network(replace(TINY, normalised=False))
    before = model.windows[0].mlp.into.weight * 3
    model.windows[0].mlp.into.weight.copy_(before)
    model.after_step()
    assert torch.equal(model.windows[0].mlp.into.weight, before)


def test_tokens_have_unit_length_after_every_block() -> None:
    model = network().float()
    seen: list[torch.Tensor] = []
    for part in [model.embedding, *model.windows, *model.globals]:
        part.register_forward_hook(lambda _m, _i, out: seen.append(out.norm(dim=-1)))
    model(pictures(1, 48, 64).float())
    assert len(seen) == 5
    for lengths in seen:
        torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-5)


def test_brightness_survives_unit_length() -> None:
    torch.manual_seed(0)
    embedding = Embedding(TINY).double().requires_grad_(False)
    planes = torch.rand(1, 7, 8, 8, dtype=torch.float64)
    bright, dark = embedding(planes), embedding(0.5 * planes)
    assert float((bright * dark).sum()) < 0.999


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("origin", [(0, 0), (4, 8), (6, 2)])
def test_windows_lie_where_the_image_puts_them(origin: tuple[int, int], shift: int) -> None:
    rows, columns = 7, 10
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    cells = torch.stack([y + origin[0], x + origin[1]], -1)[None] + 1
    windows = windows_of((rows, columns), origin, 4, shift)
    cut = windows.cut(cells)
    assert torch.equal(windows.join(cut), cells)
    for window in cut:
        inside = window[window[:, 0] > 0] - 1
        numbers = torch.div(inside + shift, 4, rounding_mode="floor")
        assert len(inside) == 0 or bool((numbers == numbers[0]).all())
    # None is cut in two.
    assert len(cut) == len({tuple(c) for c in ((cells[0] - 1 + shift) // 4).flatten(0, 1).tolist()})


def test_pooling_weighs_tokens_by_their_valid_share() -> None:
    block = network().global_block(1)
    h = unit(torch.randn(1, 2, 4, TINY.width, dtype=torch.float64))
    r, b = torch.randn(2, 1, TINY.width, dtype=torch.float64)
    share = torch.tensor([[[1.0, 0.25, 0, 0], [0.5, 0, 0, 0]]])
    guide = Guide(torch.ones(1), r, b)
    keys, values = block.candidates(h, guide, share, 2)
    read = block.norm1(h, guide)[0]
    pooled = unit(read[0, 0] + 0.25 * read[0, 1] + 0.5 * read[1, 0])
    key, value = block.attention.keys_and_values(pooled)
    torch.testing.assert_close(keys[0, 0, 0], key)
    torch.testing.assert_close(values[0, 0, 0], value)
    # Without a valid pixel there is nothing.
    assert not keys[0, 0, 1].any()


def test_ranks_are_means_over_valid_pixels() -> None:
    view = torch.rand(1, 10, 32, 48, dtype=torch.float64)
    valid = torch.rand(1, 1, 32, 48) > 0.4
    valid[..., :16, :16] = False
    found = ranks_of(view, valid, 16)
    assert found.dtype == torch.float32
    for y in range(2):
        for x in range(3):
            part = (slice(16 * y, 16 * y + 16), slice(16 * x, 16 * x + 16))
            known = valid[0, 0][part]
            if not known.any():
                assert found[0, :, y, x].tolist() == [0, 0, 0]
                continue
            t, light = view[0, 6][part][known], view[0, :3].mean(0)[part][known]
            expected = [t.mean(), light.std(correction=0), known.double().mean()]
            torch.testing.assert_close(found[0, :, y, x], torch.tensor(expected).float())


def test_invalid_pixels_are_filled_from_their_cell() -> None:
    x = torch.rand(1, 3, 16, 8)
    valid = torch.ones(1, 1, 16, 8, dtype=torch.bool)
    valid[..., 2, 2], valid[..., 8:, :] = False, False
    x[..., 2, 2] = torch.nan
    out = filled(x, valid, 8)
    assert torch.equal(out.where(valid, 0.0), x.where(valid, 0.0))
    mean = x[0, :, :8].flatten(1)[:, valid[0, 0, :8].flatten()].mean(1)
    torch.testing.assert_close(out[0, :, 2, 2], mean)
    assert not out[..., 8:, :].any()
