"""Paths end at the image, and their speed is what they move by."""

from __future__ import annotations

import pytest
import torch

from napari_restore import Region
from napari_restore.explain.attribution.baselines import InMemory
from napari_restore.explain.attribution.paths import (
    Blur,
    HazePath,
    Path,
    ReleasedDam,
    SteppedBlur,
    Straight,
)

SIZE = Region(0, 0, 40, 50)
BOX = Region(0, 20, 30, 50)


def planes(seed: int, bands: int = 3) -> InMemory:
    drawn = torch.rand(1, bands, 40, 50, generator=torch.Generator().manual_seed(seed))
    return InMemory(SIZE, drawn.double())


def paths() -> dict[str, Path]:
    image = planes(0)
    transmission = InMemory(SIZE, 0.2 + 0.7 * planes(1, 1).planes)
    airlight = InMemory(SIZE, torch.full((1, 3, 40, 50), 0.8, dtype=torch.float64))
    return {
        "straight": Straight(image, planes(2)),
        "haze": HazePath(image, lambda box: (transmission(box), airlight(box))),
        "blur": Blur(image, (40, 50)),
    }


@pytest.mark.parametrize("name", ["straight", "haze", "blur"])
def test_it_ends_at_the_image(name: str) -> None:
    end, _ = paths()[name].at(1.0, BOX)
    assert torch.allclose(end, planes(0)(BOX), atol=1e-12)


@pytest.mark.parametrize("name", ["straight", "haze", "blur"])
@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.6])
def test_the_speed_is_the_derivative(name: str, alpha: float) -> None:
    path, step = paths()[name], 1e-6
    ahead, behind = (path.at(alpha + s, BOX)[0] for s in (step, -step))
    speed = path.at(alpha, BOX)[1]
    assert torch.allclose((ahead - behind) / (2 * step), speed, atol=1e-6)
    assert speed.abs().max() > 1e-3


def test_haze_begins_with_the_scene_behind_it() -> None:
    path = paths()["haze"]
    assert isinstance(path, HazePath)
    scene, _ = path.at(0.0, BOX)
    t, _ = path.haze(BOX)
    assert torch.allclose(scene * t + 0.8 * (1 - t), planes(0)(BOX))


@pytest.mark.parametrize("name", ["straight", "haze", "blur"])
def test_a_box_is_a_part_of_the_whole(name: str) -> None:
    whole, speed = paths()[name].at(0.3, SIZE)
    part, part_speed = paths()[name].at(0.3, BOX)
    rows, columns = BOX.slices
    assert torch.allclose(whole[..., rows, columns], part, atol=1e-12)
    assert torch.allclose(speed[..., rows, columns], part_speed, atol=1e-12)


def test_lam_in_steps_adds_up_to_the_way_it_went() -> None:
    blur = Blur(planes(0), (40, 50))
    path, steps = SteppedBlur(blur, 5), [(i + 1) / 5 for i in range(5)]
    moved = sum(path.at(alpha, BOX)[1] for alpha in steps)
    assert isinstance(moved, torch.Tensor)
    start, end = blur.at(0.0, BOX)[0], blur.at(1.0, BOX)[0]
    assert torch.allclose(moved / 5, end - start, atol=1e-12)
    # The public code's pictures are those of σ₀ (1 − (i + 1) / m).
    assert torch.equal(path.at(0.4, BOX)[0], blur.at(0.4, BOX)[0])


def test_the_released_dam_goes_too_fast() -> None:
    straight = paths()["straight"]
    assert isinstance(straight, Straight)
    picture, speed = ReleasedDam(straight).at(0.3, BOX)
    assert torch.equal(picture, straight.at(0.3, BOX)[0])
    assert torch.allclose(speed, 2 * straight.image(BOX) - straight.baseline(BOX))
