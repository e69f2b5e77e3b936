from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import napari_restore as nr
from napari_restore.plugin.layers.display import Display, contrast_limits
from napari_restore.plugin.layers.growth import Growth, must_grow
from napari_restore.plugin.layers.reader import layer_of

pytestmark = pytest.mark.binding


@pytest.fixture(params=["tiled", "striped"])
def without_overviews(request: Any, tmp_path: Path) -> Path:
    """A 16 bit file of 2300 × 3100 pixels in which every 16 × 16 pixels are equal."""
    path = tmp_path / "Übersicht fehlt.tif"
    small = np.random.default_rng(0).integers(500, 4000, (144, 194), np.uint16)
    pixels = np.kron(small, np.ones((16, 16), np.uint16))[:2300, :3100]
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=2300,
        width=3100,
        count=1,
        dtype="uint16",
        transform=rasterio.transform.from_origin(3e5, 5e6, 10, 10),
        crs="EPSG:32632",
        **(tiles if request.param == "tiled" else {}),
    ) as file:
        file.write(pixels, 1)
    return path


def test_the_coarsest_level_is_filled_in_place(without_overviews: Path, qapp: Any):
    image = nr.open_image(without_overviews)
    assert must_grow(image) == (len(image.level_shapes) > 1)
    display = Display.of_image(image)
    coarsest = np.zeros(image.level_shapes[-1], image.dtype)
    reported = []
    growth = Growth(image, display, coarsest, reported.append)
    growth.start()
    growth.wait()
    qapp.processEvents()
    assert reported[-1] is True
    assert not any(reported[:-1])
    step = 2 ** (len(image.level_shapes) - 1)
    source = image.read((0, 0, 2304 - 4, 3100))[::step, ::step, 0]
    rows, columns = 2288 // step, 3088 // step
    np.testing.assert_array_equal(coarsest[:rows, :columns], source[:rows, :columns])


def test_it_stops_when_nobody_shows_the_level_any_more(without_overviews: Path, qapp: Any):
    image = nr.open_image(without_overviews)
    reported = []
    growth = Growth(image, Display.of_image(image), np.zeros((9, 9), np.uint16), reported.append)
    growth.start()
    growth.wait()
    qapp.processEvents()
    assert reported == []


def test_contrast_is_sensible_before_any_level_is_made(without_overviews: Path):
    image = nr.open_image(without_overviews)
    low, high = contrast_limits(image, Display.of_image(image))
    assert 0 <= low < high
    assert high >= 3900


@pytest.mark.viewer
@pytest.mark.slow
def test_a_window_shows_the_levels_made_so_far(
    make_napari_viewer: Any, qtbot: Any, without_overviews: Path
):
    viewer = make_napari_viewer()
    image = nr.open_image(without_overviews)
    data, arguments, _ = layer_of(image, viewer)
    layer = viewer.add_image(data, **arguments)
    drawn = []
    layer.events.set_data.connect(lambda event: drawn.append(np.asarray(layer.data[-1]).all()))
    qtbot.waitUntil(lambda: any(drawn))
    qtbot.waitUntil(lambda: layer.contrast_limits[1] < 5000)
    np.testing.assert_array_equal(
        layer.data[-1],
        image.read((0, 0, *image.level_shapes[-1]), len(image.level_shapes) - 1)[..., 0],
    )
