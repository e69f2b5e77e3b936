"""Clipped files: the box of an area, or the area with nodata outside, where rasterio puts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.mask import mask as cut
from rasterio.transform import Affine

import napari_restore as nr
from napari_restore import api
from napari_restore.errors import BadOutput, BadRegion

PLACE = Affine(10, 0.5, 500000, -0.25, -10, 5300000)
RING = [(2.3, 3.8), (30.7, 6.2), (24.3, 31.1), (2.3, 3.8)]
"""x, y in pixels."""


def scene(path: Path, nodata: float | None = None, dtype: str = "uint8") -> Path:
    rng = np.random.default_rng(0)
    pixels = rng.integers(20, 200, (3, 48, 64)).astype(dtype)
    about = {"count": 3, "height": 48, "width": 64, "dtype": dtype, "nodata": nodata}
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:32632", transform=PLACE, **about
    ) as new:
        new.write(pixels)
        new.colorinterp = [rasterio.enums.ColorInterp[c] for c in ("red", "green", "blue")]
    return path


def outline() -> tuple[str, dict[str, Any]]:
    """Return the area as WKT and as a geometry."""
    ring = [PLACE * point for point in RING]
    text = ", ".join(f"{x!r} {y!r}" for x, y in ring)
    return f"POLYGON (({text}))", {"type": "Polygon", "coordinates": [ring]}


@pytest.mark.parametrize(
    ("nodata", "dtype"), [(None, "uint8"), (0, "uint8"), (None, "float32"), (-1, "int16")]
)
def test_a_polygon_as_rasterio_cuts_it(tmp_path: Path, nodata: float | None, dtype: str) -> None:
    source = scene(tmp_path / "scene.tif", nodata, dtype)
    text, geometry = outline()
    result = nr.restore(source, "identity", mask=text, device="cpu")
    whole = np.asarray(result)
    path = result.save(tmp_path / "cut.tif", clip="mask")
    with rasterio.open(source) as file:
        _, _, window = rasterio.mask.raster_geometry_mask(file, [geometry], crop=True)
        outside, _, _ = rasterio.mask.raster_geometry_mask(file, [geometry])
    with rasterio.open(path) as file:
        top, left = (round(v) for v in (~PLACE * (file.transform * (0, 0)))[::-1])
        # The same numbers as rasterio's window has, moved by whole pixels.
        assert file.transform == PLACE @ Affine.translation(left, top)
        assert file.nodata == nodata
        inside = ~outside[top : top + file.height, left : left + file.width]
        # No empty row or column at the sides, and none of the area is missing.
        assert inside.sum() == (~outside).sum()
        assert inside[[0, -1]].any(axis=1).all() and inside[:, [0, -1]].any(axis=0).all()
        np.testing.assert_array_equal(file.dataset_mask() > 0, inside)
        pixels = file.read().transpose(1, 2, 0)
        part = whole[top : top + file.height, left : left + file.width]
        np.testing.assert_array_equal(pixels[inside], part[inside])
        if nodata is not None:
            assert (pixels[~inside] == nodata).all()
            with rasterio.open(source) as first:
                ours = cut(first, [geometry], crop=True, nodata=nodata)[0]
            window_part = ours[:, top - window.row_off :, left - window.col_off :]
            expected = window_part[:, : file.height, : file.width].transpose(1, 2, 0)
            np.testing.assert_array_equal(pixels, expected)
    assert np.array_equal(nr.open_image(path).read_valid((0, 0, *inside.shape)), inside)


def test_a_box_holds_what_the_whole_holds(tmp_path: Path) -> None:
    source = scene(tmp_path / "scene.tif")
    result = nr.restore(source, "dcp", mask=outline()[0], device="cpu")
    with rasterio.open(result.save(tmp_path / "box.tif", clip="box")) as file:
        left, top = (round(v) for v in ~PLACE * (file.transform * (0, 0)))
        part = np.asarray(result)[top : top + file.height, left : left + file.width]
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), part)
        assert file.shape < (48, 64) and file.dataset_mask().all()


def test_several_boxes(tmp_path: Path) -> None:
    source = scene(tmp_path / "scene.tif")
    boxes = [nr.Region(4, 4, 10, 12), nr.Region(20, 30, 28, 40)]
    result = nr.restore(source, "identity", region=boxes, device="cpu")
    with rasterio.open(result.save(tmp_path / "boxes.tif", clip="mask")) as file:
        assert file.shape == (24, 36) and file.transform == PLACE @ Affine.translation(4, 4)
        assert (file.dataset_mask() > 0).sum() == 6 * 8 + 8 * 10


def test_zarr_gets_an_alpha(tmp_path: Path) -> None:
    source = scene(tmp_path / "scene.tif")
    result = nr.restore(source, "identity", mask=outline()[0], device="cpu")
    image = nr.open_image(result.save(tmp_path / "cut.zarr", clip="mask"))
    assert image.roles[-1] == "alpha"
    assert not image.read_valid((0, 0, image.height, image.width)).all()


def test_what_cannot_be(tmp_path: Path) -> None:
    source = scene(tmp_path / "scene.tif")
    with pytest.raises(BadRegion, match="no area to clip to"):
        api.output_box(nr.plan(source, "identity", device="cpu"), "box")
    result = nr.restore(source, "identity", mask=outline()[0], device="cpu")
    with pytest.raises(BadOutput, match="cannot mark the invalid pixels"):
        result.save(tmp_path / "cut.jpg", clip="mask")
    with pytest.raises(BadOutput, match="no clip 'hull'"):
        result.save(tmp_path / "cut.tif", clip="hull")
