"""Layouts: what fits a budget, to the byte, and how long a tile may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import napari_restore as nr
from napari_restore.engine.planning import (
    layout,
    measurements,
    sweeps,
)
from napari_restore.engine.planning.costs import Cost, SweepCosts
from napari_restore.errors import BudgetTooSmall

from ._swept_model import ToySwept

MIB = 1 << 20
NETWORK = nr.load_model("haze-unet", weights="random:0")
SWEPT = ToySwept()


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what a tile of any model takes on any machine: bytes and seconds per pixel."""

    def cost(byte: float = 48.0, seconds: float = 150e-9) -> None:
        known = Cost(0.0, byte, seconds, seconds)
        monkeypatch.setattr(layout, "calibrate", lambda *_, **__: known)

    # Beside what earlier runs of other tests have taught.
    monkeypatch.setattr(measurements, "FOLDER", "measured-here")
    monkeypatch.setattr(layout, "cores", lambda: 2)
    cost()
    return cost


def planned(size: tuple[int, int], model: Any = NETWORK, **options: Any) -> Any:
    image = nr.open_image(np.broadcast_to(np.uint8(9), (*size, 3)), bands="red=1,green=2,blue=3")
    return nr.plan(image, model, device="cpu", **options)


def needed(size: tuple[int, int], model: Any, memory: int, **options: Any) -> int | None:
    try:
        return planned(size, model, memory=memory, **options).prediction.added_ram_bytes
    except BudgetTooSmall:
        return None


def least(size: tuple[int, int], model: Any, **options: Any) -> int:
    """The smallest budget that is enough."""
    too_small, enough = 1, 1 << 30
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if needed(size, model, middle, **options) is None:
            too_small = middle
        else:
            enough = middle
    return enough


@pytest.mark.parametrize("model", ["identity", NETWORK], ids=["identity", "network"])
def test_the_least_budget_is_used_to_its_last_byte(model: Any, cost: Any, tmp_path: Path) -> None:
    size, options = (900, 1100), {"tile": 128, "workers": 1, "scratch": tmp_path}
    enough = least(size, model, **options)
    assert needed(size, model, enough, **options) == enough
    assert needed(size, model, enough - 1, **options) is None


@settings(derandomize=True, max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    st.tuples(st.integers(1, 2500), st.integers(1, 2500)),
    st.sampled_from(["identity", "dcp", NETWORK]),
    st.integers(1, 400),
    st.sampled_from([None, 128, 512]),
    st.booleans(),
)
@pytest.mark.slow
def test_no_plan_needs_more_than_its_budget(
    cost: Any, size: tuple[int, int], model: Any, mebibytes: int, tile: int | None, pyramid: bool
) -> None:
    needs = needed(size, model, mebibytes * MIB, tile=tile, pyramid=pyramid)
    assert needs is None or 0 < needs <= mebibytes * MIB
    # What fits once fits with more memory.
    if needs is not None:
        assert needed(size, model, 2 * mebibytes * MIB, tile=tile, pyramid=pyramid) is not None


@settings(derandomize=True, max_examples=20, suppress_health_check=list(HealthCheck))
@given(
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.integers(1, 200),
    st.sampled_from(["auto", "ram", "disk", "recompute"]),
)
def test_no_plan_of_sweeps_needs_more_than_its_budget(
    size: tuple[int, int], mebibytes: int, residuals: str
) -> None:
    needs = needed(size, SWEPT, mebibytes * MIB, residuals=residuals)
    assert needs is None or 0 < needs <= mebibytes * MIB


def test_no_histograms_are_paid_for_a_model_without_statistics(cost: Any) -> None:
    cost(byte=0.0)
    histograms = 3 * 65536 * 24
    small = {"tile": 128, "workers": 1}
    without, with_them = (
        planned((64, 64), model, **small).prediction.added_ram_bytes
        for model in ("identity", "dcp")
    )
    assert without < layout.STARTING_BYTES + histograms < with_them


def test_a_watched_tile_is_soon_done_halo_and_all(cost: Any) -> None:
    """1024 and twice the halo of 48 take 0.43 s; with it once, or without, less than 0.4 s."""
    seconds, read = 320e-9, 3 / 150e6
    cost(seconds=seconds)
    tile = planned((1024, 8192), pyramid=True, memory=8 << 30).layout.tile
    assert (seconds + read) * (1024 + 48) ** 2 < 0.4 < (seconds + read) * (1024 + 96) ** 2
    assert 512 < tile < 1024


