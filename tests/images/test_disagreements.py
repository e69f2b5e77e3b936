"""Where two sources say different things of one fact, a note names both, and the user's word wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore import api
from napari_restore.commands import main
from napari_restore.errors import UnknownBands
from napari_restore.images.values.working_space import named_profile

PLANET = "20170831_172754_101c_3B_AnalyticMS.tif"
NAMES = ("Blue", "Green", "Red", "x")


def written(
    path: Path, names: Any = (), waves: Any = (), *, tagged: bool = True, count: int = 4
) -> Path:
    """Write bands that a tag calls red, green, blue and unknown; names and wavelengths are others'."""
    values = np.random.default_rng(0).integers(0, 3000, (count, 40, 50)).astype("uint16")
    profile = {"driver": "GTiff", "width": 50, "height": 40, "count": count, "dtype": "uint16"}
    photometric = "RGB" if tagged else "MINISBLACK"
    place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 3, 3)}
    with rasterio.open(path, "w", **profile, **place, photometric=photometric) as file:
        file.write(values)
        if names:
            file.descriptions = names[:count]
        for band, wave in enumerate(waves, start=1):
            file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(wave / 1000))
    return path


BGR = ("blue", "green", "red", "nir")
ROLES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str | None, ...], str]] = {
    # How it is written, how opened, what its bands are, and the note.
    "sensor of the user, tag": ({}, {"sensor": "planet"}, BGR, "by sensor, not red, blue by colour"),
    "product, tag": ({"name": PLANET}, {}, BGR, "by sensor, not red, blue by colour"),
    "user, tag": ({}, {"bands": "blue=1,red=3"}, ("blue", "green", "red", None),
                  "blue, red by user, not red, blue by colour interpretation"),
    "user, name": ({"names": NAMES, "tagged": False}, {"bands": "red=1,blue=3"},
                   ("red", "green", "blue", None), "red, blue by user, not blue, red by name"),
    "user, sensor of the user": ({}, {"sensor": "planet", "bands": "red=1,blue=3"},
                                 ("red", "green", "blue", "nir"), "by user, not blue, red by sensor"),
    "name, tag": ({"names": NAMES}, {}, ("blue", "green", "red", None),
                  "Bands 1, 3 are blue, red by name, not red, blue by colour interpretation."),
    "sensor of the user, name": ({"names": ("Red", "Green", "Blue", "x"), "tagged": False, "name": "s"},
                                 {"sensor": "naip", "bands": "blue=1,red=3"},
                                 ("blue", "green", "red", "nir"), "by user, not red, blue by sensor"),
    "names of a sensor's bands, tag": ({"names": ("B02", "B03", "B04", "B8A")}, {"sensor": None},
                                       ("blue", "green", "red", "nir"),
                                       "by sensor, not red, blue by colour interpretation"),
    "name, wavelength": ({"names": ("Red", "Green", "Blue", "x"), "waves": (865, 560, 480)}, {},
                         ("red", "green", "blue", None), "Band 1 is red by name, not 865 nm by wavelength."),
    "sensor of the user, wavelength": ({"waves": (660, 560, 480, 850), "tagged": False},
                                       {"sensor": "planet"}, BGR, "not 660 nm, 480 nm by wavelength"),
    "tag, wavelength": ({"waves": (480, 560, 660)}, {}, ("red", "green", "blue", None),
                        "red, blue by colour interpretation, not 480 nm, 660 nm by wavelength"),
}  # fmt: skip


@pytest.mark.parametrize("case", ROLES)
def test_roles(case: str, tmp_path: Path) -> None:
    how, given, roles, note = ROLES[case]
    how = dict(how)
    path = written(tmp_path / how.pop("name", "scene.tif"), **how)
    image = nr.open_image(path, **given)
    assert image.roles == roles
    assert [each for each in image.notes if note in each], image.notes
    if "user" in case or case.startswith("product"):
        nr.plan(image, "hot", memory="1GiB")
    elif case != "tag, wavelength":
        with pytest.raises(UnknownBands, match="in two ways: Band"):
            nr.plan(image, "hot", memory="1GiB")


