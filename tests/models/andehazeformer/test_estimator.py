"""The estimator of the atmosphere."""

from __future__ import annotations

import numpy as np
import torch
from tests.models.andehazeformer._literal import estimate
from tests.models.andehazeformer._small import TINY, network, pictures

from napari_restore.models import context_of
from napari_restore.models.andehazeformer.guided import (
    THINNEST,
    brightest,
    inverted,
    transmission_of,
)


def test_equals_the_formulas() -> None:
    estimator = network().estimator
    picture = pictures(1, 7, 9)
    found = estimator(picture, torch.ones_like(picture[:, :1]))
    weights = {name: value.numpy() for name, value in estimator.state_dict().items()}
    expected = estimate(weights, picture[0].numpy())
    for name, value in found._asdict().items():
        np.testing.assert_allclose(value[0].numpy(), expected[name], atol=1e-12, err_msg=name)
    assert found.texture.shape == found.tint.shape == (1, TINY.width)


def test_airlight_is_the_mean_of_the_brightest_thousandth() -> None:
    picture = pictures(1, 50, 50)
    dark = picture.new_zeros(1, 1, 50, 50)
    dark[0, 0, 3, 4], dark[0, 0, 9, 9] = 1.0, 0.5
    # Of the many equals the first pixel makes up the three of 2500.
    expected = (picture[0, :, 3, 4] + picture[0, :, 9, 9] + picture[0, :, 0, 0]) / 3
    everywhere = torch.ones_like(dark)
    torch.testing.assert_close(brightest(picture, dark, everywhere)[0], expected)
    everywhere[0, 0, 3, 4] = everywhere[0, 0, 0, 0] = 0
    expected = (picture[0, :, 9, 9] + picture[0, :, 0, 1] + picture[0, :, 0, 2]) / 3
    torch.testing.assert_close(brightest(picture, dark, everywhere)[0], expected)
    assert torch.equal(brightest(picture, dark, 0 * everywhere)[0], picture.new_zeros(3))


def test_transmission_and_inversion_belong_together() -> None:
    dark = torch.linspace(0, 1, 11).double()[None, None, None]
    t = transmission_of(dark, torch.tensor([0.95]).double())
    torch.testing.assert_close(t[0, 0, 0, 3], torch.tensor(1 - 0.95 * 0.3).double())
    assert float(t.min()) == THINNEST
    clear = pictures(1, 1, 11)
    airlight = torch.tensor([0.9, 0.8, 0.7]).double()[None, :, None, None]
    hazy = clear * t + airlight * (1 - t)
    torch.testing.assert_close(inverted(hazy, t, airlight), clear)


def test_invalid_pixels_have_no_say() -> None:
    estimator = network().estimator
    picture = pictures(1, 12, 12)
    valid = torch.ones_like(picture[:, :1])
    valid[..., 8:] = 0
    other = torch.where(valid > 0, picture, 7.0)
    for a, b in zip(estimator(picture, valid), estimator(other, valid), strict=True):
        assert torch.equal(a, b)


def test_prepare_takes_the_overview() -> None:
    model = network()
    x = pictures(1, 40, 70)
    context = context_of(x[0].permute(1, 2, 0).numpy())
    found = model.prepare(context, lambda v: np.asarray(v, np.float64), (0, 1, 2))
    whole = torch.ones(1, 1, 40, 70, dtype=torch.bool)
    view, guide = model.observe(x, whole)
    torch.testing.assert_close(found["airlight"][None], view[:, 7:, 0, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["texture"][None], guide.texture, atol=1e-5, rtol=0)
    assert found["dark"].shape == (1, 1, 40, 70)
    assert found["airlight_all"].shape == (3,)
