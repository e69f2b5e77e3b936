"""Tiles of a network without a card are `module(x)`, or the network is given the whole image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import napari_restore as nr
from napari_restore.engine import Region, probe
from napari_restore.engine.planning import _planning, dependence as _dependence, probe as _probe
from napari_restore.engine.planning.decided import TileInvariance
from napari_restore.engine.planning.dependence import dependence
from napari_restore.engine.running import _program
from napari_restore.errors import BadModel, BudgetTooSmall, TilesDiffer
from napari_restore.models import content_of, load

from . import _more_networks, _networks
from ._networks import (
    BY_SIZE,
    AODNet,
    Chain,
    GridDehazeNet,
    Restormer,
    Scaled,
    UNet,
    conv,
    network,
    scene,
    with_noise,
)

TILED = _networks.TILED | _more_networks.TILED
WHOLE = _networks.WHOLE | _more_networks.WHOLE
SWEPT = frozenset(
    (
        *("nafnet-sca", "restormer", "ffa-net", "cbam", "instance-norm", "min-max", "brightest"),
        *(
            "count",
            "hinet",
            "aspp-pooled",
            "squeezed",
            "group-norm",
            "batch-statistics",
            "grey-world",
        ),
    )
)
"""Those of `WHOLE` that are cut into sweeps."""
SIZE = 331, 413
"""Odd, as images are."""
MEMORY = 1 << 30
CUTS = (
    (128, None),
    (256, Region(37, 71, 331, 413)),
    (384, Region(129, 5, 290, 400)),
)
"""Tile and region."""


@pytest.fixture
def any_tiles(monkeypatch):
    """Tiles as they are asked for, also where sums follow their shape."""
    verdict = TileInvariance.ONE_THREAD
    monkeypatch.setattr(_planning, "tile_invariance", lambda *_: verdict)


@pytest.fixture
def restored(tmp_path_factory):
    """A function that restores an image (1, 3, h, w) and returns the same shape, and the record."""

    def restored(x, module, **options):
        image = x[0].permute(1, 2, 0).numpy()
        scratch = tmp_path_factory.mktemp("scratch")
        options = {"memory": MEMORY, "scratch": scratch, "device": "cpu"} | options
        result = nr.restore(image, module, progress=False, **options)
        values = result.read(result.region)
        return torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)[None], result.record

    return restored


def one_pass(module, x):
    with torch.inference_mode():
        return module(x.clone())


def assert_same(found, wanted):
    scale = max(1.0, float(wanted.abs().max()))
    assert float((found - wanted).abs().max()) <= 1e-5 * scale


# -- the zoo -----------------------------------------------------------------------------


@pytest.mark.measured
@pytest.mark.slow
@pytest.mark.parametrize("name", TILED)
@pytest.mark.ids(
    "nightly",
    "dcp-given-airlight",
    "dehazeformer",
    "lka",
    "local-mean",
    "median",
    "swinir",
    "swinir-7",
    "uformer",
    "unet",
    "dropout",
    "lines",
    "aspp",
    "padded-below",
    "stride-3",
    "cascaded",
    "ffdnet",
    "convnext",
    "stride-5",
    "maxim-blocks",
    "haar",
    "drunet",
    "dncnn",
    "msbdn",
    "real-esrgan",
    "total-variation",
    "gcanet",
    "dehazeformer-soft",
    "griddehazenet",
    "deformed",
    "aod-net",
    "waifu2x",
    "recursive",
    "fft-of-blocks",
    "unet-5",
    "nafnet",
)
def test_tiles_are_what_the_module_makes_of_the_whole(name, restored, any_tiles):
    module = network(TILED[name])
    x = scene(*SIZE)
    k = 8 if name == "drunet" else 1
    padded = nn.functional.pad(x, (0, -SIZE[1] % k, 0, -SIZE[0] % k), "reflect")
    wanted = one_pass(module, padded)[..., : SIZE[0], : SIZE[1]]
    model = nr.load_model(module)
    for tile, region in CUTS:
        found, record = restored(x, model, tile=tile, region=region)
        assert record["plan"]["halo"] < tile + 128
        assert_same(found, wanted if region is None else wanted[(..., *region.slices)])


@pytest.mark.measured
@pytest.mark.slow
@pytest.mark.parametrize("name", [*WHOLE, *BY_SIZE])
@pytest.mark.ids(
    "nightly",
    "dcp",
    "dehazeformer-rescaled",
    "maxim-grid",
    "nafnet-sca",
    "restormer",
    "seven-then-shift",
    "squeezed",
    "strips",
    "unet-resized",
    "bilinear-grid",
    "sinusoids",
    "rows",
    "coordinates",
    "columns",
    "scan",
    "cascaded-aligned",
    "fft",
    "sinusoids-24",
    "quantile",
    "count",
    "brightest",
    "mprnet",
    "batch-statistics",
    "instance-norm",
    "min-max",
    "group-norm",
    "cbam",
    "ffa-net",
    "hinet",
    "aspp-pooled",
    "dark",
    "grey-world",
)
def test_what_depends_on_the_whole_is_what_the_module_makes_of_it(name, restored, any_tiles):
    """In sweeps that are found by themselves, else in one pass."""
    module = network((WHOLE | BY_SIZE)[name])
    x = scene(*SIZE)
    wanted, region = one_pass(module, x), CUTS[1][1]
    for tile, region in CUTS[:2]:
        found, record = restored(x, module, tile=tile, region=region)
        assert (record["plan"]["tiles"] > 1) == (name in SWEPT)
        note = "sweeps, which count" if name in SWEPT else "whole image in one pass"
        assert any(note in said for said in record["plan"]["notes"])
        assert_same(found, wanted if region is None else wanted[(..., *region.slices)])


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_SIZE)
@pytest.mark.ids("nightly", "unet-resized")
def test_images_of_fitting_sizes_are_cut(name, restored, any_tiles):
    module, x = network(BY_SIZE[name]), scene(320, 416)
    found, record = restored(x, module, tile=128)
    assert record["plan"]["tiles"] > 1
    assert_same(found, one_pass(module, x))


# -- what is measured --------------------------------------------------------------------


def measured(module):
    return dependence(load(module), MEMORY)


class Patches(nn.Module):
    """The mean of each patch of `side` pixels; the last ones are filled with zeros."""

    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, x):
        h, w = x.shape[2:]
        y = nn.functional.pad(x, (0, -w % self.side, 0, -h % self.side))
        y = nn.functional.avg_pool2d(y, self.side)
        return nn.functional.interpolate(y, scale_factor=float(self.side))[..., :h, :w]


@pytest.mark.parametrize("side", [1, 2, 6, 7, 12, 16, 64])
def test_the_period_of_patches_is_found(side):
    assert measured(Patches(side)).step == side


@pytest.mark.parametrize("side", [2, 6, 7, 12])
def test_a_module_that_takes_multiples_only_is_given_them(side):
    module = nn.Sequential(nn.PixelUnshuffle(side), nn.PixelShuffle(side))
    card = nr.load_model(module, memory=MEMORY).card
    assert (card.multiple_of, card.size_step) == (side, side)


@pytest.mark.slow
def test_sides_that_a_module_pads_itself_are_not_padded():
    card = nr.load_model(network(UNet)).card
    assert (card.multiple_of, card.size_step) == (8, 1)


class Flat(nn.Module):
    """Leaves alone what has no detail."""

    def forward(self, x):
        return x if x.std() < 0.02 else 1 - x


class Large(nn.Module):
    """Computes large images at half their size."""

    def forward(self, x):
        if max(x.shape[2:]) <= 1000:
            return 1 - x
        y = nn.functional.interpolate(x, scale_factor=0.5)
        return 1 - nn.functional.interpolate(y, size=x.shape[2:])


@pytest.mark.measured
@pytest.mark.parametrize(("module", "why"), [(Flat, "depend on others"), (Large, "large images")])
def test_what_is_computed_in_two_ways_is_seen(module, why):
    assert why in measured(module()).whole


@pytest.mark.slow
@pytest.mark.nightly
def test_a_coarse_rounding_hides_no_reach():
    steps = Scaled(lambda x: x)
    steps.forward = lambda x: (16 * x).round() / 16
    found = {measured(network(lambda: Chain(7, end=steps), seed)).halo for seed in range(10)}
    assert found == {7}


class Tiny(nn.Module):
    """A grid of 4 pixels that is seen in the seventh digit only."""

    def forward(self, x):
        rows = torch.arange(x.shape[2]) % 4 == 0
        return x * (1 + 1e-7 * rows.to(x))[:, None]


def test_in_float64_rounding_is_told_from_a_small_dependence():
    assert measured(Tiny()).step == 4


@pytest.mark.parametrize("name", ["brightest", "count", "quantile", "min-max"])
def test_statistics_of_all_pixels_are_seen(name):
    assert measured(network(WHOLE[name])).whole


@pytest.mark.parametrize("name", ["columns", "rows"])
def test_a_position_that_no_period_explains_is_seen(name):
    assert "position" in measured(network(WHOLE[name])).whole


def test_noise_is_refused():
    with pytest.raises(BadModel, match="another result each time"):
        nr.load_model(network(lambda: Scaled(with_noise)))


ENDS = {
    "relu": nn.ReLU(),
    "clamp": nn.Hardtanh(0, 1),
    "dark": nn.Sequential(nn.Threshold(0.9, 0.0), nn.ReLU(True)),
}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.ids("nightly", "clamp", "dark", "relu")
def test_a_saturating_end_hides_no_reach(end):
    found = {measured(network(lambda: Chain(7, end=ENDS[end]), seed)).halo for seed in range(40)}
    assert found == {7}


NONE = torch.zeros(())
LIMITS = {
    "maximum": lambda v: torch.maximum(v, NONE),
    "max of two": lambda v: torch.max(v, 0 * v),
    "fmax": lambda v: torch.fmax(v, NONE),
    "minimum": lambda v: -torch.minimum(-v, NONE),
    "min of two": lambda v: -torch.min(-v, NONE),
    "fmin": lambda v: -torch.fmin(NONE, -v),
    "below infinity": lambda v: torch.maximum(torch.minimum(v, NONE + torch.inf), NONE),
    "hardswish": lambda v: nn.functional.hardswish(v - 3),
}


class Rarely(nn.Module):
    """Adds what it sees 15 pixels around where their mean is near 0.973, and nowhere else."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        mean = nn.functional.avg_pool2d(x, 31, 1, 15, count_include_pad=False)
        return x + 10 * self.limit(1e-3 - (mean - 0.973).abs())


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.ids(
    "nightly", "hardswish", "max of two", "fmin", "maximum", "minimum", "fmax", "min of two"
)
def test_a_limit_hides_no_reach(limit):
    module = Rarely(LIMITS[limit])
    x = torch.rand(1, 3, 48, 48)
    assert torch.allclose(module(x), x)  # as on nearly all images
    assert not torch.allclose(module(torch.full_like(x, 0.973)), torch.full_like(x, 0.973))
    assert nr.load_model(module).card.halo == 15


