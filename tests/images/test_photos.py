"""Photos: upright, with what the camera wrote; RAW; Radiance."""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_restore.errors import UnreadableImage
from napari_restore.images import open_image, upright_exif
from napari_restore.images._exif import orientation_of

Noise = Callable[..., np.ndarray]


def exif_block(orientation: int) -> bytes:
    from PIL.Image import Exif

    exif = Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    return bytes(exif.tobytes())


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Pillow's own turning."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    buffer = io.BytesIO()
    Pillow.fromarray(stored).save(buffer, "PNG", exif=exif_block(orientation))
    return np.asarray(ImageOps.exif_transpose(Pillow.open(buffer)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, noise: Noise, orientation: int) -> None:
    from PIL import Image as Pillow

    stored = noise(30, 50, 3, np.uint8)
    path = tmp_path / "photo.png"
    Pillow.fromarray(stored).save(path, exif=exif_block(orientation))
    image = open_image(path)
    expected = upright(stored, orientation)
    assert image.shape == expected.shape
    assert image.profile.orientation == orientation
    np.testing.assert_array_equal(image.read((0, 0, *expected.shape[:2])), expected)
    np.testing.assert_array_equal(image.read((3, 4, 17, 29)), expected[3:17, 4:29])


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_big_turned_photos_are_streamed_upright(
    tmp_path: Path, noise: Noise, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image as Pillow

    monkeypatch.setattr("napari_restore.images._reader.STREAMED_BYTES", 50_000)
    stored = noise(520, 300, 4, np.uint8)
    path = tmp_path / "photo.png"
    Pillow.fromarray(stored).save(path, exif=exif_block(orientation))
    image = open_image(path)
    assert not image.source.random_access
    expected = upright(stored, orientation)
    box = (0, 0, *expected.shape[:2])
    np.testing.assert_array_equal(image.read(box), expected)
    np.testing.assert_array_equal(image.read_valid(box), expected[..., 3] != 0)


def test_tiff_orientation_is_applied_unless_the_file_has_a_place(
    tmp_path: Path, noise: Noise
) -> None:
    import tifffile

    stored = noise(20, 30, 3, np.uint8)
    path = tmp_path / "a.tif"
    tag = (274, "H", 1, 6, True)
    tifffile.imwrite(path, stored, photometric="rgb", extratags=[tag])
    image = open_image(path)
    assert image.shape == (30, 20, 3)
    np.testing.assert_array_equal(image.read((0, 0, 30, 20)), upright(stored, 6))
    path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n400000\n5000000\n")
    placed = open_image(path)
    assert placed.shape == (20, 30, 3)
    assert any("orientation" in note for note in placed.notes)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_profile_and_exif_are_carried(tmp_path: Path, noise: Noise, suffix: str) -> None:
    from PIL import Image as Pillow
    from PIL import ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"photo.{suffix}"
    Pillow.fromarray(noise(20, 20, 3, np.uint8)).save(path, exif=exif_block(1), icc_profile=icc)
    profile = open_image(path).profile
    assert profile.icc == icc
    assert profile.is_photo
    assert profile.exif is not None
    parsed = Pillow.Exif()
    parsed.load(profile.exif)
    assert parsed[0x010F] == "Maker"
    assert parsed.get_ifd(0x8825)[1] == "N"


def test_xmp_is_carried(tmp_path: Path, noise: Noise) -> None:
    from PIL import Image as Pillow

    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>hello</x:xmpmeta>"
    path = tmp_path / "photo.jpg"
    Pillow.fromarray(noise(20, 20, 3, np.uint8)).save(path, xmp=packet)
    assert open_image(path).profile.xmp == packet


def test_upright_copy_keeps_the_place_and_resets_the_orientation() -> None:
    from PIL.Image import Exif

    turned = upright_exif(exif_block(6))
    assert orientation_of(turned) == 1
    parsed = Exif()
    parsed.load(turned)
    assert parsed[0x010F] == "Maker"
    assert parsed.get_ifd(0x8825)[1] == "N"
    assert upright_exif(None) is None
    assert orientation_of(b"Exif\0\0garbage") == 1


def test_radiance(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "brackets" / "hdr_maps" / "Bottles_Small.hdr"
    image = open_image(path)
    assert image.dtype == np.float32
    assert image.roles == ("red", "green", "blue")
    assert image.read((0, 0, image.height, image.width)).max() > 1
    cut = tmp_path / "cut.hdr"
    cut.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UnreadableImage):
        open_image(cut)


class FakeRaw:
    """What of rawpy's handle is used; its picture is 40 × 60, stored lying."""

    sizes = types.SimpleNamespace(iheight=60, iwidth=40, flip=6)
    camera_whitebalance = (2.0, 1.0, 1.5, 0.0)

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    def postprocess(self, **options: Any) -> np.ndarray:
        self.options.update(options)
        return np.arange(40 * 60 * 3, dtype=np.uint16).reshape(40, 60, 3)

    def close(self) -> None:
        pass


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> FakeRaw:
    fake, module = FakeRaw(), types.ModuleType("rawpy")
    module.LibRawError = type("LibRawError", (Exception,), {})  # type: ignore[attr-defined]
    module.ColorSpace = types.SimpleNamespace(sRGB=1)  # type: ignore[attr-defined]
    module.imread = lambda file: fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rawpy", module)
    return fake


def test_raw_is_developed_plainly_and_said(raw: FakeRaw, tmp_path: Path) -> None:
    path = tmp_path / "photo.NEF"
    path.write_bytes(b"II*\0 raw")
    image = open_image(path)
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint16
    assert image.read((2, 3, 3, 4)).ravel().tolist() == [369, 370, 371]
    assert raw.options["output_bps"] == 16
    assert raw.options["use_camera_wb"]
    assert raw.options["no_auto_bright"]
    assert image.profile.tags["RAW"]["white_balance"] == "as shot 2 1 1.5 0"
    assert image.profile.is_photo


def test_broken_raw(raw: FakeRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.cr2"
    path.write_bytes(b"not really")

    def refuse(file: object) -> None:
        raise sys.modules["rawpy"].LibRawError(b"Unsupported file format")

    monkeypatch.setattr(sys.modules["rawpy"], "imread", refuse)
    with pytest.raises(UnreadableImage, match="Unsupported file format"):
        open_image(path)


def test_the_real_rawpy_refuses_what_is_no_raw(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    path = tmp_path / "photo.dng"
    path.write_bytes(b"II*\0" + bytes(5000))
    with pytest.raises(UnreadableImage, match="cannot be developed"):
        open_image(path)


def test_raw_without_rawpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    path = tmp_path / "photo.arw"
    path.write_bytes(b"II*\0 raw")
    with pytest.raises(UnreadableImage, match="not installed"):
        open_image(path)
