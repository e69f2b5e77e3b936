"""Masks as products ship them, by name, value and bit, and shapes in six vector formats."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.io import MemoryFile
from rasterio.shutil import copy
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore.api import Note
from napari_restore.engine.masks.open_mask import open_exclude
from napari_restore.errors import BadMask, BadParameter
from napari_restore.questions import Restore

SIZE = (40, 60)
PLACE = from_origin(500000, 5300000, 10, 10)
CLOUD, SHADOW = np.s_[5:15, 5:25], np.s_[20:30, 10:30]
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(
        name: str,
        pixels: npt.NDArray[Any],
        *descriptions: str,
        place: Any = PLACE,
        colours: dict[int, tuple[int, int, int]] | None = None,
        crs: str = "EPSG:32632",
    ) -> str:
        bands = np.atleast_3d(pixels).transpose(2, 0, 1)
        count, height, width = bands.shape
        about = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
        path = tmp_path / name
        with rasterio.open(path, "w", driver="GTiff", transform=place, crs=crs, **about) as new:
            new.write(bands)
            for number, text in enumerate(descriptions, 1):
                new.set_band_description(number, text)
            if colours is not None:
                new.write_colormap(1, colours)
        return str(path)

    return write


@pytest.fixture
def image(write: Write) -> nr.Image:
    return nr.open_image(write("scene.tif", np.full((*SIZE, 3), 90, np.uint8)))


def covered(image: nr.Image, **reading: Any) -> npt.NDArray[np.bool_]:
    mask = open_exclude(Restore.of(reading).reading, image)
    assert mask is not None
    return mask.read(nr.Region(0, 0, image.height, image.width)) > 0


def flags(dtype: str, clear: int, cloud: int, shadow: int) -> npt.NDArray[Any]:
    pixels = np.full(SIZE, clear, dtype)
    pixels[CLOUD], pixels[SHADOW] = cloud, shadow
    return pixels


def area(*parts: Any) -> npt.NDArray[np.bool_]:
    meant = np.zeros(SIZE, bool)
    for part in parts:
        meant[part] = True
    return meant


def udm2() -> npt.NDArray[np.uint8]:
    bands = np.zeros((*SIZE, 8), np.uint8)
    bands[..., 0] = 1
    bands[..., 6] = 95
    for number, part in ((5, CLOUD), (2, SHADOW)):
        bands[(*part, number)], bands[(*part, 0)] = 1, 0
    return bands


PRODUCTS = {
    "LC09_L2SP_193027_20240601_20240603_02_T1_QA_PIXEL.TIF": flags("uint16", 21824, 22280, 23888),
    "T32TQM_20240601T101031_SCL_20m.tif": flags("uint8", 4, 9, 3),
    "HLS.S30.T32TQM.2024153T101031.v2.0.Fmask.tif": flags("uint8", 64, 66, 72),
    "LC08_193027_Fmask4.tif": flags("uint8", 0, 4, 2),
    "MOD09GA_state_1km_1.tif": flags("uint16", 8, 1033, 1036),
    "20240601_101010_SR_8b_udm2.tif": udm2(),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_by_name(write: Write, image: nr.Image, name: str) -> None:
    path = write(name, PRODUCTS[name])
    np.testing.assert_array_equal(covered(image, exclude=path, exclude_bits="cloud"), area(CLOUD))
    both = covered(image, exclude=path, exclude_bits=["cloud", "cloud_shadow"])
    np.testing.assert_array_equal(both, area(CLOUD, SHADOW))
    with pytest.raises(BadMask, match=r"has no 'smoke'.*Choose among .*cloud"):
        covered(image, exclude=path, exclude_bits="smoke")
    with pytest.raises(BadMask, match=r"is not known\. Name .*cloud"):
        covered(image, exclude=path)


def test_numbers(write: Write, image: nr.Image) -> None:
    scl = write("classes.tif", flags("uint8", 4, 9, 3))
    np.testing.assert_array_equal(
        covered(image, exclude=scl, exclude_values="3,8..10"), area(CLOUD, SHADOW)
    )
    np.testing.assert_array_equal(covered(image, exclude=scl, exclude_values=9), area(CLOUD))
    bits = write("bits.tif", flags("float32", 0, 8, 24))
    np.testing.assert_array_equal(covered(image, exclude=bits, exclude_bits=[4]), area(SHADOW))
    with pytest.raises(BadMask, match=r"'cloud' is in bits\.tif is not known"):
        covered(image, exclude=bits, exclude_bits="cloud")


@pytest.mark.parametrize("name", ["classes.tif", "classes.png", "classes.pgm"])
def test_numbers_of_few_bits(image: nr.Image, tmp_path: Path, name: str) -> None:
    """A picture is spread over 8 bits, classes are not."""
    pixels = flags("uint8", 4, 9, 3)
    (tmp_path / name).write_bytes(b"P5\n60 40\n9\n" + pixels.tobytes())
    if name != "classes.pgm":
        about = {"count": 1, "height": SIZE[0], "width": SIZE[1], "dtype": "uint8"}
        with MemoryFile() as file:
            with file.open(driver="GTiff", NBITS=4, **about) as new:
                new.write(pixels, 1)
            copy(file.name, tmp_path / name, NBITS=4)
    path, scene = str(tmp_path / name), nr.open_image(image.read((0, 0, *SIZE)))
    np.testing.assert_array_equal(covered(scene, exclude=path, exclude_values=9), area(CLOUD))
    np.testing.assert_array_equal(covered(scene, exclude=path, exclude_bits=[1]), area(SHADOW))


def test_a_value_of_nodata_counts(write: Write, image: nr.Image) -> None:
    path = write("clear.tif", flags("uint8", 1, 0, 1))
    with rasterio.open(path, "r+") as file:
        file.nodata = 0
    np.testing.assert_array_equal(covered(image, exclude=path, exclude_values="0"), area(CLOUD))


def test_a_band_of_a_file(write: Write, image: nr.Image) -> None:
    path = write("20240601_udm2.tif", udm2())
    np.testing.assert_array_equal(covered(image, exclude=f"{path}:6"), area(CLOUD))
    np.testing.assert_array_equal(
        covered(image, exclude=f"{path}:1", exclude_values=0), area(CLOUD, SHADOW)
    )
    with pytest.raises(BadMask, match="has no band 'nine'"):
        covered(image, exclude=f"{path}:nine")


@pytest.mark.parametrize("others", ["copy", "drop"])
def test_a_band_of_the_image(write: Write, others: str) -> None:
    qa = flags("uint16", 21824, 22280, 23888)
    light = np.random.default_rng(0).integers(8000, 20000, (*SIZE, 3)).astype(np.uint16)
    names = ("SR_B4", "SR_B3", "SR_B2", "QA_PIXEL")
    path = write("stack.tif", np.dstack([light, qa]), *names)
    options = {"exclude": ":QA_PIXEL", "exclude_bits": "cloud", "device": "cpu"}
    result = nr.restore(path, "dcp", other_bands=others, **options)
    changed = (np.asarray(result)[..., :3] != light).any(axis=2)
    assert changed.any() and not changed[CLOUD].any()
    outside = write("qa_QA_PIXEL.tif", qa)
    same = nr.restore(path, "dcp", other_bands=others, **{**options, "exclude": outside})
    np.testing.assert_array_equal(np.asarray(same), np.asarray(result))


def test_a_coarser_grid(write: Write, image: nr.Image) -> None:
    scl = flags("uint8", 4, 9, 3)[::2, ::2]
    path = write("T32TQM_SCL_20m.tif", scl, place=from_origin(500000, 5300000, 20, 20))
    expected = np.kron(scl, np.ones((2, 2), np.uint8)) == 9
    np.testing.assert_array_equal(covered(image, exclude=path, exclude_bits="cloud"), expected)


def test_a_palette_keeps_its_classes(write: Write, image: nr.Image) -> None:
    colours = {0: (0, 0, 0), 3: (60, 60, 60), 4: (0, 200, 0), 9: (255, 255, 255)}
    path = write("T32TQM_SCL_20m.tif", flags("uint8", 4, 9, 3), colours=colours)
    np.testing.assert_array_equal(covered(image, exclude=path, exclude_bits="cloud"), area(CLOUD))
    with pytest.raises(BadMask, match="codes of Sentinel-2 SCL from 3 to 9"):
        covered(image, exclude=path)


def test_a_choice_needs_what_it_chooses_of(write: Write, image: nr.Image) -> None:
    with pytest.raises(BadMask, match="but no mask"):
        covered(image, exclude_bits="cloud")
    with pytest.raises(BadMask, match="no values or bits"):
        covered(image, exclude="POLYGON ((0 0, 9 0, 9 9, 0 0))", exclude_values="1")
    with pytest.raises(BadMask, match="no attributes"):
        covered(image, exclude=write("m.tif", flags("uint8", 0, 1, 0)), exclude_where="a = 1")


# -- vector files ----------------------------------------------------------------------

SQUARE = [(500051, 5299951), (500251, 5299951), (500251, 5299849), (500051, 5299849)]
TRIANGLE = [(500300, 5299900), (500500, 5299900), (500400, 5299700)]
FORMATS = {
    ".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf", ".kml": "KML",
    ".geojson": "GeoJSON",
}  # fmt: skip


def wkb(ring: list[tuple[float, float]]) -> bytes:
    closed = [*ring, ring[0]]
    points = b"".join(struct.pack("<2d", *point) for point in closed)
    return struct.pack("<BIII", 1, 3, 1, len(closed)) + points


def vector(path: Path, crs: str | None = "EPSG:32632") -> str:
    from pyogrio.raw import write
    from rasterio.warp import transform

    def placed(ring: list[tuple[float, float]]) -> list[tuple[float, float]]:
        xs, ys = transform("EPSG:32632", "EPSG:4326", *zip(*ring, strict=True))
        return list(zip(xs, ys, strict=True))

    degrees = path.suffix in (".kml", ".geojson")
    rings = [placed(ring) if degrees else ring for ring in (SQUARE, TRIANGLE)]
    write(
        path,
        np.array([wkb(ring) for ring in rings], object),
        field_data=[np.array(["water", "town"], object)],
        fields=["class"],
        geometry_type="Polygon",
        crs="EPSG:4326" if degrees else crs,
        driver=FORMATS[path.suffix],
    )
    return str(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_vector_files(tmp_path: Path, image: nr.Image, suffix: str) -> None:
    pyogrio = pytest.importorskip("pyogrio")
    text = "POLYGON (({0[0]} {0[1]}, {1[0]} {1[1]}, {2[0]} {2[1]}, {3[0]} {3[1]}, {0[0]} {0[1]}))"
    square = covered(image, exclude=text.format(*SQUARE))
    path = vector(tmp_path / f"areas{suffix}")
    whole = covered(image, exclude=path)
    if suffix == ".kml" and "LIBKML" not in pyogrio.list_drivers():
        # GDAL's other driver of KML reads no fields.
        assert whole.sum() > square.sum() and (whole & square).sum() == square.sum()
        return
    water = covered(image, exclude=path, exclude_where="class = 'water'")
    np.testing.assert_array_equal(water, square)
    assert whole.sum() > square.sum() and (whole & square).sum() == square.sum()
    with pytest.raises(BadMask, match="no polygon"):
        covered(image, exclude=path, exclude_where="class = 'ice'")
    # A mask to restore in takes the same files.
    plan = nr.plan(image, "identity", mask=path, device="cpu")
    assert plan.region.y0 == 4


def test_a_vector_file_without_a_system(tmp_path: Path, image: nr.Image) -> None:
    pytest.importorskip("pyogrio")
    path = vector(tmp_path / "areas.shp")
    (tmp_path / "areas.prj").unlink()
    with pytest.raises(BadMask, match=r"areas\.shp has no coordinate system.*ogr2ogr -a_srs"):
        covered(image, exclude=path)
    (tmp_path / "areas.shx").unlink()
    with pytest.raises(BadMask, match=r"no areas\.shx beside it"):
        covered(image, exclude=path)


def test_a_layer_of_several(tmp_path: Path, image: nr.Image) -> None:
    pyogrio = pytest.importorskip("pyogrio")
    path = vector(tmp_path / "areas.gpkg")
    pyogrio.raw.write(
        path, np.array([wkb(TRIANGLE)], object), field_data=[], fields=[], layer="towns",
        geometry_type="Polygon", crs="EPSG:32632", driver="GPKG", append=True,
    )  # fmt: skip
    with pytest.raises(BadMask, match=r"2 layers.*Name one: areas\.gpkg:areas"):
        covered(image, exclude=path)
    towns = covered(image, exclude=f"{path}:towns")
    np.testing.assert_array_equal(
        towns, covered(image, exclude=f"{path}:areas", exclude_where="class = 'town'")
    )


@pytest.mark.parametrize(
    "where",
    ["ogr_geocode('x') = 1", "\"load_extension\" ('x')", "1 = 1; DROP TABLE a", "(SELECT 1) = 1"],
)
def test_filters_only_compare(tmp_path: Path, image: nr.Image, where: str) -> None:
    path = tmp_path / "areas.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    with pytest.raises(BadMask, match="no comparison of attributes"):
        covered(image, exclude=str(path), exclude_where=where)


def test_nearly_all_is_noted(write: Write, image: nr.Image) -> None:
    most = np.ones(SIZE, np.uint8)
    most[:2] = 0
    plan = nr.plan(image, "identity", exclude=write("keep.tif", most), device="cpu")
    assert any("keep.tif leaves out 95 % of the image" in note for note in plan.notes)


def test_a_palette_of_classes_is_no_picture(write: Write) -> None:
    pixels = flags("uint8", 4, 9, 3)
    colours = {0: (0, 0, 0), 3: (60, 60, 60), 4: (0, 200, 0), 9: (255, 255, 255)}
    path = write("cover.tif", pixels, colours=colours)
    with pytest.raises(BadParameter, match=r"classes with a palette.*bands="):
        nr.plan(path, "dcp", device="cpu")
    nr.plan(nr.open_image(path, bands="red=1,green=2,blue=3"), "dcp", device="cpu")
    photo = {number: (number, 255 - number, number // 2) for number in range(256)}
    nr.plan(write("photo.tif", pixels, colours=photo), "dcp", device="cpu")


def test_nothing_above_black(write: Write) -> None:
    rng = np.random.default_rng(0)
    dark = rng.integers(-90, -5, (*SIZE, 3)).astype(np.int8)
    job = nr.start(nr.plan(write("dark.tif", dark), "dcp", device="cpu", black=0, white=100))
    notes = [str(event.text) for event in job if isinstance(event, Note)]
    assert any("No value is above 0" in note and "black" in note for note in notes)
