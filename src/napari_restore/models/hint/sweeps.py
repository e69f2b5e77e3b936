"""HINT as sweeps: three of the encoder, then one for every block with attention.

The sweep of a block applies it, makes the map of the next one, and counts for that. So every map
is read once after it was written, but for those that the encoder leaves for the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from napari_restore.errors import BadParameter
from napari_restore.models._card import ModelCard
from napari_restore.models._model import Statistics
from napari_restore.models._steps import RESTORED, Counts, Map, Sums, Sweep, SweepInput
from napari_restore.models.hint.attention import AttentionSums, LayerStatistics
from napari_restore.models.hint.blocks import cells_valid
from napari_restore.models.hint.config import LEVEL_OF, STRIDE
from napari_restore.models.hint.network import AttentionStep, HintNetwork

KNOWN = ("order", "correlation", "attention", "scales", "logits", "intra")
"""Fields of `LayerStatistics` that are statistics of the image, numbered by layer."""
SKIPS = ("encoder1", "encoder2", "encoder3")
"""Maps of the encoder, fine to coarse."""
SHARE = "overview_share"
"""Statistic (N,) float64 where overviews are counted in place of the images: pixels of the overview
over those of the image."""
Outputs = Mapping[str, Tensor]


def layer_statistics_of(statistics: Statistics, number: int) -> LayerStatistics:
    """Return what is known of a layer, but for its `heads`."""
    return LayerStatistics(heads=(), **{name: statistics[f"{name}{number}"] for name in KNOWN})


def sweeps_of(model: HintNetwork) -> tuple[Sweep, ...]:
    """Return the sweeps of a network. Raises `BadParameter` where it remembers other images."""
    refuse_carried(model.card)
    steps = list(model.blocks())
    return (
        *(_encoder(model, level, steps[0]) for level in range(3)),
        *(_block(model, steps, number) for number in range(len(steps))),
    )


def refuse_carried(card: ModelCard) -> None:
    """Raise `BadParameter` for a network that remembers the image before."""
    if card.values.get("cache_start") == "carry":
        raise BadParameter(
            "cache_start=carry depends on the image before, which tiles do not have.",
            "Set cache_start=zeros, or call the network itself with statistics=image.",
        )


def _encoder(model: HintNetwork, level: int, first: AttentionStep) -> Sweep:
    stride, width = 1 << level, model.config.width << level
    depth = (model.config.blocks1, model.config.blocks2, model.config.blocks3)[level]
    # A neighbour for every block, and one for the convolution before it, at the scale above.
    reach = depth * stride + max(1, stride // 2)
    writes, counts = [Map(SKIPS[level], width, stride)], None
    if level == 2:
        writes.append(_map_of(model, first, 0))
        counts = _counts(model, first, 0)
        reach += stride + STRIDE

    def run(given: SweepInput) -> Outputs:
        previous = given.view if level == 0 else given.maps[SKIPS[level - 1]]
        assert previous is not None
        skip = model.encode(level, _last(previous))
        if level < 2:
            return {SKIPS[level]: skip}
        x = model.enter(first.stage, skip, None)
        return {SKIPS[level]: skip, "x0": x, **_counted(given, first, 0, x)}

    return Sweep(
        f"encode{level + 1}",
        "Encoding",
        run,
        reads=() if level == 0 else (SKIPS[level - 1],),
        writes=tuple(writes),
        halo=_whole(reach),
        sees_image=level == 0,
        counts=counts,
    )


def _block(model: HintNetwork, steps: list[AttentionStep], number: int) -> Sweep:
    step, following = steps[number], (steps[number + 1] if number + 1 < len(steps) else None)
    stride = 1 << LEVEL_OF[step.stage]
    reads: tuple[str, ...] = (f"x{number}",)
    # Two neighbours for the block, one for what makes the next map, one for what is counted.
    reach = 3 * stride
    if following is not None:
        reach = 2 * stride + (1 << LEVEL_OF[following.stage])
        if following.is_first and following.stage.startswith("decoder"):
            reads = (*reads, SKIPS[LEVEL_OF[following.stage]])
            reach += stride

    def run(given: SweepInput) -> Outputs:
        x = step.block.attend(
            _last(given.maps[f"x{number}"]), layer_statistics_of(given.statistics, number)
        )
        if following is None:
            assert given.view is not None
            return {RESTORED: model.finish(x, given.view)}
        if following.is_first:
            skip = _last(given.maps[reads[1]]) if len(reads) > 1 else None
            x = model.enter(following.stage, x, skip)
        return {f"x{number + 1}": x, **_counted(given, following, number + 1, x)}

    if following is None:
        written, counts = Map(RESTORED, 3), None
    else:
        written = _map_of(model, following, number + 1)
        counts = _counts(model, following, number + 1)
    return Sweep(
        f"block{number + 1}",
        "Restoring" if following is None else f"Block {number + 1} of {len(steps)}",
        run,
        reads=reads,
        writes=(written,),
        halo=_whole(reach),
        sees_image=following is None,
        counts=counts,
    )


def _map_of(model: HintNetwork, step: AttentionStep, number: int) -> Map:
    return Map(f"x{number}", model.config.channels(step.stage), 1 << LEVEL_OF[step.stage])


def _counts(model: HintNetwork, step: AttentionStep, number: int) -> Counts:
    channels, stride = model.config.channels(step.stage), 1 << LEVEL_OF[step.stage]
    names = (*KNOWN, *(["cache"] if model.config.inter else []))

    def count(features: Mapping[str, Tensor], valid: Tensor | None) -> Sums:
        weight = None if valid is None else cells_valid(valid, LEVEL_OF[step.stage])
        q, k = features[f"q{number}"], features[f"k{number}"]
        return step.block.attn.count(q, k, weight)._asdict()

    def settle(sums: Sums, statistics: Statistics) -> Statistics:
        counts = AttentionSums(**sums)
        cache = statistics.get(f"cache{number - 1}")
        if number == 0:
            cache = model.start_cache(len(counts.cells))
        scale = model.intra_scale(counts, step.stage, statistics.get(SHARE))
        order = statistics.get(f"order{number}")
        layer_statistics, cache = step.block.attn.settle(counts, cache, scale, order)
        found = {name: getattr(layer_statistics, name) for name in KNOWN}
        if cache is not None:
            found["cache"] = cache
        return {f"{name}{number}": found[name] for name in names}

    return Counts(
        features=(Map(f"q{number}", channels, stride), Map(f"k{number}", channels, stride)),
        shapes={
            "cells": (),
            "q": (channels,),
            "qq": (channels, channels),
            "squares": (2, channels),
            "qk": (channels, channels),
        },
        count=count,
        settles=tuple(f"{name}{number}" for name in names),
        settle=settle,
        choices=(f"order{number}",),
    )


def _counted(given: SweepInput, step: AttentionStep, number: int, x: Tensor) -> Outputs:
    """Return the queries and keys of a block's input, where they are counted."""
    if not given.wants(f"q{number}", f"k{number}"):
        return {}
    q, k, _ = step.block.attn.local(step.block.norm1(x))
    return {f"q{number}": q, f"k{number}": k}


def _whole(reach: int) -> int:
    """Return a halo in whole cells of the coarsest scale."""
    return STRIDE * (-(-reach // STRIDE))


_last = partial(Tensor.contiguous, memory_format=torch.channels_last)
"""In channels-last order, in which pixels are rows of matrices."""
