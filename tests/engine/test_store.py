"""The result store: sparse, resumable after a crash, never half a tile."""

import json

import numpy as np
import pytest

from napari_restore.engine import Region, ResultStore
from napari_restore.engine.ledger.store import SetAside, discard_store, free_path
from napari_restore.errors import BadOutput, ResourceError

SHAPE = (1100, 900, 3)


def open_store(path, **options):
    return ResultStore.open(path, **{"key": "k", "shape": SHAPE, "dtype": "uint8", **options})


def tile(region, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 255, (*region.shape, 3), dtype=np.uint8)


def test_what_is_written_is_read_and_the_rest_is_zero(tmp_path):
    store = open_store(tmp_path / "ä store.zarr")
    region = Region(512, 0, 1024, 512)
    pixels = tile(region)
    store.write(region, pixels, {}, {"counts": {}})
    np.testing.assert_array_equal(store.read(region), pixels)
    assert not store.read(Region(0, 0, 512, 900)).any()


def test_finished_tiles_survive_reopening_with_another_tile_size(tmp_path):
    store = open_store(tmp_path / "s.zarr")
    store.write(Region(0, 0, 512, 512), tile(Region(0, 0, 512, 512)), {}, {"counts": {}})
    store.close()
    again = open_store(tmp_path / "s.zarr")
    assert again.is_done(Region(0, 0, 512, 512))
    assert again.is_done(Region(128, 256, 256, 384))
    assert not again.is_done(Region(0, 0, 640, 512))
    assert not again.is_done(Region(1024, 0, 1100, 512))


def test_tiles_of_two_grids_are_counted_once(tmp_path):
    store = open_store(tmp_path / "s.zarr")
    for region in (Region(0, 0, 256, 256), Region(0, 0, 384, 384)):
        store.write(region, tile(region), {}, {"counts": {}})
    assert store.finished_pixels(Region(0, 0, 600, 700)) == 384 * 384
    assert store.finished_pixels(Region(300, 200, 500, 700)) == 84 * 184


def test_a_line_torn_by_a_crash_is_no_finished_tile_and_harms_no_later_one(tmp_path):
    store = open_store(tmp_path / "s.zarr")
    first, second, third = (Region(0, x, 128, x + 128) for x in (0, 128, 256))
    store.write(first, tile(first), {}, {"counts": {}})
    with open(tmp_path / "s.zarr" / "tiles.jsonl", "a") as journal:
        journal.write('{"region": [0, 128, 12')
    store.close()
    again = open_store(tmp_path / "s.zarr")
    assert again.is_done(first)
    assert not again.is_done(second)
    again.write(third, tile(third), {}, {"counts": {}})
    again.close()
    last = open_store(tmp_path / "s.zarr")
    assert last.is_done(third)
    assert not last.is_done(second)


def test_an_unfinished_store_of_the_same_names_is_set_aside(tmp_path):
    region = Region(0, 0, 128, 128)
    first = open_store(tmp_path / "a.zarr", key="a", names="scene.tif, dcp", fingerprint="a")
    first.write(region, tile(region), {}, {"counts": {}})
    first.close()
    names = {"names": "scene.tif, dcp", "fingerprint": "b"}
    second = open_store(tmp_path / "b.zarr", key="b", **names)
    assert second.set_aside == SetAside(tmp_path / "a.zarr", of_image=True)
    assert not second.is_done(region)
    third = open_store(tmp_path / "c.zarr", key="c", names="other.tif, dcp")
    assert third.set_aside is None
    # What it has finished is there where the image is as it was, and one that is finished is no news.
    again = open_store(tmp_path / "a.zarr", key="a", names="scene.tif, dcp", fingerprint="a")
    assert again.is_done(region) and again.set_aside is None
    again.finish()
    again.close()
    assert open_store(tmp_path / "d.zarr", key="d", **names).set_aside is None


def test_a_fresh_run_leaves_a_result_to_its_readers(tmp_path):
    region, path = Region(0, 0, 128, 128), tmp_path / "s.zarr"
    store = open_store(path)
    store.write(region, tile(region), {}, {"counts": {}})
    assert free_path(path) == tmp_path / "s-2.zarr"
    store.close()
    reader = ResultStore.attach(path)
    assert free_path(path) == tmp_path / "s-2.zarr" and reader.read(region).any()
    reader.close()
    assert free_path(path) == path and not path.exists()


