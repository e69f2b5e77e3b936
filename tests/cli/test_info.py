"""`info` for people: size, place, bands in a table, and what to do about unnamed ones."""

from __future__ import annotations

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from ._scenes import hazy, picture, write_tiff


def lines_of(text: str) -> dict[str, str]:
    """Labels and values of the lines above the table of bands."""
    above = text.partition("\n\n")[0].splitlines()[1:]
    return {line[:13].strip(): line[13:] for line in above}


def test_a_scene_is_told_as_gdalinfo_tells_it(cli, scene):
    run = cli("info", scene)
    assert run.code == 0
    assert run.out.splitlines()[0] == str(scene)
    told = lines_of(run.out)
    assert told["size"] == "200 × 160 pixels, 3 bands, uint8"
    assert told["CRS"] == "EPSG:32636 (WGS 84 / UTM zone 36N)"
    assert told["origin"] == "500000.0, 40000.0"
    assert told["pixel size"] == "2.0 × 2.0 metre"
    assert told["bounds"] == "left 500000.0, bottom 39680.0, right 500400.0, top 40000.0"
    assert told["black"].startswith("0 (") and told["white"].startswith("255 (")
    table = run.out.partition("\n\n")[2].splitlines()
    assert [line.split() for line in table[:4]] == [
        ["band", "role", "kind", "from"], ["1", "red", "light", "colour", "interpretation"],
        ["2", "green", "light", "colour", "interpretation"],
        ["3", "blue", "light", "colour", "interpretation"],
    ]  # fmt: skip
    # The words of JSON are for programs.
    for word in ("PROJCS", "none", "{}", "[", "rpcs", "False"):
        assert word not in run.out


def test_json_is_for_programs_and_agrees(cli, scene):
    told = cli("info", scene, "--json").json
    assert told["size"] == [160, 200] and told["crs"].startswith("PROJCS")
    assert told["crs_name"] == "EPSG:32636 (WGS 84 / UTM zone 36N)"
    assert told["bounds"] == [500000, 39680, 500400, 40000]
    assert told["pixel_size"] == [2, 2]


def test_unnamed_bands_are_told_with_the_option_that_names_them(cli, tmp_path):
    pixels = hazy(bands=6, dtype="uint16")
    path = write_tiff(tmp_path / "six.tif", pixels, nodata=0, photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.set_band_description(1, "B2, 490 nm")
    run = cli("info", path)
    table = run.out.partition("\n\n")[2]
    assert table.splitlines()[0].split() == ["band", "role", "kind", "nm", "from", "description"]
    assert table.splitlines()[1].split() == [
        "1",
        "blue",
        "light",
        "490",
        "wavelength",
        "B2,",
        "490",
        "nm",
    ]
    assert "Name the bands with --bands" in table
    assert lines_of(run.out)["nodata"] == "0"
    named = cli("info", path, "--bands", "red=3,green=2,blue=1")
    assert "--bands" not in named.out and "green" in named.out


def test_a_sensor_names_the_bands_of_its_usual_files_or_is_advised_no_more(cli, tmp_path):
    six = write_tiff(tmp_path / "six.tif", hazy(bands=6, dtype="uint16"), photometric="MINISBLACK")
    table = cli("info", six, "--sensor", "landsat8").out.partition("\n\n")[2].splitlines()
    assert [line.split()[1] for line in table[1:4]] == ["blue", "green", "red"]
    five = write_tiff(
        tmp_path / "five.tif", hazy(bands=5, dtype="uint16"), photometric="MINISBLACK"
    )
    assert "or the sensor with --sensor NAME" in cli("info", five).out
    advice = cli("info", five, "--sensor", "landsat8").out.splitlines()[-1]
    assert "Name the bands with --bands" in advice and "--sensor" not in advice
    assert "The order of 5 bands of Landsat 8 OLI/TIRS is not known." in advice


def test_black_and_white_that_are_given_are_told(cli, scene):
    told = lines_of(cli("info", scene, "--black", 5, "--white", 200).out)
    assert told["black"] == "5 (as given)" and told["white"] == "200 (as given)"


def test_a_photo_lies_nowhere(cli, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture("RGB", "JPEG"))
    run = cli("info", path)
    told = lines_of(run.out)
    assert told["place"] == "not placed on a map" and "CRS" not in told
    assert told["size"].startswith("64 × 48 pixels")
    assert "note: " in run.out and "--bands" not in run.out


def test_a_rotated_scene_and_one_with_control_points(cli, tmp_path):
    turned = Affine.translation(100, 200) @ Affine.rotation(90) @ Affine.scale(2, -3)
    told = lines_of(cli("info", write_tiff(tmp_path / "t.tif", hazy(), transform=turned)).out)
    assert told["pixel size"].endswith("metre, rotated")
    points = [GroundControlPoint(0, 0, 10, 20), GroundControlPoint(9, 0, 10, 19)]
    path = tmp_path / "gcps.tif"
    profile = {"width": 9, "height": 9, "count": 1, "dtype": "uint8", "driver": "GTiff"}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(np.ones((1, 9, 9), np.uint8))
        dataset.gcps = ([*points, GroundControlPoint(0, 9, 11, 20)], "EPSG:4326")
    told = lines_of(cli("info", path).out)
    assert told["GCPs"] == "3" and told["CRS"].startswith("EPSG:4326")
    assert told["size"] == "9 × 9 pixels, 1 band, uint8"
