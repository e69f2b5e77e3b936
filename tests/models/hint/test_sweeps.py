"""Sweeps over tiles give what the network gives at once: local parts, sums, statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from tests.models.hint.test_network import network, picture
from torch import Tensor

import napari_restore as nr
from napari_restore.errors import BadParameter
from napari_restore.models import RESTORED, SweepInput, entry_of
from napari_restore.models.hint.config import LEVEL_OF
from napari_restore.models.hint.model import Hint

HALO = 16
"""Pixels round a core; the blocks of the tiny network need fewer in every sweep."""
Box = tuple[slice, slice]
EDGES = ([0, 24, 32, 56], [0, 16, 48, 72])


def boxes(scale: int) -> list[tuple[Box, Box, Box]]:
    """Cores of a map with `scale` pixels per cell, each with its input box and its place in that."""
    height, width = EDGES[0][-1], EDGES[1][-1]
    found = []
    for (top, low), (left, right) in product(pairwise(EDGES[0]), pairwise(EDGES[1])):
        y0, x0 = max(0, top - HALO), max(0, left - HALO)
        y1, x1 = min(height, low + HALO), min(width, right + HALO)
        core, whole, inner = (
            (slice(a // scale, b // scale), slice(c // scale, d // scale))
            for a, b, c, d in (
                (top, low, left, right),
                (y0, y1, x0, x1),
                (top - y0, low - y0, left - x0, right - x0),
            )
        )
        found.append((core, whole, inner))
    return found


def swept(
    part: Callable[..., Tensor], channels: int, out: int, *maps: tuple[Tensor, int]
) -> Tensor:
    """A map of `out` pixels per cell that `part` writes tile by tile from maps with theirs."""
    made = torch.full(
        (1, channels, EDGES[0][-1] // out, EDGES[1][-1] // out), torch.nan, dtype=torch.float64
    )
    sources = [boxes(scale) for _, scale in maps]
    for number, (core, _, inner) in enumerate(boxes(out)):
        cut = [
            values[..., source[number][1][0], source[number][1][1]]
            for (values, _), source in zip(maps, sources, strict=True)
        ]
        made[..., core[0], core[1]] = part(*cut)[..., inner[0], inner[1]]
    return made


def run(model: Hint, x: Tensor) -> tuple[Tensor, int]:
    """The network sweep by sweep, and how many there are."""
    widths = [model.config.width * 2**level for level in range(4)]
    skips = [swept(lambda t: model.encode(0, t), widths[0], 1, (x, 1))]
    for level in (1, 2):
        skips.append(
            swept(
                lambda t, level=level: model.encode(level, t),
                widths[level],
                2**level,
                (skips[-1], 2 ** (level - 1)),
            )
        )
    last, scale, cache, count = skips[-1], 4, model.start_cache(1), 3
    for stage, is_first, block in model.blocks():
        own = 2 ** LEVEL_OF[stage]
        if is_first:
            skip = [(skips.pop(), own)] if stage.startswith("decoder") else []
            last = swept(
                lambda t, s=None, stage=stage: model.enter(stage, t, s),
                model.config.channels(stage),
                own,
                (last, scale),
                *skip,
            )
            scale = own
        counts = None
        for _, whole, inner in boxes(own):
            tile = last[..., whole[0], whole[1]]
            weight = torch.zeros(1, 1, *tile.shape[2:], dtype=torch.float64)
            weight[..., inner[0], inner[1]] = 1
            q, k, _ = block.attn.local(block.norm1(tile))
            found = block.attn.count(q, k, weight)
            counts = found if counts is None else counts.plus(found)
        layer_statistics, cache = block.attn.finalize(
            counts, cache, model.intra_scale(counts, stage)
        )
        last = swept(
            lambda t, block=block, layer_statistics=layer_statistics: block.attend(
                t, layer_statistics
            ),
            last.shape[1],
            own,
            (last, own),
        )
        count += 1
    return swept(model.finish, 3, 1, (last, 1), (x, 1)), count


@pytest.mark.slow
@pytest.mark.parametrize("values", [{}, {"cache_rounding": "none", "intra_size": 128}])
@pytest.mark.ids("nightly", "values0")
def test_sweeps_are_the_network(values: dict):
    model, x = network(values), picture(7, EDGES[0][-1], EDGES[1][-1])
    tiled, count = run(model, x)
    torch.testing.assert_close(tiled, model(x), rtol=0, atol=1e-9)
    assert count == 3 + sum(model.config.depth(s) for s in LEVEL_OF)


def test_the_published_one_takes_29_sweeps():
    with torch.device("meta"):
        card = entry_of("hint").card
        from napari_restore.models.hint.ways import make

        model = make(replace(card, values=card.fill({})))
    assert 3 + len(list(model.blocks())) == 29


@pytest.mark.parametrize("values", [{}, {"cache_rounding": "none", "cache_start": "none"}])
@pytest.mark.parametrize("sizes", [{}, {"inter": 0}])
@pytest.mark.slow
@pytest.mark.ids("nightly", "sizes0-values1", "sizes1-values1")
def test_its_steps_are_those_sweeps(values: dict, sizes: dict):
    model, x = network(values, **sizes), picture(8, 32, 40)
    valid = torch.ones(1, 1, 32, 40, dtype=torch.bool)
    valid[..., :9] = False
    for mask in (None, valid):
        outputs = model.swept(model.view(x), {}, mask)
        torch.testing.assert_close(outputs[RESTORED], model(x, None, mask), rtol=0, atol=1e-9)
    assert len(model.steps()) == 3 + len(list(model.blocks()))


@pytest.mark.slow
def test_halos_suffice_and_what_is_counted_makes_it_local():
    model, x = network({"cache_rounding": "none"}), picture(9, 256, 16)
    whole, known = model(x), counted(model, x)
    assert set(known) == set(model.counted)
    torch.testing.assert_close(model(x, known), whole, rtol=0, atol=1e-9)
    # Rows farther than the reach away change nothing.
    top = 256 - 8 - model.reach
    assert top >= 8
    cut = model(x[:, :, top // 8 * 8 :], known)
    torch.testing.assert_close(cut[:, :, -8:], whole[:, :, -8:], rtol=0, atol=1e-9)


def counted(model: Hint, x: Tensor) -> dict[str, Tensor]:
    """What the sweeps count for an image."""
    maps: dict[str, Tensor] = {}
    known: dict[str, Tensor] = {}
    for step in model.steps():
        outputs = step.run(SweepInput(x, {name: maps[name] for name in step.reads}, known))
        maps |= outputs
        if step.counts is not None:
            known |= step.counts.finalize(step.counts.count(outputs, None), known)
    return known


@pytest.mark.slow
def test_the_engine_restores_what_the_network_gives(measured_on):
    # What a tile costs is measured on small ones.
    measured_on(16, 32)
    model = network({"cache_rounding": "none"}).float()
    x = picture(10, 100, 140).float()
    pixels = x[0].permute(1, 2, 0).numpy()
    expected = model(x)[0].permute(1, 2, 0).numpy()
    scale = float(expected.max() - expected.min())
    restored = np.asarray(nr.restore(pixels, model, tile=64, memory="1GiB"))
    assert np.abs(restored - expected).max() < 1e-5 * scale
    region = nr.Region(30, 70, 90, 120)
    part = np.asarray(nr.restore(pixels, model, region=region, tile=64, memory="1GiB"))
    assert np.abs(part - expected[30:90, 70:120]).max() < 1e-5 * scale


def test_a_cache_of_the_image_before_is_refused_for_tiles():
    model = network({"cache_start": "carry"}).float()
    with pytest.raises(BadParameter, match="depends on the image before"):
        nr.restore(np.zeros((16, 16, 3), np.float32), model)
