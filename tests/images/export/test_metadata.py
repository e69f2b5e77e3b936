"""Metadata that is true of the output: texts in UTF-8, orientation, resolution, descriptions."""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow, ImageOps

from napari_restore.images import ExportOptions, Pixels, open_image, upright_exif, write_image
from napari_restore.images.files.exif_directories import (
    EXIF_HEADER,
    Field,
    Flavour,
    block_of,
    directories_of,
    serialised,
    swapped,
)
from napari_restore.images.files.xmp import DEVELOPMENT, without

ARTIST, DESCRIPTION, TITLE, COPYRIGHT, LENS, COMMENT = 315, 270, 0x9C9B, 33432, 0xA434, 0x9286
TEXTS = {
    ARTIST: Field(2, "Grüße Ö\0".encode()),
    COPYRIGHT: Field(2, "© 2026 Grüße Ö\0".encode()),
    DESCRIPTION: Field(2, "Half Dome – Ü\0".encode()),
    TITLE: Field(1, "Titel ü\0".encode("utf-16-le")),
}
SETTINGS = {
    33434: Field(5, struct.pack("<II", 1, 100)),
    LENS: Field(2, "Ö 35 mm\0".encode()),
    COMMENT: Field(7, b"UNICODE\0" + "Grüße".encode("utf-16-le")),
}
PLACE = {1: Field(2, b"N\0"), 2: Field(5, struct.pack("<6I", 46, 1, 30, 1, 0, 1))}


MOTOROLA = Flavour(">", big=False)


