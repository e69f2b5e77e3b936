"""Sweeps run tile by tile on a small image, as a run does it, to compare them with the whole."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import placed_at
from napari_restore.models._steps import RESTORED, Map, Sums, Sweep, SweepInput
from napari_restore.models._sweeps import SweptModel

_Box = tuple[int, int, int, int]


def difference(model: SweptModel, x: Tensor, expected: Tensor, tile: int) -> float:
    """Return the largest difference from `expected` of `model` in tiles of `x` (1, C, H, W).

    NaN counts as infinite.
    """
    found = float((in_tiles(model, x, tile) - expected).abs().max())
    return found if found == found else float("inf")


def in_tiles(model: SweptModel, x: Tensor, tile: int) -> Tensor:
    """Return the output of `model` for an image `x` (1, C, H, W), in tiles of so many pixels."""
    size = (x.shape[2], x.shape[3])
    whole = pad_to_multiple(x, model.padded_to)
    height, width = whole.shape[2:]
    maps: dict[str, Tensor] = {}
    known: dict[str, Tensor] = {}
    cores = [
        (top, left, min(top + tile, height), min(left + tile, width))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]
    for step in model.steps():
        assert isinstance(step, Sweep)
        merged: Sums | None = None
        for each in step.writes:
            maps[each.name] = x.new_empty(
                1, each.channels, height // each.stride, width // each.stride
            )
        for core in cores:
            box = _grown(core, step.halo, height, width)
            part = whole[(..., *_slices(box, 1))]
            placed = placed_at(known, [box[:2]], 1.0, part, size)
            read = {
                name: maps[name][(..., *_slices(box, _map(model, name).stride))]
                for name in step.reads
            }
            view = model.view(part, placed) if step.sees_image else None
            outputs = step.run(SweepInput(view, read, placed))
            for each in step.writes:
                maps[each.name][(..., *_slices(core, each.stride))] = _core(
                    outputs, each, core, box
                )
            if step.counts is not None:
                cut = {f.name: _core(outputs, f, core, box) for f in step.counts.features}
                counted = step.counts.count(cut, None)
                merged = counted if merged is None else step.counts.merged(merged, counted)
        if step.counts is not None and merged is not None:
            known |= step.counts.settle(merged, known)
    return maps[RESTORED][..., : size[0], : size[1]]


def _map(model: SweptModel, name: str) -> Map:
    return model.ordered_steps.maps[name]


def _grown(core: _Box, halo: int, height: int, width: int) -> _Box:
    top, left, bottom, right = core
    return (
        max(0, top - halo),
        max(0, left - halo),
        min(height, bottom + halo),
        min(width, right + halo),
    )


def _slices(box: _Box, stride: int) -> tuple[slice, slice]:
    top, left, bottom, right = (edge // stride for edge in box)
    return slice(top, bottom), slice(left, right)


def _core(outputs: Mapping[str, Tensor], one: Map, core: _Box, box: _Box) -> Tensor:
    top, left, bottom, right = core
    inside = (top - box[0], left - box[1], bottom - box[0], right - box[1])
    return outputs[one.name][(..., *_slices(inside, one.stride))]
