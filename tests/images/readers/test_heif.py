"""HEIF photos: read where pi-heif is installed, refused in one sentence where it is not."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from tests.models.test_mertens import frames

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.errors import UnreadableImage
from napari_restore.images.files.exif import exif_tags

HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


class FakeFile:
    """What `open_heif` returns: the main picture, with its pixels as an array."""

    def __init__(self, pixels: np.ndarray, info: dict[str, Any]) -> None:
        self.pixels, self.info = pixels, info
        self.size = pixels.shape[1::-1]
        letters = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
        self.mode = letters if pixels.dtype == np.uint8 else f"{letters};16"

    def __len__(self) -> int:
        return int(self.info.get("pictures", 1))

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        return self.pixels


class FakePackage(ModuleType):
    """pi-heif with the pictures of `content`, by the last byte of a file."""

    def __init__(self) -> None:
        super().__init__("pi_heif")
        self.content: list[FakeFile] = []
        self.opened = 0

    def open_heif(self, path: Path, *, convert_hdr_to_8bit: bool = True) -> FakeFile:
        assert not convert_hdr_to_8bit
        self.opened += 1
        return self.content[path.read_bytes()[-1]]

    def write(self, path: Path, pixels: np.ndarray, **info: Any) -> Path:
        path.write_bytes(HEAD + bytes([len(self.content)]))
        self.content.append(FakeFile(pixels, info))
        return path


@pytest.fixture
def heif(monkeypatch: pytest.MonkeyPatch) -> FakePackage:
    package = FakePackage()
    monkeypatch.setitem(sys.modules, "pi_heif", package)
    return package


REAL = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAeRtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA
AAAAAAAAAAAAAA5waXRtAAAAAAACAAAAEGlkYXQAAAAAACAAGAAAAExpbG9jAQAAAERAAAMAAQAAAAAAAAIIAAEA
AAAAAAAAggACAAEAAAAAAAAAAQAAAAAAAAAIAAMAAAAAAAACigABAAAAAAAAAL4AAABNaWluZgAAAAAAAwAAABVp
bmZlAgAAAQABAABodmMxAAAAABVpbmZlAgAAAAACAABncmlkAAAAABVpbmZlAgAAAQADAABFeGlmAAAAANhpcHJw
AAAAtmlwY28AAAB2aHZjQwEDcAAAAAAAAAAAAB7wAPz9+PgAAA8DIAABABhAAQwB//8DcAAAAwCQAAADAAADAB66
AkAhAAEAKkIBAQNwAAADAJAAAAMAAAMAHqAggQWW6q6a5uBAQMCAAAADAIAAAAMAhCIAAQAGRAHBc8GJAAAAFGlz
cGUAAAAAAAAAQAAAAEAAAAAUaXNwZQAAAAAAAAAgAAAAGAAAABBwaXhpAAAAAAMICAgAAAAaaXBtYQAAAAAAAAAC
AAECgQIAAgIDhAAAAChpcmVmAAAAAAAAAA5kaW1nAAIAAQABAAAADmNkc2MAAwABAAIAAAFIbWRhdAAAAH4oAa8T
IaupWPUqKBHBUPfo+L4XZViUTDVp7y++NwL6V2KRjHPy0w4LJGffZxsL2C0Ps6fQuo23FRDUMgUuFP1PaoIGmaGp
xBpzZJYT++BvCjSNag/GpWGNR7AuOl6fgM00BsDLXURch5VtS05JNtNoNIU5l0DIZefy68YxveAAAAAGRXhpZgAA
SUkqAAgAAAAGABIBAwABAAAAAQAAABoBBQABAAAAVgAAABsBBQABAAAAXgAAACgBAwABAAAAAgAAABMCAwABAAAA
AQAAAGmHBAABAAAAZgAAAAAAAAAvGQEA6AMAAC8ZAQDoAwAABgAAkAcABAAAADAyMTABkQcABAAAAAECAwAAoAcA
BAAAADAxMDABoAMAAQAAAP//AAACoAQAAQAAACAAAAADoAQAAQAAABgAAAAAAAAA
"""
"""32 × 24 pixels, encoded by x265: colours that grow to the right and downwards."""


def test_a_real_photo_is_what_the_decoder_gives(tmp_path: Path) -> None:
    pi_heif = pytest.importorskip("pi_heif")
    path = tmp_path / "a.heic"
    path.write_bytes(base64.b64decode(REAL))
    image = nr.open_image(path)
    pixels = image.read((0, 0, 24, 32))
    np.testing.assert_array_equal(pixels, np.asarray(pi_heif.open_heif(path).to_pillow()))
    y, x = np.mgrid[:24, :32]
    np.testing.assert_allclose(pixels, np.stack([x * 8, y * 10, 255 - x * 8], 2), atol=25)


