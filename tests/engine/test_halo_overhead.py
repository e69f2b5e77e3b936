"""Tiles as large as the budget pays for: what halos cost, and what a tile takes."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import napari_restore as nr
from napari_restore.engine import Region
from napari_restore.engine.machine.device import choose_device
from napari_restore.engine.machine.device_memory import peak_of
from napari_restore.engine.planning import costs as _costs, layout, probe
from napari_restore.engine.planning.costs import Cost, calibrate
from napari_restore.engine.planning.tiles import Grid, box_with_halo, cut_into_tiles

pytestmark = pytest.mark.measured

SIDE, HALO, GIB = 8192, 48, 1 << 30
CPU = choose_device("cpu")


@pytest.fixture
def costs(monkeypatch):
    """The same bytes and seconds of any model on any machine: those of a small network."""
    cost = Cost(0.0, 48.0, 150e-9, 150e-9)
    monkeypatch.setattr(layout, "calibrate", lambda *_, **__: cost)
    monkeypatch.setattr(layout, "cores", lambda: 2)
    return cost


def planned(side=SIDE, **options):
    image = nr.open_image(np.broadcast_to(np.uint8(9), (side, side, 3)))
    model = nr.load_model("haze-unet", weights="random:0")
    return nr.plan(image, model, device="cpu", **options)


@pytest.mark.slow
def test_halos_of_a_large_image_cost_at_most_a_tenth_within_a_gibibyte(costs):
    plan = planned(memory=GIB)
    assert plan.layout.halo == HALO
    assert 1 < plan.layout.halo_overhead <= 1.1
    assert plan.prediction.added_ram_bytes <= GIB
    assert f"{plan.layout.halo_overhead:.2f} ×" in plan.tiling()


@pytest.mark.slow
def test_tiles_shrink_with_the_budget_and_where_they_are_watched(costs):
    most = planned(memory=GIB).layout.tile
    assert planned(memory=GIB // 4).layout.tile < most
    watched = planned(memory=8 * GIB, pyramid=True).layout.tile
    assert watched < planned(memory=8 * GIB).layout.tile
    assert costs.seconds((watched + 2 * HALO) ** 2) <= layout.TILE_SECONDS


@pytest.mark.parametrize("tile", [128, 256, 640])
def test_the_overhead_is_that_of_the_tiles(tile, costs):
    side = 900
    plan = planned(side, tile=tile)
    cores = cut_into_tiles(plan.targets, (side, side), tile, step=plan.step)
    step, least = plan.step, plan.model.least_box
    boxes = [box_with_halo(core, HALO, (side, side), step, least) for core in cores]
    assert plan.layout.halo_overhead == sum(box.pixels for box in boxes) / side**2
    assert plan.to_dict()["halo_overhead"] == plan.layout.halo_overhead


@pytest.mark.parametrize("side", [300, 900])
def test_sweeps_count_their_halos_as_far_as_the_image_goes(side):
    frames = np.random.default_rng(0).integers(0, 255, (3, side, side + 200, 3), np.uint8)
    bracket = nr.open_bracket(list(frames), exposures=[-1, 0, 1], align="off")
    plan = nr.plan(bracket, "mertens", tile=512)
    grid = Grid(Region(0, 0, side, side + 200), 512, plan.model.padded_to)
    each = [
        sum(grid.around(grid.cells(n), step.halo).pixels for n in range(grid.count))
        for step in plan.swept.ordered_steps.sweeps.values()
    ]
    assert plan.layout.halo_overhead == np.mean(each) / grid.box.pixels


def test_other_programs_do_not_change_what_a_tile_is_taken_to_take(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: 1000.0 * next(ticks))
    monkeypatch.setattr(time, "thread_time", lambda: 2.0 * next(ticks))
    torch.set_num_threads(1)
    assert _costs._timed(lambda: torch.zeros(1), CPU, 1)[1] == 2.0


@pytest.mark.slow
def test_what_a_tile_takes_of_a_map_follows_how_coarse_that_is():
    model = nr.load_model("atmosphere").eval()
    coarse, fine = (calibrate(model, CPU, 1, coarser=each) for each in (4, 1))
    # Most are strips, which do not grow with the tile; what does are result and transmission, and
    # rows of two maps, of which a coarse one has a quarter.
    assert fine.fixed_bytes > 8 << 20
    assert 16 < coarse.bytes_per_pixel < fine.bytes_per_pixel - 4


@pytest.mark.slow
def test_a_network_of_many_bands_is_tried_on_smaller_tiles(monkeypatch):
    monkeypatch.setattr(probe, "LARGEST_INPUT", 8 << 20)
    tried = []
    example_input = _costs.example_input
    monkeypatch.setattr(
        _costs, "example_input", lambda *each: (tried.append(each[1:]), example_input(*each))[1]
    )
    card = {"id": "many", "title": "Many", "summary": "", "bands": 96, "halo": 0}
    model = nr.load_model(torch.nn.Conv2d(96, 96, 1), card=card).eval()
    cost = calibrate(model, CPU, 1)
    assert tried == [(98, 98), (147, 147)]
    assert 4 * 96 <= cost.bytes_per_pixel <= 2 * 4 * 96


def test_the_network_frees_what_it_does_not_need():
    model = nr.load_model("haze-unet", weights="random:0").eval()
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        peak = peak_of(lambda: model(x), CPU)
    # Three maps of 16 channels on cells of 2 × 2 pixels: one that waits, the one before a block and
    # that after it.
    assert peak <= 3 * 16 * x[0, 0].numel()


def test_the_network_is_the_sum_of_its_layers():
    model = nr.load_model("haze-unet", weights="random:0").eval()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def reference(image):
        whole = image.contiguous(memory_format=torch.channels_last)
        fine = model.encode1(model.stem(whole))
        middle = model.encode2(model.down1(fine))
        coarse = model.middle(model.down2(middle))
        middle = model.decode2(middle + model.up2(coarse))
        return image + model.head(model.decode1(fine + model.up1(middle)))

    ours, theirs = model(x), reference(x)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)
