"""Values of pictures as Pillow has them: few bits, transparent colours, palettes, Lab, alpha."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image as Pillow, ImageCms
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore.errors import StackOfPlanes, UnreadableImage
from napari_restore.images import ExportOptions, Pixels, open_image, resolve_radiometry, write_image
from napari_restore.images.values.working_space import named_profile


def scene(bands: int = 3) -> np.ndarray:
    """(48, 64, bands) in 0 … 1, bright and smooth."""
    y, x = np.mgrid[:48, :64] / 64
    return np.stack([0.3 + 0.6 * x, 0.9 - 0.5 * y, 0.4 + 0.4 * x * y], axis=2)[..., :bands]


PLACE = from_origin(500000, 5000000, 10, 10)
GREY = (scene(1)[..., 0] * 255).astype(np.uint8)


def pixels_of(path: Path) -> np.ndarray:
    image = open_image(path)
    return image.read((0, 0, image.height, image.width))


def pillow(path: Path, mode: str) -> np.ndarray:
    with Pillow.open(path) as picture:
        values = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    return values.reshape(*values.shape[:2], -1)


def page_of(path: Path) -> tuple[np.ndarray, Any]:
    """Pixels and tags of a TIFF's first page."""
    with tifffile.TiffFile(path) as file:
        return file.pages.first.asarray(), file.pages.first


def write_bits(path: Path, bits: int, bands: int, **options: Any) -> Path:
    kind = "uint8" if bits <= 8 else "uint16"
    values = (scene(bands) * (2**bits - 1)).astype(kind).transpose(2, 0, 1)
    size = {"height": 48, "width": 64, "count": bands, "dtype": kind}
    with rasterio.open(path, "w", driver="GTiff", nbits=bits, **size, **options) as new:
        new.write(values)
    return path


