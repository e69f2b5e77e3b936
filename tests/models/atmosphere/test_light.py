"""Limits that the brightest parts of a picture set: its airlight, and skies that stay light."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_restore.models.atmosphere.cells import cells_of
from napari_restore.models.atmosphere.inversion import inverted, optical_depth
from napari_restore.models.atmosphere.model import capped, with_light_skies
from napari_restore.models.atmosphere.network import Estimate

SIDE = 256


def textured(level: float, height: int = SIDE, contrast: float = 0.4) -> torch.Tensor:
    """(1, 3, height, SIDE): pixels from level · (1 − contrast) to level."""
    noise = torch.from_numpy(np.random.default_rng(0).random((1, 1, height, SIDE), np.float32))
    return (level * (1 - contrast * noise)).expand(1, 3, -1, -1).clone()


def cells(picture: torch.Tensor):
    return cells_of(picture, torch.ones_like(picture[:, :1]), torch.ones(1))


def thick(airlight: float = 0.9, display: float = 1.0) -> Estimate:
    """Haze of optical depth 1.76 everywhere."""
    maps = torch.zeros(1, 1, SIDE // 8, SIDE // 8)
    numbers = torch.tensor([0.0]), torch.tensor([display])
    return Estimate(maps + np.log(4.0), maps, torch.ones(1), torch.full((1, 3), airlight), *numbers)


def restored(picture: torch.Tensor, estimate: Estimate, offset: torch.Tensor) -> torch.Tensor:
    """The picture in cells of 8 pixels, without the haze."""
    small = torch.nn.functional.avg_pool2d(picture, 8)
    one = {
        "brightness": torch.ones(1, 1, 1, 1),
        "presence": estimate.presence,
        "exponent": estimate.exponent,
        "display": estimate.display,
    }
    depth = optical_depth(small, offset, estimate.slope, one)
    return inverted(small, depth, estimate.airlight[:, :, None, None], one, 0.0)[0]


def under_a_sky(sky: float = 0.85) -> torch.Tensor:
    picture = textured(0.6)
    picture[:, :, : SIDE // 2] = sky
    return picture


def test_an_airlight_is_no_brighter_than_opaque_fog_allows():
    fog = textured(0.4)
    fog[:, :, :64] = 0.6
    airlight = torch.tensor([[0.9, 0.85, 0.8]])
    found = capped(airlight, cells(fog))
    assert found.mean() == pytest.approx(1.2 * 0.6, abs=0.01)
    # Its tint stays.
    torch.testing.assert_close(found / found.mean(), airlight / airlight.mean())


def test_bright_objects_allow_a_brighter_airlight():
    airlight = torch.full((1, 3), 0.8)
    # The brightest cells have a deviation of an eighth.
    assert torch.equal(capped(airlight, cells(textured(0.75))), airlight)


def test_an_airlight_that_the_picture_can_hold_stays():
    airlight = torch.tensor([[0.65, 0.66, 0.67]])
    fog = torch.full((1, 3, SIDE, SIDE), 0.6)
    assert torch.equal(capped(airlight, cells(fog)), airlight)


@pytest.mark.parametrize("display", [0.0, 0.4, 1.0])
def test_a_sky_keeps_its_light(display):
    picture = under_a_sky()
    estimate = thick(display=display)
    offset = with_light_skies(estimate, estimate.airlight, cells(picture))
    before, dark = restored(picture, estimate, estimate.offset), picture[0, 0, 0, 0]
    sky, ground = slice(0, SIDE // 16 - 1), slice(SIDE // 16, None)
    assert before[:, :, sky].max() < 0.85 * dark
    after = restored(picture, estimate, offset)
    assert after[:, :, sky].min() >= 0.85 * dark
    assert torch.equal(after[:, :, ground], before[:, :, ground])


def test_a_sun_does_not_make_its_sky_dark():
    picture = under_a_sky()
    picture[:, :, 20:40, 100:120] = 1.0
    estimate = thick()
    offset = with_light_skies(estimate, estimate.airlight, cells(picture))
    assert restored(picture, estimate, offset)[:, :, :1].min() >= 0.85 * 0.85


def test_a_border_without_data_hides_no_sky():
    valid = torch.ones(1, 1, SIDE, SIDE)
    valid[:, :, :24] = 0
    seen = cells_of(under_a_sky() * valid, valid, torch.ones(1))
    estimate = thick()
    change = with_light_skies(estimate, estimate.airlight, seen) - estimate.offset
    assert (change[:, :, :3] == 0).all() and (change[:, :, 3 : SIDE // 16 - 1] < -0.5).all()


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(under_a_sky().flip(2), id="bright ground"),
        pytest.param(torch.full((1, 3, SIDE, SIDE), 0.8), id="fog in all of the picture"),
        pytest.param(textured(0.8, contrast=0.3), id="structure"),
        pytest.param(under_a_sky(0.4), id="a dark sky"),
        pytest.param(under_a_sky().transpose(2, 3), id="at the left"),
    ],
)
def test_what_is_no_sky_is_restored_as_before(picture):
    estimate = thick()
    offset = with_light_skies(estimate, estimate.airlight, cells(picture))
    assert torch.equal(offset, estimate.offset)


def test_haze_over_a_sky_brighter_than_the_airlight_is_removed_as_before():
    estimate = thick(airlight=0.8)
    offset = with_light_skies(estimate, estimate.airlight, cells(under_a_sky()))
    torch.testing.assert_close(offset, estimate.offset)


def test_no_valid_pixel_is_no_light():
    nothing = cells_of(torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE), torch.ones(1))
    estimate = thick()
    assert torch.equal(capped(estimate.airlight, nothing), estimate.airlight)
    assert torch.equal(with_light_skies(estimate, estimate.airlight, nothing), estimate.offset)


def test_both_have_gradients():
    picture = under_a_sky().requires_grad_()
    estimate = thick()
    seen = cells(picture)
    airlight = capped(torch.full((1, 3), 2.0), seen)
    (airlight.sum() + with_light_skies(estimate, airlight, seen).sum()).backward()
    assert picture.grad is not None
    assert torch.isfinite(picture.grad).all()
    assert picture.grad.abs().max() > 0
