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
from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import Statistics
from napari_restore.models._steps import Counts, Map, Sums, Sweep, SweepInput
from napari_restore.models._sweeps import run_steps
from napari_restore.models.hint.attention import AttentionSums, LayerStatistics
from napari_restore.models.hint.blocks import cells_valid
from napari_restore.models.hint.config import LEVEL_OF, STRIDE
from napari_restore.models.hint.network import AttentionStep, HintNetwork, Place

KNOWN = LayerStatistics._fields
"""Fields of `LayerStatistics` that are statistics of the image, numbered by layer."""
SKIPS = ("encoder1", "encoder2", "encoder3")
"""Maps of the encoder, fine to coarse."""
SHARE = "overview_share"
"""Statistic (N,) float64 where overviews are counted in place of the images: pixels of the overview
over those of the image."""
Outputs = Mapping[str, Tensor]


def layer_statistics_of(
    statistics: Statistics, number: int, place: Place = HintNetwork.place
) -> LayerStatistics:
    """Return what is known of a layer."""
    return LayerStatistics(*(statistics[place.of(f"{name}{number}")] for name in KNOWN))


def sweeps_of(model: HintNetwork) -> tuple[Sweep, ...]:
    """Return the sweeps of a network. Raises `BadParameter` where it remembers other images."""
    refuse_carried(model.card)
    return _sweeps_of(model)


def _sweeps_of(model: HintNetwork) -> tuple[Sweep, ...]:
    steps = list(model.blocks())
    return (
        *(_encoder(model, level, steps[0]) for level in range(3)),
        *(_block(model, steps, number) for number in range(len(steps))),
    )


