"""Marks in an example tile: which tokens of each call of attention change with a pixel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from napari_restore.models._attention_calls import AttentionCall, AttentionCalls
from napari_restore.models._attention_grid import Mark, Size

PLACES = ((0.0, 0.4), (0.2, 0.7), (0.3, 0.1), (0.6, 0.5), (0.7, 0.9), (0.9, 0.2))
"""Places of the marks in the example tile, of its height and width."""
BLOCK, WITHIN = 64, (21, 42)
"""Marked pixels of each block of 64: near the middle of cells of 2, 4, 8 … pixels."""
CHANGE = 0.5
CHANNELS = 8
"""Random sums of a token's channels that are compared: tokens themselves would fill the memory."""
Heads = Mapping[int, list[Mark]]
"""Marks of queries and keys, for each number of heads that a call's sets may be divided into."""


def marks_of(
    run: Callable[[Tensor], object],
    x: Tensor,
    heads: Mapping[int, Collection[int]],
    pixels: Sequence[tuple[int, int]] | None = None,
) -> dict[int, Heads]:
    """Return the marks of the calls that `heads` numbers, with the heads that each may have.

    `run` is called with `x` (1, C, H, W), then with it changed in one of the `pixels` (default:
    `marked_pixels`) after the other. A change that no token sees leaves no mark.
    """
    before: dict[int, tuple[Tensor, Tensor]] = {}
    found: dict[int, dict[int, list[Mark]]] = {
        number: {count: [] for count in counts} for number, counts in heads.items()
    }

    def keep(number: int, call: AttentionCall) -> None:
        if number in heads:
            before[number] = _sketches(call)

    with AttentionCalls(keep):
        run(x)
    for pixel in pixels or marked_pixels((x.shape[2], x.shape[3])):

        def compare(number: int, call: AttentionCall, pixel: tuple[int, int] = pixel) -> None:
            if number not in heads:
                return
            for old, new in zip(before[number], _sketches(call), strict=True):
                changes = (new - old).square_().sum(-1)
                for count, marks in found[number].items():
                    marks += _largest(changes, call, count, pixel)

        changed = x.clone()
        changed[..., pixel[0], pixel[1]] += CHANGE
        with AttentionCalls(compare):
            run(changed)
    return {number: dict(marks) for number, marks in found.items()}


def marked_pixels(size: Size) -> list[tuple[int, int]]:
    """Return the pixels (y, x) that are changed, one after the other, in a tile of this size."""
    pixels = []
    for number, place in enumerate(PLACES):
        y, x = (
            int(share * length) // BLOCK * BLOCK + WITHIN[(number + axis) % 2]
            for axis, (share, length) in enumerate(zip(place, size, strict=True))
        )
        pixels.append((min(y, size[0] - 1), min(x, size[1] - 1)))
    return pixels


def edge_pixels(size: Size) -> list[tuple[int, int]]:
    """Return pixels (y, x) at the edges of a tile, where windows are that it does not fill, and one within."""
    height, width = size
    down, along = height // 2, width // 2
    return [
        *((0, 0), (0, along), (down, 0), (1, width - 1), (height - 1, 1)),
        *((height - 1, width - 1), (height - 1, along), (down, width - 1), (down, along)),
    ]


def _sketches(call: AttentionCall) -> tuple[Tensor, Tensor]:
    """Return a few numbers of every token, (…, tokens, CHANNELS), of queries and of keys."""
    sketches = []
    for source in call.sources:
        generator = torch.Generator().manual_seed(0)
        mixing = torch.randn(source.shape[-1], CHANNELS, generator=generator)
        sketches.append(source.float() @ mixing.to(source.device))
    return sketches[0], sketches[1]


def _largest(
    changes: Tensor, call: AttentionCall, heads: int, pixel: tuple[int, int]
) -> list[Mark]:
    """Return the mark of the largest of `changes` (…, tokens); none where nothing changed."""
    if not changes.isfinite().all() or not changes.max() > 0:
        return []
    if changes.shape[-2] != call.lead[-1]:
        # Heads that share their keys, or their tokens.
        changes = changes.repeat_interleave(call.lead[-1] // changes.shape[-2], -2)
    per_item = changes.reshape(call.sets // heads, heads, changes.shape[-1]).sum(1)
    item, token = divmod(int(per_item.argmax()), changes.shape[-1])
    return [Mark(pixel, item, token)]
