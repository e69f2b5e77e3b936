"""What rasterio reads is what we read, with its validity, place and tags."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from napari_restore.errors import UnreadableImage
from napari_restore.images import chunk_cache, open_image

MakeTiff = Callable[..., Path]
Noise = Callable[..., np.ndarray]


def whole(image: object) -> tuple[int, int, int, int]:
    return (0, 0, image.height, image.width)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_real_files_equal_rasterio(data_dir: Path) -> None:
    for path in sorted((data_dir / "geotiff").glob("*.tif")):
        image = open_image(path)
        with rasterio.open(path) as dataset:
            pixels, mask = dataset.read().transpose(1, 2, 0), dataset.dataset_mask() != 0
            assert image.shape == pixels.shape, path.name
            np.testing.assert_array_equal(image.read(whole(image)), pixels, path.name)
            mask &= np.isfinite(pixels).all(axis=2)
            np.testing.assert_array_equal(image.read_valid(whole(image)), mask, path.name)
            if image.transform is not None:
                assert image.transform == tuple(dataset.transform)[:6], path.name
            for number, factor in enumerate(dataset.overviews(1), 1):
                if number < image.stored_levels:
                    expected = -(-dataset.height // factor)
                    assert abs(image.level_shapes[number][0] - expected) <= 1, path.name


def test_windows_equal_slices_across_chunks(make_tiff: MakeTiff, noise: Noise) -> None:
    pixels = noise(700, 900, 3, np.uint16)
    path = make_tiff(pixels, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    image = open_image(path)
    assert image.chunk == (256, 256)
    for box in [(0, 0, 1, 1), (250, 255, 513, 770), (699, 899, 700, 900), (5, 5, 5, 9)]:
        y0, x0, y1, x1 = box
        np.testing.assert_array_equal(image.read(box), pixels[y0:y1, x0:x1])
    with pytest.raises(IndexError):
        image.read((0, 0, 701, 10))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_every_dtype_is_read_as_it_is(make_tiff: MakeTiff, dtype: str, noise: Noise) -> None:
    pixels = noise(40, 50, 2, dtype)
    image = open_image(make_tiff(pixels))
    assert image.dtype == dtype
    np.testing.assert_array_equal(image.read(whole(image)), pixels)


@pytest.mark.parametrize("dtype", ["complex64", "uint64"])
def test_other_dtypes_are_refused_in_words(make_tiff: MakeTiff, dtype: str) -> None:
    path = make_tiff(np.ones((8, 8, 1), dtype))
    with pytest.raises(UnreadableImage, match=r"complex numbers|not supported"):
        open_image(path)


@pytest.mark.parametrize(
    ("dtype", "nodata", "one_band_suffices"),
    [
        ("int16", -9999, True),
        ("int16", -32768, True),
        ("float32", -9999, True),
        ("float64", -1.7976931348623157e308, True),
        ("float32", float("nan"), True),
        ("uint8", 0, False),
        ("uint16", 65535, False),
        ("int16", 0, False),
        ("float32", 0, False),
    ],
)
def test_which_pixels_are_nodata(
    make_tiff: MakeTiff, dtype: str, nodata: float, one_band_suffices: bool
) -> None:
    pixels = np.full((4, 4, 2), 7, dtype)
    pixels[0, 0] = nodata
    pixels[0, 1, 0] = nodata
    image = open_image(make_tiff(pixels, nodata=nodata))
    valid = image.read_valid(whole(image))
    assert not valid[0, 0]
    assert valid.sum() == (14 if one_band_suffices else 15)


def test_nan_and_infinity_in_any_band_are_not_valid(make_tiff: MakeTiff) -> None:
    pixels = np.ones((3, 3, 2), np.float32)
    pixels[0, 0, 0], pixels[1, 1, 1] = np.nan, np.inf
    image = open_image(make_tiff(pixels))
    assert image.may_be_invalid
    assert image.read_valid(whole(image)).tolist() == [
        [False, True, True],
        [True, False, True],
        [True, True, True],
    ]


def test_nodata_is_compared_as_the_pixels_hold_it(make_tiff: MakeTiff, tmp_path: Path) -> None:
    pixels = np.full((2, 2, 1), 1, np.float32)
    pixels[0, 0] = np.float32(-3.4028235e38)
    # rasterio writes no text that is rounded past the type's range, other programs do.
    text = [(42113, "s", 0, "-3.4028235e+38", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels[..., 0], extratags=text, metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert image.read_valid(whole(image)).sum() == 3
    unreachable = open_image(make_tiff(np.ones((2, 2, 1), np.uint16), "b.tif", nodata=0))
    assert unreachable.read_valid((0, 0, 2, 2)).all()


def test_internal_mask_and_sidecar_mask(make_tiff: MakeTiff, noise: Noise) -> None:
    mask = np.full((20, 30), 255, np.uint8)
    mask[:5] = 0
    pixels = noise(20, 30, 3, np.uint8)
    for internal in (True, False):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
            path = make_tiff(pixels, f"{internal}.tif", setup=lambda new: new.write_mask(mask))
        assert path.with_suffix(".tif.msk").exists() is not internal
        image = open_image(path)
        assert image.profile.masks == "mask"
        np.testing.assert_array_equal(image.read_valid(whole(image)), mask != 0)


def test_alpha_is_a_band_and_says_what_is_valid(make_tiff: MakeTiff, noise: Noise) -> None:
    pixels = noise(6, 6, 4, np.uint8)
    pixels[..., 3] = 255
    pixels[2, 2, 3] = 0

    def with_alpha(new: rasterio.io.DatasetWriter) -> None:
        new.colorinterp = [
            ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha,
        ]  # fmt: skip

    image = open_image(make_tiff(pixels, setup=with_alpha))
    assert image.roles == ("red", "green", "blue", "alpha")
    assert image.data_bands == (0, 1, 2)
    assert image.read_valid(whole(image)).sum() == 35


def test_palette_becomes_colour_with_a_note(make_tiff: MakeTiff) -> None:
    index = np.array([[[0], [1]], [[2], [1]]], np.uint8)
    colours = {0: (255, 0, 0, 255), 1: (0, 128, 7, 255), 2: (9, 9, 9, 255)}
    path = make_tiff(index, setup=lambda new: new.write_colormap(1, colours))
    image = open_image(path)
    assert image.shape == (2, 2, 3)
    assert image.read((0, 0, 2, 2))[0, 1].tolist() == [0, 128, 7]
    assert any("palette" in note for note in image.notes)


def test_palette_with_nodata_keeps_its_holes(make_tiff: MakeTiff) -> None:
    index = np.array([[[0], [1]]], np.uint8)
    colours = {0: (5, 5, 5, 255), 1: (0, 128, 7, 255)}
    image = open_image(make_tiff(index, nodata=0, setup=lambda new: new.write_colormap(1, colours)))
    assert image.read_valid((0, 0, 1, 2)).tolist() == [[False, True]]


@pytest.mark.parametrize("name", ["print.jpg", "print.tif"])
def test_cmyk_becomes_rgb_with_a_note(tmp_path: Path, name: str) -> None:
    from PIL import Image as Pillow

    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[:, :8], rgb[:, 8:] = (200, 40, 30), (250, 250, 250)
    path = tmp_path / name
    options = {"quality": 95} if name.endswith("jpg") else {}
    Pillow.fromarray(rgb).convert("CMYK").save(path, **options)
    image = open_image(path)
    assert image.roles == ("red", "green", "blue")
    assert np.abs(image.read((0, 0, 16, 16)).astype(int) - rgb).max() < 12
    assert any("CMYK" in note for note in image.notes)


def test_file_overviews_are_the_levels(make_tiff: MakeTiff, noise: Noise) -> None:
    from rasterio.enums import Resampling

    pixels = noise(1000, 800, 1, np.uint8)
    path = make_tiff(pixels, tiled=True, blockxsize=256, blockysize=256)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.nearest)
    image = open_image(path)
    assert image.level_shapes == ((1000, 800), (500, 400), (250, 200))
    with rasterio.open(path, overview_level=1) as dataset:
        np.testing.assert_array_equal(image.read((0, 0, 250, 200), 2)[..., 0], dataset.read(1))


@pytest.mark.slow
def test_levels_are_lazy_and_equal_the_file(make_tiff: MakeTiff, noise: Noise) -> None:
    pixels = noise(600, 700, 3, np.uint8)
    image = open_image(make_tiff(pixels, tiled=True, blockxsize=256, blockysize=256))
    before = chunk_cache.decodes
    level = image.levels[0]
    assert chunk_cache.decodes == before
    assert level.chunks[0] == (256, 256, 88)
    np.testing.assert_array_equal(level[100:300, 20:600].compute(), pixels[100:300, 20:600])


def test_one_chunk_is_decoded_once_for_all_threads(make_tiff: MakeTiff, noise: Noise) -> None:
    pixels = noise(512, 512, 3, np.uint8)
    image = open_image(make_tiff(pixels, tiled=True, blockxsize=256, blockysize=256))
    before, wrong = chunk_cache.decodes, []

    def read(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(20):
            y, x = random.integers(0, 400, 2)
            if not np.array_equal(
                image.read((y, x, y + 90, x + 90)), pixels[y : y + 90, x : x + 90]
            ):
                wrong.append((y, x))

    threads = [threading.Thread(target=read, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert chunk_cache.decodes - before <= 4


def test_tags_scales_units_and_descriptions_are_kept(make_tiff: MakeTiff) -> None:
    def describe(new: rasterio.io.DatasetWriter) -> None:
        new.descriptions = ("Red", "Near infrared")
        new.scales, new.offsets, new.units = (0.1, 0.1), (-2.0, -2.0), ("K", "K")
        new.update_tags(OWNER="me", STATISTICS_MEAN="4")
        new.update_tags(2, STATISTICS_MEAN="4", GAIN="3")

    image = open_image(make_tiff(np.ones((4, 4, 2), np.uint16), setup=describe))
    profile = image.profile
    assert image.roles == ("red", "nir")
    assert profile.tags[""]["OWNER"] == "me"
    assert profile.scales == (0.1, 0.1)
    assert profile.offsets == (-2.0, -2.0)
    assert profile.units == ("K", "K")
    assert profile.band_tags[1][""] == {"GAIN": "3"}
    assert "STATISTICS_MEAN" not in profile.tags[""]


@pytest.mark.parametrize("driver", ["ENVI", "HFA", "VRT", "JP2OpenJPEG", "PNG"])
def test_other_formats(make_tiff: MakeTiff, tmp_path: Path, driver: str, noise: Noise) -> None:
    from rasterio.shutil import copy

    pixels = noise(64, 80, 3, np.uint8)
    source = make_tiff(pixels)
    suffix = {"ENVI": ".dat", "HFA": ".img", "VRT": ".vrt", "JP2OpenJPEG": ".jp2", "PNG": ".png"}
    options = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    path = tmp_path / f"Straße mit Ümlaut{suffix[driver]}"
    copy(source, path, driver=driver, **options)
    image = open_image(path)
    np.testing.assert_array_equal(image.read(whole(image)), pixels)
    assert image.transform == (10, 0, 400000, 0, -10, 5000000)
    if driver == "ENVI":
        same = open_image(path.with_suffix(".hdr"))
        np.testing.assert_array_equal(same.read(whole(same)), pixels)


def test_nothing_is_written_beside_the_file_and_nothing_said(
    data_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("landsat_4band_2010.tif", "cog_gcps.tif", "sentinel2_TCI.tif"):
        shutil.copyfile(data_dir / "geotiff" / name, tmp_path / name)
    before = sorted(tmp_path.iterdir())
    for path in before:
        image = open_image(path)
        thread = threading.Thread(target=lambda image=image: image.read(whole(image)))
        thread.start()
        thread.join()
        image.read_valid(whole(image))
        image.close()
    assert sorted(tmp_path.iterdir()) == before
    assert capfd.readouterr() == ("", "")


def test_closed_files_may_be_replaced_and_read_again(make_tiff: MakeTiff, noise: Noise) -> None:
    pixels = noise(32, 32, 1, np.uint8)
    path = make_tiff(pixels)
    image = open_image(path)
    image.read(whole(image))
    image.close()
    make_tiff(255 - pixels)
    np.testing.assert_array_equal(image.read(whole(image)), 255 - pixels)


def test_untiled_big_files_are_streamed_before_they_are_read(
    make_tiff: MakeTiff, noise: Noise, streamed_above: Callable[[int], None]
) -> None:
    streamed_above(100_000)
    pixels = noise(700, 300, 3, np.uint8)
    image = open_image(make_tiff(pixels, compress="deflate", tiled=False))
    assert not image.source.random_access
    landed: list[int] = []
    image.prepare(lambda box, done, total: landed.append(done))
    assert landed[-1] == 700
    np.testing.assert_array_equal(image.read((100, 50, 690, 300)), pixels[100:690, 50:300])
    again = open_image(image.path)
    np.testing.assert_array_equal(again.read((600, 0, 700, 9)), pixels[600:700, 0:9])


def test_spec_opens_the_same_image_again(make_tiff: MakeTiff, noise: Noise) -> None:
    import json
    import pickle

    path = make_tiff(
        noise(8, 8, 3, np.uint8), name="mit Leer zeichen/ä.tif", transform=Affine(1, 2, 3, 4, 5, 6)
    )
    image = open_image(path, bands="3,2,1")
    spec = json.loads(json.dumps(image.spec))
    for again in (type(image).from_spec(spec), pickle.loads(pickle.dumps(image))):
        assert again.roles == ("blue", "green", "red")
        assert again.fingerprint == image.fingerprint
        assert again.transform == (1, 2, 3, 4, 5, 6)


def declare(path: Path, what: str) -> None:
    """Change what lies beside `path`: its mask, nodata, colours, header, or statistics of its values."""
    beside = path.with_name(path.name + ".aux.xml")
    if what == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
            file.write_mask(np.arange(80, dtype=np.uint8).reshape(8, 10))
    elif what == "header":
        header = path.with_suffix(".hdr")
        header.write_text(header.read_text().replace("interleave = bsq", "interleave = bil"))
    else:
        texts = {
            "nodata": "<NoDataValue>3</NoDataValue>",
            "alpha": "<ColorInterp>Alpha</ColorInterp>",
            "palette": '<ColorTable><Entry c1="9" c2="0" c3="0" c4="255"/></ColorTable>',
        }
        shared = '<Metadata><MDI key="NODATA_VALUES">3 4</MDI></Metadata>' * (what == "of all")
        statistics = '<Metadata><MDI key="STATISTICS_MAXIMUM">9</MDI></Metadata>'
        text = "".join(texts.get(word, statistics) for word in what.split())
        band = f'<PAMRasterBand band="2">{text}</PAMRasterBand>'
        beside.write_text(f"<PAMDataset>{shared}{band}</PAMDataset>")


def of_two_bands(
    make_tiff: Callable[..., Path], driver: str = "GTiff", *, is_vrt: bool = False
) -> tuple[Path, Path]:
    """Return an image, and the file beside which `declare` writes: of a VRT its source."""
    pixels = np.arange(160, dtype=np.uint8).reshape(8, 10, 2)
    path = make_tiff(pixels, "a.dat" if driver == "ENVI" else "a.tif", driver=driver)
    if not is_vrt:
        return path, path
    mosaic = path.with_suffix(".vrt")
    rasterio.shutil.copy(path, mosaic, driver="VRT")
    return mosaic, path


@pytest.mark.parametrize("is_vrt", [False, True])
@pytest.mark.parametrize(
    "what", ["mask", "nodata", "of all", "alpha", "palette", "header", "statistics"]
)
def test_what_lies_beside_and_changes_pixels_is_part_of_the_content(
    make_tiff: Callable[..., Path], what: str, is_vrt: bool
) -> None:
    """Statistics, levels and finished tiles are kept by the content."""
    driver = "ENVI" if what == "header" else "GTiff"
    image, beside = of_two_bands(make_tiff, driver, is_vrt=is_vrt)
    before = open_image(image).fingerprint
    declare(beside, what)
    assert (open_image(image).fingerprint == before) == (what == "statistics")


def test_statistics_that_a_viewer_adds_do_not_change_the_content(
    make_tiff: Callable[..., Path],
) -> None:
    """A program that shows the image while it is restored writes them."""
    path, _ = of_two_bands(make_tiff)
    declare(path, "nodata")
    opened = open_image(path)
    before = opened.fingerprint
    declare(path, "nodata statistics")
    assert opened.reader.fingerprint() == before
    assert open_image(path).fingerprint == before
    path.with_name(path.name + ".aux.xml").unlink()
    assert opened.reader.fingerprint() != before