@pytest.mark.slow
@pytest.mark.ids("nightly", "40", "4")
@pytest.mark.parametrize("seeds", [4, 40])
def test_halos_of_aod_nets(seeds):
    assert {measured(network(AODNet, seed)).halo for seed in range(seeds)} == {7}


@pytest.mark.slow
@pytest.mark.ids("nightly", "40", "4")
@pytest.mark.parametrize("seeds", [4, 40])
def test_halos_of_networks_that_end_in_a_relu(seeds):
    found = [measured(network(GridDehazeNet, seed)) for seed in range(seeds)]
    assert len({(one.halo, one.step) for one in found}) == 1


def test_what_needs_too_much_memory_or_time_is_given_the_whole(monkeypatch):
    module = network(Chain)
    assert "needs more than" in dependence(load(module), 1 << 20).whole
    monkeypatch.setattr(_dependence, "SECONDS", 0.0)
    monkeypatch.setattr(_dependence, "PASSES", 5)
    assert "needs more than" in dependence(load(module), MEMORY).whole


@pytest.mark.measured
def test_a_network_is_measured_on_an_image_from_dark_to_bright():
    seen = []

    class Looking(nn.Module):
        def forward(self, x):
            seen.append(x.float())
            return x

    nr.load_model(Looking())
    # Others have the ends of a bar replaced.
    ends = pytest.approx((0.05, 0.95))
    bars = [x for x in seen if (float(x.min()), float(x.max())) == ends]
    assert bars and 0.4 < bars[0].mean() < 0.6
    left, right = bars[0].tensor_split(2, dim=3)
    assert left.mean() < right.mean()