def with_chunk(coded: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with a chunk more before its pixels."""
    chunk = struct.pack(">I", len(data)) + kind + data
    chunk += struct.pack(">I", zlib.crc32(kind + data))
    place = coded.index(b"IDAT") - 4
    return coded[:place] + chunk + coded[place:]


def grey_png(bits: int, transparent: int | None = None) -> bytes:
    """A grey PNG of 1, 2 or 4 bits."""
    values = GREY >> (8 - bits)
    each = 8 // bits
    packed = sum(
        values[:, i::each].astype(int) << (8 - bits * (i + 1)) for i in range(each)
    ).astype(np.uint8)  # type: ignore[union-attr]
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", 64, 48, bits, 0, 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        part = kind + data
        whole += struct.pack(">I", len(data)) + part + struct.pack(">I", zlib.crc32(part))
    if transparent is not None:
        whole = with_chunk(whole, b"tRNS", struct.pack(">H", transparent))
    return whole


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_use_the_full_range(tmp_path: Path, bits: int) -> None:
    png, tiff = tmp_path / "a.png", write_bits(tmp_path / "a.tif", bits, 1)
    png.write_bytes(grey_png(bits))
    for path in (png, tiff):
        np.testing.assert_array_equal(pixels_of(path), pillow(path, "L"))
        assert resolve_radiometry(open_image(path)).white == 255


def test_six_bits_and_fax_use_the_full_range(tmp_path: Path) -> None:
    six = pixels_of(write_bits(tmp_path / "six.tif", 6, 3, photometric="RGB"))
    np.testing.assert_allclose(six / 255, scene(), atol=1.2 / 63)
    fax = tmp_path / "fax.tif"
    Pillow.fromarray(GREY > 150).save(fax, compression="group4")
    np.testing.assert_array_equal(pixels_of(fax), pillow(fax, "L"))


def test_maps_of_few_bits_keep_their_values(tmp_path: Path) -> None:
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 5e6)}
    path = write_bits(tmp_path / "map.tif", 4, 1, **place)
    assert pixels_of(path).max() <= 15
    assert resolve_radiometry(open_image(path)).white == 15


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_twelve_bits_are_as_bright_in_every_output(tmp_path: Path, bits: int, suffix: str) -> None:
    path = write_bits(tmp_path / "a.tif", bits, 3, photometric="RGB")
    assert resolve_radiometry(open_image(path)).white == 2**bits - 1
    out = tmp_path / f"b{suffix}"
    nr.restore(path, "identity").save(out)
    if suffix == ".tif":
        values, page = page_of(out)
        largest = 2**page.bitspersample - 1
        np.testing.assert_array_equal(values, tifffile.imread(path))
    else:
        values = imagecodecs.imread(out)
        largest = np.iinfo(values.dtype).max
    assert values.mean() / largest == pytest.approx(scene().mean(), abs=0.005)


def test_values_beyond_white_are_white_in_a_file_of_few_bits(tmp_path: Path) -> None:
    path = write_bits(tmp_path / "a.tif", 12, 3, photometric="RGB")
    image = open_image(path)
    bright = Pixels((0, 0, 48, 64), lambda box: image.read(box) + np.uint16(2000))
    write_image(tmp_path / "b.tif", bright, like=image)
    expected = np.minimum(pixels_of(path) + 2000, 4095)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), expected)


@pytest.mark.parametrize("kind", ["RGB", "grey", "RGB16", "grey16", "4 bit"])
def test_a_transparent_colour_becomes_alpha(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    values = (scene() * (65535 if "16" in kind else 255)).astype("u2" if "16" in kind else "u1")
    if "grey" in kind:
        values = np.ascontiguousarray(values[..., 0])
    if kind == "4 bit":
        path.write_bytes(grey_png(4, transparent=9))
    else:
        colour = np.atleast_1d(values[20, 30]).tolist()
        data = struct.pack(f">{len(colour)}H", *colour)
        path.write_bytes(with_chunk(imagecodecs.png_encode(values), b"tRNS", data))
    found, image = pixels_of(path), open_image(path)
    assert image.roles[-1] == "alpha" and image.nodata is None
    if "16" in kind:
        same = (values.reshape(48, 64, -1) == values[20, 30]).all(axis=2)
        np.testing.assert_array_equal(found[..., -1], np.where(same, 0, 65535))
        np.testing.assert_array_equal(found[..., :-1], values.reshape(48, 64, -1))
    elif kind == "4 bit":
        # Pillow compares the colour with values that it has spread already.
        np.testing.assert_array_equal(found[..., 0], (GREY >> 4) * 17)
        np.testing.assert_array_equal(found[..., 1], np.where(GREY >> 4 == 9, 0, 255))
    else:
        np.testing.assert_array_equal(found, pillow(path, "LA" if found.shape[2] == 2 else "RGBA"))
    valid = image.read_valid((0, 0, 48, 64))
    np.testing.assert_array_equal(valid, found[..., -1] != 0)


@pytest.mark.parametrize("transparency", [None, 3, bytes([0, 128, 255] + [200] * 13)])
def test_palettes_are_those_of_pillow(tmp_path: Path, transparency: Any) -> None:
    path = tmp_path / "a.png"
    colours = Pillow.fromarray((scene() * 255).astype(np.uint8)).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    colours.save(path, bits=4, **options)
    mode = "RGB" if transparency is None else "RGBA"
    np.testing.assert_array_equal(pixels_of(path), pillow(path, mode))


@pytest.mark.parametrize("kind", ["8 bit", "16 bit", "alpha", "12 bit", "placed", "OME"])
def test_a_tiff_whose_zero_is_white_starts_at_black(tmp_path: Path, kind: str) -> None:
    """TIFF 6.0, PhotometricInterpretation 0: the largest value of the sample's bits is black."""
    path, bits = tmp_path / "a.tif", {"16 bit": 16, "12 bit": 12, "placed": 16}.get(kind, 8)
    grey = np.rint(scene()[..., 0] * (2**bits - 2)).astype(np.uint16 if bits > 8 else np.uint8)
    grey[:5, :7] = 2**bits - 1
    expected, hidden = (2**bits - 1 - grey)[..., None], np.zeros(grey.shape, bool)
    if kind in ("12 bit", "placed"):
        options: dict[str, Any] = {"NBITS": 12} if bits == 12 else {"nodata": 2**bits - 1}
        if kind == "placed":
            options |= {"crs": "EPSG:32633", "transform": PLACE}
            hidden[:5, :7] = True
        size = {"height": 48, "width": 64, "count": 1, "dtype": "uint16"}
        with rasterio.open(
            path, "w", driver="GTiff", photometric="MINISWHITE", **size, **options
        ) as file:
            file.write(grey, 1)
    elif kind == "alpha":
        opaque = np.where(np.arange(64) < 9, 0, 255).astype(np.uint8)[None].repeat(48, axis=0)
        options = {"planarconfig": "contig", "extrasamples": ["unassalpha"]}
        tifffile.imwrite(path, np.dstack([grey, opaque]), photometric=0, metadata=None, **options)
        expected, hidden = np.dstack([expected, opaque]), opaque == 0
    else:
        is_ome = kind == "OME"
        tifffile.imwrite(path, grey, photometric=0, metadata={} if is_ome else None, ome=is_ome)
    image, found = open_image(path), pixels_of(path)
    assert found.dtype == grey.dtype and image.roles[0] in ("gray", None)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(image.read_valid((0, 0, 48, 64)), ~hidden)
    write_image(tmp_path / "b.tif", Pixels((0, 0, 48, 64), image.read), like=image)
    with rasterio.open(tmp_path / "b.tif") as file:
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), expected)
        np.testing.assert_array_equal(file.dataset_mask() == 0, hidden)
        assert "MINISWHITE" not in file.tags(ns="IMAGE_STRUCTURE")
        assert file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == ("12" if bits == 12 else None)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("compress", ["NONE", "DEFLATE"])
