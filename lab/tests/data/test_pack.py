"""Pictures packed for workers: levels, validity, distances, and the compact form."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_restore.errors import BadParameter, DiskFull, InputError
from napari_restore_lab.data import Scene, compact, expand, pack, read_picture, scenes_of


def entry(packed, name):
    return next(item for item in packed.entries if item.scene.name.endswith(name))


def test_levels_are_means_of_four(packed):
    found = entry(packed, "drone_0.png")
    whole, half = (packed.view(part).astype(int) for part in found.levels[:2])
    assert whole.shape == (150, 180, 3)
    mean = whole.reshape(75, 2, 90, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - mean).max() <= 0.5


def test_a_black_border_is_not_valid_and_stays_out_of_lower_levels(packed):
    found = entry(packed, "coast_1.png")
    for number, part in enumerate(found.valid):
        valid = packed.view(part).astype(bool)
        rows = np.flatnonzero(valid.all(axis=1))
        assert rows.min() * 2**number in range(42, 42 + 2**number + 1)
        assert valid[rows.min() :].all()
    assert entry(packed, "drone_0.png").valid == ()


def test_a_dark_photo_has_no_border(tmp_path):
    pixels = np.full((60, 80, 3), 120, np.uint8)
    pixels[:20] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_picture(Scene(tmp_path / "a.png", "natural", "x")).valid.all()
    assert read_picture(Scene(tmp_path / "a.png", "aerial", "x")).valid.mean() < 0.7


def test_what_is_transparent_is_not_valid(tmp_path):
    pixels = np.full((30, 40, 4), 200, np.uint8)
    pixels[..., 3] = 255
    pixels[:, :10, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = read_picture(Scene(tmp_path / "a.png", "natural", "x"))
    assert picture.rgb.shape == (30, 40, 3)
    assert not picture.valid[:, :10].any()
    assert picture.valid[:, 10:].all()


def test_distances_are_near_to_far_and_holes_are_filled(index):
    scene = next(item for item in scenes_of(index) if item.distance is not None)
    distance = read_picture(scene).distance
    assert distance.shape == (150, 180)
    assert distance[0, 0] == 1
    assert distance[-1, 0] == pytest.approx(0.25, abs=0.01)
    assert distance[60:70, 60:70].min() > 0.5


def test_disparity_is_the_inverse(tmp_path):
    Image.fromarray(np.full((20, 20, 3), 99, np.uint8)).save(tmp_path / "a.png")
    near = np.full((20, 20), 100, np.uint8)
    near[:10] = 50
    near[0, 0] = 0
    Image.fromarray(near).save(tmp_path / "d.png")
    scene = Scene(
        tmp_path / "a.png",
        "natural",
        "x",
        distance=tmp_path / "d.png",
        distance_kind="rgbd_disparity",
    )
    distance = read_picture(scene).distance
    assert distance[0, 0] == distance[5, 5] == 1
    assert distance[15, 5] == pytest.approx(0.5)


def test_large_pictures_are_reduced(index, tmp_path):
    packed = pack(scenes_of(index, split="dev"), tmp_path, long_side=90)
    assert packed.entries[0].shape == (75, 90)


def test_packing_again_opens_what_is_there_until_a_file_changes(tmp_path):
    source, folder = tmp_path / "a.png", tmp_path / "pack"
    Image.new("RGB", (70, 70), "gray").save(source)
    scenes = [Scene(source, "natural", "x", name="a.png")]
    asked = []
    pack(scenes, folder, progress=lambda *told: asked.append(told))
    pack(scenes, folder, progress=lambda *told: asked.append(told))
    assert asked == [(1, 1)]
    Image.new("RGB", (80, 80), "red").save(source)
    os.utime(source, (1, 1))
    assert pack(scenes, folder).entries[0].shape == (80, 80)
    assert sorted(path.name for path in folder.iterdir()) == ["pictures.json", "pictures.npy"]


def test_a_pack_travels_as_its_folder(packed):
    again = pickle.loads(pickle.dumps(packed))
    assert again.entries == packed.entries
    assert len(pickle.dumps(packed)) < 1000


def test_an_unreadable_picture_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        pack([Scene(tmp_path / "broken.jpg", "natural", "x")], tmp_path / "pack")
    assert list((tmp_path / "pack").iterdir()) == []


def test_compact_keeps_to_its_bound_and_tells_no_paths(packed, index, tmp_path):
    size, longest = compact(packed, tmp_path / "all.zip")
    assert longest == 180
    less, shorter = compact(packed, tmp_path / "less.zip", limit=size // 2)
    assert less <= size // 2
    assert shorter < 180
    with zipfile.ZipFile(tmp_path / "less.zip") as file:
        told = file.read("pictures.json").decode()
    assert str(index) not in told
    assert [row["name"] for row in json.loads(told)["scenes"]] == [
        item.scene.name for item in packed.entries
    ]


@pytest.mark.slow
def test_a_compact_pack_serves_where_no_image_library_is(packed, tmp_path):
    compact(packed, tmp_path / "all.zip")
    code = (
        "import sys\n"
        "for name in ('rasterio', 'zarr', 'dask', 'rawpy', 'imagecodecs', 'scipy'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from napari_restore_lab.data import BatchLoader, Recipe, expand\n"
        "found = expand(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(len(found), BatchLoader(found, Recipe(size=64, batch=2), 0).batch(0).hazy.shape[0])\n"
        "loaded = {m for m in sys.modules if m.startswith('napari_restore.images.')}\n"
        "light = {'_suffixes', '_display_curve'}\n"
        "assert loaded <= {f'napari_restore.images.{name}' for name in light}, loaded\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "all.zip"), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(len(packed)), "2"]
    again = expand(tmp_path / "all.zip", tmp_path / "out")
    for one, other in zip(packed.entries, again.entries, strict=True):
        assert one.scene.source == other.scene.source
        assert bool(one.distance) == bool(other.distance)
        first, second = (
            p.view(e.levels[1]).astype(int) for p, e in ((packed, one), (again, other))
        )
        assert np.abs(first - second).mean() < 4
    border = entry(again, "coast_1.png")
    assert not again.view(border.valid[0])[:40].any()


def test_something_else_is_no_pack(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a compact pack"):
        expand(tmp_path / "a.zip", tmp_path / "out")


def test_another_pack_in_the_folder_is_replaced(packed, tmp_path):
    compact(packed, tmp_path / "all.zip")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "pictures.json").write_text('{"version": 0}')
    assert len(expand(tmp_path / "all.zip", folder)) == len(packed)
    # The pictures of another pack beside this one's index.
    np.save(folder / "pictures.npy", np.zeros(9, np.uint8))
    assert len(expand(tmp_path / "all.zip", folder)) == len(packed)
    found = json.loads((folder / "pictures.json").read_text())
    (folder / "pictures.json").write_text(json.dumps({**found, "fingerprint": "another"}))
    assert expand(tmp_path / "all.zip", folder).fingerprint == found["fingerprint"]


def test_a_full_disk_is_told_as_such(packed, tmp_path, monkeypatch):
    compact(packed, tmp_path / "all.zip")

    def replace(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(DiskFull, match="No space is left"):
        expand(tmp_path / "all.zip", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bound_that_cannot_be_kept_is_refused(packed, tmp_path):
    with pytest.raises(BadParameter, match="do not fit into 500 bytes"):
        compact(packed, tmp_path / "all.zip", limit=500)
    assert not (tmp_path / "all.zip").exists()


def test_distances_stay_known_in_a_compact_pack(index, tmp_path):
    room = next(item for item in scenes_of(index) if item.distance is not None)
    flowers = replace(room, note="flowers")
    assert not flowers.no_haze_depth
    compact(pack([flowers], tmp_path / "pack"), tmp_path / "all.zip")
    (found,) = expand(tmp_path / "all.zip", tmp_path / "out").entries
    assert found.distance and found.scene.distance is None
    assert not found.scene.no_haze_depth
