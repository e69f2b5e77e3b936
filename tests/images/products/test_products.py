"""Products as agencies ship them are one image: bands, zero, validity, when and how they were taken."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import made_products as made
import numpy as np
import pytest
import rasterio
from range_server import RangeServer
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore.errors import OutsideFolder, UnreadableImage
from napari_restore.images import Image, describe, images_in_folder, is_product, open_image

LIGHT = [f"SR_B{n}" for n in range(1, 8)]


def read(image: Image) -> np.ndarray:
    return image.read((0, 0, image.height, image.width))


def band(image: Image, name: str) -> np.ndarray:
    return read(image)[..., image.descriptions.index(name)]


@pytest.mark.parametrize("form", ["txt", "xml", "json"])
@pytest.mark.parametrize("by_folder", [False, True])
def test_landsat_level2(tmp_path: Path, form: str, by_folder: bool) -> None:
    files = made.write_landsat(tmp_path, form=form)
    image = open_image(tmp_path if by_folder else tmp_path / f"{made.LANDSAT}_MTL.{form}")
    assert image.name == made.LANDSAT
    assert list(image.descriptions) == [*LIGHT, "ST_B10", "QA_PIXEL", "QA_RADSAT", "SR_QA_AEROSOL"]
    for name in image.descriptions:
        assert np.array_equal(band(image, name), files[name])
    assert image.dtype == np.uint16
    assert any("ST_CDIST" in note for note in image.notes)
    told = describe(image)
    assert told["acquisition"] == {
        "platform": "LANDSAT_8", "time": "2020-01-02 01:16:24", "cloud_cover": 12.34,
        "sun_azimuth": 157.84521, "sun_elevation": 27.04387,
    }  # fmt: skip
    assert told["black"] == pytest.approx([0.2 / 2.75e-5] * 7 + [0] * 4)
    assert [b["role"] for b in told["bands"]][1:5] == ["blue", "green", "red", "nir"]
    assert [b["kind"] for b in told["bands"]] == ["light"] * 8 + ["auxiliary"] * 3


def test_metadata_in_all_forms_is_one_product_read_from_the_text(tmp_path: Path) -> None:
    for form in ("json", "xml", "txt"):
        made.write_landsat(tmp_path, form=form)
    assert images_in_folder(tmp_path) == [tmp_path / f"{made.LANDSAT}_MTL.txt"]
    assert open_image(tmp_path).reader.files()[0].suffix == ".txt"
    for form in ("txt", "xml"):
        (tmp_path / f"{made.LANDSAT}_MTL.{form}").unlink()
    assert images_in_folder(tmp_path) == [tmp_path / f"{made.LANDSAT}_MTL.json"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"a": 1}', '{"a": {"b": 1}}', '{"a": {"b": {}}}'])
def test_json_that_is_no_metadata_of_landsat(tmp_path: Path, content: str) -> None:
    path = tmp_path / f"{made.LANDSAT}_MTL.json"
    path.write_text(content)
    with pytest.raises(UnreadableImage, match=r"no metadata of Landsat|no band of light"):
        open_image(path)


def test_landsat_level1_and_its_panchromatic_band(tmp_path: Path) -> None:
    files = made.write_landsat(tmp_path, made.LEVEL1)
    image = open_image(tmp_path)
    assert "B8" not in image.descriptions
    assert np.array_equal(band(image, "B9"), files["B9"])
    assert describe(image)["black"][:8] == pytest.approx([5000.0] * 8)
    assert any(":15m opens" in note for note in image.notes)
    sharp = open_image(f"{tmp_path}:15m")
    # Pixels of 30 m do not begin where those of 15 m do.
    assert sharp.descriptions == ("B8",)
    assert np.array_equal(band(sharp, "B8"), files["B8"])
    assert sharp.fingerprint != image.fingerprint


def test_both_gains_of_the_thermal_band_of_landsat7_show_heat(tmp_path: Path) -> None:
    name = "LE07_L1TP_107035_20200102_20200824_02_T1"
    made.write_landsat(tmp_path, name)
    path = metadata_of(tmp_path)
    for old, new in (
        (f"{name}_B10.TIF", f"{name}_B6_VCID_1.TIF"), ("BAND_10", "BAND_6_VCID_1"),
        ("LANDSAT_8", "LANDSAT_7"),
    ):  # fmt: skip
        changed(path, old, new)
    (tmp_path / f"{name}_B10.TIF").rename(tmp_path / f"{name}_B6_VCID_1.TIF")
    image = open_image(tmp_path)
    number = image.descriptions.index("B6_VCID_1")
    assert image.roles[number] == "thermal"
    assert image.profile.scales[number] == 3.342e-4


def test_a_pixel_is_valid_as_in_one_file_of_all_bands(tmp_path: Path) -> None:
    # The QA band is 1 in the collar, and one dark band may be real.
    files = made.write_landsat(tmp_path)
    name = tmp_path / f"{made.LANDSAT}_SR_B2.TIF"
    files["SR_B2"][5, 40] = 0
    made.write(name, files["SR_B2"], 30, nodata=0)
    image = open_image(tmp_path)
    valid = image.read_valid((0, 0, made.SIDE, made.SIDE))
    assert np.array_equal(valid, files["SR_B4"] != 0)
    assert image.nodata == 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "zero"), [(made.SAFE, 1000.0), (made.L1C, 0.0)])
def test_sentinel2(tmp_path: Path, name: str, zero: float, packed: bool) -> None:
    files = made.write_safe(tmp_path, name)
    path = made.zipped(tmp_path / name, tmp_path / "any.zip") if packed else tmp_path / name
    image = open_image(path)
    level2 = "L2A" in name
    others = ["AOT", "WVP", "SCL"] if level2 else []
    assert list(image.descriptions) == ["B02", "B03", "B04", "B08", *others]
    assert np.array_equal(band(image, "B04"), files["B04 10"])
    if level2:
        assert np.array_equal(band(image, "SCL"), files["SCL 20"].repeat(2, 0).repeat(2, 1))
    told = describe(image)
    assert told["black"] == pytest.approx([zero] * 4 + [0] * len(others))
    if level2:
        # Level-2A ATBD: AOT and WVP (cm) are values / 1000, classes are themselves.
        assert image.profile.scales[4:] == (0.001, 0.001, 1)
        assert image.roles[4:] == ("aerosol", "watervapour", "class")
    assert told["acquisition"]["sun_elevation"] == pytest.approx(29.5)
    assert told["acquisition"]["cloud_cover"] == 3.25
    assert told["acquisition"]["platform"] == "Sentinel-2A"
    assert image.name == name.removesuffix(".SAFE")
    coarser = open_image(f"{path}:20m")
    assert np.array_equal(band(coarser, "B8A"), files["B8A 20"])
    assert coarser.fingerprint != image.fingerprint
    # The file of metadata names the same product.
    if not packed:
        same = open_image(path / f"MTD_MSI{name[7:10]}.xml")
        assert (same.descriptions, same.shape) == (image.descriptions, image.shape)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("absent", "side", "bands", "said"),
    [
        (("R10m",), 20, ("B02", "B05", "B8A", "SCL"), "B02, B03, B04, B08, AOT, WVP (10 m)."),
        (("R10m", "R20m"), 60, ("B01", "SCL"), "AOT, WVP (10 m); B02, B05, B8A, SCL (20 m)."),
        (("R20m", "R60m"), 10, ("B02", "B03", "B04", "B08", "AOT", "WVP"), "SCL (60 m)."),
    ],
)
def test_a_part_of_sentinel2_opens_at_what_resolution_it_has(
    tmp_path: Path,
    absent: tuple[str, ...],
    side: int,
    bands: tuple[str, ...],
    said: str,
    packed: bool,
) -> None:
    files = made.write_safe(tmp_path)
    for folder in [path for name in absent for path in tmp_path.rglob(name)]:
        shutil.rmtree(folder)
    path = tmp_path / made.SAFE
    path = made.zipped(path, tmp_path / "any.zip") if packed else path
    image = open_image(path)
    assert image.transform[0] == side
    assert image.descriptions == bands
    for name in bands:
        assert np.array_equal(band(image, name), files[f"{name} {side}"])
    (note,) = image.opening_notes
    assert note.startswith("Not there, though its metadata names them: ")
    assert note.endswith(said)
    with pytest.raises(UnreadableImage, match=f"no bands of {absent[0][1:3]} m"):
        open_image(f"{path}:{absent[0][1:]}")


def test_level_1c_without_its_bands_of_10_m(tmp_path: Path) -> None:
    files = made.write_safe(tmp_path, made.L1C)
    for name in ("B02", "B03", "B04", "B08"):
        next(tmp_path.rglob(f"*_{name}.jp2")).unlink()
    image = open_image(tmp_path / made.L1C / "MTD_MSIL1C.xml")
    assert image.descriptions == ("B05", "B06", "B07", "B8A", "B11", "B12")
    assert np.array_equal(band(image, "B11"), files["B11 20"])


def test_bands_that_are_links_out_of_a_product_are_not_passed_over(tmp_path: Path) -> None:
    made.write_safe(tmp_path)
    path = tmp_path / made.SAFE
    for file in path.rglob("*_10m.jp2"):
        shutil.move(file, tmp_path / file.name)
        file.symlink_to(tmp_path / file.name)
    with pytest.raises(UnreadableImage, match="outside"):
        open_image(path)


def test_what_the_metadata_says_decides_the_zero_not_the_name(tmp_path: Path) -> None:
    made.write_safe(tmp_path, made.L1C.replace("N0207", "N0400"))
    (old,) = tmp_path.iterdir()
    image = open_image(old.rename(tmp_path / made.L1C))
    assert describe(image)["black"] == pytest.approx([1000.0] * 4)


@pytest.mark.parametrize(
    ("name", "role", "scale"),
    [("wvp", "watervapour", 0.001), ("aot", "aerosol", 0.001), ("qa_pixel", "quality", 1)],
)
def test_amounts_of_a_stac_item_have_their_scale_and_bits_none(
    name: str, role: str, scale: float, tmp_path: Path
) -> None:
    made.write_stac(tmp_path)
    values = made.write(tmp_path / f"{name}.tif", made.pixels(8, made.SIDE), 10, nodata=0)
    asset = {"href": f"{name}.tif", "type": "image/tiff", "roles": ["data"], "raster:bands": [{"scale": 0.001, "offset": 0.5}]}  # fmt: skip
    made.write_stac(tmp_path, **{f"assets__{name}": asset})
    image = open_image(tmp_path / "item.json")
    number = image.descriptions.index(name)
    assert (image.roles[number], image.profile.scales[number]) == (role, scale)
    assert image.profile.offsets[number] == (0.5 if scale < 1 else 0)
    assert np.array_equal(band(image, name), values)


STACKS = {
    # Names of bands, name of the file, and its zeros (USGS, Collection 2 Level-2: 0.2 / 2.75e-5).
    "landsat level 2": (
        ("SR_B4", "SR_B5", "QA_PIXEL", "QA_RADSAT", "SR_QA_AEROSOL", "ST_B10", "ST_QA"),
        f"{made.LANDSAT}.tif",
        [0.2 / 2.75e-5] * 2 + [0] * 5,
    ),
    "landsat level 1": (
        ("B4", "B5", "B6", "B10", "B11", "QA_PIXEL"),
        f"{made.LEVEL1}.tif",
        [5000] * 3 + [0] * 3,
    ),
    "sentinel-2": (
        ("B02", "B03", "B04", "B09", "AOT", "WVP", "SCL", "MSK_CLDPRB", "TCI_R"),
        made.SAFE.replace("SAFE", "tif"),
        [1000] * 4 + [0] * 5,
    ),
    "a thermal band": ((None,), f"{made.LEVEL1}_B10.TIF", [0]),
    "a band of light": ((None,), f"{made.LEVEL1}_B1.TIF", [5000]),
}


@pytest.mark.parametrize("case", STACKS)
def test_only_bands_of_reflectance_have_the_zero_of_a_product(case: str, tmp_path: Path) -> None:
    names, file, zeros = STACKS[case]
    values = np.full((len(names), 8, 9), 9000, np.uint16)
    place = from_origin(380000, 3950000, 30, 30)
    how = {"count": len(names), "height": 8, "width": 9, "dtype": "uint16", "crs": "EPSG:32654"}
    with rasterio.open(tmp_path / file, "w", driver="GTiff", transform=place, **how) as new:
        new.write(values)
        new.descriptions = names
    image = open_image(tmp_path / file)
    assert describe(image)["black"] == pytest.approx(zeros)
    # Who says that a band is of classes says that it has no zero, and the zero of the user counts for all.
    if len(names) > 1:
        assert describe(image.with_roles("class=1"))["black"][0] == 0
    assert describe(image, black=7)["black"] == [7] * len(names)


def test_a_stac_item_and_its_consent(tmp_path: Path) -> None:
    home = tmp_path / "scene"
    home.mkdir()
    files = made.write_stac(home)
    image = open_image(home / "item.json")
    assert image.descriptions == ("blue", "green", "red", "nir", "scl")
    assert image.roles == ("blue", "green", "red", "nir", "class")
    assert image.wavelengths[:4] == pytest.approx((490, 560, 665, 842))
    assert np.array_equal(band(image, "nir"), files["nir"])
    assert np.array_equal(band(image, "scl"), files["scl"].repeat(2, 0).repeat(2, 1))
    assert describe(image)["black"][:4] == pytest.approx([1000.0] * 4)
    assert describe(image)["acquisition"]["sun_azimuth"] == 161.25
    shutil.move(home / "red.tif", tmp_path / "red.tif")
    for href in ("../red.tif", str(tmp_path / "red.tif"), (tmp_path / "red.tif").as_uri()):
        made.write_stac(home, assets__red__href=href)
        with pytest.raises(OutsideFolder, match="takes pixels from"):
            open_image(home / "item.json")
        assert open_image(home / "item.json", allow_outside=True).bands == 5


def test_bands_of_8_bits_beside_bits_of_16(tmp_path: Path) -> None:
    made.write_stac(tmp_path)
    for name in ("blue", "green", "red", "nir"):
        values = made.pixels(1, made.SIDE, "uint8")
        made.write(tmp_path / f"{name}.tif", values, 10, nodata=0)
    wide = made.write(tmp_path / "SCL.tif", made.pixels(9, made.SIDE // 2), 20)
    image = open_image(tmp_path / "item.json")
    assert image.dtype == np.uint16
    assert np.array_equal(band(image, "red"), values)
    assert np.array_equal(band(image, "scl")[::2, ::2], wide)
    assert np.array_equal(image.read_valid((0, 0, made.SIDE, made.SIDE)), values != 0)


def test_an_item_without_images_does_not_stop_a_folder(tmp_path: Path) -> None:
    made.write_stac(tmp_path, assets={})
    assert "item.json" not in {path.name for path in images_in_folder(tmp_path)}
    assert (tmp_path / "red.tif") in images_in_folder(tmp_path)


def test_an_address_in_a_stac_item_needs_consent(tmp_path: Path) -> None:
    made.write_stac(tmp_path, assets__red__href="https://example.org/red.tif?signature=secret")
    (tmp_path / "red.tif").unlink()
    with pytest.raises(OutsideFolder) as caught:
        open_image(tmp_path / "item.json")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "home",
    [
        "https://example.org/54/S/",
        "s3://bucket/54/",
        "/nowhere/54/",
        "bands/",
        "D:\\\\54\\\\",
        "../54/",
    ],
)
def test_a_stac_item_beside_its_files_reads_them(tmp_path: Path, home: str) -> None:
    files = made.write_stac(tmp_path)
    item = tmp_path / "item.json"
    text = item.read_text().replace('"./', f'"{home}').replace('"SCL', f'"{home}SCL')
    item.write_text(text.replace('.tif"', '.tif?signature=secret"') if "://" in home else text)
    image = open_image(item)
    for name in ("blue", "green", "red", "nir"):
        assert np.array_equal(band(image, name), files[name])
    assert describe(image)["black"][:4] == pytest.approx([1000.0] * 4)
    (note,) = image.opening_notes
    assert note.endswith("elsewhere: blue.tif, green.tif, red.tif, nir.tif, SCL.tif.")
    assert [path.name for path in images_in_folder(tmp_path)] == ["item.json", "thumb.tif"]


def test_a_link_beside_a_stac_item_that_leads_elsewhere_needs_consent(tmp_path: Path) -> None:
    home = tmp_path / "scene"
    home.mkdir()
    made.write_stac(home, assets__red__href="https://example.org/red.tif")
    shutil.move(home / "red.tif", tmp_path / "red.tif")
    (home / "red.tif").symlink_to(tmp_path / "red.tif")
    with pytest.raises(OutsideFolder, match=r"https://example\.org"):
        open_image(home / "item.json")


@pytest.mark.parametrize("first", ["https://example.org/R10m/red.tif", "./red.tif"])
def test_of_two_files_of_one_name_the_one_beside_is_the_first(tmp_path: Path, first: str) -> None:
    files = made.write_stac(tmp_path, assets__red__href=first)
    item = json.loads((tmp_path / "item.json").read_text())
    red = {**item["assets"]["red"], "href": "https://example.org/R20m/red.tif"}
    red["raster:bands"] = [{"spatial_resolution": 20}]
    item["assets"] |= {
        name: {**red, "eo:bands": [{"name": name}]} for name in ("b05", "b06", "b07")
    }
    (tmp_path / "item.json").write_text(json.dumps(item))
    assert np.array_equal(band(open_image(tmp_path / "item.json"), "red"), files["red"])
    with pytest.raises(OutsideFolder, match="R20m"):
        open_image(f"{tmp_path / 'item.json'}:20m")


@pytest.mark.ids("slow", "level1c", "plain")
@pytest.mark.parametrize("sensor", ["landsat", "level1c", "level2a", "plain"])
def test_a_folder_of_the_bands_of_one_scene_is_offered_as_a_stack(
    tmp_path: Path, sensor: str
) -> None:
    scene, source = tmp_path / "the scene", tmp_path / "source"
    scene.mkdir()
    made.write_landsat(source, made.LEVEL1)
    start, end, names = f"{made.LEVEL1}_", ".TIF", [f"B{n}" for n in (*range(1, 8), 9, 10)]
    if sensor != "landsat":
        shutil.rmtree(source)
        made.write_safe(source, made.SAFE if sensor == "level2a" else made.L1C)
        end, names = "_10m.jp2" if sensor == "level2a" else ".jp2", ["B02", "B03", "B04", "B08"]
        start = next(source.rglob(f"*_B02{end}")).name.removesuffix(f"B02{end}")
    for file in [*source.rglob("*.TIF"), *source.rglob("*.jp2")]:
        shutil.copy(file, scene / file.name.removeprefix(start if sensor == "plain" else ""))
    with pytest.raises(UnreadableImage, match="with the bands of one scene") as caught:
        nr.open_image(scene)
    start = "" if sensor == "plain" else start
    files = [str(scene / f"{start}{name}{end}") for name in names]
    assert f"stack=True {shlex.join(files)} its bands are" in str(caught.value)
    image = nr.open_image(files, stack=True)
    for number, file in enumerate(files):
        with rasterio.open(file) as opened:
            assert np.array_equal(read(image)[..., number], opened.read(1))


def test_other_folders_are_not_taken_for_one_scene(tmp_path: Path) -> None:
    for name in ("a_B1.tif", "a_B2.tif", "b_B1.tif"):
        made.write(tmp_path / name, made.pixels(0, 20), 10)
    with pytest.raises(UnreadableImage, match="Name one of the images in it"):
        nr.open_image(tmp_path)
    (tmp_path / "b_B1.tif").rename(tmp_path / "holiday.tif")
    with pytest.raises(UnreadableImage, match="Name one of the images in it"):
        nr.open_image(tmp_path)
    # A file that cannot be read is not among those that are offered.
    (tmp_path / "holiday.tif").rename(tmp_path / "a_B3.tif")
    (tmp_path / "a_B2.tif").write_bytes(b"II*\0")
    with pytest.raises(UnreadableImage, match=r"a_B1\.tif \S*a_B3\.tif its bands"):
        nr.open_image(tmp_path)


def test_a_stac_item_at_an_address(tmp_path: Path) -> None:
    home = tmp_path / "items" / "scene"
    home.mkdir(parents=True)
    files = made.write_stac(home)
    with RangeServer(tmp_path) as server:
        address = f"{server.address}/items/scene/item.json"
        with pytest.raises(OutsideFolder, match="a file has named it"):
            open_image(address)
        assert server.requests == 0
        image = nr.open_image(address)
        assert np.array_equal(band(image, "nir"), files["nir"])
        assert str(image.path).endswith("item.json")
        assert {path.rpartition("/")[2] for path in server.asked} == {
            "item.json", "blue.tif", "green.tif", "red.tif", "nir.tif", "SCL.tif",
        }  # fmt: skip
        # It names nothing but what lies below it, whoever agrees.
        shutil.copy(home / "red.tif", tmp_path / "items" / "red.tif")
        elsewhere = ("../red.tif", "/items/red.tif", "%2e%2e/red.tif", "file:///etc/red.tif",
                     f"{server.address.replace('127.0.0.1', 'localhost')}/items/scene/red.tif")  # fmt: skip
        for href in elsewhere:
            made.write_stac(home, assets__red__href=href)
            server.asked.clear()
            with pytest.raises(UnreadableImage, match="lies elsewhere"):
                nr.open_image(address, allow_outside=True)
            assert not [path for path in server.asked if "red" in path]


def test_an_offset_that_is_in_the_values_already(tmp_path: Path) -> None:
    made.write_stac(tmp_path, **{"properties__earthsearch:boa_offset_applied": True})
    assert describe(open_image(tmp_path / "item.json"))["black"][:4] == [0.0] * 4


def test_stored_levels_are_taken(tmp_path: Path) -> None:
    side = 600
    for number, name in enumerate(("a", "b")):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", width=side, height=side, count=1,
            dtype="uint16", tiled=True, blockxsize=256, blockysize=256,
        ) as new:  # fmt: skip
            new.write(made.pixels(number, side), 1)
            new.build_overviews([2, 4], rasterio.enums.Resampling.nearest)
    image = open_image([tmp_path / "a.tif", tmp_path / "b.tif"], stack=True)
    assert image.level_shapes == ((600, 600), (300, 300), (150, 150))
    assert image.stored_levels == 3
    alone = open_image(tmp_path / "b.tif").read((10, 20, 90, 80), 2)
    assert np.array_equal(image.read((10, 20, 90, 80), 2)[..., 1:], alone)


def test_a_folder_of_products_is_not_taken_apart(tmp_path: Path) -> None:
    made.write_landsat(tmp_path)
    made.write_landsat(tmp_path, made.LEVEL1, "xml")
    made.write_safe(tmp_path)
    (tmp_path / "other").mkdir()
    made.write_landsat(tmp_path / "other")
    made.write_stac(tmp_path)
    made.write(tmp_path / "plain.tif", made.pixels(0, 20), 10)
    assert [path.name for path in images_in_folder(tmp_path)] == sorted(
        [f"{made.LANDSAT}_MTL.txt", f"{made.LEVEL1}_MTL.xml", made.SAFE, "item.json", "other",
         "plain.tif", "thumb.tif"]
    )  # fmt: skip
    assert not is_product(tmp_path)
    assert is_product(tmp_path / "other")
    made.write(tmp_path / "other" / "mine.tif", made.pixels(0, 20), 10)
    assert not is_product(tmp_path / "other")


# -- bad input -----------------------------------------------------------------------


def metadata_of(folder: Path) -> Path:
    (path,) = {*folder.glob("*_MTL.*"), *folder.glob("*.SAFE/MTD*.xml"), *folder.glob("*.json")}
    return path


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("form", ["txt", "xml", "json"])
def test_metadata_that_ends_early(tmp_path: Path, form: str) -> None:
    made.write_landsat(tmp_path, form=form)
    path = metadata_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UnreadableImage, match="truncated"):
        open_image(path)


@pytest.mark.parametrize("name", ["../B5.TIF", "/etc/B5.TIF", "a\\B5.TIF", "sub/B5.TIF"])
def test_a_band_of_landsat_elsewhere(tmp_path: Path, name: str) -> None:
    made.write_landsat(tmp_path)
    changed(metadata_of(tmp_path), f"{made.LANDSAT}_SR_B5.TIF", name)
    with pytest.raises(UnreadableImage, match=r"elsewhere|outside"):
        open_image(tmp_path)


def test_a_band_that_is_a_link_out_of_the_product(tmp_path: Path) -> None:
    home = tmp_path / "scene"
    home.mkdir()
    made.write_landsat(home)
    band = home / f"{made.LANDSAT}_SR_B5.TIF"
    shutil.move(band, tmp_path / "B5.TIF")
    with pytest.raises(UnreadableImage, match=r"SR_B5\.TIF is missing"):
        open_image(home)
    band.symlink_to(tmp_path / "B5.TIF")
    with pytest.raises(UnreadableImage, match="outside"):
        open_image(home)


def test_only_files_of_the_chosen_resolution_must_be_there(tmp_path: Path) -> None:
    made.write_safe(tmp_path)
    path = tmp_path / made.SAFE
    for file in path.rglob("*_B05_20m.jp2"):
        file.unlink()
    assert open_image(path).bands == 7
    with pytest.raises(UnreadableImage, match=r"B05_20m\.jp2 is missing"):
        open_image(f"{path}:20m")


@pytest.mark.parametrize("nested", ["../", "/", "C:/", "GRANULE/../../"])
def test_a_band_of_sentinel2_elsewhere(tmp_path: Path, nested: str) -> None:
    made.write_safe(tmp_path, nested=nested)
    with pytest.raises(UnreadableImage, match="outside"):
        open_image(tmp_path / made.SAFE)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</n1:Level-2A_User_Product>", "", "truncated"),
        ("<IMAGE_FILE>GRANULE/", "<IMAGE_FILE>GRANULE/x", "GRANULE"),
        ("BOA_QUANTIFICATION_VALUE", "OTHER", "how values are scaled"),
        (">-1000<", ">much<", "no number"),
        ("IMAGE_FILE>", "IMAGE_ID>", "no granule"),
        ('<?xml version="1.0" encoding="UTF-8"?>', "<!DOCTYPE a [<!ENTITY b 'c'>]>", "damaged"),
    ],
)
def test_damaged_metadata_of_sentinel2(tmp_path: Path, old: str, new: str, said: str) -> None:
    made.write_safe(tmp_path)
    changed(metadata_of(tmp_path), old, new)
    with pytest.raises(UnreadableImage) as caught:
        open_image(tmp_path / made.SAFE)
    assert said in str(caught.value) or "missing" in str(caught.value)


def test_several_granules(tmp_path: Path) -> None:
    made.write_safe(tmp_path)
    changed(metadata_of(tmp_path), "</Granule>", "<IMAGE_FILE>GRANULE/a/IMG_DATA/b_B02</IMAGE_FILE></Granule>")  # fmt: skip
    with pytest.raises(UnreadableImage, match="2 granules"):
        open_image(tmp_path / made.SAFE)


def test_a_safe_folder_of_another_mission(tmp_path: Path) -> None:
    (tmp_path / "S1A_IW_GRDH.SAFE").mkdir()
    with pytest.raises(UnreadableImage, match="no metadata of a Sentinel-2 product"):
        open_image(tmp_path / "S1A_IW_GRDH.SAFE")


@pytest.mark.parametrize("extra", ["../evil", "/evil", "a\\evil", "C:/evil", "a//b"])
def test_a_zip_whose_names_lead_elsewhere(tmp_path: Path, extra: str) -> None:
    made.write_safe(tmp_path)
    path = made.zipped(tmp_path / made.SAFE, tmp_path / "S2.zip", [extra])
    with pytest.raises(UnreadableImage, match="outside"):
        open_image(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_two_files_of_one_name(tmp_path: Path) -> None:
    made.write_safe(tmp_path)
    path = made.zipped(tmp_path / made.SAFE, tmp_path / "S2.zip", ["a", "a"])
    with pytest.raises(UnreadableImage, match="twice"):
        open_image(path)


def test_a_zip_that_ends_early(tmp_path: Path) -> None:
    made.write_safe(tmp_path)
    path = made.zipped(tmp_path / made.SAFE, tmp_path / "S2.zip")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnreadableImage, match="damaged zip"):
        open_image(path)


def test_a_zip_that_claims_what_it_cannot_contain(tmp_path: Path) -> None:
    made.write_safe(tmp_path)
    path = made.zipped(tmp_path / made.SAFE, tmp_path / "S2.zip")
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02", 0, data.rindex(b"_B02_10m.jp2"))
    data[place + 24 : place + 28] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match="cannot contain"):
        open_image(path)


@pytest.mark.parametrize("asked", ["25m", "0m"])
def test_a_resolution_that_is_not_there(tmp_path: Path, asked: str) -> None:
    made.write_safe(tmp_path)
    with pytest.raises(UnreadableImage, match="It has 10 m, 20 m, 60 m"):
        open_image(f"{tmp_path / made.SAFE}:{asked}")


@pytest.mark.parametrize(
    "changes",
    [
        {"assets": None}, {"assets": {"a": 1}}, {"assets": []}, {"properties": []},
        {"assets__red__eo:bands": 3}, {"assets__red__raster:bands": [None, 2]},
        {"assets__red__href": "a\0b"}, {"assets__red__href": ""}, {"id": None},
        {"properties__view:sun_azimuth": "much"}, {"assets__red__roles": 1},
    ],
)  # fmt: skip
def test_any_json_of_an_item_ends_in_an_image_or_a_sentence(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    made.write_stac(tmp_path, **changes)
    try:
        open_image(tmp_path / "item.json")
    except UnreadableImage as error:
        assert str(error).endswith(".")


def test_json_that_is_no_item_is_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"type": "FeatureCollection"}))
    with pytest.raises(UnreadableImage, match="is text, not an image"):
        open_image(path)