@pytest.mark.parametrize("place", [{}, {"crs": "EPSG:32633", "transform": PLACE}])
def test_few_bits_whose_zero_is_white(
    tmp_path: Path, bits: int, compress: str, place: dict[str, Any]
) -> None:
    """Of a map the values stay below `2**bits`. The palette is GDAL's own, and not told of."""
    path = tmp_path / "a.tif"
    grey = np.rint(scene()[..., 0] * (2**bits - 1)).astype(np.uint8)
    size = {"height": 48, "width": 64, "count": 1, "dtype": "uint8"}
    creation = {"photometric": "MINISWHITE", "NBITS": bits, "compress": compress}
    with rasterio.open(path, "w", driver="GTiff", **creation, **size, **place) as file:
        file.write(grey, 1)
    white = (2**bits - 1 - grey)[..., None] if place else pillow(path, "L")
    np.testing.assert_array_equal(pixels_of(path), white)
    image = open_image(path)
    assert not image.reader.shows_classes
    assert [note[:22] for note in image.notes] == ["Its value 0 is white ("]


def test_a_mask_beside_a_palette_counts(tmp_path: Path) -> None:
    """Of a VRT, whose band has the mask, and of a TIFF with a file beside it."""
    index = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % 8
    known = np.zeros((48, 64), bool)
    known[:, 20:] = True
    path, size = tmp_path / "a.tif", {"height": 48, "width": 64, "count": 1, "dtype": "uint8"}
    palette = {number: (number, 30, 200, 255) for number in range(8)}
    with rasterio.open(path, "w", driver="GTiff", photometric="PALETTE", **size) as file:
        file.write(index, 1)
        file.write_colormap(1, palette)
    Pillow.fromarray(known.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    part = '<SimpleSource><SourceFilename relativeToVRT="1">{}</SourceFilename></SimpleSource>'
    for opacity in (255, 0):
        entries = "".join(
            f'<Entry c1="{n}" c2="30" c3="200" c4="{opacity if n == 3 else 255}"/>' for n in palette
        )
        mask = f'<MaskBand><VRTRasterBand dataType="Byte">{part.format("mask.png")}</VRTRasterBand></MaskBand>'
        (tmp_path / "a.vrt").write_text(
            '<VRTDataset rasterXSize="64" rasterYSize="48"><VRTRasterBand dataType="Byte" band="1">'
            f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable>{mask}"
            f"{part.format('a.tif')}</VRTRasterBand></VRTDataset>"
        )
        image = open_image(tmp_path / "a.vrt")
        expected = known if opacity else known & (index != 3)
        np.testing.assert_array_equal(image.read_valid((0, 0, 48, 64)), expected)


@pytest.mark.parametrize("opacities", [bytes([0]), bytes([0, 255, 0]), bytes([90, 200])])
def test_transparent_entries_of_a_palette_are_an_alpha_band(
    tmp_path: Path, opacities: bytes
) -> None:
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    colours = Pillow.fromarray((scene() * 255).astype(np.uint8)).quantize(8)
    colours.save(path, transparency=opacities)
    image, expected = open_image(path), pillow(path, "RGBA")
    np.testing.assert_array_equal(image.read_valid((0, 0, 48, 64)), expected[..., 3] != 0)
    write_image(out, Pixels((0, 0, 48, 64), image.read), like=image)
    np.testing.assert_array_equal(pillow(out, "RGBA"), expected)


@pytest.mark.parametrize("largest", [100, 1023, 1000, 65535])
def test_the_largest_value_of_a_pnm_is_white(tmp_path: Path, largest: int) -> None:
    """https://netpbm.sourceforge.net/doc/pgm.html: "maxval" is white."""
    path, out = tmp_path / "a.pgm", tmp_path / "b.png"
    grey = np.rint(scene()[..., 0] * largest).astype(">u2" if largest > 255 else ">u1")
    path.write_bytes(b"P5\n# made\n64 48\n%d\n" % largest + grey.tobytes())
    image, full = open_image(path), 65535 if largest > 255 else 255
    # GDAL says that it has a place, of what lies in memory.
    assert image.georeference is None
    write_image(out, Pixels((0, 0, 48, 64), image.read), like=image)
    expected = np.rint(grey.astype(float) * full / largest)
    np.testing.assert_array_equal(imagecodecs.imread(out), expected)
    path.with_suffix(".wld").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    placed = open_image(path).georeference
    assert placed is not None and placed.transform == (10, 0, 500000, 0, -10, 5000000)
    # A map keeps its values.
    np.testing.assert_array_equal(pixels_of(path)[..., 0], grey)


@pytest.mark.parametrize("layout", [{"tile": (32, 16)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("deep", [False, True])
def test_lab_becomes_srgb(tmp_path: Path, layout: dict[str, Any], deep: bool) -> None:
    path, rgb = tmp_path / "lab.tif", (scene() * 255).astype(np.uint8)
    lab = np.asarray(Pillow.fromarray(rgb).convert("LAB"))
    if deep:
        wide = np.empty(lab.shape, np.uint16)
        wide[..., 0] = lab[..., 0].astype(np.uint16) * 257
        wide[..., 1:] = (lab[..., 1:].view(np.int8).astype(np.int16) * 256).view(np.uint16)
        lab = wide
    coding = {"photometric": "cielab", "compression": "zlib", "predictor": True}
    tifffile.imwrite(path, lab, metadata=None, **coding, **layout)
    image, found = open_image(path), pixels_of(path)
    assert image.roles == ("red", "green", "blue")
    assert "Lab was converted to sRGB." in image.notes
    if deep:
        # Versions of littlecms differ by some levels where Lab lies outside of sRGB.
        assert (np.abs(found / 257 - rgb) <= 4).mean() > 0.99
    else:
        np.testing.assert_array_equal(found, pillow(path, "RGB"))


def test_complex_integers_are_refused_by_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "sar.tif"
    size = {"height": 8, "width": 9, "count": 1, "dtype": "complex_int16"}
    with rasterio.open(path, "w", driver="GTiff", **size):
        pass
    with pytest.raises(UnreadableImage, match="complex numbers"):
        open_image(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_colours_are_divided_and_kept(tmp_path: Path, dtype: Any) -> None:
    full = np.iinfo(dtype).max
    colours = (scene() * full).astype(dtype)
    alpha = np.full((48, 64, 1), full, dtype)
    alpha[:, :8], alpha[:, 8:30] = 0, full // 3
    alpha[:, 30:40] = (np.arange(48)[:, None, None] * 5).astype(dtype)
    stored = np.concatenate([(colours * (alpha / full)).astype(dtype), alpha], axis=2)
    path, out = tmp_path / "a.tif", tmp_path / "b.tif"
    options = {"photometric": "rgb", "extrasamples": ["assocalpha"], "metadata": None}
    tifffile.imwrite(path, stored, **options)
    image, found = open_image(path), pixels_of(path)
    np.testing.assert_allclose(found[:, 8:30, :3] / full, scene()[:, 8:30], atol=4 / full)
    write_image(out, Pixels((0, 0, 48, 64), image.read), like=image)
    written, page = page_of(out)
    assert page.extrasamples == (tifffile.EXTRASAMPLE.ASSOCALPHA,)
    np.testing.assert_array_equal(written, stored)
    # COG and PNG have colours as they are.
    cog = ExportOptions(cog=True, overwrite=True)
    write_image(out, Pixels((0, 0, 48, 64), image.read), like=image, options=cog)
    written, page = page_of(out)
    assert page.extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
    np.testing.assert_array_equal(written, found)


def several(path: Path, frames: int = 3) -> None:
    first, *others = (
        Pillow.fromarray(np.roll((scene() * 255).astype(np.uint8), 5 * n, 1)) for n in range(frames)
    )
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, **lossless)


@pytest.mark.parametrize("name", ["a.mpo", "a.png", "a.webp", "a.gif"])
def test_of_several_pictures_the_first_is_taken_with_a_note(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    several(path)
    image = open_image(path)
    note = "It contains 3 pictures (pages, planes or frames): the first one is used."
    assert note in image.notes
    np.testing.assert_array_equal(pixels_of(path), pillow(path, "RGB"))
    several(path, frames=1)
    assert not any("pictures" in text for text in open_image(path).notes)


def test_pages_of_a_tiff_are_as_pillow_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    several(path)
    with pytest.raises(StackOfPlanes, match="3 planes"):
        open_image(path)
    with Pillow.open(path) as pages:
        for number in range(3):
            pages.seek(number)
            image = open_image(path, plane=number)
            whole = image.read((0, 0, image.height, image.width))
            np.testing.assert_array_equal(whole, np.asarray(pages.convert("RGB")))


def test_smaller_versions_and_masks_are_no_pictures(tmp_path: Path) -> None:
    path, rgb = tmp_path / "a.tif", (scene() * 255).astype(np.uint8)
    with tifffile.TiffWriter(path) as new:
        new.write(rgb, photometric="rgb", metadata=None, subifds=1)
        new.write(rgb[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
        new.write(rgb[::4, ::4], photometric="rgb", metadata=None, subfiletype=1)
        new.write(rgb[..., 0] > 9, metadata=None, subfiletype=4)
    assert open_image(path).notes == []


def test_a_picture_beside_an_animation_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    first, other = (Pillow.fromarray(np.roll(GREY, n, 1)) for n in (0, 9))
    first.save(path, save_all=True, append_images=[other], default_image=True)
    assert any("2 pictures" in note for note in open_image(path).notes)


def test_a_smaller_version_that_comes_first_is_left_out(tmp_path: Path) -> None:
    path, overview = tmp_path / "a.tif", tmp_path / "a.ovr"
    with tifffile.TiffWriter(path) as new:
        new.write(GREY[::4, ::4], metadata=None, subfiletype=1)
        new.write(GREY, metadata=None)
    opened = open_image(path)
    np.testing.assert_array_equal(opened.read((0, 0, *GREY.shape))[..., 0], GREY)
    assert opened.notes == []
    tifffile.imwrite(overview, GREY[::4, ::4], metadata=None, subfiletype=1)
    assert open_image(overview).notes == []


WIDE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
"""x and y of white and the primaries of Adobe RGB; sRGB's green is at 0.3, 0.6."""


SRGB = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


def light_of(values: np.ndarray) -> np.ndarray:
    """Light of values of sRGB, 0 … 1 (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def write_png_of(path: Path, exponent: float, places: tuple[float, ...], *more: bytes) -> Path:
    """Write `scene` as a PNG with gAMA, with cHRM where there are `places`, and empty chunks."""
    Pillow.fromarray((scene() * 255).astype(np.uint8)).save(path)
    numbers = [round(value * 100_000) for value in places]
    chunks = [(b"gAMA", struct.pack(">I", round(exponent * 100_000)))]
    chunks += [(b"cHRM", struct.pack(">8I", *numbers))] if places else []
    chunks += [(kind, b"\0") for kind in more]
    content = path.read_bytes()
    made = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(content[:33] + made + content[33:])
    return path


def srgb_of(picture: Any) -> np.ndarray:
    """Pixels (H, W, 3) in sRGB, by LittleCMS from the profile of a picture."""
    own = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
    srgb = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(picture, own, srgb, renderingIntent=1))


def xyz_of(places: tuple[float, ...]) -> np.ndarray:
    """Matrix from linear colours to XYZ, whose white is that of the colours."""
    white, *primaries = (
        [x / y, 1, (1 - x - y) / y] for x, y in zip(places[::2], places[1::2], strict=True)
    )
    columns = np.array(primaries).T
    return columns * np.linalg.solve(columns, white)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("exponent", [1.0, 1 / 1.8])
def test_gamma_and_primaries_of_a_png_become_a_profile(
    tmp_path: Path, exponent: float, suffix: str
) -> None:
    path, out = write_png_of(tmp_path / "a.png", exponent, WIDE), tmp_path / f"b{suffix}"
    image = open_image(path)
    write_image(out, Pixels((0, 0, 48, 64), image.read), like=image)
    srgb = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
    light = (
        (pixels_of(path) / 255) ** (1 / exponent) @ xyz_of(WIDE).T @ np.linalg.inv(xyz_of(srgb)).T
    )
    light = light.clip(0, 1)
    wanted = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    with Pillow.open(path) as source, Pillow.open(out) as written:
        if suffix != ".webp":
            np.testing.assert_array_equal(np.asarray(written), np.asarray(source))
        source.info["icc_profile"] = written.info["icc_profile"]
        np.testing.assert_allclose(srgb_of(source), wanted, atol=1.5)


@pytest.mark.parametrize(
    ("exponent", "places", "more"),
    [
        (0.45455, (), ()),
        (0.45455, (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), ()),
        (1.0, WIDE, (b"sRGB",)),
        (0.0, (), ()),
        (1.0, (0.0,) * 8, ()),
    ],
)
def test_a_gamma_of_srgb_or_none_is_no_profile(
    tmp_path: Path, exponent: float, places: tuple[float, ...], more: tuple[bytes, ...]
) -> None:
    image = open_image(write_png_of(tmp_path / "a.png", exponent, places, *more))
    assert image.profile.icc is None
    assert image.working_space is None


P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
BT2020 = (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)


@pytest.mark.parametrize(
    ("primaries", "curve", "places"), [(12, 13, P3), (9, 13, BT2020), (9, 8, BT2020)]
)
def test_code_points_of_a_png_become_a_profile(
    tmp_path: Path, primaries: int, curve: int, places: tuple[float, ...]
) -> None:
    """PNG, third edition, 11.3.2.6: cICP, before gAMA; numbers and primaries of ITU-T H.273."""
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    content = write_png_of(path, 1 / 1.8, WIDE).read_bytes()
    path.write_bytes(with_chunk(content, b"cICP", bytes([primaries, curve, 0, 1])))
    image = open_image(path)
    write_image(out, Pixels((0, 0, 48, 64), image.read), like=image)
    stored = pixels_of(path) / 255
    light = stored if curve == 8 else light_of(stored)
    light = (light @ xyz_of(places).T @ np.linalg.inv(xyz_of(WIDE[:2] + SRGB)).T).clip(0, 1)
    wanted = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    with Pillow.open(path) as source, Pillow.open(out) as written:
        source.info["icc_profile"] = written.info["icc_profile"]
        np.testing.assert_allclose(srgb_of(source), wanted, atol=1.5)


@pytest.mark.parametrize(
    ("primaries", "curve", "noted"), [(1, 13, False), (9, 16, True), (9, 18, True)]
)
def test_code_points_without_a_profile(
    tmp_path: Path, primaries: int, curve: int, noted: bool
) -> None:
    path = write_png_of(tmp_path / "a.png", 1 / 1.8, WIDE)
    chunk = bytes([primaries, curve, 0, 1])
    path.write_bytes(with_chunk(path.read_bytes(), b"cICP", chunk))
    image = open_image(path)
    assert image.profile.icc is None
    assert any("HDR screen" in note for note in image.notes) is noted


@pytest.mark.parametrize(("primaries", "curve"), [(6, 13), (9, 16), (1, 17)])
def test_code_points_that_we_do_not_know_leave_the_profile(
    tmp_path: Path, primaries: int, curve: int
) -> None:
    """PNG, third edition, 4.3: a decoder that cannot use cICP goes on to iCCP."""
    path, profile = tmp_path / "a.png", named_profile("display-p3")
    Pillow.fromarray((scene() * 255).astype(np.uint8)).save(path, icc_profile=profile)
    chunk = bytes([primaries, curve, 0, 1])
    path.write_bytes(with_chunk(path.read_bytes(), b"cICP", chunk))
    image = open_image(path)
    assert image.profile.icc == profile
    assert not any("HDR screen" in note for note in image.notes)


def test_planes_of_imagej_and_series_of_ome_are_told(tmp_path: Path) -> None:
    stack, series = tmp_path / "stack.tif", tmp_path / "series.ome.tif"
    values = np.zeros((2, 3, 20, 30), np.uint16)
    tifffile.imwrite(stack, values, imagej=True, metadata={"axes": "ZCYX"})
    assert open_image(stack, plane=5).planes.shape == (2, 3)
    with tifffile.TiffWriter(series, ome=True) as new:
        new.write(values[0, 0])
        new.write(values[0, 0, ::2])
    assert any("2 pictures" in note for note in open_image(series).notes)
