"""Products of satellites in the window: folders, files of metadata and zips are one layer each."""

from __future__ import annotations

import shutil

import made_products as made
import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from scipy.io import netcdf_file

import napari_restore as nr
from napari_restore.plugin.layers.reader import get_reader


@pytest.mark.parametrize("kind", ["folder", "metadata", "zip", "20m"])
def test_a_product_is_one_layer(tmp_path, kind):
    made.write_safe(tmp_path)
    safe = tmp_path / made.SAFE
    path = {
        "folder": safe,
        "metadata": safe / "MTD_MSIL2A.xml",
        "zip": safe,
        "20m": f"{safe}:20m",
    }[kind]
    if kind == "zip":
        path = made.zipped(safe, tmp_path / "any.zip")
    reader = get_reader(str(path))
    assert reader is not None
    ((_, arguments, kind_of_layer),) = reader(str(path))
    assert kind_of_layer == "image"
    image = arguments["metadata"]["napari_restore"]
    assert image.name == made.SAFE.removesuffix(".SAFE")
    expected = nr.open_image(path)
    assert np.array_equal(image.read((0, 0, 30, 30)), expected.read((0, 0, 30, 30)))


def test_other_archives_and_json_are_left_to_others(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as new:
        new.writestr("a.txt", "text")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    assert all(get_reader(str(tmp_path / name)) is None for name in ("a.zip", "a.json", "folder"))


@pytest.fixture
def notes():
    """What the window has told since the beginning of the test."""
    known = len(notification_manager.records)
    return lambda: [record.message for record in notification_manager.records[known:]]


@pytest.mark.viewer
@pytest.mark.slow
def test_a_part_of_a_product_opens_in_the_window_with_a_note(panel, tmp_path, notes):
    made.write_safe(tmp_path)
    for folder in tmp_path.rglob("R10m"):
        shutil.rmtree(folder)
    (layer,) = panel.viewer.open(tmp_path / made.SAFE, plugin="napari-restore")
    assert layer.metadata["napari_restore"].descriptions == ("B02", "B05", "B8A", "SCL")
    (note,) = notes()
    assert "Not there" in note and "B02, B03, B04, B08" in note


@pytest.mark.viewer
@pytest.mark.slow
def test_an_item_beside_its_files_opens_in_the_window_with_a_note(panel, tmp_path, notes):
    files = made.write_stac(tmp_path, assets__red__href="https://example.org/red.tif")
    (layer,) = panel.viewer.open(tmp_path / "item.json", plugin="napari-restore")
    image = layer.metadata["napari_restore"]
    assert np.array_equal(image.read((0, 0, made.SIDE, made.SIDE))[..., 2], files["red"])
    (note,) = notes()
    assert note.endswith("not those it names elsewhere: red.tif.")


@pytest.mark.viewer
@pytest.mark.slow
@pytest.mark.nightly
def test_a_folder_of_the_bands_of_one_scene_is_one_layer(panel, tmp_path, notes):
    files = made.write_landsat(tmp_path, made.LEVEL1)
    (tmp_path / f"{made.LEVEL1}_MTL.txt").unlink()
    (layer,) = panel.viewer.open(tmp_path, plugin="napari-restore")
    image = layer.metadata["napari_restore"]
    names = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9", "B10"]
    assert list(image.descriptions) == names
    pixels = image.read((0, 0, made.SIDE, made.SIDE))
    assert all(np.array_equal(pixels[..., n], files[name]) for n, name in enumerate(names))
    (note,) = notes()
    assert note == f"{tmp_path.name} is shown as one image of the bands {', '.join(names)}."


@pytest.mark.parametrize("form", ["txt", "xml", "json"])
def test_metadata_of_landsat_is_a_layer_in_all_forms(tmp_path, form):
    made.write_landsat(tmp_path, form=form)
    for path in (tmp_path, tmp_path / f"{made.LANDSAT}_MTL.{form}"):
        ((_, arguments, _),) = get_reader(str(path))(str(path))
        assert arguments["metadata"]["napari_restore"].bands == 11


@pytest.mark.viewer
@pytest.mark.slow
def test_a_file_of_several_grids_says_what_they_are_called(panel, tmp_path, notes):
    path = tmp_path / "two.nc"
    with netcdf_file(path, "w") as file:
        file.createDimension("y", 6)
        file.createDimension("x", 8)
        for name in ("red", "nir"):
            file.createVariable(name, "i2", ("y", "x"))[:] = 1
    assert not panel.viewer.open(path, plugin="napari-restore")
    (note,) = notes()
    assert f"Python: NETCDF:{path}:red, NETCDF:{path}:nir." in note