def restored_at_once(model: HintNetwork, x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return images (N, 3, H, W) restored at once, each judged by all of itself."""
    height, width = x.shape[2:]
    counted = None if valid is None else pad_to_multiple(valid, STRIDE)
    outputs, _ = run_steps(_sweeps_of(model), pad_to_multiple(x, STRIDE), {}, counted)
    return outputs[model.place.restored.name][..., :height, :width]


def refuse_carried(card: ModelCard) -> None:
    """Raise `BadParameter` for a network that remembers the image before."""
    if card.values.get("cache_start") == "carry":
        raise BadParameter(
            "cache_start=carry depends on the image before, which tiles do not have.",
            "Set cache_start=zeros, or call the network itself with statistics=image.",
        )


def _encoder(model: HintNetwork, level: int, first: AttentionStep) -> Sweep:
    stride, width, place = 1 << level, model.config.width << level, model.place
    name, before = place.of(SKIPS[level]), place.of(SKIPS[level - 1]) if level else place.image
    depth = (model.config.blocks1, model.config.blocks2, model.config.blocks3)[level]
    # A neighbour for every block, and one for the convolution before it, at the scale above.
    reach = depth * stride + max(1, stride // 2)
    writes, counts = [Map(name, width, stride)], None
    if level == 2:
        writes.append(_map_of(model, first, 0))
        counts = _counts(model, first, 0)
        reach += stride + STRIDE

    def run(given: SweepInput) -> Outputs:
        previous = given.maps[before] if level else place.seen(given)
        skip = model.encode(level, _last(previous))
        if level < 2:
            return {name: skip}
        x = model.enter(first.stage, skip, None)
        return {name: skip, place.of("x0"): x, **_counted(model, given, first, 0, x)}

    return Sweep(
        place.of(f"encode{level + 1}"),
        place.titled("Encoding"),
        run,
        reads=(before,) if before else (),
        writes=tuple(writes),
        halo=_whole(reach),
        sees_image=not before,
        counts=counts,
    )


def _block(model: HintNetwork, steps: list[AttentionStep], number: int) -> Sweep:
    step, following = steps[number], (steps[number + 1] if number + 1 < len(steps) else None)
    stride, place = 1 << LEVEL_OF[step.stage], model.place
    reads: tuple[str, ...] = (place.of(f"x{number}"),)
    # Two neighbours for the block, one for what makes the next map, one for what is counted.
    reach = 3 * stride
    if following is not None:
        reach = 2 * stride + (1 << LEVEL_OF[following.stage])
        if following.is_first and following.stage.startswith("decoder"):
            reads = (*reads, place.of(SKIPS[LEVEL_OF[following.stage]]))
            reach += stride
    elif place.image:
        reads = (*reads, place.image)

    def run(given: SweepInput) -> Outputs:
        known = layer_statistics_of(given.statistics, number, place)
        x = _last(given.maps[reads[0]])
        x = step.block.attend(x, known, given.remembered.pop(reads[0], None))
        if following is None:
            return {place.restored.name: model.finish(x, place.seen(given))}
        if following.is_first:
            skip = _last(given.maps[reads[1]]) if len(reads) > 1 else None
            x = model.enter(following.stage, x, skip)
        return {written.name: x, **_counted(model, given, following, number + 1, x)}

    if following is None:
        written, counts = place.restored, None
    else:
        written = _map_of(model, following, number + 1)
        counts = _counts(model, following, number + 1)
    return Sweep(
        place.of(f"block{number + 1}"),
        place.titled("Restoring" if following is None else f"Block {number + 1} of {len(steps)}"),
        run,
        reads=reads,
        writes=(written,),
        halo=_whole(reach),
        sees_image=following is None and not place.image,
        counts=counts,
    )


def _map_of(model: HintNetwork, step: AttentionStep, number: int) -> Map:
    name = model.place.of(f"x{number}")
    return Map(name, model.config.channels(step.stage), 1 << LEVEL_OF[step.stage])


def _counts(model: HintNetwork, step: AttentionStep, number: int) -> Counts:
    channels, stride = model.config.channels(step.stage), 1 << LEVEL_OF[step.stage]
    of, (queries, keys) = model.place.of, _counted_names(model, number)
    names = (*KNOWN, *(["cache"] if model.config.inter else []))

    def count(features: Mapping[str, Tensor], valid: Tensor | None) -> Sums:
        weight = None if valid is None else cells_valid(valid, LEVEL_OF[step.stage])
        return step.block.attn.count(features[queries], features[keys], weight)._asdict()

    def finalize(sums: Sums, statistics: Statistics) -> Statistics:
        counts = AttentionSums(**sums)
        cache = statistics.get(of(f"cache{number - 1}"))
        if number == 0:
            cache = model.start_cache(len(counts.cells))
        scale = model.intra_scale(counts, step.stage, statistics.get(SHARE))
        order = statistics.get(of(f"order{number}"))
        layer_statistics, cache = step.block.attn.finalize(counts, cache, scale, order)
        model.keep_cache(cache)
        found = {**layer_statistics._asdict(), "cache": cache}
        return {of(f"{name}{number}"): found[name] for name in names}

    return Counts(
        features=(Map(queries, channels, stride), Map(keys, channels, stride)),
        shapes={
            "cells": (),
            "q": (channels,),
            "qq": (channels, channels),
            "squares": (2, channels),
            "qk": (channels, channels),
        },
        count=count,
        statistics=tuple(of(f"{name}{number}") for name in names),
        finalize=finalize,
        choices=(of(f"order{number}"),),
    )


def _counted_names(model: HintNetwork, number: int) -> tuple[str, str]:
    """Return the names of the queries and keys of a block."""
    return model.place.of(f"q{number}"), model.place.of(f"k{number}")


def _counted(
    model: HintNetwork, given: SweepInput, step: AttentionStep, number: int, x: Tensor
) -> Outputs:
    """Return the queries and keys of a block's input, where they are counted."""
    names = _counted_names(model, number)
    if not given.wants(*names):
        return {}
    local = given.remembered[model.place.of(f"x{number}")] = step.block.local(x)
    return dict(zip(names, local, strict=False))


def _whole(reach: int) -> int:
    """Return a halo in whole cells of the coarsest scale."""
    return STRIDE * (-(-reach // STRIDE))


_last = partial(Tensor.contiguous, memory_format=torch.channels_last)
"""In channels-last order, in which pixels are rows of matrices."""
