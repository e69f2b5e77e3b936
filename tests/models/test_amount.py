"""The parameter `amount`: a factor on the haze that a method sees."""

from __future__ import annotations

import functools

import pytest
import torch

from napari_restore.errors import BadParameter
from napari_restore.models import load, one_shot_statistics

from ._scenes import hazed, land, smooth

MODELS = ["dcp", "hot", "htm", "atmosphere", "atmosphere-aerial", "haze-unet", "inf-dehaze-small"]


@functools.cache
def hazy() -> torch.Tensor:
    return hazed(land(128, 160, seed=2), 1 - 0.6 * smooth(128, 160, seed=3))


def restored(model_id: str, amount: float) -> torch.Tensor:
    with torch.inference_mode():
        return load(model_id, parameters={"amount": amount})(hazy())


@pytest.mark.slow
@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.ids("nightly", "haze-unet", "atmosphere", "atmosphere-aerial", "inf-dehaze-small")
def test_none_changes_nothing_and_more_changes_more(model_id: str) -> None:
    assert torch.equal(restored(model_id, 0), hazy())
    changes = [float((restored(model_id, a) - hazy()).abs().mean()) for a in (0.6, 1.0, 1.4)]
    assert 0 < changes[0] < changes[1] < changes[2]
    with torch.inference_mode():
        assert torch.equal(restored(model_id, 1), load(model_id)(hazy()))


@pytest.mark.parametrize("model_id", ["dcp", "atmosphere"])
def test_it_multiplies_the_optical_depth(model_id: str) -> None:
    with torch.inference_mode():
        one, more = (
            load(model_id, parameters={"amount": a}).forward_with_maps(hazy())[1]["transmission"]
            for a in (1.0, 1.3)
        )
    thin = more > 0.11
    assert thin.float().mean() > 0.5
    torch.testing.assert_close(more[thin], (one**1.3)[thin])
    assert float(more.min()) >= 0.1 - 1e-6


@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.ids("slow", "atmosphere-aerial", "inf-dehaze-small")
@pytest.mark.ids("nightly", "inf-dehaze-small")
def test_what_is_known_of_the_image_does_not_depend_on_it(model_id: str) -> None:
    one, more = (
        one_shot_statistics(load(model_id, parameters={"amount": a}), hazy(), None)
        for a in (1.0, 1.3)
    )
    assert one.keys() == more.keys()
    # What it darkens is known of the result: a larger amount darkens more.
    assert "darkening" not in one or (more["darkening"] > one["darkening"]).all()
    assert all(torch.equal(one[name], more[name]) for name in one.keys() - {"darkening"})


def test_it_has_limits() -> None:
    with pytest.raises(BadParameter, match=r"amount = 2.1 is outside 0.0 … 2.0"):
        load("dcp", parameters={"amount": 2.1})
