"""The sweeps over tiles give what the network gives at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.andehazeformer._small import TINY, network, pictures
from torch import Tensor

import napari_restore as nr
from napari_restore.models import (
    RESTORED,
    Map,
    SweepInput,
    one_shot_statistics,
    pad_to_multiple,
    placed_at,
)
from napari_restore.models.andehazeformer.model import AnDehazeFormer

Box = tuple[slice, slice]


class Tiled:
    """The sweeps of a model, tile by tile as a run calls them, two at once where they fit."""

    def __init__(self, model: AnDehazeFormer, x: Tensor, valid: Tensor | None, side: int) -> None:
        self.model, self.side = model, side
        self.statistics = dict(one_shot_statistics(model, x, valid))
        self.x = pad_to_multiple(x, model.multiple)
        self.valid = None if valid is None else pad_to_multiple(valid, model.multiple)
        self.height, self.width = self.x.shape[2:]
        self.maps: dict[str, Tensor] = {}

    def cores(self) -> list[tuple[int, int]]:
        rows, columns = range(0, self.height, self.side), range(0, self.width, self.side)
        return [(y, x) for y in rows for x in columns]

    def box(self, at: tuple[int, int], halo: int) -> Box:
        y, x = at
        return (
            slice(max(0, y - halo), min(self.height, y + self.side + halo)),
            slice(max(0, x - halo), min(self.width, x + self.side + halo)),
        )

    def run(self, backwards: bool = False) -> Tensor:
        for step in self.model.steps():
            made = {
                each.name: self.x.new_zeros(
                    1, each.channels, self.height // each.stride, self.width // each.stride
                )
                for each in step.writes
            }
            counted: dict[tuple[int, int], Any] = {}
            cores = self.cores()
            for batch in batches(cores[::-1] if backwards else cores, self.box, step.halo):
                outputs = self.call(step, batch)
                for n, at in enumerate(batch):
                    core, box = self.box(at, 0), self.box(at, step.halo)
                    for each in step.writes:
                        own = outputs[each.name][n : n + 1]
                        own = own.to(getattr(torch, each.dtype or "float64"))
                        made[each.name][..., *cells(core, each)] = within(own, core, box, each)
                    if step.counts is not None:
                        features = {
                            each.name: within(outputs[each.name][n : n + 1], core, box, each)
                            for each in step.counts.features
                        }
                        counted[at] = self.stored(step.counts, step.counts.count(features, None))
            self.maps |= made
            if step.counts is not None:
                total = None
                for at in cores:
                    total = counted[at] if total is None else step.counts.merged(total, counted[at])
                self.statistics |= step.counts.finalize(total, self.statistics)
        return self.maps[RESTORED]

    def stored(self, counts: Any, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Counts as they come from a store: all tiles have the shape of a whole one."""
        kept = {}
        for name, shape in counts.shapes_of(self.side, (self.height, self.width)).items():
            kept[name] = torch.zeros(1, *shape, dtype=torch.float64)
            assert found[name].dtype == torch.float64
            kept[name].flatten()[: found[name].numel()] = found[name].flatten()
        return kept

    def call(self, step: Any, batch: list[tuple[int, int]]) -> Mapping[str, Tensor]:
        return step.run(self.given(step, batch))

    def given(self, step: Any, batch: list[tuple[int, int]]) -> SweepInput:
        boxes = [self.box(at, step.halo) for at in batch]
        strides = {each.name: each for s in self.model.steps() for each in s.writes}
        origins = [(box[0].start, box[1].start) for box in boxes]
        view = valid = None
        if step.sees_image:
            view = torch.cat([self.x[..., *box] for box in boxes])
            if self.valid is not None:
                valid = torch.cat([self.valid[..., *box] for box in boxes])
        maps = {
            name: torch.cat([self.maps[name][..., *cells(box, strides[name])] for box in boxes])
            for name in step.reads
        }
        maps = {name: each.to(kind(strides[name])) for name, each in maps.items()}
        placed = placed_at(self.statistics, origins, 1.0, self.x)
        return SweepInput(view, maps, placed, None, valid)


def kind(one: Map) -> torch.dtype:
    found: torch.dtype = getattr(torch, one.dtype or "float64")
    return found


def batches(cores: list[tuple[int, int]], box: Any, halo: int) -> list[list[tuple[int, int]]]:
    """Pairs of tiles of equal shape, the others alone."""
    found: list[list[tuple[int, int]]] = []
    for at in cores:
        shape = [s.stop - s.start for s in box(at, halo)]
        last = found[-1] if found else []
        if len(last) == 1 and [s.stop - s.start for s in box(last[0], halo)] == shape:
            last.append(at)
        else:
            found.append([at])
    return found