def test_another_key_of_the_same_source_begins_anew(tmp_path):
    store = open_store(tmp_path / "s.zarr")
    region = Region(0, 0, 128, 128)
    store.write(region, tile(region), {}, {"counts": {}})
    store.close()
    assert not open_store(tmp_path / "s.zarr", key="other").is_done(region)


def test_one_writes_and_nobody_removes_what_is_in_use(tmp_path):
    store = open_store(tmp_path / "s.zarr")
    with pytest.raises(ResourceError, match="Another run"):
        open_store(tmp_path / "s.zarr")
    store.close()
    reader = ResultStore.attach(tmp_path / "s.zarr")
    writer = open_store(tmp_path / "s.zarr")
    writer.remove()
    assert (tmp_path / "s.zarr" / "header.json").exists()
    with pytest.raises(ResourceError, match="in use"):
        discard_store(tmp_path / "s.zarr")
    reader.remove()
    assert not (tmp_path / "s.zarr").exists()


def test_a_writer_that_died_is_no_writer(tmp_path):
    open_store(tmp_path / "s.zarr").close()
    # Process 1 lives, but it is not the one that wrote this.
    (tmp_path / "s.zarr" / "writer").write_text("1")
    (tmp_path / "s.zarr" / "in-use.1").write_text("1")
    open_store(tmp_path / "s.zarr").remove()
    assert not (tmp_path / "s.zarr").exists()


def test_a_lost_chunk_is_no_finished_tile_and_half_a_chunk_no_pixels(tmp_path):
    store = open_store(tmp_path / "s.zarr")
    regions = [Region(0, 0, 512, 512), Region(0, 512, 512, 900)]
    for region in regions:
        store.write(region, tile(region), {}, {"counts": {}})
    store.close()
    folder = tmp_path / "s.zarr" / "pixels" / "0" / "c" / "0" / "0"
    (folder / "0").unlink()
    whole = (folder / "1").read_bytes()
    (folder / "1").write_bytes(whole[: len(whole) // 2])
    again = open_store(tmp_path / "s.zarr")
    assert not again.is_done(regions[0])
    with pytest.raises(ResourceError, match="damaged"):
        again.read(regions[1])


def test_a_tile_smaller_than_a_chunk_keeps_what_lies_beside_it(tmp_path):
    store = open_store(tmp_path / "s.zarr")
    regions = [Region(0, 640, 128, 768), Region(128, 640, 256, 900), Region(1024, 512, 1100, 900)]
    for number, region in enumerate(regions):
        store.write(region, tile(region, number), {}, {"counts": {}})
    for number, region in enumerate(regions):
        np.testing.assert_array_equal(store.read(region), tile(region, number))
    assert not store.read(Region(0, 512, 256, 640)).any()


def test_half_a_chunk_is_not_written_over_with_zeros(tmp_path):
    store = open_store(tmp_path / "s.zarr")
    region = Region(0, 0, 128, 128)
    store.write(region, tile(region), {}, {"counts": {}})
    chunk = tmp_path / "s.zarr" / "pixels" / "0" / "c" / "0" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResourceError, match=r"s\.zarr is damaged"):
        store.write(region.shift(128, 0), tile(region), {}, {"counts": {}})
    assert chunk.read_bytes() == whole[: len(whole) // 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b"[0, 0, 128, 128]", b"[0, 0, 512, 512]"),
        lambda line: line.replace(b'"n": 1', b'"n": 2'),
        lambda line: b'{"region": [0, 0, 128, 128], "counts": {}}\n',
        lambda line: line + b"\xff\xfe\n",
        lambda line: b"[1, 2]\n" + line,
        lambda line: line + b'{"region": 5}\n',
    ],
)
def test_a_journal_that_does_not_add_up_is_made_again(tmp_path, change):
    store = open_store(tmp_path / "s.zarr")
    region = Region(0, 0, 128, 128)
    store.write(region, tile(region), {}, {"counts": {"n": 1}})
    store.close()
    journal = tmp_path / "s.zarr" / "tiles.jsonl"
    journal.write_bytes(change(journal.read_bytes()))
    again = open_store(tmp_path / "s.zarr")
    assert again.rebuilt and not again.is_done(region)
    assert not again.read(region).any()