def exif_of(seconds: float = 0.01, second: int = 0) -> bytes:
    exif = Pillow.Exif()
    exif[0x0112], exif[0x0110] = 6, "One"
    exif.get_ifd(0x8769).update(
        {0x829A: seconds, 0x8827: 100, 0x9003: f"2026:06:01 12:00:{second:02d}"}
    )
    return exif.tobytes()


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_those_of_the_file(
    tmp_path: Path, heif: FakePackage, bands: int, dtype: Any
) -> None:
    pixels = np.random.default_rng(1).integers(1, 256, (70, 90, bands)).astype(dtype)
    if bands in (2, 4):
        pixels[3:5, 2:9, -1] = 0
    image = nr.open_image(heif.write(tmp_path / "a.HIF", pixels))
    assert image.dtype == dtype
    np.testing.assert_array_equal(image.read((2, 1, 60, 80)), pixels[2:60, 1:80])
    valid = pixels[2:60, 1:80, -1] > 0
    np.testing.assert_array_equal(image.read_valid((2, 1, 60, 80)), valid)
    # Once for its header, once for its pixels.
    assert heif.opened == 2


@pytest.mark.parametrize("header", [b"", b"Exif\0\0"])
def test_exif_comes_through_and_an_orientation_does_not_turn_it_twice(
    tmp_path: Path, heif: FakePackage, header: bytes
) -> None:
    pixels = np.zeros((30, 40, 3), np.uint8)
    exif = header + exif_of(0.5).removeprefix(b"Exif\0\0")
    image = nr.open_image(heif.write(tmp_path / "a.heic", pixels, exif=exif))
    tags = exif_tags(image.profile.exif)
    assert image.shape == pixels.shape
    assert (tags[0x0112], tags[0x829A], tags[0x8827]) == (1, 0.5, 100)
    assert tags[0x9003] == "2026:06:01 12:00:00"


def test_xmp_of_a_picture_that_the_decoder_turns_is_that_of_an_upright_one(
    tmp_path: Path, heif: FakePackage
) -> None:
    packet = b'<rdf:RDF xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    pixels = np.zeros((30, 40, 3), np.uint8)
    image = nr.open_image(heif.write(tmp_path / "a.heic", pixels, xmp=packet))
    assert b'tiff:Orientation="1"' in (image.profile.xmp or b"")


@pytest.mark.slow
def test_a_bracket_is_found_and_fused(tmp_path: Path, heif: FakePackage) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, frame in enumerate(frames(60, 80)):
        exif = exif_of(0.01 * 4**number, number)
        heif.write(folder / f"{number}.heic", (frame * 255).astype(np.uint8), exif=exif)
    (found,) = nr.brackets(folder)
    assert found.exposures == pytest.approx((-2, 0, 2))
    assert main(["fuse", str(folder), "-o", str(tmp_path / "o.tif"), "--align", "off"]) == 0
    with Pillow.open(tmp_path / "o.tif") as written:
        assert written.size == (80, 60)


def test_values_for_an_hdr_screen_are_noted(tmp_path: Path, heif: FakePackage) -> None:
    curve = {"transfer_characteristics": 16}
    path = heif.write(tmp_path / "a.hif", np.zeros((9, 9, 3), np.uint16), nclx_profile=curve)
    assert any("HDR" in note for note in nr.open_image(path).notes)


def test_of_several_pictures_the_main_one_is_told(tmp_path: Path, heif: FakePackage) -> None:
    path = heif.write(tmp_path / "a.heic", np.zeros((9, 9, 3), np.uint8), pictures=3)
    assert "It contains 3 pictures: the main one is used." in nr.open_image(path).notes


@pytest.mark.parametrize("command", ["info", "fuse"])
def test_without_pi_heif_one_sentence_says_what_to_install(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    paths = [tmp_path / f"{number}.heic" for number in range(2)]
    for path in paths:
        path.write_bytes(HEAD)
    more = ["-o", str(tmp_path / "o.tif")] if command == "fuse" else []
    assert main([command, *map(str, paths if more else paths[:1]), *more]) == 2
    message = capsys.readouterr().err.strip()
    assert message == (
        "napari-restore: 0.heic is a HEIF photo, and pi-heif is not installed. "
        'Install it: pip install "napari-restore[heif]", or save the photo as JPEG.'
    )


def test_a_large_folder_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    for number in range(20):
        (tmp_path / f"{number}.heic").write_bytes(HEAD)
    with pytest.raises(UnreadableImage, match="pi-heif"):
        nr.brackets(tmp_path)


def test_what_the_decoder_refuses_is_one_sentence(
    tmp_path: Path, heif: FakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Unexpected end of file.\n more")

    path = heif.write(tmp_path / "a.heic", np.zeros((9, 9, 3), np.uint8))
    image = nr.open_image(path)
    heif.content[0].pixels = np.zeros((9, 8, 3), np.uint8)
    with pytest.raises(UnreadableImage, match=r"uint8 \(9, 8, 3\), not"):
        image.read((0, 0, 9, 9))
    monkeypatch.setattr(heif, "open_heif", refuse)
    with pytest.raises(UnreadableImage, match=r"photo: Unexpected end of file\. Copy"):
        nr.open_image(path)
