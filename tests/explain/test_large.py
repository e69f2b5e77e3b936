"""Maps that do not fit memory: sums on disk, paths made box by box, read in strips."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from tests.engine._staged_model import ToyStaged
from tests.explain._models import scene

from napari_restore import Region, api, open_image
from napari_restore._replacing import DamagedFile
from napari_restore.engine import as_json, from_json, make_plan
from napari_restore.engine.gradients.cost import swept_gradient_cost
from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.engine.gradients.swept import SweptGradients, computing_bytes, divide
from napari_restore.engine.machine.device import Device, assume_cores
from napari_restore.explain import Attribution, OverviewShares, attribute
from napari_restore.explain.attribution import (
    _sums,
    attribution,
    attribution_run,
    baselines,
)
from napari_restore.explain.attribution._sums import Sums
from napari_restore.explain.attribution.baselines import PathInputs, Recent
from napari_restore.explain.attribution.stored_accumulator import SharedLease, StoredSums

BOX = Region(120, 100, 150, 140)


def ask(tmp_path: Path, **options: Any) -> Any:
    # As a module of its own, so that the second question does not find the first one's plan.
    return attribute(
        open_image(scene(200, 260)), ToyStaged(), BOX, scratch=tmp_path, device="cpu", **options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"baseline": "blur"},
        pytest.param({"baseline": "zero"}, marks=pytest.mark.slow),
        pytest.param({"method": "haze"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
@pytest.mark.ids("nightly", "options1", "options0")
def test_on_disk_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    options = {"method": "ig", "steps": 3, **options}
    small = ask(tmp_path, **options)
    for module, name, value in (
        (attribution_run, "SMALL", 0),
        (attribution, "LARGEST", 0),
        (attribution, "STRIP", 1000),
        (_sums, "ROWS", 128),
        (_sums, "COLUMNS", 96),
    ):
        monkeypatch.setattr(module, name, value)
    large = ask(tmp_path, **options)
    kept = list(tmp_path.glob("attribution-*"))
    assert len(kept) == 1
    assert not isinstance(large.map, np.ndarray)
    assert np.allclose(large.map.compute(), small.map, atol=1e-9, rtol=1e-5)
    for name in ("diffusion_index", "identity_share"):
        one, other = (found.record["attribution"][name] for found in (small, large))
        assert other == pytest.approx(one, rel=1e-4)
    # As a window opens it, whose child has computed it.
    shares = OverviewShares(np.arange(12, dtype=np.float32).reshape(2, 2, 3), 4, (8, 0))
    data = as_json(replace(large, overview=shares).to_parts(), tmp_path)
    parts = from_json(data, tmp_path, api.message_types())
    opened = Attribution.of_parts(parts, large.image, large.picture)
    np.testing.assert_array_equal(opened.map.compute(), large.map.compute())
    assert opened.record == large.record and opened.overview.corner == (8, 0)
    np.testing.assert_array_equal(opened.overview.values, shares.values)
    for name in ("map.npy", "map.npz"):
        read = np.load(large.save(tmp_path / name))
        array = read if name == "map.npy" else read["map"]
        np.testing.assert_array_equal(array, large.map.compute())
    out = large.save(tmp_path / "map.tif")
    with rasterio.open(out) as written:
        assert np.allclose(written.read(1), small.map.sum(axis=2), atol=1e-7)
    del large
    assert kept[0].exists() and opened.read(opened.window).any()
    del opened
    assert not kept[0].exists()


def test_a_baseline_is_read_once_while_its_box_is_recent() -> None:
    read: list[Region] = []

    def planes(box: Region) -> torch.Tensor:
        read.append(box)
        return torch.full((1, 3, *box.shape), float(box.x0))

    first, second, third = (Region(0, x, 10, x + 10) for x in (0, 10, 20))
    recent = Recent(planes, 2 * 1200)
    for box in (first, second, first, third, first):
        np.testing.assert_array_equal(recent(box), planes(box))
        read.pop()
    assert read == [first, second, third]
    recent(second)
    assert read == [first, second, third, second]
    large = Region(0, 0, 100, 100)
    assert recent(large).shape == recent(large).shape == (1, 3, 100, 100)
    assert read[-2:] == [large, large]


@pytest.mark.parametrize(
    ("device", "room", "most"),
    [
        ("cpu", 0, 2**28),
        ("cpu", 2**29, 2**29),
        ("cpu", 2**34, 2**30),
        ("cuda", 2**34, 2**28),
    ],
)
def test_what_gradients_leave_keeps_parts_of_a_baseline(device: str, room: int, most: int) -> None:
    """Twenty parts of 64 MiB; the budget, 16 GiB, is of the processor's memory."""
    parts = [Region(0, 16 * n, 16, 16 * n + 16) for n in range(20)]
    read: list[Region] = []

    def planes(box: Region) -> torch.Tensor:
        read.append(box)
        return torch.zeros(1).expand(2**24)

    source: Any = SimpleNamespace(
        plan=SimpleNamespace(memory=16 * 2**30, device=Device(device, ""))
    )
    inputs = PathInputs(source, parts[0], planes, lambda _: source, is_small=False, room=room)
    recent = inputs.in_memory(planes)
    for part in (*parts, *reversed(parts)):
        recent(part)
    assert len(read) == 2 * len(parts) - most // 2**26