def scene(bands: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    y, x = np.mgrid[:60, :80]
    values = np.stack([x * 3, y * 4, x + y], axis=2)[..., :bands]
    return values.astype(dtype) * dtype(np.iinfo(dtype).max // 255)


def big_endian(block: bytes) -> bytes:
    """A block of `TEXTS` and `SETTINGS` as cameras with the other byte order write it."""
    main, others = directories_of(block)
    comment = others[0x8769][COMMENT].data
    others[0x8769][COMMENT] = Field(7, comment[:8] + swapped(3, comment[8:]))
    pointers = {tag: Field(4, bytes(4)) for tag in others}
    end, parts = 8 + len(serialised({**main, **pointers}, 8, MOTOROLA)), b""
    for tag, directory in others.items():
        pointers[tag] = Field(4, struct.pack("<I", end))
        part = serialised(directory, end, MOTOROLA)
        parts, end = parts + part, end + len(part)
    return b"Exif\0\0MM\0*\0\0\0\x08" + serialised({**main, **pointers}, 8, MOTOROLA) + parts


@pytest.fixture(params=["<", ">"])
def photo(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    block = block_of(TEXTS | {0x0112: Field(3, b"\6\0")}, {0x8769: SETTINGS, 0x8825: PLACE})
    path = tmp_path / "photo.jpg"
    exif = block if request.param == "<" else big_endian(block)
    Pillow.fromarray(scene()).save(path, exif=exif, dpi=(300, 300), quality=95)
    return path


def write(source: Path, target: Path, box: tuple[int, int, int, int] | None = None) -> Path:
    image = open_image(source, plane=0)
    box = box or (0, 0, image.height, image.width)
    return write_image(target, Pixels(box, image.read), like=image)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_texts_in_utf_8_survive(photo: Path, tmp_path: Path, suffix: str) -> None:
    out = write(photo, tmp_path / f"out{suffix}")
    again = write(out, tmp_path / "again.jpg")
    for path in (out, again):
        exif = open_image(path).profile.exif
        assert exif is not None
        main, others = directories_of(exif)
        assert {tag: main[tag] for tag in TEXTS} == TEXTS
        assert {tag: others[0x8769][tag] for tag in SETTINGS} == SETTINGS
        assert others[0x8825] == PLACE
        with Pillow.open(path) as picture:
            assert picture.getexif().get(0x0112, 1) == 1


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="no exiftool")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exiftool_reads_the_texts(photo: Path, tmp_path: Path, suffix: str) -> None:
    out = write(photo, tmp_path / f"out{suffix}")
    shown = subprocess.run(
        ["exiftool", "-j", "-G1", "-Artist", "-Copyright", "-XPTitle", "-LensModel", "-Error", out],
        capture_output=True,
        text=True,
        check=True,
    )
    (tags,) = json.loads(shown.stdout)
    assert tags["IFD0:Artist"] == "Grüße Ö" and tags["IFD0:Copyright"] == "© 2026 Grüße Ö"
    assert tags["IFD0:XPTitle"] == "Titel ü" and tags["ExifIFD:LensModel"] == "Ö 35 mm"
    assert not any(name.endswith("Error") for name in tags)


@pytest.mark.parametrize("compress", ["deflate", "jpeg"])
@pytest.mark.ids("slow", "jpeg")
def test_a_cog_with_exif_is_one(tmp_path: Path, compress: str) -> None:
    values = np.tile(scene(), (12, 9, 1))
    block = block_of(TEXTS, {0x8769: SETTINGS, 0x8825: PLACE})
    for name, exif in (("plain", {}), ("camera", {"exif": block})):
        Pillow.fromarray(values).save(tmp_path / f"{name}.png", **exif)
        image = open_image(tmp_path / f"{name}.png")
        options = ExportOptions(cog=True, compress=compress)
        box = (0, 0, image.height, image.width)
        write_image(tmp_path / f"{name}.tif", Pixels(box, image.read), like=image, options=options)
    plain, camera = (tifffile.TiffFile(tmp_path / f"{name}.tif") for name in ("plain", "camera"))
    with plain, camera:
        assert len(plain.pages) == len(camera.pages) > 1
        first = min(min(page.dataoffsets) for page in camera.pages)
        places = [page.offset for page in camera.pages]
        assert (
            places[0] == plain.pages[0].offset and places == sorted(places) and places[-1] < first
        )
        for one, other in zip(plain.pages, camera.pages, strict=True):
            # The same bytes, each block with its length before it.
            assert one.databytecounts == other.databytecounts
            for place, before, size in zip(
                other.dataoffsets, one.dataoffsets, one.databytecounts, strict=True
            ):
                plain.filehandle.seek(before - 4)
                camera.filehandle.seek(place - 4)
                found = camera.filehandle.read(size + 4)
                assert found == plain.filehandle.read(size + 4)
                assert struct.unpack("<I", found[:4]) == (size,)
        settings = camera.pages[0].tags[0x8769].value
        assert settings["ExposureTime"] == (1, 100)
        assert "GPSLatitude" in camera.pages[0].tags[0x8825].value


def test_private_data_of_the_camera_stays_where_it_was() -> None:
    thumbnail = b"\xff\xd8 old picture \xff\xd9"
    settings = {0x927C: Field(7, b"Maker \1\2\3")}
    block = block_of({0x0112: Field(3, b"\x08\0")}, {0x8769: settings})[6:]
    second = {0x0201: Field(4, bytes(4)), 0x0202: Field(4, struct.pack("<I", len(thumbnail)))}
    start = len(block)
    end = start + len(serialised(second, start))
    second[0x0201] = Field(4, struct.pack("<I", end))
    # The link to the second directory stands after the two entries of the first.
    linked = block[: 8 + 2 + 24] + struct.pack("<I", start) + block[8 + 2 + 28 :]
    found = upright_exif(EXIF_HEADER + linked + serialised(second, start) + thumbnail)
    assert found is not None and b"old picture" not in found
    main, others = directories_of(found)
    assert main[0x0112].data == b"\1\0" and others[0x8769] == settings
    assert found.index(b"Maker") - 6 == linked.index(b"Maker")


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    'syntax-ns#"><rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{}'
    "</rdf:RDF></x:xmpmeta>"
)
ORIENTED = [
    ' tiff:Orientation="6"/>',
    " tiff:Orientation='8'/>",
    "><tiff:Orientation>6</tiff:Orientation></rdf:Description>",
]


@pytest.mark.parametrize("form", ORIENTED)
@pytest.mark.parametrize("source", [".jpg", ".webp", ".png", ".tif"])
def test_xmp_does_not_turn_a_picture_again(tmp_path: Path, source: str, form: str) -> None:
    path, xmp = tmp_path / f"photo{source}", XMP.format(form).encode()
    exif = block_of({0x0112: Field(3, b"\6\0")}, {})
    if source == ".tif":
        tags = [(274, 3, 1, 6, True), (700, 1, len(xmp), xmp, True)]
        tifffile.imwrite(path, scene(), photometric="rgb", metadata=None, extratags=tags)
    elif source == ".png":
        Pillow.fromarray(scene()).save(path, exif=exif[6:])
        content = path.read_bytes()
        chunk = b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + xmp
        place = content.index(b"IDAT") - 4
        size = struct.pack(">I", len(chunk) - 4)
        path.write_bytes(content[:place] + size + chunk + bytes(4) + content[place:])
    else:
        lossless = {"lossless": True} if source == ".webp" else {}
        Pillow.fromarray(scene()).save(path, exif=exif, xmp=xmp, **lossless)
    upright = np.rot90(scene(), -1)
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        out = write(path, tmp_path / f"out{suffix}")
        with Pillow.open(out) as picture:
            shown = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        assert shown.shape == upright.shape
        kept = open_image(out).profile.xmp
        assert kept is not None
        assert re.search(rb"Orientation\W+(\d)", kept)[1] == b"1"  # type: ignore[index]


@pytest.mark.parametrize("source", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_resolution_goes_along(tmp_path: Path, source: str, suffix: str) -> None:
    path = tmp_path / f"scan{source}"
    Pillow.fromarray(scene()).save(path, dpi=(300, 150))
    out = write(path, tmp_path / f"out{suffix}")
    with Pillow.open(out) as picture:
        assert picture.info["dpi"] == pytest.approx((300, 150), abs=0.02)


def test_a_coarser_level_has_larger_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    values = np.zeros((1200, 1600), np.uint16)
    tifffile.imwrite(path, values, metadata={"axes": "YX", **OME})
    profile = open_image(path).profile.scaled(4)
    assert profile.grid is not None and profile.grid.size == (1.0, 2.0)
    assert profile.grid.origin == (0.375, 0.75)
    assert profile.resolution == pytest.approx((12700, 25400))


def test_resolution_of_a_turned_scan_is_turned(tmp_path: Path) -> None:
    path, exif = tmp_path / "scan.jpg", Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(scene()).save(path, dpi=(300, 150), exif=exif)
    with Pillow.open(write(path, tmp_path / "out.png")) as picture:
        assert picture.info["dpi"] == pytest.approx((150, 300), abs=0.02)


OME = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
CHANNELS = {"Name": ["DAPI", "GFP", "RFP"], "Color": [65535, 16711935, -16776961]}


@pytest.mark.parametrize("kind", ["samples", "channels", "depth", "one"])
def test_ome_xml_fits_the_output(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.ome.tif"
    values = scene(3, np.uint16)
    if kind == "samples":
        tifffile.imwrite(path, values, photometric="rgb", metadata={"axes": "YXS", **OME})
    elif kind == "one":
        tifffile.imwrite(path, values[..., 0], metadata={"axes": "YX", **OME})
    else:
        axes = "CYX" if kind == "channels" else "ZYX"
        more = {"Channel": CHANNELS} if kind == "channels" else {}
        planes = np.moveaxis(values, 2, 0)
        options = {"photometric": "minisblack", "metadata": {"axes": axes, **OME, **more}}
        tifffile.imwrite(path, planes, **options)
    box = (10, 20, 50, 70)
    out = write(path, tmp_path / "b.ome.tif", box)
    with tifffile.TiffFile(out) as file:
        assert file.is_ome and file.series[0].kind == "ome"
        found = np.squeeze(file.asarray())
        xml = str(file.ome_metadata)
    bands = 1 if kind in ("depth", "one") else 3
    expected = open_image(path, plane=0).read(box)
    found = found if found.ndim == 2 or found.shape[-1] == 3 else np.moveaxis(found, 0, -1)
    np.testing.assert_array_equal(found.reshape(40, 50, bands), expected)
    assert 'PhysicalSizeX="0.5"' in xml and 'PhysicalSizeY="0.25"' in xml
    again = open_image(out)
    assert again.profile.grid is not None
    assert again.profile.grid == ((0.25, 0.5), "micrometer", (2.5, 10.0))
    np.testing.assert_array_equal(again.read((0, 0, 40, 50)), expected)


def test_scale_place_and_colours_of_channels_reach_ome_zarr(tmp_path: Path) -> None:
    path, first = tmp_path / "a.ome.tif", tmp_path / "a.zarr"
    metadata = {"axes": "CYX", **OME, "Channel": CHANNELS}
    planes = np.moveaxis(scene(3, np.uint16), 2, 0)
    tifffile.imwrite(path, planes, photometric="minisblack", metadata=metadata)
    write(path, first, (10, 20, 50, 70))
    write(first, tmp_path / "b.zarr", (4, 2, 40, 50))
    for name, origin in (("a.zarr", [2.5, 10.0]), ("b.zarr", [3.5, 11.0])):
        ome = json.loads((tmp_path / name / "zarr.json").read_text())["attributes"]["ome"]
        scale, shift = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        assert scale["scale"][1:] == [0.25, 0.5] and shift["translation"][1:] == origin
        assert {axis.get("unit") for axis in ome["multiscales"][0]["axes"]} == {None, "micrometer"}
        colours = [channel["color"] for channel in ome["omero"]["channels"]]
        assert colours == ["0000FF", "00FF00", "FF0000"]


def test_a_scale_without_a_unit_is_kept(tmp_path: Path) -> None:
    import zarr

    steps = [
        {"type": "scale", "scale": [0.5, 0.25]},
        {"type": "translation", "translation": [7.0, 9.0]},
    ]
    axes = [{"name": name, "type": "space"} for name in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=3, attributes={"ome": ome})
    values = scene(1)[..., 0]
    group.create_array("0", shape=values.shape, dtype=values.dtype)[:] = values
    write(tmp_path / "a.zarr", tmp_path / "b.zarr", (2, 4, 40, 50))
    found = json.loads((tmp_path / "b.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    scale, shift = found["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert scale["scale"][1:] == [0.5, 0.25] and shift["translation"][1:] == [8.0, 10.0]
    write(tmp_path / "a.zarr", tmp_path / "b.tif")


@pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX"])
def test_imagej_reads_the_output(tmp_path: Path, axes: str) -> None:
    path = tmp_path / "a.tif"
    values = np.moveaxis(scene(3, np.uint16), 2, 0)
    options = {"resolution": (4, 4), "metadata": {"unit": "um", "axes": axes}}
    tifffile.imwrite(path, values if axes != "YX" else values[0], imagej=True, **options)
    out = write(path, tmp_path / "b.tif", (5, 5, 45, 55))
    with tifffile.TiffFile(out) as file:
        assert file.is_imagej and file.series[0].shape == (40, 50)
        metadata = file.imagej_metadata
        assert metadata is not None and metadata["unit"] == "um"
        assert file.pages.first.tags["XResolution"].value == (4, 1)
    zarr = write(path, tmp_path / "b.zarr")
    ome = json.loads((zarr / "zarr.json").read_text())["attributes"]["ome"]
    steps = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert steps[0]["scale"][1:] == [0.25, 0.25]


def test_a_shape_of_other_pages_is_not_carried(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([scene(), 255 - scene()]), photometric="rgb")
    out = write(path, tmp_path / "b.tif", (0, 0, 30, 40))
    with tifffile.TiffFile(out) as file:
        assert file.series[0].shape == (30, 40, 3)
        np.testing.assert_array_equal(file.asarray(), scene()[:30, :40])


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp"])
def test_exif_and_xmp_have_the_size_of_the_output(tmp_path: Path, suffix: str) -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:ImageWidth="80"'
        b' tiff:ImageLength="60"/></rdf:RDF></x:xmpmeta>'
    )
    exif = Pillow.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0xA002: 80, 0xA003: 60})
    path, out = tmp_path / "a.jpg", tmp_path / f"b{suffix}"
    Pillow.fromarray(scene()).save(path, exif=exif, xmp=xmp)
    image = open_image(path)
    for box, (height, width) in {(0, 0, 80, 60): (80, 60), (10, 5, 40, 55): (30, 50)}.items():
        write_image(out, Pixels(box, image.read), like=image, options=ExportOptions(overwrite=True))
        with Pillow.open(out) as written:
            settings = written.getexif().get_ifd(0x8769)
            packet = written.info.get("xmp") or written.info.get("XML:com.adobe.xmp") or b""
            if suffix == ".tif":
                packet = written.getexif()[700]
        assert (settings[0xA002], settings[0xA003]) == (width, height)
        packet = packet.encode() if isinstance(packet, str) else packet
        assert b'ImageWidth="%d" tiff:ImageLength="%d"' % (width, height) in packet


def test_settings_of_raw_converters_are_left_behind() -> None:
    packet = (
        b'<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        b'xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmp:Rating="4" '
        b'crs:Exposure2012="+1.50" crs:HasSettings="True"><crs:ToneCurve><rdf:Seq>'
        b"<rdf:li>0, 0</rdf:li></rdf:Seq></crs:ToneCurve><crs:Look/><xmp:Label>hill</xmp:Label>"
        b"</rdf:Description>"
    )
    found = without(packet, DEVELOPMENT)
    assert found is not None and b"crs:" not in found.replace(b"xmlns:crs", b"")
    assert b'xmp:Rating="4"' in found and b"<xmp:Label>hill</xmp:Label>" in found
    assert without(None, DEVELOPMENT) is None


def test_damaged_exif_is_left_behind() -> None:
    whole = block_of(TEXTS, {0x8769: SETTINGS})
    for length in range(6, len(whole) - 1, 7):
        upright_exif(whole[:length])
    assert upright_exif(b"Exif\0\0nonsense") is None
    assert io.BytesIO(whole).read(6) == EXIF_HEADER