@pytest.mark.parametrize(("residuals", "twice"), [("ram", 0), ("disk", 0), ("recompute", 6)])
def test_tiles_without_a_place_are_encoded_twice(
    residuals: str, twice: int, tmp_path: Path
) -> None:
    plan = planned((205, 331), SWEPT, tile=128, residuals=residuals, workers=1, scratch=tmp_path)
    assert plan.staged.maps
    described = plan.staged.describe()
    assert described["tiles_encoded_twice"] == twice * len(plan.staged.maps)


def test_a_block_that_is_decoded_as_one_is_paid_besides_and_named_where_only_it_is_too_much(
    cost: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, options = (900, 1100), {"tile": 128, "workers": 1, "scratch": tmp_path}
    tile, block = least(size, "identity", **options), 8 * MIB
    kind = type(planned(size, "identity", **options).image)
    monkeypatch.setattr(kind, "block_bytes", property(lambda _: block))
    assert needed(size, "identity", tile + block, **options) == tile + block
    for memory, why in (
        (tile + block - 1, "in blocks"),
        (tile, "in blocks"),
        (tile - 1, "one tile"),
    ):
        with pytest.raises(BudgetTooSmall, match=why):
            planned(size, "identity", memory=memory, **options)


def test_gaps_of_a_heap_grow_with_the_tiles_up_to_what_was_measured() -> None:
    few, most, many = layout.GAPS_OF_NETWORKS
    found = [layout.gaps(n, convolves=True) for n in (1, 4, many, 10 * many)]
    assert found == pytest.approx([few, few, most, most])
    # By the logarithm: half way at the geometric mean.
    assert layout.gaps(10, convolves=True) == pytest.approx((few + most) / 2)
    assert many == 25


def test_only_networks_that_look_around_pay_for_convolutions(
    cost: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ("identity", "dcp", NETWORK)
    before = [planned((300, 300), model, tile=128).prediction.added_ram_bytes for model in models]
    monkeypatch.setattr(layout, "SCRATCH_BYTES", layout.SCRATCH_BYTES + MIB)
    after = [planned((300, 300), model, tile=128).prediction.added_ram_bytes for model in models]
    assert [more > less for less, more in zip(before, after, strict=True)] == [False, False, True]


def swept(monkeypatch: pytest.MonkeyPatch, scratch: Path, **bytes_each: float) -> Any:
    """A plan of six tiles on one thread, whose sweeps take a microsecond a pixel, and these bytes."""
    names = [step.name for step in SWEPT.ordered_steps]
    costs = [Cost(0.0, bytes_each.get(name, 1.0), 1e-6, 1e-6) for name in names]
    known = SweepCosts(dict(enumerate(costs)), {})
    monkeypatch.setattr(sweeps, "calibrate_sweeps", lambda *_: known)
    monkeypatch.setattr(sweeps, "cores", lambda: 1)
    options = {"tile": 128, "workers": 1, "tile_batch": 1, "residuals": "ram", "scratch": scratch}
    return planned((205, 331), SWEPT, **options)


@pytest.mark.parametrize("step", [step.name for step in SWEPT.ordered_steps])
def test_memory_is_that_of_the_most_costly_sweep(
    step: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = swept(monkeypatch, tmp_path).prediction.added_ram_bytes
    costly = swept(monkeypatch, tmp_path, **{step: 5000.0}).prediction.added_ram_bytes
    assert costly - usual > 4000 * 128**2


def test_maps_in_memory_cost_the_last_sweep_hardly_more_than_its_tiles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seconds = swept(monkeypatch, tmp_path).staged.phase_seconds["restore"]
    # Tiles with their halos of 4 on all sides; they are written, and read at 150 MB a second.
    pixels = 6 * (128 + 2 * 4) ** 2
    tiles = pixels * 1e-6 + 6 * layout.SECONDS_PER_TILE + pixels * 3 / 150e6
    assert tiles * 0.95 < seconds < tiles * 1.3


def test_workers_share_the_time_of_their_tiles(cost: Any) -> None:
    options = {"tile": 128, "tile_batch": 1}
    one, two = (
        planned((640, 640), "identity", workers=workers, **options).prediction.seconds
        for workers in (1, 2)
    )
    assert two < 0.6 * one


@pytest.mark.parametrize("size", [(100, 300), (300, 100)])
def test_a_whole_image_is_one_tile_of_its_longer_side(cost: Any, size: tuple[int, int]) -> None:
    found = planned(size, "identity", tile="whole").layout
    assert found.tile >= 300 and found.tiles == 1
