"""OpenEXR pictures: channels, windows, parts, and files that are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

import napari_restore as nr
from napari_restore import open_image
from napari_restore.errors import UnreadableImage

ZIP = {"compression": OpenEXR.ZIP_COMPRESSION}


def planes(*names: str, dtype: str = "f4") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.uniform(0, 4, (40, 60)).astype(dtype) for name in names}


def written(path: Path, channels: dict[str, np.ndarray], **header: object) -> Path:
    OpenEXR.File(ZIP | header, dict(channels)).write(str(path))
    return path


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_colours_come_in_their_order_whatever_that_of_the_file(tmp_path: Path, dtype: str) -> None:
    channels = planes("R", "G", "B", "A", "depth", dtype=dtype)
    image = open_image(written(tmp_path / "light.exr", channels))
    assert image.dtype == np.float32 and image.bands == 4
    assert image.roles == ("red", "green", "blue", "alpha")
    expected = np.dstack([channels[name] for name in "RGBA"]).astype(np.float32)
    assert np.array_equal(image.read((0, 0, 40, 60)), expected)
    assert not image.notes


def test_luminance_and_unknown_channels(tmp_path: Path) -> None:
    grey = open_image(written(tmp_path / "grey.exr", planes("Y")))
    assert grey.bands == 1
    other = planes("depth", "normal.x")
    image = open_image(written(tmp_path / "other.exr", other))
    assert np.array_equal(
        image.read((0, 0, 40, 60)), np.dstack([other["depth"], other["normal.x"]])
    )


def test_a_data_window_is_the_picture(tmp_path: Path) -> None:
    window = (np.array([5, 7], np.int32), np.array([64, 46], np.int32))
    path = written(
        tmp_path / "cut.exr", planes("R", "G", "B"), dataWindow=window, displayWindow=window
    )
    image = open_image(path)
    assert (image.height, image.width) == (40, 60)


def test_the_first_part_is_read(tmp_path: Path) -> None:
    parts = [
        OpenEXR.Part(dict(ZIP), planes("R", "G", "B"), "beauty"),
        OpenEXR.Part(dict(ZIP), planes("Z"), "depth"),
    ]
    OpenEXR.File(parts).write(str(tmp_path / "parts.exr"))
    image = open_image(tmp_path / "parts.exr")
    assert image.bands == 3 and any("first of its 2 parts" in note for note in image.notes)


def test_light_is_tone_mapped(tmp_path: Path) -> None:
    path = written(tmp_path / "light.exr", planes("R", "G", "B"))
    fused = np.asarray(nr.fuse(path, exposures=[-2, 0]))
    assert fused.dtype == np.uint16 and fused.shape == (40, 60, 3) and fused.std() > 0


def test_damaged_files_and_a_missing_package_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(tmp_path / "whole.exr", planes("R", "G", "B"))
    content = whole.read_bytes()
    for length in (100, len(content) - 50):
        cut = tmp_path / "cut.exr"
        cut.write_bytes(content[:length])
        with pytest.raises(UnreadableImage, match="OpenEXR picture"):
            open_image(cut).read((0, 0, 40, 60))
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(UnreadableImage, match="not installed") as refused:
        open_image(whole)
    assert "napari-restore[exr]" in str(refused.value)
