"""Products of satellites on the command line: one image each, whole, in folders, by records."""

from __future__ import annotations

import made_products as made
import numpy as np
import pytest
import rasterio


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