def test_a_card_with_more_halo_than_needed_is_believed():
    wide = {"id": "wide", "bands": 3, "halo": 20}
    model = nr.load_model(nn.Conv2d(3, 3, 3, padding=1), card=wide)
    plan = nr.plan(np.zeros((300, 300, 3), np.float32), model, device="cpu")
    assert plan.layout.halo == 20
    assert not any("measured and used" in note for note in plan.to_dict()["notes"])


@pytest.mark.measured
@pytest.mark.slow
@pytest.mark.nightly
def test_a_card_that_claims_too_small_steps_is_not_taken_for_rounding(restored):
    module, x = network(UNet), scene(*SIZE)
    model = nr.load_model(module, card={"id": "unet", "bands": 3, "halo": 60})
    found, record = restored(x, model, tile=128)
    assert any("measured and used: 8" in note for note in record["plan"]["notes"])
    assert_same(found, one_pass(module, x))


# -- what is measured once ---------------------------------------------------------------


def widened(module):
    """Let a convolution see all of its kernel, past the counter of versions."""
    module.weight.data[:] = torch.rand(3, 3, 7, 7) / 49


def coarser(module):
    module.side = 8


@pytest.mark.parametrize("change", [widened, coarser])
@pytest.mark.slow
def test_a_module_that_was_changed_is_measured_again(change, restored):
    module = Patches(1)
    if change is widened:
        module = nn.Conv2d(3, 3, 7, padding=3)
        nn.init.dirac_(module.weight)
    x, model = scene(140, 300), nr.load_model(module)
    restored(x, model, tile=64)
    change(model.module)
    found, _ = restored(x, model, tile=64)
    assert_same(found, one_pass(model.module, x))


