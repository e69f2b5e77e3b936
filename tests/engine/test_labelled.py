"""Results as labelled arrays, and the HTML of images, plans and results."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine, from_origin

import napari_restore as nr
from napari_restore.errors import BadParameter

NAME = "<script>alert(1)</script>"


def write(path: Path, transform: Affine) -> Path:
    pixels = np.random.default_rng(1).integers(1, 4000, (3, 48, 64), np.uint16)
    profile = {"driver": "GTiff", "height": 48, "width": 64, "count": 3, "dtype": "uint16"}
    with rasterio.open(path, "w", nodata=0, crs="EPSG:32633", transform=transform, **profile) as f:
        f.write(pixels)
        for number, name in enumerate((NAME, "nir", "B4, 665 nm"), start=1):
            f.set_band_description(number, name)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write(tmp_path / "scene.tif", from_origin(500000, 4500000, 10, 20))


def restored(path: Path) -> nr.engine.Result:
    return nr.restore(path, "identity", region=nr.Region(8, 16, 40, 48), device="cpu")


def test_coordinates_are_those_of_pixel_centres(scene: Path):
    pytest.importorskip("xarray")
    result = restored(scene)
    labelled = result.to_xarray()
    assert labelled.dims == ("band", "y", "x") and labelled.chunks is not None
    assert (labelled.values == np.moveaxis(np.asarray(result), -1, 0)).all()
    assert float(labelled.x[0]) == 500000 + 16.5 * 10
    assert float(labelled.y[0]) == 4500000 - 8.5 * 20
    grid = labelled.spatial_ref.attrs
    assert rasterio.crs.CRS.from_wkt(grid["crs_wkt"]).to_epsg() == 32633
    assert grid["GeoTransform"].split() == ["500160.0", "10.0", "0.0", "4499840.0", "0.0", "-20.0"]
    assert labelled.attrs["_FillValue"] == 0 and labelled.encoding["grid_mapping"] == "spatial_ref"
    assert labelled.attrs["long_name"][1] == "nir"
    np.testing.assert_array_equal(labelled.wavelength, [np.nan, np.nan, 665])


def test_it_is_opened_again_with_all_that_it_says(scene: Path):
    pytest.importorskip("xarray")
    result = restored(scene)
    again = nr.open_image(result.to_xarray())
    assert again.transform == (10.0, 0.0, 500160.0, 0.0, -20.0, 4499840.0)
    assert again.crs == result.image.crs and again.nodata == 0
    assert again.descriptions == result.image.descriptions


def test_a_turned_grid_has_its_transform_only(tmp_path: Path):
    pytest.importorskip("xarray")
    turned = from_origin(500000, 4500000, 10, 10) @ Affine.rotation(30)
    labelled = restored(write(tmp_path / "turned.tif", turned)).to_xarray()
    assert "x" not in labelled.coords and "GeoTransform" in labelled.spatial_ref.attrs


def test_without_xarray_it_says_what_to_install(scene: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(BadParameter, match="xarray, which is not installed"):
        restored(scene).to_xarray()


def test_html_has_facts_and_thumbnail_and_escapes_names(scene: Path):
    image, result = nr.open_image(scene), restored(scene)
    for shown in (image, nr.plan(image, "identity", device="cpu"), result):
        page = shown._repr_html_()
        assert NAME not in page and "64 × 48 pixels" in page
    assert "data:image/png;base64" in image._repr_html_()
    assert "data:image/png;base64" in result._repr_html_()
    assert "&lt;script&gt;" in image._repr_html_()
