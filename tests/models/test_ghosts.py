"""What moved between frames is taken whole from one, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.models.test_mertens import Array, as_input, fused, model_for

from napari_restore.engine.machine.device import choose_device
from napari_restore.engine.machine.device_memory import peak_of
from napari_restore.errors import BadParameter
from napari_restore.metrics import psnr
from napari_restore.models import for_frames, load, pairs_of, sampled_values
from napari_restore.models.classical.ghosts import (
    BINS,
    COLUMNS,
    OWN_BINS,
    curves,
    frames_of_regions,
    regions,
)

SIZE = (160, 190)
POWERS = (2.5, 1.0, 0.4)
"""Of the scene in each frame."""
MOVED = (slice(40, 90), slice(30, 80))
"""Where the object is in the last frame; it is not in the others."""


@pytest.fixture(scope="module")
def still() -> Array:
    """Three exposures with noise, as of a tripod."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = [np.sin(y / a) * np.cos(x / b) for a, b in ((17, 23), (29, 13), (11, 31))]
    scene = 0.5 + 0.4 * np.stack(waves, axis=2) + 0.03 * np.sin(y * x / 40)[..., None]
    bracket = np.stack([0.02 + 0.96 * scene**power for power in POWERS])
    noise = np.random.default_rng(3).normal(0, 0.004, bracket.shape)
    return np.clip(bracket + noise, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def moving(still: Array) -> Array:
    bracket = still.copy()
    bracket[2][MOVED] = (0.3, 0.75, 0.2)
    return bracket


def error(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    return float(np.abs(one - other)[MOVED].mean())


def test_what_moved_is_replaced(still: Array, moving: Array) -> None:
    target = fused(still)
    plain, without = (fused(moving, deghost=amount) for amount in (0, 1))
    assert error(without, target) < error(plain, target) / 3


def test_the_reference_decides(still: Array, moving: Array) -> None:
    # Of the last frame as the reference the object is part, and the other two contradict it.
    model = for_frames(load("mertens", parameters={"deghost": 1.0}), 3, reference=2)
    kept = model(as_input(moving))[0].permute(1, 2, 0).numpy()
    assert error(kept, fused(still)) > 3 * error(fused(moving, deghost=1), fused(still))


def test_a_still_scene_stays_as_it_is(still: Array) -> None:
    assert psnr(fused(still, deghost=1), fused(still), 1) >= 45


def test_a_displacement_of_a_pixel_is_no_motion(still: Array) -> None:
    shifted = still.copy()
    shifted[2] = np.roll(still[2], (1, 1), (0, 1))
    inner = (slice(8, -8), slice(8, -8))
    plain, without = fused(shifted)[inner], fused(shifted, deghost=1)[inner]
    assert psnr(without, plain, 1) >= 40


def walking(still: Array, *places: int) -> Array:
    """A figure of three parts, with folds, at these columns of frames."""
    bracket = still.copy()
    y, x = np.mgrid[:110, :24]
    folds = (0.3 * np.sin(y / 3) * np.cos(x / 4))[..., None]
    figure = np.empty((110, 24, 3))
    figure[:22], figure[22:70], figure[70:] = (0.8, 0.5, 0.4), (0.5, 0.5, 0.3), (0.2, 0.25, 0.6)
    figure = (figure * (1 + folds)).clip(0.02, 1)
    for frame, (power, left) in enumerate(zip(POWERS, places, strict=True)):
        bracket[frame, 30:140, left : left + 24] = 0.02 + 0.96 * figure**power
    return bracket


@pytest.mark.parametrize("places", [(20, 80, 140), (70, 80, 95)], ids=["apart", "overlapping"])
@pytest.mark.slow
def test_a_figure_is_of_one_frame_from_head_to_foot(still: Array, places: Any) -> None:
    bracket = walking(still, *places)
    anywhere = np.zeros(SIZE, bool)
    for x in places:
        anywhere[30:140, x : x + 24] = True
    for moving, frame in ((0, 1), (1, 0), (3, 2)):
        target = fused(walking(still, *[places[frame]] * 3))
        without = fused(bracket, deghost=1, moving=moving)
        errors, plain = (np.abs(each - target)[anywhere] for each in (without, fused(bracket)))
        assert errors.mean() < plain.mean() / 5 and np.quantile(errors, 0.99) < 0.1


def test_a_frame_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadParameter, match="no frame 4 of 3"):
        model_for(3, deghost=1, moving=4).steps()  # type: ignore[operator]


def test_regions_are_joined_of_cells() -> None:
    states = torch.zeros(60, 80, dtype=torch.uint8)
    states[10:30, 10:12] = states[10:30, 18:20] = states[10:12, 10:20] = 2
    states[28:30, 10:20] = states[18:20, 10:20] = 2
    states[34:40, 14:16] = 2  # its foot, beyond a gap
    states[20, 20:24] = 1  # may have moved, and touches it
    states[50, 60:70] = 1  # may have moved, alone
    states[5:8, 60:64] = 2  # another thing
    found = regions(states)
    assert found.max() == 2
    assert found[15, 15] == found[11, 11] == found[36, 15] > 0
    assert found[20, 24] == found[11, 11] and found[50].max() == 0
    assert found[6, 62] not in (0, found[11, 11])
    assert not regions(states * 0).any()


def test_finalizing_takes_the_bytes_that_plans_count() -> None:
    """Regions are found on a grid of the whole image, for which plans of large ones make room."""
    model = for_frames(load("mertens", parameters={"deghost": 1.0}), 3)
    counts = next(step.counts for step in model.steps() if step.name == "find")
    # Of an object, and the last cell.
    cells = [(row, 7, 2) for row in range(40, 90)] + [(299, 399, 0)]
    listed = [[(row * COLUMNS + column) * 3 + state, 0] for row, column, state in cells]
    sums = {
        "moving": torch.tensor([listed], dtype=torch.float64),
        "number": torch.tensor([len(listed)]),
        "pairs": torch.zeros(1, 9, 3, OWN_BINS, BINS, dtype=torch.float64),
    }
    most, left = counts.finalize_bytes((300 * 8 - 3, 400 * 8 - 7))
    assert counts.finalize(sums, {})["regions"].nbytes == left == 300 * 400
    assert 0.8 * most < peak_of(lambda: counts.finalize(sums, {}), choose_device("cpu")) <= most


def test_a_region_that_the_reference_clips_is_taken_from_another_frame() -> None:
    region = torch.tensor([1, 1, 2, 2])
    state = torch.full((4,), 2)
    shares = torch.tensor([[7, 6, 0], [7, 7, 0], [7, 1, 0], [6, 0, 0]])
    assert frames_of_regions(region, state, shares, 1, None).tolist() == [0, 2, 1]
    assert frames_of_regions(region, state, shares, 1, 2).tolist() == [0, 3, 3]


def test_the_only_frame_that_is_not_clipped_stays(still: Array) -> None:
    bracket = still.copy()
    bracket[1][MOVED], bracket[2][MOVED] = 1, 1
    # Brighter than what is white in the reference can be: it would count as moved.
    bracket[0][MOVED] = 0.2
    without = fused(bracket, deghost=1)
    inner = (slice(55, 75), slice(45, 65))
    np.testing.assert_allclose(without[inner], fused(bracket)[inner], atol=0.02)


def test_the_map_shows_what_was_replaced(moving: Array) -> None:
    model = model_for(3, deghost=0.8)
    assert model.card.maps == ("ghosts",)
    y, maps = model.forward_with_maps(as_input(moving))
    ghosts = maps["ghosts"][0, 0].numpy()
    assert ghosts.shape == SIZE and y.shape == (1, 3, *SIZE)
    np.testing.assert_allclose(ghosts[50:80, 40:70], 0.8, atol=0.01)
    far = np.ones(SIZE, bool)
    far[20:110, 10:100] = False
    assert ghosts[far].max() == 0
    assert not model_for(3).card.maps


def test_edges_of_frames_are_not_seen(still: Array) -> None:
    cut = still.copy()
    cut[2, :, :40] = 0
    valid = torch.ones(1, 3, *SIZE, dtype=torch.bool)
    valid[:, 2, :, :40] = False
    with_edge, without = (
        model_for(3, deghost=amount)(as_input(cut), None, valid)[0].permute(1, 2, 0).numpy()
        for amount in (0, 1)
    )
    left = (slice(None), slice(4, 40))
    errors = [float(np.abs(one - fused(still))[left].mean()) for one in (with_edge, without)]
    assert errors[1] < errors[0] / 3
    _, maps = model_for(3, deghost=1).forward_with_maps(as_input(cut), None, valid)
    assert maps["ghosts"].max() == 0


def test_curves_are_medians_of_valid_pixels(still: Array) -> None:
    planes = torch.from_numpy(still.transpose(0, 3, 1, 2))[None]
    valid = torch.ones(1, 3, *SIZE, dtype=torch.bool)
    valid[:, 2, :, :60] = False
    spoilt = planes.clone()
    spoilt[:, 2, :, :, :60] = 0.9
    pairs = pairs_of(sampled_values(spoilt, valid), 1, OWN_BINS, BINS)
    median, spread = curves(pairs)[0]
    assert median.shape == (3, 3, OWN_BINS)
    assert (median.diff(dim=-1) >= 0).all() and (spread > 0).all()
    x = (torch.arange(OWN_BINS) + 0.5) / OWN_BINS
    scene = ((x - 0.02) / 0.96).clamp(0.1, 0.9)
    used = (x > 0.15) & (x < 0.85)
    for frame, power in enumerate(POWERS):
        expected = 0.02 + 0.96 * scene**power
        torch.testing.assert_close(median[frame, 0][used], expected[used], atol=0.03, rtol=0)
