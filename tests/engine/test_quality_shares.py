"""Shares of the record are of the pixels that were asked for, not of whole tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import napari_restore as nr
from napari_restore.engine import Note, Region, ResultStore, Run, TileDone
from napari_restore.engine.results.quality import QUALITY, SEEN, Limits, value_bits
from napari_restore.images import Radiometry

BANDS = "red=1,green=2,blue=3"
ONE = Region(62, 75, 200, 250)
OTHER = Region(90, 33, 310, 140)


@pytest.fixture
def scene(tmp_path):
    """300 × 330 hazy uint8 pixels with 0 as nodata in a corner and a strip."""
    import rasterio

    rng = np.random.default_rng(3)
    pixels = rng.integers(120, 230, (320, 300, 3)).astype(np.uint8)
    pixels[:70, :200] = 0
    pixels[150:160] = 0
    pixels[180:260, 40:90] = 255
    path = tmp_path / "holes.tif"
    made = {"driver": "GTiff", "width": 300, "height": 320, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **made, nodata=0, photometric="RGB") as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def shares_of(path, region, fresh=True, **options):
    plan = nr.plan(nr.open_image(path, bands=BANDS), nr.load_model("dcp"), region=region, **options)
    result = nr.start(plan, fresh=fresh).result()
    return result, result.record["measured"]["quality_shares"]


def expected_of(path, result, regions):
    """From source and output, pixel by pixel."""
    import rasterio

    with rasterio.open(path) as file:
        source = file.read().transpose(1, 2, 0)
    asked = np.zeros(source.shape[:2], bool)
    for region in regions:
        asked[region.slices] = True
    box = Region(0, 0, *asked.shape)
    nodata = (source == 0).any(2)
    written = result.store.read(box)
    same = (written == source).all(2) & ~nodata
    return {
        "nodata": (nodata & asked).sum() / asked.sum(),
        "unchanged": (same & asked).sum() / asked.sum(),
    }


@pytest.mark.parametrize("regions", [[ONE], [ONE, OTHER]], ids=["one", "overlapping"])
def test_shares_are_of_the_region(scene, regions):
    result, shares = shares_of(scene, regions)
    expected = expected_of(scene, result, regions)
    assert 0 < expected["nodata"] < 0.5
    assert {name: shares[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("region", "resumed"), [(Region(65, 80, 190, 230), True), (OTHER, False)])
def test_tiles_of_an_earlier_run_are_counted_anew(scene, region, resumed):
    shares_of(scene, ONE)
    result, shares = shares_of(scene, region, fresh=False)
    assert (result.record["measured"]["tiles_resumed"] > 0) == resumed
    expected = expected_of(scene, result, [region])
    assert {name: shares[name] for name in expected} == pytest.approx(expected)


def hazy_scene(path):
    """420 × 520 pixels in small squares of dense and of thin haze, with 0 as nodata in a strip."""
    import rasterio

    rng = np.random.default_rng(5)
    dense = rng.random((7, 9)).repeat(60, 0).repeat(60, 1)[:420, :520, None] < 0.4
    clear = rng.integers(5, 120, (420, 520, 3))
    pixels = np.where(dense, rng.integers(222, 230, (420, 520, 3)), clear).astype(np.uint8)
    pixels[100:110, 50:300] = 0
    made = {"driver": "GTiff", "width": 520, "height": 420, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **made, nodata=0, photometric="RGB") as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def shares_in(result, region):
    """Shares of the bits in the region of the quality map that the run kept."""
    bits = result.store.read(region, "map_quality")
    return {name: np.count_nonzero(bits & bit) / bits.size for name, bit in QUALITY.items()}


def hazy_plan(path, scratch, tile, region):
    image = nr.open_image(path, bands=BANDS)
    model = nr.load_model("dcp", parameters={"patch_radius": 2, "guided_radius": 4})
    return nr.plan(
        image, model, region=region, tile=tile, workers=1, scratch=scratch, maps=True, device="cpu"
    )


@pytest.mark.slow
@pytest.mark.parametrize("region", [None, Region(60, 90, 400, 470)], ids=["whole", "region"])
@pytest.mark.parametrize(("first", "then"), [(256, 384), (384, 128), (384, 256)])
@pytest.mark.ids("nightly", "256-384-whole", "256-384-region", "384-128-whole", "384-256-region")
def test_counts_of_a_run_resumed_with_another_tile(monkeypatch, tmp_path, region, first, then):
    path = hazy_scene(tmp_path / "hazy.tif")
    write, written = ResultStore.write, []

    def interrupted(store, *arguments):
        write(store, *arguments)
        written.append(arguments[0])
        if len(written) == 2:
            raise KeyboardInterrupt

    run = Run(hazy_plan(path, tmp_path, first, region), lambda event: None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ResultStore, "write", interrupted)
        run.run()
    plan = hazy_plan(path, tmp_path, then, region)
    done = [Region(*entry["region"]) for entry in ResultStore.attach(plan.store).journal]
    assert done == written

    job = nr.start(plan)
    events = list(job)
    result, measured = job.result(), events[-1].record["measured"]
    cores = [event.region for event in events if isinstance(event, TileDone)]
    finished = np.zeros((420, 520), bool)
    for tile in done:
        finished[tile.slices] = True
    kept = [core for core in cores if finished[core.slices].all()]
    assert measured["tiles_resumed"] == len(kept)
    assert measured["tiles_done"] == len(cores) - len(kept)
    pixels = measured["megapixels_per_second"] * measured["seconds"] * 1e6
    assert pixels == pytest.approx(sum(c.pixels for c in cores) - sum(c.pixels for c in kept))
    shares = shares_in(result, region or Region(0, 0, 420, 520))
    assert 0.02 < shares["low_transmission"] < 0.98
    # Of the others `unchanged` means valid pixels only.
    for name in ("low_transmission", "clipped_low", "clipped_high", "nodata"):
        assert measured["quality_shares"][name] == shares[name]


def test_boxes_are_cut_so_that_each_pixel_is_once_in_them():
    from napari_restore.engine.results.quality import disjoint

    boxes = [Region(0, 0, 5, 5), Region(3, 2, 9, 4), Region(1, 1, 2, 2), Region(4, 4, 8, 8)]
    count = np.zeros((9, 9), int)
    asked = np.zeros((9, 9), bool)
    for box in disjoint(boxes):
        count[box.slices] += 1
    for box in boxes:
        asked[box.slices] = True
    np.testing.assert_array_equal(count, asked)


class Moved(nn.Module):
    """Takes a third from the first band and adds one to the last."""

    def forward(self, x):
        return x + torch.tensor([-1 / 3, 0, 1 / 3])[:, None, None]


def raster(path, values, **options):
    import rasterio

    made = {"driver": "GTiff", "width": values.shape[1], "height": len(values), "count": 3}
    with rasterio.open(path, "w", **made, dtype=values.dtype, **options) as file:
        file.write(values.transpose(2, 0, 1))
    return path


PLACED = {"crs": "EPSG:32633", "transform": (10, 0, 5e5, 0, -10, 5e6)}
KINDS = {
    "uint8": (np.uint8, 255, {}, {}, ("black", "white")),
    "nodata": (np.uint8, 255, {"nodata": 0}, {}, ("black", "white")),
    "zero of a sensor": (np.uint16, 12000, PLACED, {"black": 1000, "white": 11000}, ("black",)),
    "fraction": (np.uint16, 43636, PLACED, {"black": 7272.73, "white": 43636}, ("black",)),
    "floats": (np.float32, 1, PLACED, {"white": 1.0}, ("black",)),
    "photo in floats": (np.float32, 1, {}, {"white": 1.0}, ("black", "white")),
}


def notes_of(job):
    return [str(event.text) for event in job if isinstance(event, Note)]


@pytest.mark.parametrize("kind", KINDS)
def test_bands_that_become_black_or_white_are_named(tmp_path, kind):
    dtype, top, saved, ranges, tones = KINDS[kind]
    values = np.random.default_rng(2).uniform(0.1, 1, (150, 170, 3)) * top
    path = raster(tmp_path / "scene.tif", values.astype(dtype), photometric="RGB", **saved)
    plan = nr.plan(nr.open_image(path, bands=BANDS), nr.load_model(Moved()), tile=64, **ranges)
    job = nr.start(plan, fresh=True)
    said = [text for text in notes_of(job) if "of the pixels became" in text]
    # From the values themselves: black is within one step of no light, or beside nodata.
    source, black = values.astype(dtype)[..., 0].astype(np.float64), ranges.get("black", 0)
    step = 1 if dtype != np.float32 else 1e-9
    limit = black + step + (1 if kind == "nodata" else 0)
    third = (ranges.get("white", 255) - black) / 3
    moved = np.rint(source - third) if step == 1 else source - third
    lost = (source >= limit) & (moved < limit)
    assert [text.split("became ")[1].split()[0] for text in said] == list(tones)
    share = float(said[0].removeprefix("Up to ").split("%")[0])
    assert share == pytest.approx(100 * lost.mean(), abs=0.06)
    assert "in band 1 (red);" in said[0]
    assert all("in band 3 (blue);" in text for text in said[1:])


def test_a_weaker_run_says_nothing_of_black(tmp_path):
    values = np.random.default_rng(2).integers(100, 156, (64, 64, 3)).astype(np.uint8)
    model = nr.load_model(Moved())
    job = nr.start(nr.plan(nr.open_image(values, bands=BANDS), model), fresh=True)
    assert not [text for text in notes_of(job) if "became" in text]


@pytest.mark.parametrize(("amount", "says"), [(0.06, True), (1.0, False)])
def test_a_change_that_hardly_shows_is_said(amount, says):
    box = Region(0, 0, 96, 96)
    clear = np.random.default_rng(4).integers(0, 100, (*box.shape, 3))
    image = nr.open_image((clear + 100).astype(np.uint8), bands=BANDS)
    model = nr.load_model("dcp", parameters={"amount": amount})
    job = nr.start(nr.plan(image, model), fresh=True)
    said = [text for text in notes_of(job) if "changed little" in text]
    seen = np.abs(job.result().read(box).astype(int) - image.read(box)).max(2) >= 2
    assert bool(said) == says == (seen.mean() < 0.5)
    assert all(f"{seen.mean():.0%} of the pixels" in text for text in said)


def test_two_levels_are_seen_and_one_is_not():
    for kind, step in (("uint8", 1), ("uint16", 257), ("float32", 1 / 255)):
        image = nr.open_image(np.full((8, 9, 3), 90 * step).astype(kind), bands=BANDS)
        limits = Limits.of(image, Radiometry(np.zeros(3), 255.0 * step, "", ""))
        source = np.full((1, 4, 3), 90 * step).astype(kind)
        written = source + np.array([-2.01, -1, 1, 2.01])[None, :, None] * step
        bits = value_bits(source, written.astype(kind), limits)
        assert (bits & SEEN > 0).all(0).tolist() == [[True, False, False, True]], kind