@pytest.mark.slow
def test_other_code_with_the_same_layers_is_measured_again(restored):
    x, card = scene(140, 300), {"id": "patches", "bands": 3}
    for side in (1, 8):
        # Both print alike.
        module = Patches(side)
        found, _ = restored(x, nr.load_model(module, card=card), tile=64)
        assert_same(found, one_pass(module, x))


# -- tiles beside each other ---------------------------------------------------------------


class ForOne(nn.Module):
    """Adds to all images of a batch what follows from the first one."""

    def __init__(self):
        super().__init__()
        self.near = conv(3, 3, 5)

    def forward(self, x):
        return x + self.near(x)[:1].tanh()


class Sized(ForOne):
    """Notes the size of an image for a layer, as blocks of windows do."""

    def forward(self, x):
        self.near.size = x.shape[2:]
        y = self.near(x).flatten(2)
        # Meanwhile other tiles begin.
        y.sort(2)
        return x + y.view(-1, 3, *self.near.size)


def test_a_module_for_one_image_is_given_one_at_a_time(restored):
    module, x = network(ForOne), scene(140, 700)
    found, _ = restored(x, module, tile=64, tile_batch=2)
    assert_same(found, one_pass(module, x))


@pytest.mark.slow
def test_tiles_on_other_threads_do_not_change_the_size_of_a_tile(restored, any_tiles):
    module, x = network(Sized), scene(300, 410)
    model = nr.load_model(module)
    content = content_of(model)
    found, _ = restored(x, model, tile=64, workers=4)
    assert_same(found, one_pass(module, x))
    assert content_of(model) == content


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
def test_a_script_is_cut_into_tiles(restored):
    module, x = network(Chain), scene(140, 300)
    found, record = restored(x, torch.jit.script(module), tile=64)
    assert record["plan"]["tiles"] > 1
    assert_same(found, one_pass(module, x))


def test_a_measurement_tells_how_far_it_is(monkeypatch):
    events = []
    monkeypatch.setattr(_dependence.time, "thread_time", itertools.count().__next__)
    nr.load_model(network(Chain), emit=events.append)
    assert [type(event).__name__ for event in events[:3]] == ["Phase", "Progress", "Progress"]
    assert events[1].done < events[2].done < events[2].total


# -- one pass ----------------------------------------------------------------------------


def test_the_whole_can_be_asked_for(restored):
    module, x = network(Chain), scene(150, 300)
    model = nr.load_model(module)
    found, record = restored(x, model, tile="whole", region=Region(11, 13, 90, 200))
    assert record["plan"]["tiles"] == 1
    assert_same(found, one_pass(module, x)[..., 11:90, 13:200])


