"""Groups of frames, and their opening, without a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_restore as nr
from napari_restore.errors import BadParameter, Cancelled
from napari_restore.plugin.fusion.frame_group import (
    FrameGroup,
    OpenBracket,
    OpenFrames,
    groups_among,
    numbers_in,
)
from napari_restore.plugin.fusion.fusion_controller import BracketTask, OpeningStep, thumbnail


def opening(group: FrameGroup, opened: OpenFrames | None = None, rough: bool = False) -> list[Any]:
    task, emitted = BracketTask(group, opened, rough=rough), []
    task.send = emitted.append
    task.work()
    return emitted


def test_files_are_one_bracket_and_folders_those_in_them(photos: Path) -> None:
    assert [len(group.sources) for group in groups_among([photos])] == [3, 3]
    files = sorted(photos.iterdir())
    assert len(groups_among(files)) == 2
    (mixed,) = groups_among([files[0], files[1], files[4]])
    assert [path.name for path in mixed.sources] == ["a0.jpg", "a1.jpg", "b1.jpg"]
    assert mixed.title == "a0.jpg … b1.jpg · 3 frames"


def test_a_group_is_opened_roughly_and_then_aligned(photos: Path) -> None:
    (group, _) = groups_among([photos])
    *steps, opened, rough = opening(group, rough=True)
    assert {type(step) for step in steps} == {OpeningStep}
    assert isinstance(opened, OpenFrames) and isinstance(rough, OpenBracket)
    assert opened.exposures == pytest.approx((-2, 0, 2)) and not opened.is_estimated
    assert rough.is_rough and rough.off_by(0) == (None, None)
    fewer = group.using(2, False)
    *_, aligned = opening(fewer, opened)
    assert aligned.numbers == (0, 1) and not aligned.is_rough
    assert aligned.is_in_place(0) and aligned.off_by(0)[0] is not None


def test_a_frame_that_fits_nowhere_is_left_out(photos: Path) -> None:
    rng = np.random.default_rng(3)
    other = nr.open_image(rng.integers(0, 255, (150, 170, 3), np.uint8))
    images = [nr.open_image(photos / "a1.jpg"), nr.open_image(photos / "a2.jpg"), other]
    group = FrameGroup.of(images, reference=0, exposures=(0.0, 2.0, 4.0))
    *_, bracket = opening(group)
    assert bracket.numbers == (0, 1) and bracket.left_out == (2,)


def test_frames_are_found_again_whatever_their_place(photos: Path) -> None:
    images = [nr.open_image(photos / f"a{number}.jpg") for number in range(3)]
    images[2] = images[2].placed((1, 0, 3, 0, 1, 0, 0, 0, 1), (150, 170))
    bracket = nr.open_bracket(images, align="off")
    assert numbers_in(images, bracket.frames) == (0, 1, 2)
    twice = nr.open_bracket(
        [images[0], images[0].placed((1, 0, 1, 0, 1, 0, 0, 0, 1), (150, 170))], align="off"
    )
    assert numbers_in(images, twice.frames) == (0, 0)


def test_one_picture_of_light_is_a_group_of_its_exposures(tmp_path: Path) -> None:
    light = np.random.default_rng(1).uniform(0.5, 1, (60, 80, 3)).astype(np.float32)
    light *= 2 ** np.linspace(-6, 6, 80, dtype=np.float32)[:, None]
    tifffile.imwrite(tmp_path / "light.tif", light, photometric="rgb")
    for source in (tmp_path / "light.tif", nr.open_image(light)):
        (group,) = groups_among([source])
        assert not group.align and "linear light" in str(group.note)
        opened, bracket = (each for each in opening(group) if not isinstance(each, OpeningStep))
        assert len(opened.images) == len(group.sources) > 2 and not opened.is_estimated
        expected = nr.open_bracket(source)
        assert bracket.image.frames_fingerprint == expected.frames_fingerprint
    # Others are not: a photo alone stays a group of one.
    (alone,) = groups_among([nr.open_image(np.zeros((9, 9, 3), np.uint8))])
    assert len(alone.sources) == 1 and alone.align


def test_one_used_frame_and_a_stop_are_errors(photos: Path) -> None:
    (group, _) = groups_among([photos])
    opened = next(each for each in opening(group) if isinstance(each, OpenFrames))
    with pytest.raises(BadParameter, match="nothing to fuse"):
        opening(group.using(0, False).using(2, False), opened)
    with pytest.raises(BadParameter, match="nothing to fuse"):
        opening(FrameGroup.of(group.sources[:1]))
    task = BracketTask(group, opened, rough=False)
    task.stop.set()
    with pytest.raises(Cancelled):
        task.work()


@pytest.mark.parametrize(
    ("pixels", "shown"),
    [
        (np.full((200, 300, 3), 51, np.uint8), 51),
        (np.full((200, 300), 0x3333, np.uint16), 51),
        (np.full((200, 300, 4), 0.2, np.float32), 51),
    ],
)
def test_thumbnails_have_colours_of_eight_bits(pixels: Any, shown: int) -> None:
    small = thumbnail(nr.open_image(pixels))
    assert small.shape[2] == 3 and small.dtype == np.uint8 and max(small.shape) <= 96
    assert (small == shown).all()
