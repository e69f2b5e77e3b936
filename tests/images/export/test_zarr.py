"""OME-Zarr out and back in: pixels, levels, place and meaning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from rasterio.crs import CRS
from rasterio.transform import Affine

import napari_restore as nr
from napari_restore.errors import BadOutput, Cancelled, UnreadableImage
from napari_restore.images import (
    ControlPoint,
    ExportOptions,
    Georeference,
    Pixels,
    halve,
    open_image,
    write_image,
)
from napari_restore.images.values.working_space import named_profile

Noise = Callable[..., np.ndarray]


def copy(image: Any, target: Path, **more: Any) -> Path:
    box = (0, 0, image.height, image.width)
    return write_image(target, Pixels(box, image.read), like=image, **more)


@pytest.mark.parametrize(
    "name",
    [
        "RGB.byte.tif",
        "RGBA.uint16.tif",
        "all-nodata.tif",
        "cog_nodata_nan.tif",
        "custom_proj_int16.tif",
        "cog_hirise_mars.tif",
        "spacenet_ms_float64.tif",
    ],
)
def test_read_back_it_is_the_same_image(data_dir: Path, tmp_path: Path, name: str) -> None:
    image = open_image(data_dir / "geotiff" / name)
    again = open_image(copy(image, tmp_path / "Bild ü.zarr"))
    box = (0, 0, image.height, image.width)
    np.testing.assert_array_equal(again.read(box), image.read(box))
    np.testing.assert_array_equal(again.read_valid(box), image.read_valid(box))
    for what in ("shape", "dtype", "georeference", "roles", "descriptions", "nodata"):
        assert getattr(again, what) == getattr(image, what), what
    for what in ("scales", "offsets", "units", "tags", "colorinterp"):
        assert getattr(again.profile, what) == getattr(image.profile, what), what


def test_nan_as_nodata(tmp_path: Path) -> None:
    values = np.ones((1, 80, 70), np.float32)
    values[:, :9] = np.nan
    with rasterio.open(
        tmp_path / "in.tif", "w", count=1, height=80, width=70, dtype="float32", nodata=np.nan
    ) as d:
        d.write(values)
    written = copy(open_image(tmp_path / "in.tif"), tmp_path / "out.zarr")
    nodata = open_image(written).nodata
    assert nodata is not None and np.isnan(nodata)
    json.loads((written / "zarr.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_levels_and_their_scales(tmp_path: Path, small_levels: Callable[..., None]) -> None:
    small_levels(smallest=50, chunk=64)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 1 << 16, (3, 217, 150)).astype(np.uint16)
    pixels[:, 100:, :33] = 0
    with rasterio.open(
        tmp_path / "in.tif", "w", count=3, height=217, width=150, dtype="uint16", nodata=0,
        crs="EPSG:32633", transform=Affine(2, 0, 500, 0, -4, 900),
    ) as d:  # fmt: skip
        d.write(pixels)
    image = open_image(tmp_path / "in.tif")
    group = zarr.open_group(copy(image, tmp_path / "out.zarr"), mode="r")

    multiscale = group.attrs["ome"]["multiscales"][0]
    assert group.attrs["ome"]["version"] == "0.5"
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"]
    assert multiscale["axes"][1] == {"name": "y", "type": "space", "unit": "meter"}
    assert [d["path"] for d in multiscale["datasets"]] == ["0", "1", "2", "3"]
    scale, shift = multiscale["datasets"][2]["coordinateTransformations"]
    assert scale == {"type": "scale", "scale": [1.0, 16.0, 8.0]}
    assert shift == {"type": "translation", "translation": [0.0, 6.0, 3.0]}

    expected, valid = np.moveaxis(pixels, 0, 2), (pixels != 0).any(axis=0)
    for number in range(4):
        level = group[str(number)]
        assert level.chunks == (3, 64, 512) or level.chunks == (3, 64, 64)
        np.testing.assert_array_equal(np.moveaxis(level[:], 0, 2), expected)
        expected, found = halve(expected, valid, nodata=0)
        assert found is not None
        valid = found


def test_box_moves_the_place(tmp_path: Path, data_dir: Path) -> None:
    image = open_image(data_dir / "geotiff" / "RGB.byte.tif")
    written = write_image(
        tmp_path / "part.zarr", Pixels((100, 37, 300, 237), image.read), like=image
    )
    part = open_image(written)
    assert part.georeference == image.georeference.shifted(37, 100)
    np.testing.assert_array_equal(part.read((0, 0, 200, 200)), image.read((100, 37, 300, 237)))


def test_internal_mask_becomes_an_alpha_channel(tmp_path: Path) -> None:
    mask = np.full((90, 80), 255, np.uint8)
    mask[:40, :30] = 0
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "in.tif", "w", count=2, height=90, width=80, dtype="uint16") as d,
    ):
        d.write(np.full((2, 90, 80), 7, np.uint16))
        d.write_mask(mask)
    image = open_image(tmp_path / "in.tif")
    again = open_image(copy(image, tmp_path / "out.zarr"))
    assert again.shape == (90, 80, 3) and again.roles[-1] == "alpha"
    np.testing.assert_array_equal(again.read_valid((0, 0, 90, 80)), mask != 0)


def test_control_points_and_rpcs_are_kept(tmp_path: Path, data_dir: Path) -> None:
    image = open_image(data_dir / "geotiff" / "cog_gcps.tif")
    group = zarr.open_group(copy(image, tmp_path / "out.zarr"), mode="r")
    own = group.attrs["napari_restore"]
    first = image.georeference.gcps[3]
    assert len(own["gcps"]) == 210
    assert (own["gcps"][3]["row"], own["gcps"][3]["x"]) == (first.row, first.x)
    assert own["gcps_crs_wkt"] == image.georeference.gcps_crs_wkt
    assert open_image(tmp_path / "out.zarr").georeference == image.georeference


def test_rational_polynomials_and_points_of_a_part_come_back(tmp_path: Path) -> None:
    rpcs = {"LINE_OFF": "100", "SAMP_OFF": "200.5", "LAT_OFF": "46", "LONG_OFF": "8"}
    image = open_image(np.ones((60, 70, 1), np.uint8))
    image.reader.georeference = Georeference(
        gcps=(ControlPoint(1.5, 2, 8.1, 46.2, 3, "a", "tower"), ControlPoint(40, 50, 8.2, 46.1)),
        gcps_crs_wkt=CRS.from_epsg(4326).to_wkt(),
        rpcs=rpcs,
    )
    out, box = tmp_path / "out.zarr", (10, 20, 60, 70)
    write_image(out, Pixels(box, image.read), like=image)
    place = open_image(out).georeference
    assert place == image.georeference.shifted(20, 10)
    assert (place.gcps[0].row, place.gcps[0].info) == (-8.5, "tower")
    assert (place.rpcs["LINE_OFF"], place.rpcs["LAT_OFF"]) == ("90.0", "46")


def test_a_reflectance_product_stays_known_as_one(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "LC08_L2SP_107035_20150502_02_T1_SR_B4.TIF"
    size = {"height": 60, "width": 70, "count": 1, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=Affine(30, 0, 0, 0, -30, 0), **size) as new:
        new.write(noise(60, 70, 1, np.uint16).transpose(2, 0, 1))
    image = open_image(path)
    assert image.profile.is_reflectance
    assert sum("not calibrated reflectance" in note for note in image.notes) == 1
    assert open_image(copy(image, tmp_path / f"{path.stem}.zarr")).profile.is_reflectance
    joint = open_image([path, path], stack=True)
    assert joint.profile.is_reflectance
    assert sum("not calibrated reflectance" in note for note in joint.notes) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_photo_keeps_its_colour_profile(
    tmp_path: Path, noise: Noise, dtype: type[np.unsignedinteger[Any]]
) -> None:
    path, icc = tmp_path / "a.tif", named_profile("adobe-rgb")
    tifffile.imwrite(path, noise(60, 70, 3, dtype), photometric="rgb", iccprofile=icc)
    image = open_image(path)
    out = copy(image, tmp_path / "a.zarr")
    again = open_image(out)
    assert again.profile.icc == icc and again.is_photo and again.is_display
    assert any("the output keeps Adobe RGB" in note for note in again.notes)
    whole = (0, 0, 60, 70)
    np.testing.assert_array_equal(again.read(whole), image.read(whole))
    group = zarr.open_group(out)
    group.attrs["napari_restore"] = {**group.attrs["napari_restore"], "icc": "no base64"}
    with pytest.raises(UnreadableImage, match="damaged attributes"):
        open_image(out)


def test_replaces_only_zarr_and_leaves_nothing(tmp_path: Path, data_dir: Path) -> None:
    image = open_image(data_dir / "geotiff" / "RGB.byte.tif")
    out = tmp_path / "out.zarr"
    copy(image, out)
    with pytest.raises(BadOutput, match="exists"):
        copy(image, out)
    part = Pixels((0, 0, 100, 100), image.read)
    write_image(out, part, like=image, options=ExportOptions(overwrite=True))
    assert open_image(out).shape == (100, 100, 3)
    with pytest.raises(Cancelled):
        copy(image, out, cancelled=lambda: True, options=ExportOptions(overwrite=True))
    assert open_image(out).shape == (100, 100, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize("name", [".zattrs", "notes.txt"])
def test_a_folder_that_is_no_zarr_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / name).write_text("{}")
    with pytest.raises(BadOutput, match="a folder and will not be replaced"):
        nr.restore(np.zeros((8, 8, 3), np.uint8), "identity", progress=False).save(
            tmp_path / "mine.zarr", overwrite=True
        )
    assert (tmp_path / "mine.zarr" / name).read_text() == "{}"
