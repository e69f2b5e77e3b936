"""Which photos of a folder are one bracket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from tests.images.brackets.photos import shoot

import napari_restore as nr
from napari_restore.api import bracket_notes
from napari_restore.errors import InputError


def names(folder: Path, **options: Any) -> list[list[str]]:
    return [[path.stem for path in each.paths] for each in nr.brackets(folder, **options)]


def test_pauses_and_repeated_exposures_part_brackets(tmp_path: Path) -> None:
    for number, (at, ev) in enumerate(
        [(0, 0), (0.4, -2), (0.8, 2), (1.2, 0), (1.6, -2), (2.0, 2), (9, -2), (9.5, 0)]
    ):
        shoot(tmp_path, f"{number}.jpg", at, ev)
    shoot(tmp_path, "alone.jpg", 50, 0)
    assert names(tmp_path) == [["1", "0", "2"], ["4", "3", "5"], ["6", "7"]]
    assert names(tmp_path, singles=True)[-1] == ["alone"]
    first, _, last = nr.brackets(tmp_path)
    assert first.exposures == pytest.approx((-2, 0, 2))
    assert first.reference == 1 and first.note is None
    assert last.reference == 0  # of two the darker


def test_long_exposures_may_take_their_time(tmp_path: Path) -> None:
    for number, (at, ev) in enumerate([(0, 8), (6, 10), (26, 6), (40, 4)]):
        shoot(tmp_path, f"{number}.jpg", at, ev)
    # 10 s of light: up to 21 s to the next; 2.6 and 0.2 s: 6 s.
    assert names(tmp_path) == [["2", "0", "1"]]
    assert names(tmp_path, singles=True) == [["2", "0", "1"], ["3"]]


def test_frames_of_one_exposure_are_no_bracket(tmp_path: Path) -> None:
    for number, (at, ev) in enumerate([(0, 0), (0.2, 0.1), (0.4, 0.2), (5, 0), (5.5, 1)]):
        shoot(tmp_path, f"{number}.jpg", at, ev)
    assert names(tmp_path) == [["3", "4"]]


def test_a_repeated_bias_begins_another_bracket(tmp_path: Path) -> None:
    # The light grows: no exposure repeats.
    for number, (ev, bias) in enumerate([(0, 0), (-2, -2), (2, 2), (0.7, 0), (-1.3, -2), (2.7, 2)]):
        shoot(tmp_path, f"{number}.jpg", number / 2, ev, bias=float(bias), mode=2)
    assert names(tmp_path) == [["1", "0", "2"], ["4", "3", "5"]]


def test_frames_are_of_one_camera_size_and_mode(tmp_path: Path) -> None:
    for number, ev in enumerate((-1, 0, 1)):
        shoot(tmp_path, f"a{number}.jpg", number / 2, ev)
        shoot(tmp_path, f"b{number}.jpg", number / 2 + 0.1, ev, camera="Two")
        shoot(tmp_path, f"c{number}.jpg", number / 2 + 0.2, ev, size=(16, 24))
    shoot(tmp_path, "x.jpg", 1.5, 3, mode=2)
    assert sorted(names(tmp_path)) == [[f"{kind}{n}" for n in range(3)] for kind in "abc"]


def test_in_manual_mode_all_have_one_bias(tmp_path: Path) -> None:
    for number, ev in enumerate((-2, 0, 2)):
        shoot(tmp_path, f"{number}.jpg", number / 2, ev, bias=0.0)
    assert names(tmp_path) == [["0", "1", "2"]]


def test_without_times_all_are_one_in_order_of_name(tmp_path: Path) -> None:
    for name in "cab":
        shoot(tmp_path, f"{name}.jpg", None)
        # Of other photos: equal files are copies.
        with (tmp_path / f"{name}.jpg").open("ab") as file:
            file.write(name.encode())
    (found,) = nr.brackets(tmp_path)
    assert [path.stem for path in found.paths] == ["a", "b", "c"]
    assert found.exposures is None and found.reference is None
    assert "not all recorded" in str(found.note)


def test_times_that_show_no_bracket_are_said(tmp_path: Path) -> None:
    for number, ev in enumerate((2, 0, -2)):
        shoot(tmp_path, f"{number}.jpg", 20.0 * number, ev)
    (found,) = nr.brackets(tmp_path)
    assert [path.stem for path in found.paths] == ["2", "1", "0"]
    assert "show no bracket" in str(found.note)
    for number in range(3, 20):
        shoot(tmp_path, f"{number}.jpg", 20.0 * number, 0)
    assert nr.brackets(tmp_path) == []


def test_a_damaged_frame_stays_in_its_bracket(tmp_path: Path) -> None:
    for number, ev in enumerate((-2, 0, 2)):
        path = shoot(tmp_path, f"{number}.jpg", number / 2, ev)
    path.write_bytes(path.read_bytes()[:-4])
    (tmp_path / "empty.jpg").touch()
    assert names(tmp_path) == [["0", "1", "2"]]
    assert names(tmp_path, singles=True)[-1] == ["empty"]


def test_files_may_be_named_themselves(tmp_path: Path) -> None:
    paths = [shoot(tmp_path, f"{n}.jpg", n / 2, n) for n in range(3)]
    (found,) = nr.brackets(paths[:2])
    assert list(found.paths) == paths[:2]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_photos_is_said(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "photos"
    if there:
        folder.mkdir()
        (folder / "notes.txt").touch()
    with pytest.raises(InputError, match="no image in" if there else "no folder"):
        nr.brackets(folder)


def test_files_of_different_types_are_never_one_bracket(tmp_path: Path) -> None:
    for number in range(3):
        shoot(tmp_path, f"a{number}.jpg", number, 2 * number)
        with Pillow.open(tmp_path / f"a{number}.jpg") as photo:
            photo.save(tmp_path / f"b{number}.png", exif=photo.getexif())
    found = nr.brackets(tmp_path)
    assert [{path.suffix for path in each.paths} for each in found] == [{".jpg"}, {".png"}]
    folder = tmp_path / "without times"
    folder.mkdir()
    for name in ("a.jpg", "b.jpeg", "c.png"):
        shoot(folder, name, None, ord(name[0]) - 97)
    assert [path.name for path in nr.brackets(folder)[0].paths] == ["a.jpg", "b.jpeg"]


def test_a_copy_of_a_frame_is_left_out_and_named(tmp_path: Path) -> None:
    for number, ev in enumerate((0, -2, 2)):
        shoot(tmp_path, f"IMG_{number}.jpg", number, ev)
    (tmp_path / "IMG_1 (1).jpg").write_bytes((tmp_path / "IMG_1.jpg").read_bytes())
    (found,) = nr.brackets(tmp_path, singles=True)
    assert [path.stem for path in found.paths] == ["IMG_1", "IMG_0", "IMG_2"]
    assert found.note == "IMG_1 (1).jpg is a copy of IMG_1.jpg, and is left out."


def test_an_exposure_taken_twice_ends_no_bracket(tmp_path: Path) -> None:
    for number, ev in enumerate((0, -2, -2, 2)):
        shoot(tmp_path, f"{number}.jpg", number / 2, ev)
    found = nr.brackets(tmp_path, singles=True)
    assert sorted([path.stem for path in each.paths] for each in found) == [["1", "0", "3"], ["2"]]
    assert bracket_notes(found) == ["2.jpg belongs to no bracket and is left out."]


def test_the_folder_of_a_bracket_is_fused(tmp_path: Path) -> None:
    for number, ev in enumerate((0, -2, 2)):
        shoot(tmp_path, f"{number}.jpg", number / 2, ev)
    by_name = nr.fuse([tmp_path / f"{n}.jpg" for n in (1, 0, 2)], align="off", progress=False)
    fused = nr.fuse(tmp_path, align="off", progress=False)
    assert np.array_equal(np.asarray(fused.array), np.asarray(by_name.array))
    for number, ev in enumerate((0, -2, 2)):
        shoot(tmp_path, f"b{number}.jpg", 90 + number / 2, ev)
    with pytest.raises(InputError, match="holds 2 brackets"):
        nr.fuse(tmp_path)
