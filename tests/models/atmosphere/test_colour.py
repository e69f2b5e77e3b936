"""No method casts a colour that is not in the source: the airlight's tint, and clipped white."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models._scenes import smooth

from napari_restore.models import load, one_shot_statistics
from napari_restore.models.atmosphere.restraint import (
    TOLERANCE,
    guarded_green,
    magenta,
    sure_colours,
)

BEHIND_FOG = ("atmosphere", "atmosphere-aerial", "haze-unet", "inf-dehaze-small")


def woods(tint=(1.0, 0.97, 0.9)):
    """(1, 3, 96, 128) bare trees of one tint, the upper half far away, in display values."""
    generator = torch.Generator().manual_seed(1)
    texture = torch.rand(1, 1, 96, 128, generator=generator)
    light = 0.15 + 0.25 * smooth(96, 128, 2, 6) + 0.2 * texture
    return light * torch.tensor(tint)[:, None, None]


def fog(scene, airlight=(0.8, 0.8, 0.8), depth=1.2):
    transmission = torch.exp(-torch.linspace(depth, 0.1, scene.shape[2]))[:, None]
    return scene * transmission + torch.tensor(airlight)[:, None, None] * (1 - transmission)


def seen_as(airlight, depth):
    """The model whose network sees this airlight and fog of this depth at the top, whatever is shown."""
    model = load("atmosphere", weights="random:3").requires_grad_(False)

    def statistics_from(shown):
        rows, columns = shown.shape
        deep = torch.linspace(depth, 0.1, rows)[:, None].expand(rows, columns)
        maps = torch.zeros(1, 3, rows, columns)
        maps[:, 0] = torch.log(deep / (2.2 - deep))
        one = torch.tensor(1.0)
        return {
            "maps": maps,
            "presence": one,
            "brightness": shown.brightness[0],
            "airlight": torch.tensor(airlight),
            "exponent": 0 * one,
            "display": one,
        }

    model._statistics_from = statistics_from
    return model


def mean_magenta(picture):
    return float(magenta(picture[0, :, :48].mean((1, 2))))


def test_an_airlight_greener_than_the_fog_casts_no_magenta():
    hazy = fog(woods())
    y = seen_as((0.8, 0.86, 0.8), 1.2)(hazy)
    assert mean_magenta(y) < mean_magenta(hazy) + TOLERANCE + 0.01
    # It is dehazed all the same, and not turned green in its place.
    assert y[:, :, :48].mean() < hazy[:, :, :48].mean() - 0.15
    assert mean_magenta(y) > -0.05


@pytest.mark.parametrize(
    ("tint", "airlight"),
    [
        ((0.6, 1.0, 0.5), (0.8, 0.8, 0.8)),
        ((1.0, 1.0, 1.0), (0.78, 0.84, 0.78)),
        ((1.0, 0.6, 0.4), (0.75, 0.8, 0.85)),
    ],
    ids=["green behind grey fog", "grey behind greenish haze", "red earth behind bluish haze"],
)
def test_colours_that_were_under_the_haze_come_back(tint, airlight):
    scene = woods(tint)
    model, hazy = seen_as(airlight, 1.2), fog(scene, airlight)
    assert one_shot_statistics(model, hazy)["green"] == 1
    assert (model(hazy) - scene).abs().max() < 1e-3


def test_no_haze_leaves_the_airlight_alone():
    hazy = fog(woods())
    model = seen_as((0.8, 0.86, 0.8), 1.2)
    statistics = {**one_shot_statistics(model, hazy), "presence": torch.tensor(0.0)}
    assert guarded_green(hazy, torch.ones(1, 1, 96, 128), statistics, 0.03) == 1


def test_clipped_white_keeps_its_colour():
    hazy = fog(woods())
    hazy[..., 10:20, 30:50] = 1.0
    y = seen_as((0.76, 0.8, 0.86), 1.2)(hazy)
    white = y[0, :, 10:20, 30:50]
    assert (white.amax(0) - white.amin(0)).max() < 1e-5
    assert (white - 1).abs().min() > 1e-3


@pytest.mark.parametrize("model_id", BEHIND_FOG)
@pytest.mark.ids("slow", "atmosphere-aerial", "inf-dehaze-small")
def test_real_fog_does_not_turn_magenta(data_dir, model_id):
    """Means of a*, CIELAB, where the source is grey: the sky and the far woods of a tower camera."""
    from skimage.color import rgb2lab

    picture = Image.open(data_dir / "haze_pairs" / "phenocam_dukehw_dec" / "hazy.jpg")
    source = np.asarray(picture.reduce(3), np.float32) / 255
    x = torch.from_numpy(source).permute(2, 0, 1)[None].contiguous()
    with torch.no_grad():
        y = load(model_id)(x)[0].permute(1, 2, 0).clamp(0, 1).numpy()
    before, after = rgb2lab(source), rgb2lab(y)
    grey = np.hypot(before[..., 1], before[..., 2]) < 8
    bright = grey & (before[..., 0] > 70)
    assert bright.mean() > 0.1
    assert after[bright, 1].mean() < before[bright, 1].mean() + 4
    assert np.abs(after[bright, 2].mean() - before[bright, 2].mean()) < 6
    # Fog goes: the grey middle is darker than it was.
    assert after[grey, 0].mean() < before[grey, 0].mean() - 3


def test_a_wrong_airlight_colours_thick_fog_less_than_thin_ground_allows():
    """Blue is too bright in the airlight by a twentieth: what is behind the fog turns yellow."""
    scene = woods()
    y = seen_as((0.8, 0.8, 0.84), 2.0)(fog(scene, depth=2.0))
    free = one_shot_statistics(seen_as((0.8, 0.8, 0.84), 2.0), fog(scene, depth=2.0))
    free = {**free, "hue_spread": torch.tensor(1e6)}
    without = seen_as((0.8, 0.8, 0.84), 2.0)(fog(scene, depth=2.0), free)

    def cast(picture):
        """Red less blue at the top, beside that of the scene, which has one tint."""
        apart = (picture - scene)[0, :, :16].mean((1, 2))
        return float(apart[0] - apart[2])

    assert cast(without) > 0.1
    assert cast(y) < 0.6 * cast(without)
    # Brightness is not what is doubted.
    assert float((y - without).mean(1).abs().max()) < 1e-5


def test_doubt_in_a_colour_is_that_of_two_normal_distributions():
    transmission = torch.tensor([0.1, 0.4, 0.8, 0.98])[None, None, None]
    y = torch.tensor([[0.5, 0.2], [0.3, 0.4], [0.1, 0.6]])[None, :, :, None].expand(1, 3, 2, 4)
    hue = torch.tensor([0.1, 0.0, -0.1])
    statistics = {
        "airlight": torch.tensor([0.6, 0.8, 1.0]),
        "hue": hue,
        "hue_spread": torch.tensor(0.02),
        "unsure": torch.tensor(0.015),
        "brightness": torch.tensor(1.0),
    }
    found = sure_colours(y, transmission, statistics, 0.03)[0].numpy()
    for column, t in enumerate((0.1, 0.4, 0.8)):
        error = 0.015 * 0.8 * (1 / t - 1)
        for row in range(2):
            pixel = y[0, :, row, column].numpy()
            prior = pixel.mean() * (1 + hue.numpy())
            spread = 0.02 * min(1, pixel.mean() / 0.3)
            share = (1 / error**2) / (1 / error**2 + 1 / spread**2)
            expected = share * pixel + (1 - share) * prior
            np.testing.assert_allclose(found[:, row, column], expected, atol=2e-6)
    assert torch.equal(torch.from_numpy(found[..., 3]), y[0, ..., 3])


def far_woods(depth=1.1, share=0.25):
    """(hazy, scene, rows): `woods` of two tints with fog before the upper `share`, a light one elsewhere."""
    scene = woods((1.1, 0.98, 0.92))
    scene[..., ::2] = woods((0.95, 1.15, 0.9))[..., ::2]
    top = int(96 * share)
    transmission = torch.full((96, 1), 0.93)
    transmission[:top] = float(np.exp(-depth))
    return scene * transmission + 0.8 * (1 - transmission), scene, top


def misled(depth, top, airlight=(0.74, 0.8, 0.9)):
    """The model that is right about `far_woods` but for the colour of the airlight."""
    model = seen_as(airlight, depth)
    known = model._statistics_from

    def statistics_from(shown):
        deep = torch.full(shown.shape, -float(np.log(0.93)))
        deep[:top] = depth
        maps = torch.zeros(1, 3, *shown.shape)
        maps[:, 0] = torch.log(deep / (2.2 - deep))
        return {**known(shown), "maps": maps}

    model._statistics_from = statistics_from
    return model


def tint(picture):
    colour = picture[0].mean((1, 2))
    return colour / colour.mean() - 1


def test_dark_parts_behind_fog_get_the_colours_of_the_rest():
    hazy, _, top = far_woods()
    model = misled(1.1, top)
    found = one_shot_statistics(model, hazy)
    least = {**found, "unsure": torch.tensor(0.015)}
    before, after = (tint(model(hazy, s)[..., :top, :]) for s in (least, found))
    near = tint(model(hazy)[..., top:, :])
    assert (before - near).norm() > 0.16
    assert (after - near).norm() < 0.1
    # Brightness is what it was, and so is all that is no thick fog.
    both = [model(hazy, s) for s in (least, found)]
    assert (both[0] - both[1]).mean(1).abs().max() < 1e-5
    assert (both[0] - both[1])[..., top:, :].abs().max() < 0.01


def test_dark_parts_behind_a_veil_do_not_turn_magenta():
    """The green of the bright part hides from `guarded_green` that the airlight is too green."""
    scene = woods((0.6, 1.0, 0.5))
    scene[..., 48:, :] = 0.2 * woods((1.0, 1.0, 1.0))[..., 48:, :]
    hazy = scene * 0.75 + 0.55 * 0.25
    model = misled(float(-np.log(0.75)), 96, (0.55, 0.63, 0.55))
    found = one_shot_statistics(model, hazy)
    least = {**found, "unsure": torch.tensor(0.015)}
    before, after = (model(hazy, s)[0, :, 48:].mean((1, 2)) for s in (least, found))
    assert magenta(before) > 0.3
    assert magenta(after) < TOLERANCE + 0.02
    assert float((before.mean() - after.mean()).abs()) < 1e-5
    # The bright part keeps its colours.
    both = [model(hazy, s)[..., :48, :] for s in (least, found)]
    assert (both[0] - both[1]).abs().max() < 0.02


def test_a_bright_sky_behind_fog_keeps_its_hue():
    hazy, _, top = far_woods()
    sky = torch.tensor([0.62, 0.72, 0.86])[:, None, None]
    t = float(np.exp(-1.1))
    hazy[..., : top // 2, :] = sky * t + 0.8 * (1 - t)
    model = misled(1.1, top)
    found = one_shot_statistics(model, hazy)
    assert found["unsure"] > 0.03
    least = {**found, "unsure": torch.tensor(0.015)}
    part = (..., slice(0, top // 2), slice(None))
    assert (model(hazy, found)[part] - model(hazy, least)[part]).abs().max() < 1e-6


def test_colours_of_a_small_clear_part_say_nothing_about_the_rest():
    hazy, _, top = far_woods(share=0.8)
    assert one_shot_statistics(misled(1.1, top), hazy)["unsure"] == torch.tensor(0.015)


def test_a_right_airlight_is_believed():
    hazy, scene, top = far_woods()
    model = misled(1.1, top, (0.8, 0.8, 0.8))
    assert one_shot_statistics(model, hazy)["unsure"] == torch.tensor(0.015)
    assert (model(hazy) - scene).abs().max() < 0.02
