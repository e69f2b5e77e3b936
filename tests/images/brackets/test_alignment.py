"""Hand-held frames on the grid of the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_restore.errors import BadParameter, Cancelled
from napari_restore.images import bracket_of, halve, open_image
from napari_restore.images.brackets import alignment, bracket as _bracket
from napari_restore.images.brackets.alignment import (
    _corner_error,
    _fit,
    _moved,
    _PairFit,
    _rounded,
    crops_of,
    displacement,
    place,
)

SimilarityTransform = pytest.importorskip("skimage.transform").SimilarityTransform
SIZE = (300, 340)


def scene(seed: int = 0) -> npt.NDArray[np.float64]:
    """A larger scene (600, 640) with structure of several sizes, in 0 … 1."""
    rng = np.random.default_rng(seed)
    total = np.zeros((600, 640))
    for cell in (4, 10, 40):
        rough = rng.random((600 // cell + 1, 640 // cell + 1))
        total += np.kron(rough, np.ones((cell, cell)))[:600, :640]
    return total / 3


def view(matrix: npt.NDArray[np.float64], light: float, seed: int = 0) -> npt.NDArray[np.uint8]:
    """What a frame shows: pixel (x, y) is the scene at `matrix` · (x, y, 1) + 120, much lighter."""
    world = scene(seed)
    x, y = np.meshgrid(np.arange(SIZE[1], dtype=float), np.arange(SIZE[0], dtype=float))
    a, b, c = (row[0] * x + row[1] * y + row[2] for row in matrix)
    u, v = a / c + 120, b / c + 120
    rows, columns = np.floor(v).astype(int), np.floor(u).astype(int)
    dv, du = v - rows, u - columns
    values = sum(
        weight * world[rows + i, columns + j]
        for i, j, weight in (
            (0, 0, (1 - dv) * (1 - du)),
            (0, 1, (1 - dv) * du),
            (1, 0, dv * (1 - du)),
            (1, 1, dv * du),
        )
    )
    grey = np.clip(np.asarray(values) * light, 0, 1) ** (1 / 2.2)
    return np.repeat((grey * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def shift(dx: float, dy: float) -> npt.NDArray[np.float64]:
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]])


def test_displacement_is_found_under_another_exposure() -> None:
    one, other = view(shift(0, 0), 1.0), view(shift(-6, 9.5), 0.3)
    (dy, dx), peak = displacement(one[..., 0].astype(float), other[..., 0].astype(float))
    assert (dy, dx) == pytest.approx((-9.5, 6), abs=0.2)
    assert peak > 12


def test_a_shift_by_whole_pixels_copies_them() -> None:
    reference, other = open_image(view(shift(0, 0), 1.0)), open_image(view(shift(-7, 12), 1.0))
    placement = place(reference, other)
    assert placement is not None
    assert placement.matrix == (1, 0, 7, 0, 1, -12, 0, 0, 1)
    there = other.placed(placement.matrix, SIZE)
    box = (12, 0, 300, 333)
    assert np.array_equal(there.read(box), reference.read(box))
    valid = there.read_valid((0, 0, *SIZE))
    assert valid[12:, :333].all()
    assert not valid[:12].any()
    assert not valid[:, 333:].any()


def test_a_placement_that_is_dropped_at_once_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    # As where other threads place many frames meanwhile.
    monkeypatch.setattr(alignment, "KEPT", 0)
    reference, other = (open_image(view(shift(x, 0), 1.0)) for x in (0, -7))
    assert place(reference, other) == place(reference, other) is not None


def test_a_turn_and_perspective_are_found() -> None:
    angle = np.deg2rad(0.8)
    turned = np.array([[np.cos(angle), -np.sin(angle), 4.3], [np.sin(angle), np.cos(angle), -6.6]])
    truth = np.vstack([turned, [1e-5, 0, 1]])
    reference, other = open_image(view(shift(0, 0), 0.8)), open_image(view(truth, 0.4))
    placement = place(reference, other)
    assert placement is not None
    matrix = np.array(placement.matrix).reshape(3, 3) @ truth
    corners = np.array([[x, y, 1.0] for y in (0, 299) for x in (0, 339)]).T
    seen = truth @ (np.array(placement.matrix).reshape(3, 3) @ corners)
    assert matrix.shape == (3, 3)
    assert np.abs(seen[:2] / seen[2] - corners[:2]).max() < 0.7
    assert placement.residual < 0.5


def test_what_a_coarse_level_finds_is_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "COARSE", 200)
    angle = np.deg2rad(-1.2)
    turned = np.array([[np.cos(angle), -np.sin(angle), 9.3], [np.sin(angle), np.cos(angle), 5.6]])
    truth = np.vstack([turned, [0, 0, 1]])
    frames = [view(shift(0, 0), 0.7, 3), view(truth, 0.4, 3)]
    reference, other = (open_image([frame, halve(frame)[0]]) for frame in frames)
    coarse, fine = crops_of(reference)
    assert coarse.image.shape[:2] == (150, 170) and fine.image is reference
    placement = place(reference, other, crops=(coarse, fine))
    assert placement is not None and coarse.spectra
    corners = np.array([[x, y, 1.0] for y in (0, 299) for x in (0, 339)]).T
    seen = truth @ (np.array(placement.matrix).reshape(3, 3) @ corners)
    assert np.abs(seen[:2] / seen[2] - corners[:2]).max() < 0.5


def test_a_placed_frame_needs_the_chunks_that_it_is_made_of() -> None:
    frame = open_image(view(shift(0, 0), 1.0))
    there = frame.placed(shift(0.5, 0).ravel().tolist(), SIZE)
    own = frame.chunk_bytes((100, 100), 0)
    assert own == SIZE[0] * SIZE[1] * 3
    # Its own have a byte of validity.
    assert there.chunk_bytes((100, 100), 0) == own + own * 4 // 3


def test_the_likely_error_of_a_corner_is_that_of_many_alignments() -> None:
    from skimage.measure import ransac
    from skimage.transform import ProjectiveTransform, SimilarityTransform

    rng, image = np.random.default_rng(0), open_image(np.zeros((1000, 1400, 3), np.uint8))
    for right in (1400, 600):
        # Crops lie in all of the picture, then in its left part.
        at = rng.uniform(0, (right, 1000), (12, 2))
        found, likely = [], []
        for _ in range(30):
            pairs = list(zip(at, at + rng.normal(0, 0.2, at.shape), strict=True))
            fit = _fit(pairs, (ProjectiveTransform, SimilarityTransform), ransac)
            assert fit is not None
            found.append(np.linalg.norm(_moved(fit.matrix, image), axis=0).max())
            likely.append(_corner_error(fit, image))
        assert 0.5 < np.median(likely) / np.median(found) < 2


def test_a_corner_that_may_be_off_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [open_image(view(shift(0, 0), 0.8)), open_image(view(shift(3.5, 2), 0.4))]
    sure = bracket_of(frames, 0, (0, -1))
    assert not any("may be off" in note for note in sure.notes)
    assert sure.companions is not None and sure.companions.corners == (None,)
    monkeypatch.setattr(_bracket, "UNSURE", -1)
    unsure = bracket_of(frames, 0, (0, -1))
    assert unsure.companions is not None
    (corner,) = unsure.companions.corners
    assert any(f"may be off by {corner:.0f} pixels at a corner" in note for note in unsure.notes)
    frames.append(open_image(view(shift(-2, 1), 1.0)))
    (note,) = [n for n in bracket_of(frames, 0, (0, -1, 1)).notes if "may be off" in n]
    assert "too little of them" in note


def test_any_chunk_is_cut_of_the_whole() -> None:
    matrix = np.array([[1.002, -0.01, 3.3], [0.01, 1.001, -2.7], [1e-6, 0, 1.0]])
    there = open_image(view(shift(0, 0), 1.0)).placed(matrix.ravel().tolist(), SIZE)
    whole = there.read((0, 0, *SIZE))
    assert np.array_equal(there.reader.pixels((31, 57, 200, 333)), whole[31:200, 57:333])


@pytest.mark.parametrize("shifted", [(8, -4), (3.3, -2.7)])
def test_levels_are_placed_as_the_whole(shifted: tuple[float, float]) -> None:
    levels = [view(shift(0, 0), 1.0)]
    for _ in range(2):
        halved, _ = halve(levels[-1])
        levels.append(halved)
    matrix = shift(*shifted)
    there = open_image(levels).placed(matrix.ravel().tolist(), SIZE)
    assert there.level_shapes == (SIZE, (150, 170), (75, 85))
    finest = there.read((0, 0, *SIZE)).astype(float)
    for number, scale in ((1, 2), (2, 4)):
        height, width = there.level_shapes[number]
        expected = finest.reshape(height, scale, width, scale, -1).mean((1, 3))
        placed = there.read((0, 0, height, width), number)
        inner = (slice(5, -5), slice(5, -5))
        # Half a pixel off would be seen.
        half_off = (expected + np.roll(expected, 1, axis=1)) / 2
        errors = [np.abs(placed - other)[inner].mean() for other in (expected, half_off)]
        assert errors[0] < 0.6 * errors[1]
        assert not there.read_valid((0, 0, height, width), number).all()


def test_interpolation_keeps_what_is_linear() -> None:
    x, y = np.meshgrid(np.arange(50.0), np.arange(40.0))
    ramp = (2 * x + 3 * y + 1)[..., None].repeat(3, 2).astype(np.float32)
    there = open_image(ramp).placed((1, 0, 0.25, 0, 1, 0.5, 0, 0, 1), (40, 50))
    expected = ramp + 2 * 0.25 + 3 * 0.5
    inner = (slice(2, 36), slice(2, 46))
    np.testing.assert_allclose(there.read((0, 0, 40, 50))[inner], expected[inner], rtol=1e-6)
    assert there.read_valid((0, 0, 40, 50))[:39, :49].all()
    assert not there.read_valid((0, 0, 40, 50))[39:].any()


def test_frames_are_aligned_and_a_strange_one_is_left_out() -> None:
    views: list[Any] = [view(shift(0, 0), 1.0), view(shift(5, 3), 1.7), view(shift(-4, 6), 0.4)]
    frames = [open_image(each) for each in [*views, view(shift(0, 0), 0.1, seed=7)]]
    bracket = bracket_of(frames, 0, (0, 2, -2, -3))
    others = bracket.companions
    assert others is not None
    assert others.frames == 3
    assert others.exposures == (-2, 0, 2)
    assert all(residual is not None and residual < 1 for residual in others.residuals)
    assert any("left out" in note for note in bracket.notes)
    dark, _, bright = (frame.read((20, 20, 270, 310)).astype(float) for frame in bracket.frames)
    assert np.corrcoef(dark.ravel(), bright.ravel())[0, 1] > 0.9
    with pytest.raises(BadParameter, match="No frame shows the same"):
        bracket_of(frames[::3], 0, (0, -3))


def test_a_rough_placement_shifts_by_what_an_overview_shows() -> None:
    frames = [open_image(view(shift(*by), 1.0)) for by in ((0, 0), (5.4, -3.3), (0, 0))]
    bracket = bracket_of(frames, 0, (0, 1, 2), align="rough")
    others = bracket.companions
    assert others is not None and others.residuals == (None, None)
    moved, still = others.images
    assert moved.spec is None and still is frames[2]
    assert np.abs(moved.reader.matrix[:2, 2] - (-5, 3)).max() <= 1  # type: ignore[attr-defined]


def test_alignment_says_how_far_it_is_and_may_be_stopped() -> None:
    frames = [open_image(view(shift(n, 0), 1.0)) for n in range(3)]
    steps: list[tuple[int, int]] = []
    bracket_of(frames, 0, (0, 1, 2), progress=lambda *step: steps.append(step))
    assert steps == [(0, 2), (1, 2)]

    def stop(done: int, total: int) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        bracket_of(frames, 0, (0, 1, 2), progress=stop)


@pytest.mark.parametrize(
    ("error", "reach", "whole"), [(0.6, 30, True), (0.1, 30, False), (0.6, 300, False)]
)
def test_corners_that_crops_say_little_of_do_not_turn_a_frame(
    error: float, reach: int, whole: bool
) -> None:
    """Crops about the middle, within `reach` pixels, of a frame that is 0.3 % larger."""
    image, middle = open_image(view(shift(0, 0), 1.0)), np.array([169.5, 149.5])
    matrix = np.array([[1.003, 0, -0.003 * 169.5], [0, 1.003, -0.003 * 149.5], [0, 0, 1]])
    at = middle + reach * np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)])
    fit = _PairFit(matrix, 0.05, SimilarityTransform, at, middle + (at - middle) * 1.003)
    assert np.allclose(_rounded(matrix, image, fit, error), np.eye(3) if whole else matrix)


def test_what_all_frames_show_is_told() -> None:
    frames = [open_image(view(shift(0, 0), 1.0)), open_image(view(shift(-7, 12), 0.5))]
    (note,) = (n for n in bracket_of(frames, 0, (0, -1)).notes if n.startswith("All frames show"))
    assert note.startswith("All frames show 333 × 288 of 340 × 300 pixels;")
    in_place = bracket_of([frames[0], frames[0]], 0, (0, -1))
    assert not any(n.startswith("All frames show") for n in in_place.notes)
