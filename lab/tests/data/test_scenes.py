"""Which pictures are scenes, what they may be used for, and how haze lies in them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_restore.errors import InputError
from napari_restore_lab.data import Scene, scenes_of, shippable, stems_of


def scene(licence="CC0-1.0", note="", name="natural/x_1.jpg", kind="natural") -> Scene:
    return Scene(Path(name), kind, "x", name=name, licence=licence, note=note)


@pytest.mark.parametrize(
    "licence",
    [
        "CC0-1.0",
        "CC0-1.0 (Unsplash before 2017-06-08)",
        "CC0-1.0 / public domain per repo README (Unsplash, early 2017)",
        "public domain (USGS Landsat 5); repo GPL-3.0",
        "public domain (per repo README)",
        "CC-BY-4.0 (OpenAerialMap contributors); repo AGPL-3.0",
        "CC-BY-4.0 (OpenAerialMap); repo MIT",
        "CC-BY-2.0 (A. Painter)",
        "CC-BY-3.0 (ICL-NUIM); repo MIT",
        "MIT (repo, own flight)",
        "MIT repo; NEON airborne RGB (CC0-1.0)",
        "MIT (repo; imagery of a USGS coastal programme)",
        "BSD-2-Clause (repo)",
        "CC0-1.0 (A. Painter, per repo Attribution)",
        "BSD-3-Clause (repo); Landsat public domain",
        " mit ",
        "public domain (USGS work, fixed cameras; repo states no licence)",
        "public domain (USGS National Map, as the set states; see its terms; carrying repo states no "
        "licence)",
    ],
)
def test_these_licences_may_be_shipped(licence: str):
    assert shippable(scene(licence))


@pytest.mark.parametrize(
    "licence",
    [
        "",
        "CC-BY-SA-4.0",
        "CC-BY-SA-4.0 per package copyright (Unsplash, early 2017)",
        "CC-BY-NC-4.0",
        "CC-BY (per repo Photos/Readme.md, version and author not stated)",
        "GPL-2.0 (A. Painter, per repo Attribution in history)",
        "LGPL-3.0",
        "MPL-2.0 (repo)",
        "AGPL-3.0; contains CC0-1.0 parts",
        "public domain (USDA NAIP); repo states no licence",
        "public domain (a survey; repo states no licence)",
        "public domain (USGS work; probably; repo states no licence)",
        "MIT repo (drone tile, probably OpenAerialMap CC-BY-4.0)",
        "MIT (repo); contains modified Copernicus Sentinel data 2017",
        "Apache-2.0 package (Debian main); Middlebury 2006 stereo",
        "BSD-3-Clause package (Debian main); Middlebury 2014 stereo",
        "CC-BY-4.0 NC",
        "CC-BY-4.0, non-commercial",
        "CC-BY-4.0 (noncommercial use)",
        "CC-BY-4.0 (NC)",
        "CC-BY-4.0 (no derivatives)",
        "mitre",
        "MIT-0 AND GPL-3.0",
        "MIT, GPL-3.0",
        "MIT (code); imagery unknown",
        "MIT (repo); imagery GPL-3.0",
        "MIT (repo); imagery CC-BY-SA-4.0",
        "BSD-3-Clause (repo); Sentinel-1 (Copernicus)",
        "public domain or so",
        "CC0 unless told otherwise",
    ],
)
def test_these_may_not(licence: str):
    assert not shippable(scene(licence))


@pytest.mark.parametrize("note", ["author not stated", "licence unknown", "share-alike", "NC"])
def test_a_doubt_in_the_note_counts_too(note: str):
    assert not shippable(scene(note=note))


@pytest.mark.parametrize(
    ("licence", "is_free"),
    [("CC0-1.0", True), ("CC-BY-3.0 (Lab)", True), ("", False), ("GPL-3.0", False), (None, True)],
)
def test_the_licence_of_distances_counts_too(tmp_path, licence, is_free):
    assert shippable(replace(scene(), distance_licence=licence)) is is_free
    rows = f"file,kind,licence\na_left.png,rgbd_rgb,CC0-1.0\na_d.png,rgbd_depth,{licence or ''}\n"
    (tmp_path / "INDEX.csv").write_text(rows, encoding="utf-8")
    assert shippable(scenes_of(tmp_path)[0]) is (is_free and licence is not None)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("natural/x_blue-periwinkle.jpg", "4K photo"),
        ("natural/canyon-wren.jpg", ""),
        ("natural/x.jpg", "coloured street, cat"),
        ("natural/x.jpg", "milky way over trees"),
        ("natural/x_startrails.jpg", ""),
        ("natural/x.jpg", "night city lights"),
        ("natural/orange-hallway.jpg", "path"),
    ],
)
def test_haze_does_not_grow_with_distance_here(name: str, note: str):
    assert scene(name=name, note=note).no_haze_depth


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("natural/x.jpg", "lighthouse, rocky coast"),
        ("natural/x_meadow.jpg", "flower meadow, trees"),
        ("natural/x.jpg", "starling hill, forest"),
        ("natural/catalonia.jpg", "fields"),
    ],
)
def test_it_does_here(name: str, note: str):
    assert not scene(name=name, note=note).no_haze_depth


def test_haze_over_aerial_scenes_is_a_layer_whatever_they_show():
    assert not scene(note="bird colony", kind="aerial").no_haze_depth


def test_an_index_gives_scenes_sources_and_distances(index):
    found = {item.name: item for item in scenes_of(index)}
    assert len(found) == 9
    assert found["aerial/drone_2.png"].source == "drone"
    assert found["aerial/coast_2.png"].split == "dev"
    room = found["rgbd/room_left.png"]
    assert (room.kind, room.distance_kind) == ("natural", "rgbd_depth")
    assert room.distance == index / "rgbd" / "room_depth_m.tif"
    assert {item.name for item in scenes_of(index / "INDEX.csv", split="dev")} == {
        "aerial/coast_2.png"
    }


def test_a_false_colour_picture_is_no_scene(tmp_path):
    (tmp_path / "INDEX.csv").write_text(
        "file,kind\na/seneca_nir_1.jpg,aerial\na/bluemarble_5.jpg,satellite\na/b_1.jpg,aerial\n",
        encoding="utf-8",
    )
    assert [item.name for item in scenes_of(tmp_path)] == ["a/b_1.jpg"]


def test_a_plain_folder_gives_scenes_by_folder(tmp_path):
    for name in ("aerial_2019/one/a.png", "street/b.jpg", "c.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20)).save(path)
    found = {item.name: (item.kind, item.source) for item in scenes_of(tmp_path / "in")}
    assert found == {
        "aerial_2019/one/a.png": ("aerial", "one"),
        "street/b.jpg": ("natural", "street"),
        "c.png": ("natural", "in"),
    }


@pytest.mark.parametrize("text", ["", "name,kind\nx,aerial\n", "file,kind\nnotes.txt,other\n"])
def test_an_index_without_scenes_is_refused(tmp_path, text):
    (tmp_path / "INDEX.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"INDEX\.csv|contains no scene"):
        scenes_of(tmp_path)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="There is no"):
        scenes_of(tmp_path / "nowhere")


@pytest.mark.skipif("NAPARI_RESTORE_TEST_DATA" not in os.environ, reason="no folder of data named")
def test_what_the_data_say():
    found = scenes_of(Path(os.environ["NAPARI_RESTORE_TEST_DATA"]))
    names = {item.name.rpartition("/")[2] for item in found if shippable(item)}
    assert not [name for name in names if name.startswith(("nextcloud", "naip_3907833", "copr"))]
    assert len(names) > 100


def test_stems_are_told_apart_by_folders_also_where_only_case_differs():
    def named(*names: str) -> list[str]:
        return stems_of([scene(name=name) for name in names])

    assert named("one/a.png", "b.jpg") == ["a", "b"]
    assert named("one/a.png", "two/A.jpg", "b.jpg") == ["one_a", "two_A", "b"]
    for names in (("a.png", "A.png"), ("a.png", "a.jpg"), ("x/a.png", "y/a.png", "x_A.png")):
        with pytest.raises(InputError, match="Two pictures are called"):
            named(*names)


def test_a_plain_folder_is_of_the_split_that_is_asked_for(tmp_path, monkeypatch):
    folder = tmp_path / "aerial_x"
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    assert [item.split for item in scenes_of(folder)] == ["train"]
    assert [item.split for item in scenes_of(folder, split="dev")] == ["dev"]
    # "." has a name, too.
    monkeypatch.chdir(folder)
    (found,) = scenes_of(Path())
    assert (found.kind, found.source) == ("aerial", "aerial_x")


def test_what_has_a_place_on_a_map_is_aerial(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "width": 20, "height": 20, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 5e5, 0, -2, 5e6)}
    with rasterio.open(tmp_path / "map.tif", "w", **profile, **place) as file:
        file.write(np.ones((3, 20, 20), np.uint8))
    Image.new("RGB", (20, 20)).save(tmp_path / "photo.tif")
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    assert {item.name: item.kind for item in scenes_of(tmp_path)} == {
        "broken.tif": "natural",
        "map.tif": "aerial",
        "photo.tif": "natural",
    }
