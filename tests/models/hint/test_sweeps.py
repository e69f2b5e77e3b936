"""Sweeps over tiles give what the network gives at once: local parts, sums, facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from tests.models.hint.test_network import network, picture
from torch import Tensor

from napari_restore.models import entry_of
from napari_restore.models.hint._config import LEVEL_OF
from napari_restore.models.hint._network import Hint

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
    for stage, is_first, block in model.steps():
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
            found = block.count(tile, weight)
            counts = found if counts is None else counts.plus(found)
        facts, cache = block.settle(counts, cache, model.intra_scale(counts, stage))
        last = swept(
            lambda t, block=block, facts=facts: block.attend(t, facts),
            last.shape[1],
            own,
            (last, own),
        )
        count += 1
    return swept(model.finish, 3, 1, (last, 1), (x, 1)), count


@pytest.mark.parametrize("values", [{}, {"cache_rounding": "none", "intra_size": 128}])
def test_sweeps_are_the_network(values: dict):
    model, x = network(values), picture(7, EDGES[0][-1], EDGES[1][-1])
    tiled, count = run(model, x)
    torch.testing.assert_close(tiled, model(x), rtol=0, atol=1e-9)
    assert count == 3 + sum(model.config.depth(s) for s in LEVEL_OF)


def test_the_published_one_takes_29_sweeps():
    with torch.device("meta"):
        card = entry_of("hint").card
        from napari_restore.models.hint._network import make

        model = make(replace(card, values=card.fill({})))
    assert 3 + len(list(model.steps())) == 29
