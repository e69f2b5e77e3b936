"""Photos as files show them: in other colours, resized, sharpened, without alpha; JPEG's chroma."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow, ImageCms

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.errors import BadOutput
from napari_restore.images import ExportOptions, Image, Pixels, open_image, write_image
from napari_restore.images.export import _photo, _rendition
from napari_restore.images.values.working_space import named_profile

ADOBE = bytes(imagecodecs.cms_profile("adobergb"))


def scene(height: int = 90, width: int = 140) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = 40 * np.sin(x / 5) * np.cos(y / 7)
    colours = [60 + x + waves, 200 - y + waves, 90 + (x + y) / 2]
    return np.stack(colours, axis=2).clip(0, 255).astype(np.uint8)


def photo(path: Path, pixels: np.ndarray, **options: Any) -> Image:
    Pillow.fromarray(pixels).save(path, **options)
    return open_image(path)


def write(image: Image, target: Path, **options: Any) -> Path:
    pixels = Pixels((0, 0, image.height, image.width), image.read)
    return write_image(target, pixels, like=image, options=ExportOptions(**options))


def shown(path: Path) -> np.ndarray:
    with Pillow.open(path) as picture:
        return np.asarray(picture)


def in_colours(pixels: np.ndarray, source: bytes, target: bytes) -> np.ndarray:
    """Pixels converted by Pillow."""
    profiles = (ImageCms.ImageCmsProfile(io.BytesIO(icc)) for icc in (source, target))
    done = ImageCms.profileToProfile(
        Pillow.fromarray(pixels), *profiles, flags=ImageCms.Flags.NOOPTIMIZE
    )
    return np.asarray(done)


@pytest.mark.parametrize("name", ["sRGB", "adobe-rgb", "display-p3", "FILE.icc"])
@pytest.mark.parametrize("source", ["sRGB", "adobe-rgb"])
def test_colours_are_those_of_the_profile(tmp_path: Path, name: str, source: str) -> None:
    icc, named = named_profile(source), name
    if name == "FILE.icc":
        primaries = [0.7, 0.3, 1.0, 0.2, 0.75, 1.0, 0.12, 0.04, 1.0]
        white = [0.3457, 0.3585, 1.0]
        wide = imagecodecs.cms_profile("rgb", whitepoint=white, primaries=primaries, gamma=1.8)
        (tmp_path / name).write_bytes(wide)
        named = str(tmp_path / name)
    target = (tmp_path / name).read_bytes() if name == "FILE.icc" else named_profile(name)
    image = photo(tmp_path / "a.png", scene(), icc_profile=icc)
    out = write(image, tmp_path / "b.png", profile=named)
    found = shown(out).astype(int)
    assert np.abs(found - in_colours(scene(), icc, target)).max() <= 1
    assert open_image(out).profile.icc == target
    # What is in its colours already is not touched.
    if name == source:
        np.testing.assert_array_equal(found, scene())


def test_the_named_profiles_say_their_names() -> None:
    for name, text in (("adobe-rgb", "Adobe RGB"), ("display-p3", "Display P3")):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(named_profile(name)))
        assert ImageCms.getProfileDescription(profile).startswith(text)


def test_a_green_of_display_p3_lies_outside_srgb() -> None:
    green = np.array([[[0, 255, 0]]], np.uint8)
    xyz = ImageCms.ImageCmsProfile(io.BytesIO(named_profile("display-p3"))).profile
    assert xyz.green_primary[1][:2] == pytest.approx((0.265, 0.69), abs=0.03)
    assert in_colours(green, named_profile("display-p3"), named_profile("sRGB"))[0, 0, 0] == 0


def test_resized_as_pillow_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo(tmp_path / "a.png", scene())
    small = write(image, tmp_path / "b.png", resize=50)
    # Strip by strip it is the same.
    monkeypatch.setattr(_rendition, "STRIP_BYTES", 4 * 3 * 140 * 30)
    again = write(image, tmp_path / "c.png", resize=50)
    expected = Pillow.fromarray(scene()).resize((50, 32), Pillow.Resampling.LANCZOS)
    assert np.abs(shown(small).astype(int) - np.asarray(expected)).max() <= 1
    np.testing.assert_array_equal(shown(small), shown(again))
    assert shown(write(image, tmp_path / "d.png", resize=500)).shape == (90, 140, 3)


@pytest.mark.parametrize("change", [{"resize": 20}, {"sharpen": True}])
def test_colours_of_transparent_pixels_do_not_bleed(tmp_path: Path, change: Any) -> None:
    pixels = np.full((60, 80, 4), 200, np.uint8)
    pixels[:, :40] = (0, 255, 0, 0)
    pixels[:, 40:, 3] = 255
    out = shown(write(photo(tmp_path / "a.png", pixels), tmp_path / "b.png", **change))
    assert out.shape == ((15, 20, 4) if "resize" in change else pixels.shape)
    seen = out[out[..., 3] > 20]
    assert np.abs(seen[:, :3].astype(int) - 200).max() <= 2
    if "sharpen" in change:
        np.testing.assert_array_equal(out, pixels)


@pytest.mark.parametrize("opacity", [60, 128])
def test_half_transparent_pictures_are_sharpened_as_opaque_ones(
    tmp_path: Path, opacity: int
) -> None:
    colours = []
    for name, value in (("opaque", 255), ("half", opacity)):
        pixels = np.full((60, 80, 4), 80, np.uint8)
        pixels[:, 40:] = 160
        pixels[..., 3] = value
        out = shown(
            write(photo(tmp_path / f"{name}.png", pixels), tmp_path / f"{name}-o.png", sharpen=True)
        )
        colours.append(out[..., :3].astype(int))
    assert np.ptp(colours[0]) > 90
    assert np.abs(colours[0] - colours[1]).max() <= 1


def test_sharpened_edges_are_steeper_and_plain_parts_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.full((700, 30, 3), 80, np.uint8)
    pixels[:, 15:] = 160
    pixels[100] = 120
    image = photo(tmp_path / "a.png", pixels)
    out = shown(write(image, tmp_path / "b.png", sharpen=True)).astype(int)
    np.testing.assert_array_equal(out[300, :10], pixels[300, :10])
    assert out[300, 15, 0] - out[300, 14, 0] > 90
    # The seams of blocks do not show.
    np.testing.assert_array_equal(out[200], out[511])
    np.testing.assert_array_equal(out[200], out[512])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_resized_photo_keeps_its_precision_in_16_bits(tmp_path: Path, suffix: str) -> None:
    image = photo(tmp_path / "a.png", scene())
    out = write(image, tmp_path / f"b{suffix}", resize=60, bit_depth=16, profile="display-p3")
    coded = out.read_bytes()
    values = imagecodecs.png_decode(coded) if suffix == ".png" else tifffile.imread(out)
    assert values.dtype == np.uint16 and len(np.unique(values % 257)) > 50


def test_exif_says_whether_colours_are_srgb(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif.get_ifd(0x8769).update({0xA001: 1, 0xA002: 140, 0xA003: 90})
    image = photo(tmp_path / "a.jpg", scene(), exif=exif, quality=95)
    for name, space in (("adobe-rgb", 0xFFFF), ("sRGB", 1)):
        with Pillow.open(write(image, tmp_path / f"{name}.jpg", profile=name, resize=70)) as out:
            settings = out.getexif().get_ifd(0x8769)
        assert (settings[0xA001], settings[0xA002], settings[0xA003]) == (space, 70, 45)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_jpeg_is_flattened_on_white(tmp_path: Path, mode: str) -> None:
    source = Pillow.fromarray(scene()).convert("L" if mode == "LA" else "RGB").convert(mode)
    alpha = np.zeros((90, 140), np.uint8)
    alpha[:, 70:] = 255
    alpha[60:, 70:] = 128
    source.putalpha(Pillow.fromarray(alpha))
    source.save(tmp_path / "a.png")
    out = shown(write(open_image(tmp_path / "a.png"), tmp_path / "b.jpg")).astype(float)
    white = Pillow.new(mode, source.size, (255,) * len(mode))
    expected = Pillow.alpha_composite(white.convert("RGBA"), source.convert("RGBA"))
    wanted = np.asarray(expected.convert("L" if mode == "LA" else "RGB")).astype(float)
    assert out.shape == wanted.shape and np.abs(out - wanted).mean() < 2
    assert out[:, :60].min() > 250


def subsampling(path: Path) -> int:
    with Pillow.open(path) as picture:
        from PIL.JpegImagePlugin import get_sampling

        return int(get_sampling(picture))


def test_jpeg_has_all_colours_from_quality_95(tmp_path: Path) -> None:
    image = photo(tmp_path / "a.png", scene())
    found = {
        name: subsampling(write(image, tmp_path / f"{name}.jpg", **options))
        for name, options in {
            "usual": {},
            "best": {"quality": 98},
            "less": {"quality": 90},
            "asked": {"quality": 90, "subsampling": "4:2:2"},
            "small": {"subsampling": "4:2:0"},
        }.items()
    }
    assert found == {"usual": 0, "best": 0, "less": 2, "asked": 1, "small": 2}


def test_what_is_no_photo_is_refused(tmp_path: Path) -> None:
    grey = photo(tmp_path / "grey.png", scene()[..., 0])
    with pytest.raises(BadOutput, match="is grey"):
        write(grey, tmp_path / "b.png", profile="sRGB")
    tifffile.imwrite(tmp_path / "f.tif", scene().astype(np.float32), photometric="rgb")
    with pytest.raises(BadOutput, match="float32 values"):
        write(open_image(tmp_path / "f.tif"), tmp_path / "b.tif", resize=10)
    image = photo(tmp_path / "a.png", scene())
    (tmp_path / "no.icc").write_bytes(b"no profile")
    for name, words in (("gone.icc", "There is no"), (str(tmp_path / "no.icc"), "no ICC profile")):
        with pytest.raises(BadOutput, match=words):
            write(image, tmp_path / "b.png", profile=name)
    with pytest.raises(BadOutput, match="has no colours"):
        write(grey, tmp_path / "b.jpg", subsampling="4:2:0")
    for options in ({"resize": 0}, {"subsampling": "4:1:1"}):
        with pytest.raises(BadOutput):
            ExportOptions(**options)


def test_from_python(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", scene())
    result = nr.restore(tmp_path / "a.png", "identity")
    result.save(tmp_path / "b.jpg", profile="display-p3", resize=70, sharpen=True)
    assert shown(tmp_path / "b.jpg").shape == (45, 70, 3)


def test_from_the_command_line_and_again_by_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.png", scene())
    out, record, again = (str(tmp_path / name) for name in ("b.png", "b.json", "c.png"))
    options = ["--profile", "adobe-rgb", "--resize", "70", "--sharpen", "--record", record]
    command = ["restore", str(tmp_path / "a.png"), "-o", out, "--model", "identity"]
    assert main([*command, *options]) == 0
    assert open_image(out).profile.icc == named_profile("adobe-rgb")
    assert main(["rerun", record, "-o", again]) == 0
    np.testing.assert_array_equal(shown(Path(out)), shown(Path(again)))
    assert shown(Path(out)).shape == (45, 70, 3)
    capsys.readouterr()
    assert main([*command, "--overwrite", "--profile", "nope.icc"]) == 2
    assert "There is no colour profile nope.icc." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("b.jpg", ["--bit-depth", "16"], "JPEG has 8 bits per value. Leave --bit-depth 16 out"),
        ("b.gif", [], "GIF has 256 colours at most"),
    ],
)
def test_advice_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, more: list[str], words: str
) -> None:
    photo(tmp_path / "a.png", scene())
    target = str(tmp_path / name)
    command = ["restore", str(tmp_path / "a.png"), "-o", target, "--model", "identity", *more]
    assert main(command) == 2
    assert words in capsys.readouterr().err


def test_a_flattened_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "a.png", np.dstack([scene(), scene()[..., 0]]))
    for name, words in (("b.jpg", "flattened on white"), ("b.png", "alpha band is kept")):
        target = str(tmp_path / name)
        assert main(["restore", str(tmp_path / "a.png"), "-o", target, "--model", "identity"]) == 0
        assert words in capsys.readouterr().err


def test_the_error_of_a_disk_is_the_one_that_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: Any, data: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(_photo._Written, "write", broken)
    with pytest.raises(BadOutput, match="Input/output error"):
        write(photo(tmp_path / "a.png", scene()), tmp_path / "b.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_jpeg_that_cannot_be_without_alpha_names_another_format(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.full((20, 30, 4), 0.5, np.float32),
        photometric="rgb",
        extrasamples=["unassalpha"],
    )
    with pytest.raises(BadOutput, match=r"float32 values\. Write a \.tif"):
        write(open_image(tmp_path / "a.tif"), tmp_path / "b.jpg")
