"""Frames of a bracket: order, exposures, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_restore.errors import BadParameter
from napari_restore.images import Image, bracket_of, open_image


def picture(light: float) -> Any:
    scene = np.linspace(0.02, 0.6, 40 * 50 * 3).reshape(40, 50, 3)
    return (np.clip(scene * light, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)


def photo(path: Path, light: float, **settings: Any) -> Image:
    exif = Pillow.Exif()
    tags = {"seconds": 0x829A, "f_number": 0x829D, "iso": 0x8827}
    exif.get_ifd(0x8769).update({tags[name]: value for name, value in settings.items()})
    Pillow.fromarray(picture(light)).save(path, exif=exif)
    return open_image(path)


def test_recorded_exposures_put_frames_in_order(tmp_path: Path) -> None:
    settings = [
        {"seconds": 0.1, "f_number": 8.0, "iso": 100},
        {"seconds": 0.1, "f_number": 8.0, "iso": 400},
        {"seconds": 0.1, "f_number": 16.0, "iso": 100},
    ]
    # The pixels say otherwise: they are not asked.
    frames = [photo(tmp_path / f"{n}.jpg", 1, **each) for n, each in enumerate(settings)]
    bracket = bracket_of(frames, align="off")
    assert [frame.name for frame in bracket.frames] == ["2", "0", "1"]
    assert bracket.name == "0"
    assert bracket.companions is not None
    assert bracket.companions.exposures == pytest.approx((-2, 0, 2))


def test_what_only_some_record_is_left_out(tmp_path: Path) -> None:
    first = photo(tmp_path / "a.jpg", 1, seconds=0.1, f_number=8.0)
    second = photo(tmp_path / "b.jpg", 1, seconds=0.2)
    companions = bracket_of([second, first], align="off").companions
    assert companions is not None
    assert companions.exposures == pytest.approx((0, 1))


def test_without_a_record_they_are_estimated() -> None:
    bracket = bracket_of([open_image(picture(light)) for light in (1.0, 4.0, 0.25)], align="off")
    assert bracket.companions is not None
    assert bracket.companions.reference == 1
    assert bracket.companions.exposures == pytest.approx((-2, 0, 2), abs=0.1)
    assert any("estimated" in note for note in bracket.notes)


@pytest.mark.parametrize(
    ("seconds", "why"),
    [((0.1, 0.1), "one and the same exposure"), ((0.1, None), "Not all frames record an exposure")],
)
def test_why_exposures_are_estimated_is_told(
    tmp_path: Path, seconds: tuple[float | None, ...], why: str
) -> None:
    frames = [
        photo(tmp_path / f"{n}.jpg", 4.0**n, **({} if time is None else {"seconds": time}))
        for n, time in enumerate(seconds)
    ]
    notes = " ".join(map(str, bracket_of(frames, align="off").notes))
    assert why in notes and "record no exposures" not in notes


def test_notes_of_other_frames_are_told(tmp_path: Path) -> None:
    frames = [photo(tmp_path / f"{n}.jpg", light, seconds=light) for n, light in enumerate((1, 2))]
    path = tmp_path / "2.mpo"
    first, second = (Pillow.fromarray(picture(light)) for light in (4, 1))
    first.save(path, save_all=True, append_images=[second])
    bracket = bracket_of([*frames, open_image(path)], exposures=[0, 1, 2], align="off")
    assert sum("2: It contains 2 pictures" in note for note in bracket.notes) == 1
    assert sum("colour profile" in note for note in bracket.notes) == 1


def test_the_reference_may_be_any() -> None:
    bracket = bracket_of(
        [open_image(picture(light)) for light in (1.0, 4.0, 0.25)], reference=1, align="off"
    )
    assert bracket.companions is not None
    assert bracket.companions.reference == 2
    assert bracket.companions.exposures[2] == 0


def test_a_bracket_is_opened_again_with_all_its_frames(tmp_path: Path) -> None:
    frames = [photo(tmp_path / f"{n}.jpg", 2.0**n, seconds=0.1 * 2**n) for n in range(3)]
    bracket = bracket_of(frames, align="off")
    assert bracket.spec is not None
    again = Image.from_spec(bracket.spec)
    assert again.frames_fingerprint == bracket.frames_fingerprint
    assert again.frames_fingerprint != bracket_of(frames[:2], align="off").frames_fingerprint
    assert bracket.fingerprint == frames[1].fingerprint
    one_band = again.with_bands([1])
    assert [frame.bands for frame in one_band.frames] == [1, 1, 1]


@pytest.mark.slow
def test_a_level_of_a_frame_that_was_moved_is_opened_again(tmp_path: Path) -> None:
    scene = np.random.default_rng(1).integers(0, 255, (65, 65, 3), np.uint8)
    Pillow.fromarray(scene).resize((2100, 1040)).save(tmp_path / "a.png")
    frame = open_image(tmp_path / "a.png").placed((1, 0, 40, 0, 1, 24, 0, 0, 1), (1040, 2100))
    view = frame.level_view(2)
    assert view.spec is not None
    again = Image.from_spec(view.spec)
    assert again.shape == view.shape == (260, 525, 3)
    box = (0, 0, 200, 400)
    assert np.array_equal(again.read(box), view.read(box))
    assert again.fingerprint == view.fingerprint


def test_levels_are_those_of_all_frames() -> None:
    levels = [open_image([picture(light), picture(light)[::2, ::2]]) for light in (0.5, 2.0)]
    view = bracket_of(levels, align="off").level_view(1)
    assert {frame.shape for frame in view.frames} == {(20, 25, 3)}


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (picture(1)[:30], "50 × 30 pixels"),
        (picture(1)[..., 0], "1 bands"),
        (picture(1).astype(np.uint16), "uint16 values"),
    ],
)
def test_a_frame_that_does_not_fit_is_named(odd: Any, said: str) -> None:
    frames = [open_image(each) for each in (picture(1), picture(2), odd)]
    with pytest.raises(BadParameter, match=said):
        bracket_of(frames)


def test_one_frame_is_no_bracket() -> None:
    with pytest.raises(BadParameter, match="one frame"):
        bracket_of([open_image(picture(1))])
    two = [open_image(picture(1)), open_image(picture(2))]
    with pytest.raises(BadParameter, match="no frame 3"):
        bracket_of(two, reference=2)
    with pytest.raises(BadParameter, match="1 exposures for 2"):
        bracket_of(two, exposures=[0])


def test_the_same_recorded_exposure_is_not_called_none(tmp_path: Path) -> None:
    frames = [photo(tmp_path / f"{n}.jpg", 0.5 + n, seconds=0.01, iso=100) for n in range(2)]
    notes = " ".join(bracket_of(frames, align="off").notes)
    assert "record one and the same exposure" in notes and "no exposures" not in notes
