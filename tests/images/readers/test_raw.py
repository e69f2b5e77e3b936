"""Camera RAW: a real DNG, made here, developed to what was put into it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.errors import UnreadableImage
from napari_restore.images import open_image
from napari_restore.images.readers.raw import picture_in

pytest.importorskip("rawpy")

WriteDng = Callable[..., None]


@pytest.fixture
def linear() -> np.ndarray:
    """(240, 320, 3) linear sRGB that grows to the right and downwards."""
    y, x = np.mgrid[:240, :320]
    return np.dstack([0.2 + 0.5 * x / 320, np.full(x.shape, 0.4), 0.1 + 0.6 * y / 240])


def upright(linear: np.ndarray, orientation: int) -> np.ndarray:
    """The picture turned as EXIF says (CIPA DC-008, 4.6.5.1)."""
    if orientation in (5, 7):
        transposed = linear.transpose(1, 0, 2)
        return transposed if orientation == 5 else transposed[::-1, ::-1]
    return np.rot90(linear, {1: 0, 3: 2, 6: 3, 8: 1}[orientation])


def as_linear(pixels: np.ndarray) -> np.ndarray:
    """16-bit sRGB as linear light in 0 … 1 (IEC 61966-2-1)."""
    values = pixels / 65535
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
def test_raw_is_developed_to_the_light_it_measured(
    tmp_path: Path, write_dng: WriteDng, linear: np.ndarray, orientation: int
) -> None:
    path = tmp_path / "photo ü.dng"
    write_dng(path, linear, orientation)
    image = open_image(path)
    expected = upright(linear, orientation)
    assert image.shape == expected.shape
    assert image.dtype == np.uint16
    assert image.roles == ("red", "green", "blue")
    assert image.profile.is_display
    assert image.profile.tags["RAW"]["white_balance"] == "as shot 2 1 1.6 0"
    pixels = as_linear(image.read((0, 0, image.height, image.width)))
    # Away from the border, where demosaicking guesses.
    np.testing.assert_allclose(pixels[4:-4, 4:-4], expected[4:-4, 4:-4], atol=2e-3)


ACTIVE = (50829, "I", 4, (6, 10, 232, 312), True)
ORIGIN, SIZE = (50719, "I", 2, (17, 9), True), (50720, "I", 2, (250, 200), True)
CROPS: dict[str, tuple[list[tuple[int, str, int, Any, bool]], tuple[int, int, int, int]]] = {
    # Tags, and the picture (y0, x0, y1, x1) on the sensor (DNG 1.7, chapter 4).
    "default crop": ([ORIGIN, SIZE], (9, 17, 209, 267)),
    "in the active area": ([ACTIVE, ORIGIN, SIZE], (15, 27, 215, 277)),
    "fractions": (
        [(50719, "2I", 2, (35, 2, 9, 1), True), (50720, "2I", 2, (500, 2, 200, 1), True)],
        (9, 18, 209, 268),
    ),
    "ratio of sides": (
        [ORIGIN, SIZE, (51125, "2I", 4, (0, 1, 1, 10, 1, 1, 9, 10), True)],
        (9, 42, 209, 242),
    ),
    "beyond the sensor": ([(50719, "I", 2, (400, 9), True), SIZE], (0, 0, 240, 320)),
}


@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
@pytest.mark.parametrize("case", CROPS)
def test_a_dng_shows_its_default_crop(
    tmp_path: Path, write_dng: WriteDng, linear: np.ndarray, case: str, orientation: int
) -> None:
    more, (y0, x0, y1, x1) = CROPS[case]
    write_dng(tmp_path / "photo.dng", linear, orientation, more=more)
    image = open_image(tmp_path / "photo.dng")
    expected = upright(linear[y0:y1, x0:x1], orientation)
    assert image.shape == expected.shape
    pixels = as_linear(image.read((0, 0, image.height, image.width)))
    np.testing.assert_allclose(pixels[4:-4, 4:-4], expected[4:-4, 4:-4], atol=2e-3)
    told = f"Its size is {image.width} × {image.height} by default crop, not "
    assert any(told in note for note in image.notes) == (image.shape[0] not in (240, 320))


@pytest.mark.parametrize("flip", [0, 3, 4, 5, 6, 7])
def test_the_crop_of_a_camera_is_in_rows_and_columns_of_its_sensor(flip: int) -> None:
    """LibRaw turns rows (2) and columns (1), then makes columns of rows (4)."""
    margins = {"top_margin": 7, "left_margin": 12, "iheight": 200, "iwidth": 300}
    crop = {"crop_top_margin": 10, "crop_left_margin": 20, "crop_height": 180, "crop_width": 270}
    sizes = SimpleNamespace(height=200, width=300, flip=flip, **margins, **crop)
    sensor = np.arange(214 * 330).reshape(214, 330)
    shown, wanted = (
        (part.T if flip & 4 else part)
        for whole in (sensor[7:207, 12:312], sensor[10:190, 20:290])
        for part in [whole[:: -1 if flip & 2 else 1, :: -1 if flip & 1 else 1]]
    )
    size, (y0, x0, y1, x1) = picture_in(sizes, None)
    assert size == shown.shape
    np.testing.assert_array_equal(shown[y0:y1, x0:x1], wanted)
    # What the camera says of a small part, or without a place, is no crop.
    for unlike in ({"crop_height": 40}, {"crop_left_margin": 0}):
        other = SimpleNamespace(**{**vars(sizes), **unlike})
        assert picture_in(other, None)[1] == (0, 0, *size)


def test_a_baseline_exposure_is_told(tmp_path: Path, write_dng: WriteDng) -> None:
    for name, tags in {"a": [], "b": [(50730, "2i", 1, (-3, 2), True)]}.items():
        write_dng(tmp_path / f"{name}.dng", np.full((32, 48, 3), 0.2), more=tags)
    plain, other = (open_image(tmp_path / f"{name}.dng") for name in "ab")
    assert any("baseline exposure of −1.5 EV is left out" in note for note in other.notes)
    assert not any("baseline" in note for note in plain.notes)
    box = (0, 0, 32, 48)
    np.testing.assert_array_equal(plain.read(box), other.read(box))


@pytest.mark.parametrize("code", [50719, 50720, 50730, 51125])
@pytest.mark.parametrize("value", [("d", 1, float("nan")), ("d", 4, (1e300,) * 4), ("s", 0, "x")])
def test_a_dng_whose_tags_make_no_sense_is_shown_whole(
    tmp_path: Path, write_dng: WriteDng, code: int, value: tuple[str, int, Any]
) -> None:
    tags = {tag[0]: tag for tag in (ORIGIN, SIZE, ACTIVE)} | {code: (code, *value, True)}
    write_dng(tmp_path / "a.dng", np.full((240, 320, 3), 0.2), more=[*tags.values()])
    image = open_image(tmp_path / "a.dng")
    assert image.shape == (226, 302, 3) or code in (50730, 51125)
    assert image.read((0, 0, image.height, image.width)).any()
    assert not any("nan" in note for note in image.notes)


def test_a_raw_photo_is_restored_to_a_16_bit_file(
    tmp_path: Path, write_dng: WriteDng, linear: np.ndarray
) -> None:
    path, out = tmp_path / "photo.dng", tmp_path / "photo.tif"
    write_dng(path, linear)
    nr.restore(path, "identity").save(out)
    written = open_image(out)
    np.testing.assert_array_equal(
        written.read((0, 0, 240, 320)), open_image(path).read((0, 0, 240, 320))
    )
    assert written.dtype == np.uint16


def test_a_raw_photo_cut_off_is_one_sentence(
    tmp_path: Path, write_dng: WriteDng, linear: np.ndarray
) -> None:
    path = tmp_path / "photo.dng"
    write_dng(path, linear)
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(UnreadableImage, match="cannot be developed"):
        open_image(path).read((0, 0, 240, 320))


def test_what_is_no_raw_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.dng"
    path.write_bytes(b"II*\0" + bytes(5000))
    with pytest.raises(UnreadableImage, match="cannot be developed"):
        open_image(path)


def test_without_rawpy_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    path = tmp_path / "photo.arw"
    path.write_bytes(b"II*\0 raw")
    with pytest.raises(UnreadableImage, match="not installed"):
        open_image(path)


def test_a_sensor_without_colours_gives_a_grey_photo(tmp_path: Path) -> None:
    import tifffile

    path, light = tmp_path / "mono.dng", np.linspace(0.1, 1, 128 * 96).reshape(96, 128)
    tags = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50714, "I", 1, 0, True),
        (50717, "I", 1, 16383, True),
        (274, "H", 1, 6, True),
    ]
    stored = np.rint(light * 16383).astype(np.uint16)
    tifffile.imwrite(path, stored, photometric="minisblack", extratags=tags, metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        # What tifffile does not write for one sample: a sensor's values, linear.
        file.pages.first.tags["PhotometricInterpretation"].overwrite(34892)
    image = open_image(path)
    assert image.shape == (128, 96, 1) and image.roles == ("gray",)
    found = as_linear(image.read((0, 0, 128, 96)))[..., 0]
    np.testing.assert_allclose(found, np.rot90(light, 3), atol=2e-3)
    for suffix in (".jpg", ".png", ".tif"):
        out = tmp_path / f"out{suffix}"
        nr.restore(path, "identity").save(out)
        icc = open_image(out).profile.icc
        assert icc is not None and icc[16:20] == b"GRAY"


@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png", ".webp"])
def test_results_of_raw_have_a_profile_and_what_was_written_to_the_file(
    tmp_path: Path, write_dng: WriteDng, linear: np.ndarray, suffix: str
) -> None:
    import tifffile

    path, out = tmp_path / "photo.dng", tmp_path / f"out{suffix}"
    write_dng(path, linear)
    xmp = (
        b'<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/'
        b'tiff/1.0/" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmp:Rating="4" '
        b'tiff:Orientation="8" crs:Exposure2012="+1.50"/>'
    )
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        values, tags = page.asarray(), [tag for tag in page.tags if tag.code >= 33421]
        kept = [(t.code, int(t.dtype), t.count, t.value, True) for t in tags]
    kept += [(700, 1, len(xmp), xmp, True), (33723, 7, 5, b"\x1c\x02\x50\0\0", True)]
    tifffile.imwrite(path, values, photometric=32803, extratags=kept, metadata=None)
    nr.restore(path, "identity").save(out)
    profile = open_image(out).profile
    assert profile.icc is not None and profile.icc[16:20] == b"RGB "
    assert profile.xmp is not None and b'xmp:Rating="4"' in profile.xmp
    assert b'Orientation="1"' in profile.xmp and b"Exposure2012" not in profile.xmp
    assert profile.iptc or suffix in (".png", ".webp")
