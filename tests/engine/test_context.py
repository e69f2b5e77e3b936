"""Whole-image statistics: the same whatever the threads, kept on disk, rebuilt when damaged."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import napari_restore as nr
from napari_restore import api, errors
from napari_restore.engine import Region, compute_context, save_context
from napari_restore.engine.masks.mask_strength import RegionMask
from napari_restore.engine.statistics import context as context_module, kept as kept_module
from napari_restore.engine.statistics.context import (
    context_key,
    find_context,
    joint_context,
    load_context,
    on_threads,
)
from napari_restore.images import cache_entries
from napari_restore.models import context_of

BANDS = "red=1,green=2,blue=3"


def image(dtype="uint16", height=700, width=900, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 900.0, (height, width, 3))
    pixels = (values / values.max() if dtype == "float32" else values).astype(dtype)
    return nr.open_image(pixels, bands="red=1,green=2,blue=3"), pixels


def same(a, b):
    for name in ("overview", "histograms", "dark_counts", "dark_sums"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.height, a.width, a.factor, a.dtype) == (b.height, b.width, b.factor, b.dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_threads_change_nothing_and_the_disk_keeps_all(dtype, tmp_path):
    opened, pixels = image(dtype)
    one, two = (compute_context(opened, counter=on_threads(n)) for n in (1, 2))
    same(one, two)
    same(one, find_context(opened))
    same(one, context_of(pixels))
    save_context(tmp_path / "statistics.npz", one)
    same(one, load_context(tmp_path / "statistics.npz"))


@pytest.mark.slow
def test_large_images_are_counted_in_blocks_without_a_difference():
    opened, pixels = image("uint8", 2100, 4200)
    blocks = compute_context(opened, counter=on_threads(2))
    whole = context_of(pixels)
    assert blocks.factor == whole.factor == 4
    same(blocks, whole)


def test_a_damaged_file_is_computed_again(own_cache):
    opened, _ = image()
    compute_context(opened)
    path = own_cache / "contexts" / context_key(opened) / "context.npz"
    path.write_bytes(path.read_bytes()[:1000])
    assert find_context(opened) is None


@pytest.mark.parametrize("planted", ["changed", "of another image"])
def test_a_planted_file_is_computed_again(own_cache, planted):
    opened, _ = image()
    context = compute_context(opened)
    path = own_cache / "contexts" / context_key(opened) / "context.npz"
    if planted == "changed":
        with np.load(path) as stored:
            arrays = dict(stored)
        arrays["histograms"] = arrays["histograms"] + 1
        np.savez(path, **arrays)
    else:
        other, _ = image(seed=1)
        compute_context(other)
        found = own_cache / "contexts" / context_key(other) / "context.npz"
        path.write_bytes(found.read_bytes())
    assert find_context(opened) is None
    same(compute_context(opened), context)
    assert find_context(opened) is not None


def test_the_oldest_are_removed_from_the_disk(own_cache, monkeypatch):
    first, last = image()[0], image(seed=1)[0]
    compute_context(first)
    used = sum(entry.size for entry in cache_entries(["contexts"]))
    monkeypatch.setattr(kept_module, "CACHE_BYTES", used * 3 // 2)
    compute_context(last)
    assert find_context(first) is None and find_context(last) is not None


@pytest.mark.parametrize("model", ["dcp", "hot", "htm", "atmosphere"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "dcp", "hot", "atmosphere")
def test_a_large_scene_takes_little_of_the_disk_and_is_not_read_again(model, data_dir, own_cache):
    opened = nr.open_image(data_dir / "geotiff" / "spacenet_vegas_rgb.tif", bands=BANDS)
    options = {"region": Region(500, 600, 700, 800), "strength": 0.9}

    def restored():
        shutil.rmtree(own_cache / "results", ignore_errors=True)
        job = nr.start(nr.plan(opened, nr.load_model(model), **options))
        phases = {event.name for event in job if type(event).__name__ == "Phase"}
        result = job.result()
        return "Reading the whole image" in phases, np.array(result.read(result.region))

    is_read, first = restored()
    assert is_read
    (entry,) = cache_entries(["contexts"])
    assert entry.size <= 2 << 20
    # As in a new process, which has no overview but on disk.
    kept_module._aside.clear()
    assert find_context(opened) is None
    assert find_context(opened, overview=False).overview.size == 0
    plan = nr.plan(opened, nr.load_model(model), **options)
    assert not plan.needs_context_pass
    is_read, again = restored()
    assert not is_read
    np.testing.assert_array_equal(first, again)
    shutil.rmtree(own_cache / "contexts")
    np.testing.assert_array_equal(first, restored()[1])


def test_other_settings_of_a_process_find_the_overview_beside_the_cache(own_cache, monkeypatch):
    monkeypatch.setattr(kept_module, "ENTRY_BYTES", 100_000)
    opened, _ = image("uint8")
    context = compute_context(opened)
    (entry,) = cache_entries(["contexts"])
    assert entry.size <= 100_000
    same(find_context(opened), context)
    monkeypatch.setattr(kept_module, "ASIDE_BYTES", context.overview.nbytes - 1)
    compute_context(opened)
    assert find_context(opened) is None


def test_a_plan_knows_of_the_overview_that_a_child_of_its_process_holds(monkeypatch):
    monkeypatch.setattr(kept_module, "ENTRY_BYTES", 100_000)
    opened, _ = image("uint8")
    compute_context(opened)
    key = context_key(opened)
    holder = kept_module.context_path(key).with_name("holder")
    assert holder.read_text() == str(os.getpid())
    kept_module._aside.clear()
    assert not holder.exists() and not kept_module.has_overview(key)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        holder.write_text(str(child.pid))
        assert kept_module.has_overview(key)
        child.communicate(b"\n")
    assert not kept_module.has_overview(key)
    holder.write_text(str(os.getppid()))
    assert not kept_module.has_overview(key)


def test_what_models_prepared_takes_the_place_of_the_oldest(monkeypatch):
    monkeypatch.setattr(kept_module, "ENTRY_BYTES", 100_000)
    opened, _ = image("uint8")
    compute_context(opened)
    key = context_key(opened)
    for number in range(4):
        kept_module.keep_prepared(key, str(number), {"map": torch.full((10_000,), float(number))})
    kept_module.keep_prepared(key, "large", {"map": torch.zeros(30_000)})
    found = [kept_module.find_prepared(key, name) for name in ("0", "3", "large")]
    assert found[0] is None and found[2] is None
    assert (found[1]["map"] == 3).all()
    assert cache_entries(["contexts"])[0].size <= 100_000
    path = kept_module.prepared_path(key, "3")
    path.rename(kept_module.prepared_path(key, "4"))
    assert kept_module.find_prepared(key, "4") is None


def test_files_that_another_process_removes_end_no_run(monkeypatch):
    opened, _ = image("uint8")
    compute_context(opened)
    key = context_key(opened)
    kept_module.context_path(key).with_name(kept_module.OVERVIEW).unlink(missing_ok=True)
    gone = kept_module.prepared_path(key, "gone")
    monkeypatch.setattr(type(gone), "glob", lambda folder, pattern: [gone])
    kept_module.keep_prepared(key, "mine", {"map": torch.zeros(4)})
    assert kept_module.find_prepared(key, "mine") is not None


def test_excluded_pixels_do_not_count():
    opened, pixels = image("uint8")
    outside = RegionMask([Region(0, 0, 350, 900)])
    some = compute_context(opened, exclude=outside)
    assert some.valid_pixels == 350 * 900
    assert some.percentile(50) == np.sort(pixels[350:].ravel())[350 * 900 * 3 // 2]
    assert find_context(opened) is None


def test_a_region_is_a_context_of_its_own():
    opened, pixels = image("uint8")
    region = Region(100, 200, 500, 800)
    same(compute_context(opened, region=region), context_of(pixels[region.slices]))


def test_joint_statistics_are_those_of_all_pixels():
    (first, a), (second, b) = image("uint8", seed=1), image("uint8", seed=2)
    joint = joint_context([compute_context(first), compute_context(second)])
    assert joint.valid_pixels == 2 * 700 * 900
    np.testing.assert_array_equal(
        joint.histograms[0], np.bincount(np.r_[a, b][..., 0].ravel(), minlength=65536)
    )


def test_joint_statistics_do_not_grow_with_the_number_of_images(monkeypatch):
    monkeypatch.setattr(context_module, "OVERVIEW_PIXELS", 512 * 512)
    _, pixels = image("uint8")
    one = context_of(pixels)
    alive = []

    def contexts():
        for _ in range(12):
            alive.append(1)
            yield one

    joint = joint_context(contexts())
    assert len(alive) == 12
    assert joint.overview[..., 0].size <= 512 * 512
    assert joint.factor == 8
    assert joint.overview.shape == (12 * 88, 113, 3)
    np.testing.assert_allclose(np.nanmean(joint.overview), one.overview.mean(), rtol=0.01)
    assert joint.valid_pixels == 12 * one.valid_pixels
    np.testing.assert_allclose(joint.brightest_dark(0.001), one.brightest_dark(0.001))


def test_a_thinned_overview_keeps_its_holes():
    _, pixels = image("float32")
    valid = np.ones(pixels.shape[:2], bool)
    valid[:350] = False
    joint = joint_context([context_of(pixels, valid)] * 2)
    rows = joint.overview.shape[0] // 2
    assert np.isnan(joint.overview[: rows // 2 - 1]).all()
    assert np.isfinite(joint.overview[rows // 2 + 1 : rows]).all()


def test_one_image_joined_is_itself():
    _, pixels = image("uint8")
    same(joint_context([context_of(pixels)]), context_of(pixels))


@pytest.mark.parametrize("other", ["dtype", "bands", "dark bands"])
def test_images_of_another_kind_share_no_statistics(other, tmp_path):
    opened, pixels = image("uint8", 64, 80)
    changed = {
        "dtype": lambda: nr.open_image(pixels.astype(np.uint16), bands="red=1,green=2,blue=3"),
        "bands": lambda: nr.open_image(np.dstack([pixels, pixels]), bands="red=1,green=2,blue=3"),
        "dark bands": lambda: nr.open_image(pixels, bands="red=1,nir=2,blue=3"),
    }[other]()
    statistics = compute_context(opened)
    with pytest.raises(errors.InputError, match="no statistics in common"):
        joint_context([statistics, compute_context(changed)])
    path = tmp_path / "statistics.npz"
    save_context(path, statistics)
    same(load_context(path, opened), statistics)
    with pytest.raises(errors.InputError, match="kind"):
        load_context(path, changed)
    with pytest.raises(errors.InputError):
        nr.plan(changed, nr.load_model("dcp"), context=path)


def test_images_of_another_order_of_colours_share_no_statistics(tmp_path):
    _, pixels = image("uint8", 64, 80)
    opened, turned = (nr.open_image(pixels, bands=bands) for bands in ("1,2,3", "3,2,1"))
    unnamed = nr.open_image(np.dstack([pixels, pixels])[..., :5])
    path = api.save_context([opened], tmp_path / "statistics.npz")
    assert load_context(path, opened).roles == ("red", "green", "blue")
    with pytest.raises(errors.InputError, match="kind"):
        load_context(path, turned)
    with pytest.raises(errors.InputError, match="no statistics in common"):
        api.save_context([opened, turned], path)
    # A file of an earlier version says nothing of colours, nor do bands without a role.
    save_context(path, compute_context(opened))
    assert load_context(path, turned).roles == ()
    path = api.save_context([unnamed], path)
    assert load_context(path, unnamed).roles == ("",) * 5
    five = np.dstack([pixels, pixels[..., :2]])
    more = [nr.open_image(five, bands=BANDS + end) for end in ("", ",nir=4", ",swir=4")]
    assert load_context(api.save_context(more[:2], path), more[1]).roles[3] == "nir"
    with pytest.raises(errors.InputError, match="no statistics in common"):
        api.save_context(more, path)


@pytest.mark.parametrize("content", [b"", b"no context", None, "half"])
def test_a_context_file_that_is_none_is_told(content, tmp_path):
    opened, _ = image("uint8", 64, 80)
    path = tmp_path / "statistics.npz"
    save_context(path, compute_context(opened))
    if content == "half":
        path.write_bytes(path.read_bytes()[:1000])
    elif content is None:
        np.savez(path, something=np.zeros(3))
        assert path.is_file()
    else:
        path.write_bytes(content)
    with pytest.raises(errors.InputError, match="damaged or no context"):
        load_context(path)
    with pytest.raises(errors.InputError, match="damaged or no context"):
        nr.plan(opened, nr.load_model("dcp"), context=path)
    with pytest.raises(errors.InputError, match="no context file"):
        load_context(tmp_path / "missing.npz")


@pytest.mark.slow
def test_percentiles_and_the_haziest_colour():
    _, pixels = image("uint8")
    pixels[:160, :160] = (210, 220, 230)
    statistics = context_of(pixels)
    for q in (0, 25, 50, 99.9, 100):
        exact = np.sort(pixels.ravel())[min(pixels.size - 1, int(q / 100 * pixels.size))]
        assert statistics.percentile(q) == exact
    np.testing.assert_allclose(statistics.brightest_dark(0.001), (210, 220, 230))


def test_no_valid_pixel_gives_zeros():
    _, pixels = image("uint8")
    statistics = context_of(pixels, np.zeros(pixels.shape[:2], bool))
    assert statistics.percentile(50) == 0
    assert (statistics.brightest_dark(0.001) == 0).all()
    assert np.isnan(statistics.overview).all()


def test_an_image_without_a_valid_pixel_is_kept():
    opened = nr.open_image(np.full((40, 60, 3), np.nan, np.float32), bands=BANDS)
    same(compute_context(opened), find_context(opened))
