"""Whole runs on real images: exact, independent of cut and order, resumable."""

import functools
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from points import patience
from torch import nn

import napari_restore as nr
from napari_restore import errors
from napari_restore.engine import Finished, Note, Phase, Progress, Region, Stopped, TileDone

SCENE = "aerial_clean/neon_2019_BLAN_3_751000_4330000_i.png"
MODELS = ("dcp", "hot", "htm", "haze-unet")


RGB = "red=1,green=2,blue=3"


@functools.cache
def load(name):
    """Loaded once: a model is probed and timed when it is first planned with."""
    return nr.load_model(name, weights="random:0" if name == "haze-unet" else None)


@pytest.fixture
def scene(data_dir):
    """A real aerial image, 700 × 640, under synthetic haze, uint8."""
    clear = nr.open_image(data_dir / SCENE).read((0, 0, 700, 640))
    y, x = np.mgrid[0:700, 0:640] / 700
    t = (0.6 + 0.25 * np.cos(5 * y + 3 * x))[..., None]
    hazy = clear / 255 * t + np.array([0.85, 0.88, 0.92]) * (1 - t)
    return np.rint(hazy * 255).astype(np.uint8)


def as_image(pixels):
    return nr.open_image(pixels, bands=RGB) if isinstance(pixels, np.ndarray) else pixels


def restored(image, model, **options):
    job = nr.start(nr.plan(as_image(image), model, **options), fresh=True)
    result = job.result()
    y0, x0, y1, x1 = result.region
    return result.read(Region(y0, x0, y1, x1)), result.record


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.ids("nightly", "htm", "haze-unet", "hot")
def test_result_does_not_depend_on_tile_region_workers_or_order(scene, name):
    model = load(name)
    whole, record = restored(scene, model, tile=1024)
    assert record["status"] == "done"
    assert (whole != scene).mean() > 0.2
    for options in ({"tile": 256, "workers": 2}, {"tile": 384, "workers": 1}):
        np.testing.assert_array_equal(restored(scene, model, **options)[0], whole)
    region = Region(130, 257, 601, 639)
    part, _ = restored(scene, model, region=region, tile=256)
    np.testing.assert_array_equal(part, whole[region.slices])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dcp", "haze-unet"])
@pytest.mark.ids("nightly", "haze-unet")
def test_float_result_does_not_depend_on_the_tile(scene, name):
    values = (scene / np.float32(255)).astype(np.float32)
    model = load(name)
    whole, _ = restored(values, model, tile=1024)
    tiled, _ = restored(values, model, tile=256)
    assert np.abs(whole - tiled).max() <= 1e-6


@pytest.mark.slow
def test_the_engine_equals_the_one_shot_reference(scene):
    values = (scene[:501, :413] / np.float32(255)).astype(np.float32)
    model = load("haze-unet")
    with torch.inference_mode():
        x = torch.from_numpy(values).permute(2, 0, 1)[None]
        once = model(x)[0].permute(1, 2, 0).numpy()
    tiled, _ = restored(values, model, tile=256)
    assert np.abs(once - tiled).max() <= 1e-6


def test_events_tell_the_whole_story(scene):
    events = list(nr.start(nr.plan(as_image(scene), load("dcp"), tile=512), fresh=True))
    assert [e.name for e in events if isinstance(e, Phase)][-1] == "Restoring"
    assert len([e for e in events if isinstance(e, TileDone)]) == 4
    last = [e for e in events if isinstance(e, Progress)][-1]
    assert (last.done, last.total) == (4, 4)
    assert isinstance(events[-1], Finished)
    measured = events[-1].record["measured"]
    assert measured["tiles_done"] == 4
    assert measured["peak_ram_bytes"] >= measured["idle_ram_bytes"] > 0


@pytest.mark.parametrize(("amount", "noted"), [(0.0, True), (1.0, False)])
def test_a_model_that_changes_nothing_says_so(scene, amount, noted):
    model = nr.load_model("dcp", parameters={"amount": amount})
    events = list(nr.start(nr.plan(as_image(scene[:200, :200]), model), fresh=True))
    texts = [str(event.text) for event in events if isinstance(event, Note)]
    assert any("found nothing to remove" in text for text in texts) == noted


@pytest.mark.parametrize("bands", ["red=1,green=2,blue=3", "red=1,unknown=2,unknown=3"])
def test_bands_are_to_be_checked_only_where_they_are_in_doubt(scene, bands):
    model = nr.load_model("dcp", parameters={"amount": 0.0})
    image = nr.open_image(scene[:100, :100].astype(np.float64), bands=bands)
    events = list(nr.start(nr.plan(image, model, white=1.0), fresh=True))
    (text,) = [
        str(e.text) for e in events if isinstance(e, Note) and "found nothing" in str(e.text)
    ]
    assert ("check which bands" in text) == ("unknown" in bands)


