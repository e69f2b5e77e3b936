"""Products of satellites on the command line: one image each, whole, in folders, by records."""

from __future__ import annotations

import json
import shlex

import made_products as made
import numpy as np
import pytest
import rasterio
from scipy.io import netcdf_file


def bands_of(path):
    with rasterio.open(path) as opened:
        return dict(zip(opened.descriptions, opened.read(), strict=True))


@pytest.mark.slow
def test_a_product_is_restored_into_one_file(cli, tmp_path):
    files = made.write_safe(tmp_path)
    out, record = tmp_path / "out.tif", tmp_path / "out.json"
    asked = ("restore", tmp_path / made.SAFE, "-o", out, "--model", "hot", "--record", record)
    run = cli(*asked)
    assert run.code == 0, run.err
    found = bands_of(out)
    assert list(found) == ["B02", "B03", "B04", "B08", "AOT", "WVP", "SCL"]
    for name, key in (("AOT", "AOT 10"), ("WVP", "WVP 10")):
        assert np.array_equal(found[name], files[key])
    assert np.array_equal(found["SCL"], files["SCL 20"].repeat(2, 0).repeat(2, 1))
    assert not found["B02"][files["B02 10"] == 0].any()
    text = cli("info", out).out
    for line in ("B04", "2023-01-02 01:37:01 Sentinel-2A", "azimuth 161.25°", "3.25 %"):
        assert line in text
    again = tmp_path / "again.tif"
    assert cli("rerun", record, "-o", again).code == 0
    assert again.read_bytes() == out.read_bytes()


def test_a_record_names_the_resolution(cli, tmp_path):
    files = made.write_safe(tmp_path)
    out, record = tmp_path / "out.tif", tmp_path / "out.json"
    source = f"{tmp_path / made.SAFE}:20m"
    asked = ("restore", source, "-o", out, "--model", "identity", "--record", record)
    assert cli(*asked).code == 0
    again = tmp_path / "again.tif"
    assert cli("rerun", record, "-o", again).code == 0
    assert np.array_equal(bands_of(again)["B8A"], files["B8A 20"])


@pytest.mark.slow
def test_a_folder_of_products(cli, tmp_path):
    scenes = tmp_path / "scenes"
    (scenes / "l8").mkdir(parents=True)
    made.write_safe(scenes)
    made.write_landsat(scenes / "l8")
    made.write_landsat(scenes, made.LEVEL1)
    run = cli("restore", scenes, "-o", tmp_path / "out", "--model", "identity")
    assert run.code == 0, run.err
    names = {path.name for path in (tmp_path / "out").glob("*.tif")}
    assert names == {
        f"{made.SAFE.removesuffix('.SAFE')}_clear.tif",
        "l8_clear.tif",
        f"{made.LEVEL1}_MTL_clear.tif",
    }
    one = cli("restore", scenes / "l8", "-o", tmp_path / "l8.tif", "--model", "identity")
    assert one.code == 0, one.err
    first = (tmp_path / "out" / "l8_clear.tif").read_bytes()
    assert first == (tmp_path / "l8.tif").read_bytes()


def test_the_window_opens_the_usual_resolution_only(cli, tmp_path):
    made.write_safe(tmp_path)
    run = cli("view", f"{tmp_path / made.SAFE}:20m")
    assert run.code == 2
    assert "names a resolution of a product" in run.err


def test_an_incomplete_product_is_one_sentence(cli, tmp_path):
    made.write_landsat(tmp_path)
    (tmp_path / f"{made.LANDSAT}_SR_B3.TIF").unlink()
    run = cli("restore", tmp_path, "-o", tmp_path / "new.tif", "--model", "dcp")
    assert run.code == 2
    assert "SR_B3.TIF is missing" in run.err
    assert not (tmp_path / "new.tif").exists()


@pytest.fixture
def bands(tmp_path):
    """A folder of the bands of one scene, without its metadata."""
    folder = tmp_path / "the bands"
    made.write_landsat(folder, made.LEVEL1)
    (folder / f"{made.LEVEL1}_MTL.txt").unlink()
    return folder


def stacked(text):
    """Return the words of the line that a message gives."""
    return shlex.split(text[text.index("--stack ") : text.rindex(" its bands are one image.")])


def test_the_bands_of_a_scene_open_by_the_line_of_the_message(cli, bands):
    for command in (("info",), ("plan", "--model", "hot")):
        run = cli(*command, bands)
        assert run.code == 2
        assert run.err.startswith(
            "napari-restore: the bands is a folder with the bands of one scene."
        )
    line = stacked(run.err)
    assert len(line) == 10
    told = cli("info", *line, "--json")
    assert told.code == 0, told.err
    named = [band["description"] for band in json.loads(told.out)["bands"]]
    assert named == ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9", "B10"]


def test_a_folder_of_one_scene_is_restored_file_by_file_with_a_note(cli, bands, tmp_path):
    for path in sorted(bands.glob("*.TIF"))[3:]:
        path.unlink()
    run = cli("restore", bands, "-o", tmp_path / "out", "--model", "identity")
    assert run.code == 0, run.err
    assert len(list((tmp_path / "out").glob("*.TIF"))) == 3
    assert "note: Each file of the folder is an image of its own: With --stack" in run.err
    out = tmp_path / "one.tif"
    one = cli("restore", *stacked(run.err), "-o", out, "--model", "identity")
    assert one.code == 0, one.err
    assert list(bands_of(out)) == ["B1", "B2", "B10"]


def test_one_grid_of_several_is_restored_and_repeated(cli, tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(1, 1000, (2, 6, 8), np.int16)
    with netcdf_file(tmp_path / "two.nc", "w") as file:
        file.createDimension("y", 6)
        file.createDimension("x", 8)
        for name, each in zip(("red", "nir"), values, strict=True):
            file.createVariable(name, "i2", ("y", "x"))[:] = each[::-1]
    monkeypatch.chdir(tmp_path)
    out, record, again = (tmp_path / name for name in ("out.tif", "out.json", "again.tif"))
    asked = ("restore", "NETCDF:two.nc:nir", "-o", out, "--model", "identity", "--record", record)
    run = cli(*asked)
    assert run.code == 0, run.err
    monkeypatch.chdir("/")
    assert cli("rerun", record, "-o", again).code == 0
    for path in (out, again):
        with rasterio.open(path) as opened:
            assert np.array_equal(opened.read(1), values[1])
    run = cli("view", f"NETCDF:{tmp_path / 'two.nc'}:nir")
    assert run.code == 2
    assert "is no file, and napari opens no others" in run.err