def test_a_sensors_wavelengths_come_with_its_roles(tmp_path: Path) -> None:
    """A stack of seven bands of Landsat of which a tag calls the first three red, green and blue."""
    path = written(tmp_path / "stack.tif", count=7)
    image = nr.open_image(path, sensor="landsat8")
    assert image.roles == ("coastal", "blue", "green", "red", "nir", "swir", "swir")
    assert image.wavelengths == (443, 482, 561, 655, 865, 1609, 2201)
    plain = nr.open_image(path)
    assert plain.roles[:3] == ("red", "green", "blue") and not any(plain.wavelengths)


@pytest.mark.parametrize("how", ["bands", "sensor"])
def test_what_is_said_later_is_told_as_what_is_said_at_once(how: str, tmp_path: Path) -> None:
    path = written(tmp_path / "scene.tif", NAMES)
    given: dict[str, Any] = (
        {"bands": "red=1,green=2,blue=3"} if how == "bands" else {"sensor": "naip"}
    )
    at_once, image = nr.open_image(path, **given), nr.open_image(path)
    later = image.with_roles(given["bands"]) if how == "bands" else image.with_sensor("naip")
    assert sorted(later.notes) == sorted(at_once.notes)
    assert later.roles == at_once.roles and later.described.unsure == at_once.described.unsure
    part = image.with_bands([2, 1, 0])
    assert part.described.notes == [
        "Bands 1, 3 are red, blue by name, not blue, red by colour interpretation."
    ]


def photo(path: Path, *, dcf: int | None = None, r03: bool = False, **written: Any) -> Path:
    """Write a JPEG with EXIF of a colour space and an index of interoperability."""
    pixels = np.random.default_rng(1).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    if dcf is not None or r03:
        exif = written["exif"] = Image.Exif()
        settings = exif.get_ifd(0x8769)
        settings.update({} if dcf is None else {0xA001: dcf})
        settings.update({0xA005: {1: "R03"}} if r03 else {})
    Image.fromarray(pixels).save(path, quality=95, **written)
    return path


