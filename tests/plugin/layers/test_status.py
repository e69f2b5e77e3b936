"""The status bar over maps: coordinates by the map's own names, values by those of the bands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform

from napari_restore.plugin.layers.status import axis_names, place_text


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (32633, ("Easting", "Northing")),
        (4326, ("Longitude", "Latitude")),
        (3031, ("Easting", "Northing")),
        # Compound, with heights.
        (9707, ("Longitude", "Latitude")),
    ],
)
@pytest.mark.parametrize("version", ["WKT1_GDAL", "WKT2_2019"])
def test_axes_are_named_in_the_order_of_coordinates(
    code: int, names: tuple[str, str], version: str
):
    wkt = CRS.from_epsg(code).to_wkt(version=version)
    assert axis_names(wkt) == names


def test_without_axes_they_are_x_and_y():
    assert axis_names(None) == axis_names('LOCAL_CS["<b>"]') == ("x", "y")


def write(path: Path, code: int, left: float, top: float, size: float) -> Path:
    pixels = np.arange(3 * 64 * 64, dtype=np.uint16).reshape(3, 64, 64)
    profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 3, "dtype": "uint16"}
    place = from_origin(left, top, size, size)
    with rasterio.open(path, "w", crs=f"EPSG:{code}", transform=place, **profile) as file:
        file.write(pixels)
        for number, name in enumerate(("<b>red</b>", "green", "blue"), start=1):
            file.set_band_description(number, name)
    return path


@pytest.mark.viewer
@pytest.mark.slow
def test_easting_northing_and_values(make_napari_viewer_proxy: Any, tmp_path: Path, qtbot: Any):
    viewer = make_napari_viewer_proxy()
    # Far from zero with small pixels: the window's world begins elsewhere than the map.
    viewer.open(write(tmp_path / "a.tif", 32633, 500000, 4500000, 0.5), plugin="napari-restore")
    viewer.open(write(tmp_path / "b.tif", 32633, 500040, 4500000, 0.5), plugin="napari-restore")
    first, second = viewer.layers
    text = place_text(viewer, first, first.data_to_world((10, 20)))
    assert text is not None and text.split("  ·  ") == [
        "Easting 500\u202f010.25 m, Northing 4\u202f499\u202f994.75 m",
        "‹b>red‹/b> 660, green 4756, blue 8852",
    ]
    beside = place_text(viewer, second, second.data_to_world((10, 20)))
    assert beside is not None and beside.startswith("Easting 500\u202f050.25 m")
    # As napari writes it, with the layer that is active; not of a place where the pointer never was.
    viewer.layers.selection.active = first
    viewer.mouse_over_canvas = True
    for nowhere in ((1.0, 1.0), (0.0, 0.0), (1.0, 0.0)):
        viewer.cursor.position = nowhere
        viewer.update_status_from_cursor()
        assert viewer.status == "Ready"
    viewer.cursor.position = first.data_to_world((10, 20))
    viewer.update_status_from_cursor()
    assert viewer.status["coordinates"] == text


@pytest.mark.viewer
@pytest.mark.parametrize("first", ["degrees", "metres"])
@pytest.mark.slow
def test_maps_in_degrees_and_metres_lie_on_one(
    first: str, make_napari_viewer_proxy: Any, tmp_path: Path
):
    viewer = make_napari_viewer_proxy()
    metres = write(tmp_path / "metres.tif", 32654, 380000, 3960000, 1.0)
    (left,), (top,) = transform("EPSG:32654", "EPSG:4326", [380020], [3959980])
    degrees = write(tmp_path / "degrees.tif", 4326, left, top, 1e-7)
    for path in (degrees, metres) if first == "degrees" else (metres, degrees):
        viewer.open(path, plugin="napari-restore")
    # napari's sliders are Qt's, which count to 2³¹.
    assert max(viewer.dims.nsteps) < 1_000_000
    layers = {layer.name: layer for layer in viewer.layers}
    one = place_text(viewer, layers["metres"], layers["metres"].data_to_world((10, 20)))
    assert one is not None and one.startswith(
        "Easting 380\u202f020.5 m, Northing 3\u202f959\u202f989.5"
    )
    world = layers["degrees"].data_to_world((10, 20))
    other = place_text(viewer, layers["degrees"], world)
    x, y = left + 20.5e-7, top - 10.5e-7
    assert other is not None and other.startswith(f"Longitude {x:.8f}°, Latitude {y:.8f}°")
    row, column = layers["metres"].world_to_data(world)
    assert abs(column + 0.5 - 20.2) < 0.1 and abs(row + 0.5 - 20.1) < 0.1


@pytest.mark.viewer
@pytest.mark.parametrize("first", ["map", "photo"])
@pytest.mark.slow
def test_a_photo_beside_a_fine_map_overflows_no_slider(
    first: str, make_napari_viewer_proxy: Any, tmp_path: Path
):
    viewer = make_napari_viewer_proxy()
    files = [write(tmp_path / "map.tif", 4326, 139.75, 35.776, 1e-8), tmp_path / "photo.png"]
    PIL.Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(files[1])
    for path in files if first == "map" else reversed(files):
        viewer.open(path, plugin="napari-restore")
    assert max(viewer.dims.nsteps) < 2**31
    assert len(viewer.layers) == 2


@pytest.mark.viewer
@pytest.mark.slow
def test_photos_keep_what_napari_says(make_napari_viewer_proxy: Any):
    viewer = make_napari_viewer_proxy()
    layer = viewer.add_image(np.zeros((8, 8), np.uint8))
    assert place_text(viewer, layer, (1, 1)) is None