def cells(box: Box, one: Map) -> Box:
    rows, columns = (slice(s.start // one.stride, s.stop // one.stride) for s in box)
    return rows, columns


def within(tile: Tensor, core: Box, box: Box, one: Map) -> Tensor:
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(core, box, strict=True)
    )
    return tile[..., *cells((rows, columns), one)]


def hole(height: int, width: int) -> Tensor:
    """A third of the pixels invalid, across cells and up to the lower edge."""
    valid = torch.ones(1, 1, height, width, dtype=torch.bool)
    valid[..., 30:75, 60:140] = valid[..., 100:, 33:81] = False
    return valid


@pytest.mark.parametrize(
    ("settings", "backwards"),
    [
        ({}, False),
        ({}, True),
        ({"rho": 1.0}, False),
        ({"selection": "random", "cache_tokens": 9}, True),
        ({"cache_tokens": 0}, False),
    ],
)
def test_tile_by_tile_is_the_whole(settings: dict[str, Any], backwards: bool) -> None:
    model, x, valid = network(**settings), pictures(1, 150, 190), hole(150, 190)
    # Tiles of 48 pixels begin anywhere in a window of 32.
    tiled = Tiled(model, x, valid, 48)
    y = tiled.run(backwards)[..., :150, :190]
    there = valid.expand_as(x)
    assert float((y - model(x, None, valid))[there].abs().max()) < 1e-10
    assert float((y - x)[there].abs().max()) > 1e-3
    # What is counted makes the model local.
    known = {name: each for name, each in tiled.statistics.items() if name != "origin"}
    assert set(model.counted) <= set(known)
    top, low = 96, 144
    first = max(0, top - model.reach)
    box = (slice(first, None), slice(0, 96 + model.reach))
    part = model(x[..., *box], placed_at(known, [(first, 0)], 1.0, x), valid[..., *box])
    cut = (slice(top, low), slice(0, 96))
    inside = part[..., top - first : low - first, :96]
    assert float((inside - y[..., *cut])[there[..., *cut]].abs().max()) < 1e-10


@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.ids("slow", "32")
def test_any_tile_gives_the_same_choice_and_pixels(side: int) -> None:
    model, x = network(), pictures(1, 130, 141)
    # Flat areas: equal transmissions and contrasts, whose order is that of rows and columns.
    x[..., 32:96, 16:112] = 0.5
    tiled, whole = Tiled(model, x, None, side), Tiled(model, x, None, 144)
    y, expected = tiled.run(), whole.run()
    assert torch.equal(tiled.statistics["members"], whole.statistics["members"])
    assert float((y - expected).abs().max()) < 1e-10
    assert float((y[..., :130, :141] - model(x)).abs().max()) < 1e-10


def test_training_goes_through_the_same_functions() -> None:
    model, x, valid = network(), pictures(1, 80, 96), hole(80, 96)
    statistics = one_shot_statistics(model, x, valid)
    planes, guide = model.planes(x, statistics, valid), model.guide(statistics)
    y = model.reconstruct(model.relate(planes, guide, valid), planes)
    difference = (y - model(x, statistics, valid))[valid.expand_as(x)]
    assert float(difference.abs().max()) < 1e-12


def test_a_batch_with_statistics_of_one_image() -> None:
    model, x = network(), pictures(2, 64, 48)
    known = one_shot_statistics(model, x[:1])
    both = model(x, placed_at(known, [(0, 0), (32, 16)], 1.0, x))
    for n, at in enumerate([(0, 0), (32, 16)]):
        alone = model(x[n : n + 1], placed_at(known, [at], 1.0, x))
        torch.testing.assert_close(both[n : n + 1], alone, rtol=0, atol=1e-12)


def test_halos_are_enough_and_needed() -> None:
    model, x = network(), pictures(1, 64, 256)
    assert model.reach == 96 == TINY.pairs * model.window_halo + model.reconstruction_halo
    tiled = Tiled(model, x, None, 64)
    whole = tiled.run()

    def from_the_middle(halo: int) -> Tensor:
        left = 112 - halo
        placed = placed_at(tiled.statistics, [(0, left)], 1.0, x)
        part = model(x[..., left : 144 + halo], placed)
        return part[..., halo : halo + 32] - whole[..., 112:144]

    assert float(from_the_middle(96).abs().max()) < 1e-12
    assert float(from_the_middle(0).abs().max()) > 1e-6


@pytest.mark.slow
def test_the_engine_restores_what_the_network_gives(
    tmp_path: Path, measured_on: Callable[..., None]
) -> None:
    """With nodata: a region by sweeps, then all of the image as a local model."""
    # What a tile costs is measured on small ones.
    measured_on(48, 64)
    model = network().float()
    image = pictures(1, 150, 190).float()[0].permute(1, 2, 0).numpy()
    valid = hole(150, 190)
    image[~valid[0, 0].numpy()] = np.nan
    options: dict[str, Any] = {"tile": 64, "workers": 1, "memory": "1GiB"}
    region = nr.Region(20, 70, 110, 160)
    first = nr.plan(image, model, region=region, scratch=tmp_path / "a", **options)
    assert first.staged is not None
    part = np.asarray(nr.start(first).result().array)
    again = nr.plan(image, model, scratch=tmp_path / "b", maps=True, **options)
    # All is counted: nothing is counted again.
    assert not again.sweeps_image
    whole = np.asarray(nr.start(again).result().array)
    x = torch.from_numpy(np.nan_to_num(image)).permute(2, 0, 1)[None]
    # Pixels beside nodata are restored, but count nowhere.
    counted = torch.from_numpy(nr.open_image(image).read_representative((0, 0, 150, 190)))
    assert int(counted.sum()) < int(valid.sum())
    expected = model(x, None, counted[None, None])[0].permute(1, 2, 0).numpy()
    there = valid[0, 0].numpy()
    scale = float(np.ptp(expected[there]))
    assert np.abs(whole - expected)[there].max() <= 1e-5 * scale
    cut = (slice(20, 110), slice(70, 160))
    assert np.abs(part - expected[cut])[there[cut]].max() <= 1e-5 * scale
    assert np.isnan(whole[~there]).all()
