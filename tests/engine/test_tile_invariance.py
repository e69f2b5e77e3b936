"""Pixels do not depend on how an image is cut, also where kernels follow tiles and threads."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

import napari_restore as nr
from napari_restore.engine import choose_device
from napari_restore.engine.planning.decided import TileInvariance
from napari_restore.engine.planning.measurements import write_measurement
from napari_restore.engine.planning.tile_invariance import tile_invariance

pytestmark = pytest.mark.measured

SCENE = 0.65 + 0.25 * np.random.default_rng(0).random((701, 643, 3), np.float32)
WAYS = (
    {"tile": 1024},
    {"tile": 256, "workers": 2},
    {"tile": 384, "workers": 1},
    {"tile": 256, "tile_batch": 3},
)


class FollowsShape(nn.Module):
    """Its last bits follow the size of what it is given, as some kernels' do."""

    def forward(self, x):
        return 0.9 * x + 1e-6 * (x.shape[-1] % 7) + 1e-6 * x.shape[0]


class FollowsThreads(nn.Module):
    """Its last bits follow the number of threads."""

    def forward(self, x):
        return 0.9 * x + 1e-6 * torch.get_num_threads()


class FollowsNothing(nn.Module):
    def forward(self, x):
        return 0.9 * x


class TakesOne(nn.Module):
    """A network that somebody wrote for one picture at a time."""

    def forward(self, x):
        assert len(x) == 1
        return 0.9 * x


def model_of(module: nn.Module, name: str | None = None):
    card = {
        "id": name or type(module).__name__,
        "title": "Toy",
        "summary": "",
        "bands": 3,
        "halo": 8,
    }
    return nr.load_model(module, card=card)


def restored(model, **options):
    image = nr.open_image(SCENE, bands="red=1,green=2,blue=3")
    plan = nr.plan(image, model, device="cpu", **options)
    result = nr.start(plan, fresh=True).result()
    return result.read(result.region), result.record


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "verdict"),
    [
        (FollowsShape(), TileInvariance.FIXED_TILES),
        (FollowsThreads(), TileInvariance.ONE_THREAD),
        (FollowsNothing(), TileInvariance.FULL),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.ids(
    "nightly",
    "FollowsShape-TileInvariance",
    "FollowsThreads-TileInvariance",
    "FollowsNothing-TileInvariance",
)
def test_whatever_kernels_do_runs_agree(module, verdict):
    model = model_of(module)
    whole, record = restored(model, **WAYS[0])
    assert record["plan"]["tile_invariance"] == verdict
    for options in WAYS[1:]:
        np.testing.assert_array_equal(restored(model, **options)[0], whole)
    region = nr.Region(130, 257, 601, 639)
    part, _ = restored(model, region=region, tile=256)
    np.testing.assert_array_equal(part, whole[region.slices])


@pytest.mark.slow
def test_a_network_that_takes_one_tile_at_a_time_is_given_one():
    model = model_of(TakesOne())
    values, record = restored(model)
    np.testing.assert_allclose(values, 0.9 * SCENE, atol=1e-6)
    assert record["plan"]["tile_batch"] == 1


def test_fixed_tiles_are_noted():
    plan = nr.plan(SCENE, model_of(FollowsShape()), device="cpu", tile=256, tile_batch=4)
    assert (plan.layout.tile, plan.layout.threads, plan.layout.tile_batch) == (512, 1, 1)
    assert any("in place of 256" in note for note in plan.notes)


def test_what_was_found_is_kept(own_cache):
    known = set(own_cache.glob("measurements/*"))
    found = tile_invariance(model_of(FollowsThreads(), "kept"), choose_device("cpu"), 8)
    (file,) = {*own_cache.glob("measurements/*")} - known
    written = json.loads(file.read_text())
    assert (written["model"], written["value"]) == ("kept", found)
    file.write_text(json.dumps({**written, "value": "fixed tiles, one thread each"}))
    # What its checksum does not know is measured again.
    again = tile_invariance(model_of(FollowsThreads(), "kept"), choose_device("cpu"), 8)
    assert again == found
    write_measurement(file, "kept", "fixed tiles, one thread each")
    again = tile_invariance(model_of(FollowsThreads(), "kept"), choose_device("cpu"), 8)
    assert again is TileInvariance.FIXED_TILES


@pytest.mark.parametrize("name", ["dcp", "hot", "htm", "haze-unet", "atmosphere", "identity"])
def test_our_own_models_take_any_tiles(name):
    """Whether threads share a sum is up to the processor, and planned for."""
    model = nr.load_model(name)
    found = tile_invariance(model, choose_device("cpu"), model.card.halo)
    assert found is not TileInvariance.FIXED_TILES


@pytest.fixture
def with_cores(monkeypatch):
    """A function that makes the engine believe in so many processor cores."""

    def become(count: int) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("napari_restore.engine") and hasattr(module, "cores"):
                monkeypatch.setattr(module, "cores", lambda: count)

    return become


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["haze-unet", "atmosphere", pytest.param("inf-dehaze-small", marks=pytest.mark.slow)],
)
@pytest.mark.ids("nightly", "atmosphere", "inf-dehaze-small", "haze-unet")
def test_results_do_not_depend_on_the_number_of_threads(name, with_cores):
    """Of the network that looks at the overview, of tiles, and of what tiles share."""
    results = []
    for cores in (1, 2, 4):
        with_cores(cores)
        results.append(restored(nr.load_model(name), workers=1)[0])
    assert (results[0] != SCENE).mean() > 0.2
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hint-small-lowlight", "andehazeformer-small"])
@pytest.mark.ids("nightly", "hint-small-lowlight", "andehazeformer-small")
def test_sweeps_do_not_depend_on_the_number_of_threads(name, with_cores):
    results = []
    for cores in (1, 2, 4):
        with_cores(cores)
        pixels, record = restored(nr.load_model(name), workers=1, tile=256)
        assert record["plan"]["tile_invariance"] == TileInvariance.ONE_THREAD
        results.append(pixels)
    assert (results[0] != SCENE).mean() > 0.2
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.slow
def test_workers_of_sweeps_are_as_many_as_the_budget_allows(with_cores):
    with_cores(8)
    model = nr.load_model("andehazeformer-small")

    def planned(**options):
        return nr.plan(SCENE, model, device="cpu", tile=128, residuals="disk", **options)

    room = int(1.2 * planned(workers=2).prediction.added_ram_bytes)
    layout = planned(memory=f"{room >> 20}MiB").layout
    assert 1 < layout.workers < 8
    assert layout.threads == 1