@pytest.mark.slow
def test_the_blur_of_a_tile_is_computed_once_for_a_backward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution_run, "SMALL", 0)
    boxes: list[Region] = []
    blurred = baselines.blurred

    def counted(image: Any, box: Region, *rest: Any) -> Any:
        boxes.append(box)
        return blurred(image, box, *rest)

    monkeypatch.setattr(baselines, "blurred", counted)
    ask(tmp_path, method="ig", steps=3, baseline="blur")
    # What is small enough stays for all points.
    assert len(boxes) == len(set(boxes))


@pytest.mark.parametrize(("workers", "most"), [(None, 3), (2, 2)])
def test_tiles_of_a_gradient_use_all_cores_whatever_the_box_needs(
    tmp_path: Path, workers: int | None, most: int
) -> None:
    image = open_image(scene(200, 260))
    try:
        # As of a box that is one tile: one worker restores it.
        assume_cores(1)
        plan = make_plan(
            image, ToyStaged(), region=BOX, scratch=tmp_path, device="cpu", workers=workers
        )
        assume_cores(3)
        with GradientSource(plan, lambda event: None, threading.Event()) as source:
            gradients = SweptGradients(source, BOX)
    finally:
        assume_cores(None)
    assert plan.layout.workers == (workers or 1)
    assert gradients._workers == most


@pytest.mark.slow
def test_parts_that_overlap_add_up_in_a_file(tmp_path: Path) -> None:
    region = Region(100, 200, 100 + 700, 200 + 600)
    stored = StoredSums(region, 2, 2, tmp_path, SharedLease(tmp_path))
    kept = Sums(region, 2, 2)
    draw = np.random.default_rng(0)
    given = [[0.25, 0.125], [0.75, 0.875]]
    for number, weights in enumerate(given, 1):
        stored.begin(number)
        for _ in range(9):
            y, x = draw.integers(100, 700), draw.integers(200, 700)
            box = Region(y, x, min(800, y + 300), min(800, x + 260))
            # Small integers: their sums in float32 are exact.
            part = torch.from_numpy(draw.integers(-9, 9, (1, 2, *box.shape)).astype(np.float32))
            stored.add(weights, box, part)
            kept.add(weights, box, part)
        stored.commit(given[:number])
    for rule in (0, 1):
        np.testing.assert_array_equal(stored.of(rule).read(region), kept.of(rule).read(region))
    with pytest.raises(DamagedFile):
        stored.commit([*given, weights])


def test_fewer_tiles_at_once_keep_maps_off_the_disk(tmp_path: Path) -> None:
    image = open_image(scene(200, 260))
    plan = make_plan(image, ToyStaged(), region=BOX, scratch=tmp_path, device="cpu", workers=3)
    with GradientSource(plan, lambda event: None, threading.Event()) as source:
        cost = swept_gradient_cost(ToyStaged(), plan.device)
        ample = divide(source, BOX, cost, 2**34, 128)
        two = computing_bytes(ToyStaged(), cost, 2, ample.grid)
        three = computing_bytes(ToyStaged(), cost, 3, ample.grid)
        maps = ample.bytes - three
        assert (ample.workers, two < three, maps > 0) == (3, True, True)
        just = divide(source, BOX, cost, two + maps, 128)
        assert (just.workers, just.bytes) == (2, two + maps)