ADOBE = bytes(imagecodecs.cms_profile("adobergb"))
P3 = named_profile("display-p3")
COLOURS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    # How it is written, whose profile it has, and the note.
    "R03 and uncalibrated": ({"dcf": 0xFFFF, "r03": True}, "Adobe RGB", ""),
    "R03 alone": ({"r03": True}, "Adobe RGB", ""),
    "colour space 2": ({"dcf": 2}, "Adobe RGB", ""),
    "uncalibrated": ({"dcf": 0xFFFF}, None, ""),
    "profile, colour space": ({"dcf": 1, "icc_profile": ADOBE}, "Adobe RGB",
                              "Adobe RGB (compatible) by colour profile, not sRGB by EXIF colour space."),
    "profile, R03": ({"r03": True, "icc_profile": P3}, "Display P3",
                     "Display P3 by colour profile, not Adobe RGB (compatible) by EXIF interop"),
    "colour space, R03": ({"dcf": 1, "r03": True}, None,
                          "sRGB by EXIF colour space, not Adobe RGB (compatible) by EXIF interop"),
    "equal": ({"r03": True, "icc_profile": ADOBE}, "Adobe RGB", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", COLOURS)
def test_colours(case: str, tmp_path: Path) -> None:
    how, name, note = COLOURS[case]
    image = nr.open_image(photo(tmp_path / "a.jpg", **how))
    assert (image.working_space is None) == (name is None)
    told = [each for each in image.notes if ", not " in each]
    assert all(note in each for each in told) and bool(told) == bool(note), image.notes
    assert not name or any(f"colours are {name}" in each for each in image.notes)


def test_a_photo_in_adobe_rgb_by_dcf_is_written_as_srgb(tmp_path: Path) -> None:
    """As LittleCMS converts it."""
    path, out = photo(tmp_path / "_a.jpg", dcf=0xFFFF, r03=True), tmp_path / "o.png"
    assert (
        main(["restore", str(path), "-o", str(out), "--model", "identity", "--profile", "sRGB"])
        == 0
    )
    stored = np.asarray(Image.open(path))
    expected = imagecodecs.cms_transform(
        stored, ADOBE, imagecodecs.cms_profile("srgb"), colorspace="rgb", outcolorspace="rgb"
    )
    found = np.asarray(Image.open(out)).astype(int)
    assert np.abs(found - expected).max() <= 1 and np.abs(found - stored).max() > 20


@pytest.mark.parametrize("turned", [1, 6])
def test_blocks_of_a_photo(turned: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112], exif[0x11A], exif[0x11B], exif[0x128] = turned, 300.0, 300.0, 2
    xmp = b'<x:xmpmeta><rdf:RDF><rdf:Description tiff:Orientation="1"/></rdf:RDF></x:xmpmeta>'
    path = photo(tmp_path / "a.jpg", exif=exif, dpi=(72, 72), xmp=xmp)
    image = nr.open_image(path)
    assert "Its resolution is 72 dpi by JFIF, not 300 dpi by EXIF." in image.notes
    assert image.shape[:2] == ((40, 50) if turned == 1 else (50, 40))
    assert ("Its orientation is 6 by EXIF, not 1 by XMP." in image.notes) == (turned == 6)
    Path(f"{path}.xmp").write_bytes(xmp.replace(b"1", b'1" dc:format="x'))
    beside = "Its XMP is that of the file beside it, not the one within."
    assert beside in nr.open_image(path).notes and beside not in image.notes


def test_files_beside_a_geotiff(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as file:
        file.nodata = 0
    assert not [note for note in nr.open_image(path).notes if ", not " in note]
    # The corner of the file, as the centre of its first pixel.
    world = path.with_suffix(".tfw")
    world.write_text("3\n0\n0\n-3\n500001.5\n4999998.5\n")
    assert not [note for note in nr.open_image(path).notes if "its own tags" in note]
    world.write_text("10\n0\n0\n-10\n400000\n4000000\n")
    Path(f"{path}.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>255</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    image = nr.open_image(path)
    assert image.transform == (3, 0, 5e5, 0, -3, 5e6)
    assert "Its place is that of its own tags, not of a.tfw." in image.notes
    assert "Its nodata is 255 by a.tif.aux.xml, not 0 by its tags." in image.notes


N0509 = "S2A_MSIL2A_20230101T101010_N0509_R022_T32TPS.tif"
PRODUCTS: dict[str, tuple[str, dict[str, str], dict[str, Any], float, str]] = {
    # Name, tags, how it is opened, its zero and the note.
    "sensor: name, tags": ("LC08_L2SP_193026_20220705_20220722_02_T1.tif", {"SPACECRAFT_ID": "LANDSAT_9"}, {},
                           0.2 / 2.75e-5, "sensor is Landsat 8 OLI/TIRS by name, not Landsat 9"),
    "sensor: user, name": ("LC08_L1TP_193026_20220705_20220722_02_T1.tif", {}, {"sensor": "landsat9"},
                           5000, "Landsat 9 OLI-2/TIRS-2 by user, not Landsat 8 OLI/TIRS by name"),
    "baseline: name, tags": (N0509, {"PROCESSING_BASELINE": "03.01"}, {}, 1000,
                             "zero is DN 1000 by processing baseline in its name, not DN 0 by processing"),
    "baseline: tags, date": ("S2A_MSIL1C_20230101T101010.tif", {"PROCESSING_BASELINE": "03.01"}, {}, 0,
                             "DN 0 by processing baseline in its tags, not DN 1000 by its last date"),
    "reprocessed": ("S2A_MSIL1C_20180101T101010_N0500_R022.tif", {}, {}, 1000, ""),
    "equal": (N0509, {"PROCESSING_BASELINE": "05.09"}, {}, 1000, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", PRODUCTS)
def test_products(case: str, tmp_path: Path) -> None:
    name, tags, given, zero, note = PRODUCTS[case]
    path = written(tmp_path / name, tagged=False)
    with rasterio.open(path, "r+") as file:
        file.update_tags(**tags)
    found = api.info(nr.open_image(path, **given))
    assert found["black"] == pytest.approx([zero] * 4)
    told = [each for each in found["notes"] if ", not DN" in each or "Its sensor" in each]
    assert all(note in each for each in told) and bool(told) == bool(note), found["notes"]


@pytest.mark.parametrize("sensor", [None, "sentinel2"])
def test_scale_and_offset_beside_a_product(sensor: str | None, tmp_path: Path) -> None:
    path = written(tmp_path / N0509, tagged=False)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.0001,) * 4, (0.0,) * 4
    image = nr.open_image(path, sensor=sensor)
    assert any("zero is DN 0 by scale and offset, not DN 1000 (" in each for each in image.notes)
    assert api.info(image)["black"] == [0.0] * 4
    # The user's word comes before both.
    assert api.info(image, black=1000)["black"] == [1000.0] * 4
    with rasterio.open(path, "r+") as file:
        file.offsets = (-0.1,) * 4
    assert not [each for each in nr.open_image(path, sensor=sensor).notes if "scale and" in each]


@pytest.mark.parametrize("known", [False, True])
def test_a_time_that_stands_for_none(known: bool, tmp_path: Path) -> None:
    """GDAL writes 1970-01-01 where it does not know the metadata of before Collection 2."""
    path = written(tmp_path / "LC81060712016134LGN00_B3.TIF", count=1, tagged=False)
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="1970-01-01 00:00:00")
        if known:
            day = {"X.DATE_ACQUIRED": "2016-05-13", "X.SCENE_CENTER_TIME": "01:23:31.4516110Z"}
            file.update_tags(ns="IMD", **day)
    image = nr.open_image(path)
    assert api.info(image)["acquisition"]["time"] == ("2016-05-13 01:23:31" if known else None)
    told = "DATE_ACQUIRED says 2016-05-13 01:23:31." if known else "no other is known."
    assert any("1970-01-01 00:00:00 stands for none" in n and told in n for n in image.notes)
    nr.restore(image, "identity", tile=64).save(tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as file:
        assert "1970" not in str(file.tags(ns="IMAGERY"))


def test_a_grey_photo_with_a_profile_of_red_green_and_blue(tmp_path: Path) -> None:
    path = tmp_path / "grey.jpg"
    Image.fromarray(np.full((40, 50), 90, np.uint8)).save(path, icc_profile=ADOBE)
    image = nr.open_image(path)
    assert image.profile.icc is None
    assert any(
        "It is grey, and its colour profile is of red, green and blue" in n for n in image.notes
    )


ORDERS = (b"-Y 6 +X 9", b"+Y 6 +X 9", b"-Y 6 -X 9", b"+Y 6 -X 9", b"+X 9 -Y 6", b"-X 9 +Y 6")


@pytest.mark.parametrize("order", ORDERS)
def test_radiance_is_read_in_any_order(order: bytes, tmp_path: Path) -> None:
    light = np.random.default_rng(0).random((6, 9, 3), np.float32)
    stored = light[:: 1 if b"-Y" in order else -1, :: 1 if b"+X" in order else -1]
    stored = stored if order[1:2] == b"Y" else stored.swapaxes(0, 1)
    exponent = np.floor(np.log2(stored.max(2))) + 1
    mantissa = np.floor(stored * 2.0 ** (8 - exponent[..., None]))
    pixels = np.concatenate([mantissa, exponent[..., None] + 128], 2).astype(np.uint8)
    head = b"#?RADIANCE\nFORMAT=32-bit_rle_%s\n%s\n\n%s\n"
    path = tmp_path / "a.hdr"
    path.write_bytes(head % (b"rgbe", b"EXPOSURE=2\nEXPOSURE=1.5", order) + pixels.tobytes())
    image = nr.open_image(path)
    found = image.read((0, 0, 6, 9))
    assert image.shape == (6, 9, 3) and np.abs(found - light).max() <= 1 / 128
    assert any("multiplied by 3 (EXPOSURE)" in note for note in image.notes)
    path.write_bytes(head % (b"xyze", b"", order) + pixels.tobytes())
    x, y, z = np.moveaxis(found.astype(float), 2, 0)
    blue = 0.0557 * x - 0.2040 * y + 1.0570 * z
    assert np.abs(nr.open_image(path).read((0, 0, 6, 9))[..., 2] - blue).max() <= 1e-5