def test_a_line_of_another_run_does_not_add_up(tmp_path):
    region = Region(0, 0, 128, 128)
    for name, key in (("a.zarr", "a"), ("b.zarr", "b")):
        store = open_store(tmp_path / name, key=key)
        store.write(region, tile(region), {}, {"counts": {}})
        store.close()
    lines = (tmp_path / "a.zarr" / "tiles.jsonl").read_bytes()
    (tmp_path / "b.zarr" / "tiles.jsonl").write_bytes(lines)
    assert open_store(tmp_path / "b.zarr", key="b").rebuilt
    assert not open_store(tmp_path / "a.zarr", key="a").rebuilt


@pytest.mark.parametrize("damage", [b"{", b"[]", b"\xff"])
def test_damaged_metadata_of_an_array_is_made_again(tmp_path, damage):
    store = open_store(tmp_path / "s.zarr")
    region = Region(0, 0, 128, 128)
    store.write(region, tile(region), {}, {"counts": {}})
    store.close()
    (tmp_path / "s.zarr" / "pixels" / "0" / "zarr.json").write_bytes(damage)
    assert not open_store(tmp_path / "s.zarr").is_done(region)


def test_a_store_that_others_may_change_is_refused(tmp_path):
    open_store(tmp_path / "s.zarr").close()
    (tmp_path / "s.zarr").chmod(0o777)
    with pytest.raises(BadOutput, match="Other users may write"):
        open_store(tmp_path / "s.zarr")


@pytest.mark.parametrize("damage", ["header", "array"])
def test_a_corrupt_store_is_rebuilt(tmp_path, damage):
    store = open_store(tmp_path / "s.zarr")
    region = Region(0, 0, 128, 128)
    store.write(region, tile(region), {}, {"counts": {}})
    store.close()
    if damage == "header":
        (tmp_path / "s.zarr" / "header.json").write_text("{")
    else:
        (tmp_path / "s.zarr" / "pixels" / "0" / "zarr.json").unlink()
    again = open_store(tmp_path / "s.zarr")
    assert not again.is_done(region)
    assert not again.read(region).any()


def test_pyramid_levels_follow_each_tile(tmp_path):
    store = open_store(tmp_path / "s.zarr", levels=((550, 450), (275, 225)))
    regions = [Region(0, 0, 512, 512), Region(512, 0, 1024, 512), Region(1024, 512, 1100, 900)]
    whole = np.zeros(SHAPE, np.uint8)
    for seed, region in enumerate(regions):
        whole[region.slices] = tile(region, seed)
        pixels = tile(region, seed)
        levels = [pixels[::2, ::2], pixels[::4, ::4]]
        store.write(region, pixels, {}, {"counts": {}}, levels)
    np.testing.assert_array_equal(store.read((0, 0, 550, 450), "1"), whole[::2, ::2])
    np.testing.assert_array_equal(store.read((0, 0, 275, 225), "2"), whole[::4, ::4])


def test_side_maps_and_journal(tmp_path):
    store = open_store(tmp_path / "s.zarr", maps={"transmission": 1, "quality": 1})
    region = Region(0, 0, 128, 128)
    t = np.full((128, 128, 1), 0.25, np.float32)
    q = np.full((128, 128, 1), 3, np.uint8)
    store.write(region, tile(region), {"transmission": t, "quality": q}, {"counts": {"pixels": 1}})
    np.testing.assert_array_equal(store.read(region, "map_transmission"), t)
    assert store.array("map_quality").dtype == np.uint8
    line = json.loads((tmp_path / "s.zarr" / "tiles.jsonl").read_text())
    assert len(line.pop("digest")) == 32
    assert line == {"region": [0, 0, 128, 128], "counts": {"pixels": 1}}
    assert store.journal == [line]