@pytest.mark.slow
def test_a_cancelled_run_keeps_its_tiles_and_goes_on(scene):
    model = load("dcp")
    whole, _ = restored(scene, model, tile=256)
    plan = nr.plan(as_image(scene), model, tile=256, workers=1)
    job = nr.start(plan, fresh=True)
    events = []
    for event in job:
        events.append(event)
        if isinstance(event, TileDone):
            job.cancel()
    assert isinstance(events[-1], Stopped)
    assert events[-1].record["status"] == "cancelled"
    done = events[-1].record["measured"]["tiles_done"]
    assert 1 <= done < 9
    with pytest.raises(errors.Cancelled):
        job.result()
    result = nr.start(nr.plan(as_image(scene), model, tile=256)).result()
    assert result.record["measured"]["tiles_resumed"] == done
    assert result.record["measured"]["tiles_done"] == 9 - done
    np.testing.assert_array_equal(result.read(result.region), whole)


class Hungry(nn.Module):
    """Runs out of memory above a size, as a small card does."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        if x.shape[-1] * x.shape[-2] > self.limit and x.shape[-1] != 512:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x * 0.5


def test_out_of_memory_is_met_by_smaller_tiles(scene):
    card = {"id": "hungry", "title": "Hungry", "summary": "", "bands": 3}
    model = nr.load_model(Hungry(400 * 400), card=card)
    plan = nr.plan(scene[:640, :640], model, tile=640, workers=1)
    result = nr.start(plan, fresh=True).result()
    assert result.record["measured"]["backoffs"] > 0
    np.testing.assert_array_equal(
        result.read(result.region), np.rint(scene[:640, :640] * np.float32(0.5)).astype(np.uint8)
    )


@pytest.mark.nightly
def test_a_tile_met_by_smaller_ones_sees_its_surroundings(scene):
    """The parts are fed their own halo, also where it reaches beyond the tile's."""

    class Blur(Hungry):
        def forward(self, x):
            super().forward(x)
            padded = nn.functional.pad(x, (16, 16, 16, 16), mode="replicate")
            # One direction after the other: the probe runs it on larger images than this one.
            return nn.functional.avg_pool2d(
                nn.functional.avg_pool2d(padded, (33, 1), 1), (1, 33), 1
            )

    card = {"id": "blur", "title": "Blur", "summary": "", "bands": 3, "halo": 16}
    scene = scene[:640]
    expected, _ = restored(scene, nr.load_model(Blur(10**9), card=card), tile=256)
    result = nr.start(
        nr.plan(as_image(scene), nr.load_model(Blur(75_000), card=card), tile=256), fresh=True
    ).result()
    assert result.record["measured"]["backoffs"] > 0
    np.testing.assert_array_equal(result.read(result.region), expected)