def test_whether_tiles_would_do_is_not_asked_where_the_whole_was_asked_for(monkeypatch):
    monkeypatch.setattr(_planning, "tile_invariance", lambda *_: TileInvariance.NONE)
    card = {"id": "one", "bands": 3, "halo": 1}
    model = nr.load_model(nn.Conv2d(3, 3, 3, padding=1), card=card)
    image = np.zeros((150, 300, 3), np.float32)
    for asked, tile, said in ((model, "whole", False), ("identity", 128, True)):
        notes = nr.plan(image, asked, tile=tile, device="cpu").to_dict()["notes"]
        assert any("differ from the whole image" in note for note in notes) is said


@pytest.mark.slow
def test_an_image_that_does_not_fit_in_one_pass_names_one_that_does():
    image = np.zeros((6000, 9000, 3), np.float32)
    with pytest.raises(BudgetTooSmall, match="depends on the whole image") as error:
        nr.plan(image, nr.load_model(network(WHOLE["dcp"])), memory="300MiB", device="cpu")
    assert "pixels." in error.value.hint


@pytest.mark.slow
@pytest.mark.nightly
def test_an_image_that_does_not_fit_in_one_pass_runs_in_sweeps():
    image = np.zeros((6000, 9000, 3), np.float32)
    plan = nr.plan(image, nr.load_model(network(Restormer)), memory="1GiB", device="cpu")
    assert any("sweeps, which count" in note for note in plan.notes)


@pytest.mark.slow
def test_a_tile_that_does_not_fit_is_not_said_to_need_sweeps():
    image = np.zeros((3000, 3000, 3), np.float32)
    with pytest.raises(BudgetTooSmall, match="too small for one tile") as error:
        nr.plan(image, nr.load_model(network(AODNet)), memory="4MiB", device="cpu")
    assert "sweeps" not in str(error.value)


@pytest.mark.slow
def test_an_attribution_of_the_whole_is_the_integral_over_the_module(tmp_path):
    module, x = network(WHOLE["ffa-net"]), scene(150, 211)
    box = Region(40, 60, 56, 76)
    found = nr.attribute(
        x[0].permute(1, 2, 0).numpy(),
        module,
        box=box,
        method="ig",
        baseline="zero",
        objective="mean",
        steps=8,
        memory=MEMORY,
        scratch=tmp_path,
        device="cpu",
        progress=False,
    )
    wanted = torch.zeros_like(x)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        at = (x * float(node)).requires_grad_(True)
        (gradient,) = torch.autograd.grad(module(at)[(..., *box.slices)].mean(), at)
        wanted += float(weight) * gradient * x
    assert found.record["attribution"]["region"] == [0, 0, 150, 211]
    np.testing.assert_allclose(found.map, wanted[0].permute(1, 2, 0).numpy(), atol=1e-8)


# -- checks during a run -----------------------------------------------------------------


def with_halo(model, halo):
    """`model`, of which nothing but this halo is said to have been measured."""
    probe(model)
    _probe._SEEN[model] = dict.fromkeys(_probe._SEEN[model], _probe.Probe(halo))
    return model


def test_a_halo_that_is_too_small_on_the_image_ends_the_run(restored, any_tiles, tmp_path):
    model = with_halo(nr.load_model(network(lambda: Chain(7))), 2)
    with pytest.raises(TilesDiffer, match="too small"):
        restored(scene(*SIZE), model, tile=128, scratch=tmp_path)
    assert not list(tmp_path.rglob("tiles.jsonl"))


def test_tiles_of_a_proposed_card_are_compared(restored, any_tiles, tmp_path):
    card = {"id": "chain", "bands": 3, "halo": 7}
    model = with_halo(nr.load_model(network(lambda: Chain(7)), card=card), 2)
    with pytest.raises(TilesDiffer, match="of its card, are too small"):
        restored(scene(*SIZE), model, tile=128, scratch=tmp_path)


@pytest.mark.slow
def test_tiles_are_compared_during_the_run_too(restored, any_tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(_program, "ONE_OF", 1)
    model = with_halo(nr.load_model(network(lambda: conv(3, 3, 7, bias=False))), 2)
    x = torch.zeros(1, 3, 520, 1030)
    x[..., 100:380, :] = scene(280, 1030)
    # The tile that is compared first is dark, and so is what lies around it.
    with pytest.raises(TilesDiffer):
        restored(x, model, tile=512, workers=1, scratch=tmp_path)
    assert not list(tmp_path.rglob("tiles.jsonl"))
