"""What the brightest and the even parts of a picture decide: its airlight, and skies that stay as they are."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from napari_restore.models import load
from napari_restore.models.atmosphere.cells import cells_of
from napari_restore.models.atmosphere.inversion import inverted, optical_depth
from napari_restore.models.atmosphere.model import capped, kept_of, with_light
from napari_restore.models.atmosphere.network import Estimate
from napari_restore.models.atmosphere.restraint import darkening

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


def lightened(estimate: Estimate, seen) -> torch.Tensor:
    """The offset of what keeps its light."""
    height, width = estimate.offset.shape[2:]
    kept = kept_of(seen)[1][:, :, :height, :width]
    return with_light(estimate, estimate.airlight, seen, kept)


def under_a_sky(sky: float = 0.85) -> torch.Tensor:
    picture = textured(0.6)
    picture[:, :, : SIDE // 2] = sky
    return picture


def test_an_airlight_is_no_brighter_than_opaque_fog_allows():
    fog = textured(0.4)
    fog[:, :, :64] = 0.6
    airlight = torch.tensor([[0.9, 0.85, 0.8]])
    found = capped(airlight, cells(fog), 1.15)
    assert found.mean() == pytest.approx(1.15 * 0.6, abs=0.01)
    # Its tint stays.
    torch.testing.assert_close(found / found.mean(), airlight / airlight.mean())


def test_an_airlight_that_the_picture_can_hold_stays():
    airlight = torch.tensor([[0.65, 0.66, 0.67]])
    fog = torch.full((1, 3, SIDE, SIDE), 0.6)
    assert torch.equal(capped(airlight, cells(fog), 1.15), airlight)


@pytest.mark.parametrize("display", [0.0, 0.4, 1.0])
def test_a_sky_keeps_its_light(display):
    picture = under_a_sky()
    estimate = thick(display=display)
    offset = lightened(estimate, cells(picture))
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
    offset = lightened(estimate, cells(picture))
    assert restored(picture, estimate, offset)[:, :, :1].min() >= 0.85 * 0.85


def test_a_border_without_data_hides_no_sky():
    valid = torch.ones(1, 1, SIDE, SIDE)
    valid[:, :, :24] = 0
    seen = cells_of(under_a_sky() * valid, valid, torch.ones(1))
    estimate = thick()
    change = lightened(estimate, seen) - estimate.offset
    assert (change[:, :, :3] == 0).all() and (change[:, :, 3 : SIDE // 16 - 1] < -0.5).all()


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(torch.full((1, 3, SIDE, SIDE), 0.8), id="fog in all of the picture"),
        pytest.param(textured(0.8, contrast=0.3), id="structure"),
        pytest.param(under_a_sky(0.2), id="a night sky"),
        pytest.param(under_a_sky(0.5).transpose(2, 3), id="even ground at the left"),
    ],
)
def test_what_is_no_sky_is_restored_as_before(picture):
    estimate = thick()
    offset = lightened(estimate, cells(picture))
    assert torch.equal(offset, estimate.offset)


def test_bright_even_ground_and_clouds_keep_their_light():
    picture = under_a_sky().flip(2)
    picture[:, :, : SIDE // 2] *= 0.5
    estimate = thick()
    after = restored(picture, estimate, lightened(estimate, cells(picture)))
    ground = slice(SIDE // 16 + 1, None)
    assert restored(picture, estimate, estimate.offset)[:, :, ground].max() < 0.85 * 0.85
    assert after[:, :, ground].min() >= 0.85 * 0.85


def test_a_sky_brighter_than_the_airlight_does_not_become_a_white_rim():
    estimate, picture = thick(airlight=0.8), under_a_sky()
    after = restored(picture, estimate, lightened(estimate, cells(picture)))[:, :, : SIDE // 16 - 1]
    assert restored(picture, estimate, estimate.offset)[:, :, : SIDE // 16 - 1].min() > 1
    assert after.max() <= 0.85 / 0.93 + 0.005


def test_no_valid_pixel_is_no_light():
    nothing = cells_of(torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE), torch.ones(1))
    estimate = thick()
    assert torch.equal(capped(estimate.airlight, nothing, 1.15), estimate.airlight)
    assert torch.equal(lightened(estimate, nothing), estimate.offset)


def test_both_have_gradients():
    picture = under_a_sky().requires_grad_()
    estimate = thick()
    seen = cells(picture)
    airlight = capped(torch.full((1, 3), 2.0), seen, 1.15)
    (airlight.sum() + lightened(estimate, seen).sum()).backward()
    assert picture.grad is not None
    assert torch.isfinite(picture.grad).all()
    assert picture.grad.abs().max() > 0


def over_trees(hue: float) -> torch.Tensor:
    """(1, 3, 512, 512) in steps of 8 bits: a sky that is darker above, over dark trees in more and more haze."""
    sky = [colorsys.hsv_to_rgb(hue, 0.3, value) for value in np.linspace(0.62, 0.92, HORIZON)]
    noise = np.random.default_rng(0).random((103, 256, 1)).repeat(2, 0).repeat(2, 1)
    trees = np.array([0.1, 0.14, 0.06]) * (0.4 + 1.2 * noise[: 512 - HORIZON])
    share = np.linspace(0.35, 0.75, 512 - HORIZON)[:, None, None]
    hazy = trees * share + np.array(sky[-1]) * (1 - share)
    picture = np.concatenate([np.array(sky)[:, None].repeat(512, 1), hazy])
    return torch.from_numpy(
        (np.rint(255 * picture) / 255).astype(np.float32).transpose(2, 0, 1)[None]
    )


HORIZON = 307


def lab_of(picture: torch.Tensor) -> np.ndarray:
    return rgb2lab(picture[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("hue", range(0, 360, 30))
@pytest.mark.ids("nightly", "30", "90", "150", "210", "270", "330")
def test_a_sky_of_any_hue_over_hazy_trees_stays(hue):
    picture = over_trees(hue / 360)
    result = load("atmosphere")(picture).detach()
    before, after = lab_of(picture), lab_of(result)
    # Beside the trees a cell is partly theirs.
    sky = slice(0, HORIZON - 8)
    assert np.abs(after - before)[sky, :, 1:].max() <= 2
    light = after[sky, :, 0].mean(1)
    assert np.diff(light).min() > -0.1, "it is brighter towards the horizon everywhere"
    assert np.abs(light - before[sky, :, 0].mean(1)).max() < 6.5
    # The trees are freed of their haze.
    assert after[HORIZON + 8 :, :, 0].mean() < before[HORIZON + 8 :, :, 0].mean() - 5
    # A step of the file is no ring.
    steps = [np.abs(np.diff(255 * each[0, :, sky, 0], axis=1)).max() for each in (picture, result)]
    assert steps[1] <= 2.5 * steps[0]


def test_a_white_cloud_over_a_dark_sea_is_no_hole():
    rows, columns = np.mgrid[:512, :512]
    distance = np.hypot(rows - 256, columns - 256)
    cloud = np.clip((150 - distance) / 60, 0, 1)[..., None]
    noise = 0.06 * np.random.default_rng(0).standard_normal((512, 512, 1))
    sea = np.array([0.08, 0.14, 0.22]) * (1 + noise)
    hazy = sea * (1 - 0.9 * cloud) + np.array([0.93, 0.94, 0.96]) * 0.9 * cloud
    picture = torch.from_numpy(
        np.rint(255 * hazy).astype(np.float32).transpose(2, 0, 1)[None] / 255
    )
    before, after = lab_of(picture), lab_of(load("atmosphere")(picture).detach())
    middle = distance < 70
    # 0.93 of its light are 6 in L*.
    assert np.abs(after - before)[middle].max() < 7
    around = (distance > 170) & (distance < 250)
    assert np.abs(after - before)[around].mean() < 3
    ring = [after[(distance >= r) & (distance < r + 5), 0].mean() for r in range(0, 200, 5)]
    assert np.diff(ring).max() < 1, "it is darker outwards everywhere"


def test_how_much_darker_a_result_is_is_that_of_the_median_of_valid_pixels():
    """In EV of the odds: by the formulas of IEC 61966-2-1 and BT.709, in float64."""
    rng = np.random.default_rng(3)
    x = rng.beta(5, 4, (3, 41, 43))
    y = np.clip(x * np.array([0.6, 0.5, 0.7])[:, None, None] - 0.03, 0, 1)
    valid = rng.random((41, 43)) > 0.3

    def ev(values: np.ndarray) -> float:
        light = np.tensordot([0.2126, 0.7152, 0.0722], values, 1)[valid]
        median = np.sort(light)[(len(light) - 1) // 2]
        return float(np.log2(median / (1 - median)))

    def shown(values: np.ndarray) -> np.ndarray:
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)

    # What does not count may be anything.
    y[:, ~valid] = 7
    a, b = (torch.from_numpy(each.astype(np.float32))[None] for each in (x, y))
    counts = torch.from_numpy(valid.astype(np.float32))[None, None]
    found = darkening(a, b, counts).tolist()
    y = np.clip(y, 0, 1)
    assert found == pytest.approx([ev(x) - ev(y), ev(shown(x)) - ev(shown(y))], abs=1e-4)
    assert found[1] > found[0] > 0.5
    assert darkening(a, a, counts).tolist() == [0, 0]
    assert darkening(a, b, torch.zeros_like(counts)).tolist() == [0, 0]