class Strided(nn.Module):
    """Its output depends on the phase of its input's first pixel."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.down, self.up = nn.Conv2d(3, 8, 6, stride=6), nn.ConvTranspose2d(8, 3, 6, 6)

    def forward(self, x):
        return x + self.up(self.down(x))


@pytest.mark.slow
def test_steps_that_do_not_divide_the_tile_grid_are_kept(scene):
    card = {"id": "strided", "title": "Strided", "summary": "", "bands": 3}
    model = nr.load_model(Strided(), card={**card, "halo": 10, "multiple_of": 6})
    whole, _ = restored(scene, model, tile=768)
    tiled, record = restored(scene, model, tile=384, region=Region(0, 0, 700, 640))
    assert record["plan"]["halo"] % 6 == 0
    np.testing.assert_array_equal(tiled, whole)
    part, _ = restored(scene, model, region=Region(333, 210, 600, 500))
    np.testing.assert_array_equal(part, whole[333:600, 210:500])


@pytest.mark.slow
def test_a_batch_of_tiles_changes_nothing(scene):
    model = load("haze-unet")
    one, _ = restored(scene, model, tile=256)
    many, _ = restored(scene, model, tile=256, tile_batch=3)
    np.testing.assert_array_equal(one, many)


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.factor * self.weight


def test_another_module_or_changed_weights_are_another_run(scene):
    card = {"id": "scale", "title": "Scale", "summary": "", "bands": 3}
    halved, dimmed = (nr.load_model(Scale(f), card=card) for f in (0.5, 0.9))
    small = scene[:200, :200]

    def run(model):
        result = nr.restore(small, model)
        return result.read(result.region)

    assert abs(run(halved).mean() / small.mean() - 0.5) < 0.01
    assert abs(run(dimmed).mean() / small.mean() - 0.9) < 0.01
    with torch.no_grad():
        dimmed.module.weight.mul_(0.5)
    assert abs(run(dimmed).mean() / small.mean() - 0.45) < 0.01


class Halting(Scale):
    """Waits before each call but the first, once it has `permits`."""

    permits = None

    def forward(self, x):
        if self.permits is not None:
            assert self.permits.acquire(timeout=patience())
        return super().forward(x)


@pytest.mark.slow
def test_a_second_run_of_the_same_pixels_waits_its_turn(scene):
    card = {"id": "scale", "title": "Scale", "summary": "", "bands": 3}
    loaded = nr.load_model(Halting(0.5), card=card)
    plan = nr.plan(as_image(scene), loaded, tile=128, tile_batch=1, workers=1)
    # What is loaded is a copy.
    module = loaded.module
    # Some calls compare tiles before the first one counts.
    module.permits = threading.Semaphore(12)
    first = nr.start(plan, fresh=True)
    next(event for event in first if isinstance(event, TileDone))
    with pytest.raises(errors.ResourceError, match="Another run"):
        nr.start(plan).result()
    module.permits.release(100)
    whole = first.result()
    again = nr.start(plan).result()
    assert again.record["measured"]["tiles_resumed"] == 30
    np.testing.assert_array_equal(again.read(again.region), whole.read(whole.region))


def test_a_damaged_cache_is_made_again_and_said(scene, own_cache):
    image, model = as_image(scene), load("dcp")
    whole = nr.restore(image, model)
    expected = whole.read(whole.region)
    whole.store.close()
    (context,) = own_cache.glob("contexts/*/context.npz")
    context.write_bytes(b"nonsense")
    (whole.store.pixels / "0" / "zarr.json").unlink()
    job = nr.start(nr.plan(image, model))
    notes = " ".join(event.text for event in job if isinstance(event, Note))
    assert "statistics of this image were damaged" in notes
    assert "unfinished result was damaged" in notes
    again = job.result()
    np.testing.assert_array_equal(again.read(again.region), expected)


def test_figures_are_those_of_the_run(scene):
    image, model = as_image(scene), load("dcp")
    nr.restore(image, model, region=Region(0, 0, 256, 256), tile=128)
    second = nr.restore(image, model, region=Region(256, 256, 384, 384), tile=128).record
    assert second["measured"]["tiles_done"] == 1
    nothing = nr.restore(image, model, region=Region(0, 0, 128, 128), tile=128).record
    assert nothing["measured"]["tiles_resumed"] == 1
    assert nothing["measured"]["megapixels_per_second"] == 0


def test_two_can_wait_for_one_job(scene):
    job = nr.start(nr.plan(as_image(scene), load("dcp"), tile=256), fresh=True)
    results = []
    waiting = [threading.Thread(target=lambda: results.append(job.result())) for _ in range(2)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(patience())
    assert len(results) == 2


def test_a_region_is_not_nothing(scene):
    for region in ([], Region(0, 0, 0, 5), Region(900, 0, 950, 10)):
        with pytest.raises(errors.BadRegion):
            nr.plan(as_image(scene), load("dcp"), region=region)


def test_out_of_memory_to_the_end_is_one_sentence(scene):
    card = {"id": "hungry", "title": "Hungry", "summary": "", "bands": 3}
    model = nr.load_model(Hungry(100), card=card)
    with pytest.raises(errors.OutOfMemory, match="not enough memory to try model hungry"):
        nr.plan(as_image(scene), model)


def test_a_failing_tile_stops_the_run_with_its_own_error(scene):
    class Fails(nn.Module):
        def forward(self, x):
            if x.shape[-1] == 400:
                raise ValueError("no such luck")
            return x

    card = {"id": "fails", "title": "Fails", "summary": "", "bands": 3}
    model = nr.load_model(Fails(), card=card)
    with pytest.raises(errors.BadModel, match="no such luck"):
        nr.start(nr.plan(scene[:400, :400], model, tile=512), fresh=True).result()


def test_a_budget_too_small_names_one_that_would_do(scene):
    with pytest.raises(errors.BudgetTooSmall, match=r'memory="\d+MiB"'):
        nr.plan(as_image(scene), load("haze-unet"), memory="1MiB")


def test_result_as_a_dask_array(scene):
    region = Region(100, 50, 690, 600)
    result = nr.restore(as_image(scene), load("dcp"), region=region)
    assert result.array.shape == (590, 550, 3)
    assert result.array.dtype == np.uint8
    np.testing.assert_array_equal(result.array.compute(), result.read(region))


def test_a_file_is_said_to_be_decoded_once_only(
    tmp_path: Path, streamed_above: Callable[[int], None]
) -> None:
    from PIL import Image as Pillow

    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    Pillow.fromarray(noise).save(path)
    streamed_above(1 << 10)

    def phases(name: str) -> list[str]:
        plan = nr.plan(nr.open_image(path), "identity", scratch=tmp_path / name)
        return [event.name for event in nr.start(plan) if type(event).__name__ == "Phase"]

    assert "Decoding the file once" in phases("first")
    assert "Decoding the file once" not in phases("second")


def test_every_iterator_of_a_job_gives_all_events(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(60, 200, (300, 300, 3), np.uint8)
    job = nr.start(nr.plan(pixels, "identity", tile=64, scratch=tmp_path))
    seen: list[list[object]] = [[], []]
    threads = [threading.Thread(target=lambda each=each: each.extend(job)) for each in seen]
    for thread in threads:
        thread.start()
    job.result()
    for thread in threads:
        thread.join(30)
    assert seen[0] == seen[1] == list(job)
    assert sum(isinstance(event, TileDone) for event in seen[0]) == job.plan.layout.tiles
