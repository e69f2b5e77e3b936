"""What all frames show: the largest box is not sought, but one without a pixel beyond an edge."""

from __future__ import annotations

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.images import bracket_of, common_box, open_image

SIZE = (120, 160)


def bracket(*matrices: np.ndarray):
    reference = open_image(np.zeros((*SIZE, 3), np.uint8))
    frames = [open_image(np.zeros((*SIZE, 3), np.uint8)) for _ in matrices]
    placed = [f.placed(m.ravel().tolist(), SIZE) for f, m in zip(frames, matrices, strict=True)]
    return reference.with_companions(placed, 0, range(len(placed) + 1))


def shift(y: float, x: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


def valid(image, box) -> bool:
    return all(frame.read_valid(box).all() for frame in image.frames)


def test_shifts_cut_their_sides() -> None:
    assert common_box(bracket(shift(3, -5), shift(-2, 0))) == (2, 5, 117, 160)
    # A part of a pixel is a whole one.
    assert common_box(bracket(shift(0.25, 0))) == (0, 0, 119, 160)
    assert common_box(bracket(np.eye(3))) == (0, 0, *SIZE)


def test_a_rotation_leaves_a_box_without_pixels_beyond_an_edge() -> None:
    turn = np.radians(2)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 3], [np.sin(turn), np.cos(turn), -1], [0, 0, 1]]
    )
    image = bracket(rotation, shift(1, 2))
    y0, x0, y1, x1 = box = common_box(image)
    assert valid(image, box)
    assert (y1 - y0) * (x1 - x0) > 0.8 * SIZE[0] * SIZE[1]


def test_frames_that_share_little_are_not_cut() -> None:
    assert common_box(bracket(shift(0, 100))) == (0, 0, *SIZE)


@pytest.mark.parametrize("crop", [True, False])
def test_fusing_cuts_unless_asked_not_to(crop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = np.random.default_rng(2).integers(20, 200, (140, 180, 3)).astype(np.uint8)
    shown = [scene[:120, :160], scene[4:124, :160] // 2]
    frames = [open_image(shown[0]), open_image(shown[1])]
    placed = frames[1].placed(shift(-4, 0).ravel().tolist(), SIZE)
    image = frames[0].with_companions([placed], 1, (-1, 0))
    monkeypatch.setattr("napari_restore.api._fusion.open_bracket", lambda *_, **__: image)
    result = nr.fuse(shown, crop=crop, progress=False)
    assert np.asarray(result).shape == ((116, 160, 3) if crop else (120, 160, 3))
    assert api.common_region(image) == Region(4, 0, 120, 160)
    apart = bracket_of(frames, None, (0, -1), align="off")
    assert api.common_region(apart) is None
