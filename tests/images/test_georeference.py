"""The place of an image: exact numbers, pixel corners against pixel centres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform

from napari_restore.images import Georeference, open_image

MakeTiff = Callable[..., Path]

TRANSFORMS = {
    "north up": (0.1, 0.0, 500000.1, 0.0, -0.1, 4600000.7),
    "south up": (10.0, 0.0, 3.0, 0.0, 10.0, 4.0),
    "rotated": (8.66, 5.0, 100.0, 5.0, -8.66, 200.0),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_six_numbers_are_kept(make_tiff: MakeTiff, name: str) -> None:
    path = make_tiff(np.ones((4, 5, 1), np.uint8), transform=Affine(*TRANSFORMS[name]))
    image = open_image(path)
    with rasterio.open(path) as dataset:
        assert image.transform == tuple(dataset.transform)[:6]
    assert image.transform == TRANSFORMS[name]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_napari_puts_the_centre_of_the_first_pixel_at_its_origin(name: str) -> None:
    place = Georeference(transform=TRANSFORMS[name])
    matrix = place.to_napari_affine()
    for row, column in ((0, 0), (3, 7)):
        y, x, one = matrix @ (row, column, 1)
        assert one == 1
        np.testing.assert_allclose((x, y), place.to_world(column + 0.5, row + 0.5), rtol=1e-14)


def test_pixel_is_point_files_lie_where_gdal_says(make_tiff: MakeTiff) -> None:
    pixels = np.ones((4, 5, 1), np.uint8)
    path = make_tiff(pixels, setup=lambda new: new.update_tags(AREA_OR_POINT="Point"))
    place = open_image(path).georeference
    assert place is not None
    assert place.area_or_point == "Point"
    assert place.transform == (10, 0, 400000, 0, -10, 5000000)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_crop_lies_where_its_pixels_lay(name: str) -> None:
    place = Georeference(transform=TRANSFORMS[name])
    crop = place.shifted(3, 2)
    np.testing.assert_allclose(crop.to_world(0, 0), place.to_world(3, 2), rtol=1e-15)
    assert place.shifted(0, 0) is place


def test_world_and_pixel_are_inverse() -> None:
    place = Georeference(transform=TRANSFORMS["rotated"])
    np.testing.assert_allclose(place.to_pixel(*place.to_world(7.25, 3.5)), (7.25, 3.5))


def test_control_points_are_carried_and_shifted(data_dir: Path) -> None:
    path = data_dir / "geotiff" / "cog_gcps.tif"
    image = open_image(path)
    place = image.georeference
    assert place is not None
    assert not place.is_placed
    assert any("control points" in note for note in image.notes)
    with rasterio.open(path) as dataset:
        points, crs = dataset.gcps
    assert len(place.gcps) == len(points) == 210
    assert place.gcps_crs_wkt == crs.to_wkt()
    first, moved = place.gcps[0], place.shifted(10, 20).gcps[0]
    assert (first.row, first.column, first.x) == (points[0].row, points[0].col, points[0].x)
    assert (moved.row, moved.column, moved.x) == (first.row - 20, first.column - 10, first.x)
    np.testing.assert_array_equal(place.to_napari_affine(), np.eye(3))


def test_rpcs_are_carried_and_shifted(make_tiff: MakeTiff) -> None:
    twenty = " ".join(["0.5"] * 20)
    rpc = {
        "LINE_OFF": "100", "SAMP_OFF": "50.5", "LAT_OFF": "1", "LONG_OFF": "2", "HEIGHT_OFF": "3",
        "LINE_SCALE": "4", "SAMP_SCALE": "5", "LAT_SCALE": "6", "LONG_SCALE": "7",
        "HEIGHT_SCALE": "8", "LINE_NUM_COEFF": twenty, "LINE_DEN_COEFF": twenty,
        "SAMP_NUM_COEFF": twenty, "SAMP_DEN_COEFF": twenty,
    }  # fmt: skip
    path = make_tiff(
        np.ones((4, 5, 1), np.uint8),
        crs=None,
        transform=None,
        setup=lambda new: new.update_tags(ns="RPC", **rpc),
    )
    place = open_image(path).georeference
    assert place is not None
    assert place.rpcs is not None
    moved = place.shifted(10, 20).rpcs
    assert moved is not None
    assert float(moved["LINE_OFF"]) == 80
    assert float(moved["SAMP_OFF"]) == 40.5
    assert moved["LAT_OFF"] == place.rpcs["LAT_OFF"]


@pytest.mark.parametrize(
    ("crs", "units"),
    [
        ("EPSG:32633", "metre"),
        ("EPSG:4326", "degree"),
        ("EPSG:2263", "US_survey_foot"),
        (None, "pixel"),
    ],
)
def test_units(make_tiff: MakeTiff, crs: str | None, units: str) -> None:
    place = open_image(make_tiff(np.ones((4, 5, 1), np.uint8), crs=crs)).georeference
    assert place is not None
    assert place.units == units


def test_mars_and_unknown_systems_are_kept_word_for_word(data_dir: Path) -> None:
    for name in ("cog_hirise_mars.tif", "custom_proj_int16.tif"):
        path = data_dir / "geotiff" / name
        with rasterio.open(path) as dataset:
            assert open_image(path).crs == dataset.crs.to_wkt()


def test_a_plain_picture_has_no_place(make_tiff: MakeTiff) -> None:
    options: dict[str, Any] = {"driver": "PNG", "crs": None, "transform": None}
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = make_tiff(np.ones((4, 5, 3), np.uint8), "a.png", **options)
    assert open_image(path).georeference is None


def test_control_points_of_our_own_files(make_tiff: MakeTiff) -> None:
    def place(new: Any) -> None:
        corners = [(0, 0, 10, 20), (0, 5, 15, 20), (4, 0, 10, 16)]
        points = [GroundControlPoint(r, c, x, y, 0) for r, c, x, y in corners]
        new.gcps = (points, rasterio.crs.CRS.from_epsg(4326))

    image = open_image(
        make_tiff(np.ones((4, 5, 1), np.uint8), transform=None, crs=None, setup=place)
    )
    assert image.transform is None
    assert image.georeference is not None
    assert [p.x for p in image.georeference.gcps] == [10, 15, 10]


UTM = Georeference(CRS.from_epsg(32654).to_wkt(), (30.0, 0.0, 380000.0, 0.0, -30.0, 3960000.0))


@pytest.mark.parametrize("code", [4326, 32653, 3857])
def test_a_map_lies_on_one_of_another_system(code: int) -> None:
    other = Georeference(CRS.from_epsg(code).to_wkt(), TRANSFORMS["north up"])
    found = UTM.affine_on(other, (400, 300))
    assert found is not None
    matrix, error = found
    assert 0 < error < 0.5
    for row, column in ((0, 0), (399, 0), (200, 150), (399, 299)):
        x, y = UTM.to_world(column + 0.5, row + 0.5)
        (there,), (north,) = transform("EPSG:32654", f"EPSG:{code}", [x], [y])
        back = np.linalg.solve(matrix, [north, there, 1])
        assert np.hypot(back[0] - row, back[1] - column) < 1


def test_what_lies_on_no_plane_of_another_map_is_not_placed_there() -> None:
    globe = Georeference(CRS.from_epsg(4326).to_wkt(), (0.1, 0.0, -180.0, 0.0, -0.1, 80.0))
    mercator = Georeference(CRS.from_epsg(3857).to_wkt(), TRANSFORMS["north up"])
    assert globe.affine_on(mercator, (1600, 3600)) is None
    assert UTM.affine_on(Georeference(None, TRANSFORMS["north up"]), (400, 300)) is None
    across = Georeference(CRS.from_epsg(32701).to_wkt(), (100.0, 0.0, 100000.0, 0.0, -100.0, 8e6))
    assert across.affine_on(globe, (1000, 2000)) is None


def test_a_map_of_the_same_system_stays_where_it_is() -> None:
    same = Georeference(CRS.from_epsg(32654).to_wkt(version="WKT2_2019"), TRANSFORMS["north up"])
    matrix, error = UTM.affine_on(same, (400, 300)) or (None, 1)
    assert error == 0
    np.testing.assert_array_equal(matrix, UTM.to_napari_affine())
