"""Brackets of RAW photos: exposures of their containers, and one white balance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_restore as nr
from napari_restore.errors import BadParameter
from napari_restore.images import Image, without_twins

pytest.importorskip("rawpy")
NEUTRALS = ((0.5, 1.0, 0.625), (0.55, 1.0, 0.58), (0.45, 1.0, 0.66))
"""What the camera takes for grey in each frame: its automatic white balance drifts."""


@pytest.fixture
def bracket(tmp_path: Path, write_dng: Callable[..., None]) -> list[Path]:
    """Three DNG of one scene, two stops apart."""
    y, x = np.mgrid[:96, :128]
    light = 0.02 + 0.2 * (0.5 + 0.5 * np.sin(x / 9) * np.cos(y / 7))
    scene = np.dstack([light, light, light])
    paths = []
    for number, neutral in enumerate(NEUTRALS):
        paths.append(tmp_path / f"{number}.dng")
        exposed = np.clip(scene * 4.0 ** (number - 1), 0, 1)
        settings = {
            0x829A: (1 * 4**number, 400),
            0x8827: 100,
            0x9003: f"2026:06:01 12:00:0{number}",
        }
        write_dng(paths[-1], exposed, neutral=neutral, settings=settings)
    return paths


def test_exposures_are_those_of_the_container(bracket: list[Path]) -> None:
    (group,) = nr.brackets(bracket)
    assert group.exposures == pytest.approx((-2, 0, 2)) and group.reference == 1
    image = nr.open_bracket(bracket, align="off")
    assert image.companions is not None
    assert image.companions.exposures == pytest.approx((-2, 0, 2))


def test_all_frames_have_the_white_balance_of_the_reference(
    bracket: list[Path], tmp_path: Path
) -> None:
    alone = [nr.open_image(path) for path in bracket]
    image = nr.open_bracket(bracket, align="off")
    assert any("white balance of 1" in note for note in image.notes)

    def colour(frame: Image) -> float:
        """Mean of red over blue, of about linear values."""
        pixels = frame.read((8, 8, 88, 120)).astype(np.float64) / 65535
        return float((pixels[..., 0] ** 2.2).mean() / (pixels[..., 2] ** 2.2).mean())

    own, same = ([colour(frame) for frame in each] for each in (alone, image.frames))
    assert max(own) > 1.2 * min(own)
    assert max(same) < 1.05 * min(same)
    # Results and caches of one balance are not those of another.
    assert image.frames[0].fingerprint != alone[0].fingerprint
    assert image.frames[1].fingerprint == alone[1].fingerprint
    again = Image.from_spec(image.spec)
    assert np.array_equal(
        again.frames[0].read((0, 0, 96, 128)), image.frames[0].read((0, 0, 96, 128))
    )
    result = nr.restore(image, "mertens", progress=False)
    saved = result.save(tmp_path / "fused.tif")
    with tifffile.TiffFile(saved) as file:
        assert file.pages[0].tags["ExifTag"].value["DateTimeOriginal"] == "2026:06:01 12:00:01"


def test_frames_that_agree_stay_as_they_are(bracket: list[Path], tmp_path: Path) -> None:
    image = nr.open_bracket([bracket[0], bracket[1]], reference=1, align="off")
    twice = nr.open_bracket([image.frames[0], image.frames[1]], reference=1, align="off")
    assert (
        twice.frames[0] is image.frames[0]
        or twice.frames[0].fingerprint == image.frames[0].fingerprint
    )
    assert not any("white balance" in note for note in twice.notes if note not in image.notes)


def test_only_raw_has_a_white_balance_to_set() -> None:
    photo = nr.open_image(np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(BadParameter, match="no RAW photo"):
        photo.balanced((2, 1, 1.6, 1))


def test_of_raw_and_jpeg_of_a_photo_one_is_a_frame(bracket: list[Path]) -> None:
    from PIL import Image as Pillow

    for number, path in enumerate(bracket):
        exif = Pillow.Exif()
        exif.get_ifd(0x8769).update({0x829A: 0.01 * 4.0**number, 0x8827: 100})
        grey = np.full((96, 128, 3), 60 * number, np.uint8)
        Pillow.fromarray(grey).save(path.with_suffix(".JPG"), exif=exif)
    folder = bracket[0].parent
    (found,) = nr.brackets(folder)
    assert [path.suffix for path in found.paths] == [".dng"] * 3
    assert "as RAW and as JPEG: the RAW is used" in str(found.note)
    assert not any(len(each.paths) == 1 for each in nr.brackets(folder, singles=True))
    # Where the RAW cannot be read, the JPEG stays.
    bracket[1].write_bytes(b"II*\0")
    left = [path for each in nr.brackets(folder, singles=True) for path in each.paths]
    assert [path.name for path in left if path.suffix == ".JPG"] == ["1.JPG"]


def test_a_jpeg_of_another_time_is_no_twin(tmp_path: Path, write_dng: Callable[..., None]) -> None:
    from tests.images.brackets.photos import shoot

    write_dng(
        tmp_path / "1.dng", np.full((16, 24, 3), 0.2), settings={0x9003: "2026:06:01 12:00:09"}
    )
    shoot(tmp_path, "1.jpg", 0, 0)
    assert len([path for each in nr.brackets(tmp_path, singles=True) for path in each.paths]) == 2


def jpegs_beside(bracket: list[Path], name: str) -> list[Path]:
    """JPEGs of the same shots, named by `name` with a number."""
    from PIL import Image as Pillow

    paths = []
    for number, path in enumerate(bracket):
        exif = Pillow.Exif()
        tags = {0x829A: 4.0**number / 400, 0x8827: 100, 0x9003: f"2026:06:01 12:00:0{number}"}
        exif.get_ifd(0x8769).update(tags)
        paths.append(path.with_name(name.format(number)))
        grey = np.full((96, 128, 3), 60 * number, np.uint8)
        Pillow.fromarray(grey).save(paths[-1], exif=exif)
    return paths


@pytest.mark.parametrize("name", ["{}.jpg", "export-{}.jpg"])
def test_raw_and_jpeg_of_the_same_shots_are_one_bracket(bracket: list[Path], name: str) -> None:
    jpegs_beside(bracket, name)
    (found,) = nr.brackets(bracket[0].parent, singles=True)
    assert [path.suffix for path in found.paths] == [".dng"] * 3
    assert "the RAW is used" in str(found.note)


def test_what_has_an_address_stays_beside_twins(bracket: list[Path]) -> None:
    twin, address = jpegs_beside(bracket[:1], "{}.jpg")[0], "https://server.invalid/a/b.jpg"
    kept, note = without_twins([bracket[0], twin, address])
    assert kept == [str(bracket[0]), address]
    assert note is not None and note.startswith("1 photo is there as RAW")


@pytest.mark.nightly
def test_a_folder_of_raw_and_jpeg_is_fused_and_so_are_all_its_files(
    bracket: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_restore.commands import main

    paths = [*bracket, *jpegs_beside(bracket, "{}.jpg")]
    out = [str(tmp_path / name) for name in ("one.tif", "all.tif", "told.jpg")]
    more = ["--align", "off", "-o"]
    for named, target in (([str(tmp_path)], out[0]), ([str(each) for each in paths], out[1])):
        assert main(["fuse", *named, *more, target]) == 0
        assert "3 photos are there as RAW and as JPEG: the RAW is used." in capsys.readouterr().err
        assert nr.open_image(target).dtype == np.uint16
    assert main(["fuse", *map(str, paths[3:]), *more, out[2]]) == 0
    assert "RAW" not in capsys.readouterr().err
