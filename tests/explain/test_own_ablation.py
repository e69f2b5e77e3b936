"""Heads of a network of one's own that are left out: what the result is without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.support import attending_networks as networks
from torch import nn

import napari_restore as nr
from napari_restore import Region
from napari_restore.errors import BadModel, BadParameter
from napari_restore.models import load

BOX = Region(250, 30, 264, 58)
CARD = {"bands": 3, "halo": 32, "multiple_of": 32}


def scene(height: int, width: int) -> Any:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def silenced(projection: Any, heads: int, head: int, width: int) -> None:
    """Make the values of a head 0 in a projection (3 · width, width) of queries, keys and values."""
    projection.data.view(3, heads, width // heads, *projection.shape[1:])[2, head] = 0


def whole(net: nn.Module, image: Any) -> Any:
    with torch.inference_mode():
        return net(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()


def windows(layer: int = 1, head: int | None = None) -> Any:
    net = networks.Windows()
    if head is not None:
        for each in (net.qkv[layer].weight, net.qkv[layer].bias):
            silenced(each, 2, head, networks.WIDTH)
    return net.eval()


@pytest.mark.parametrize("formed", [False, True])
def test_the_effect_of_a_head_is_that_of_values_of_zero(formed: bool) -> None:
    image, net = scene(320, 96), windows()
    if formed:
        # Two products in place of one call.
        net.matrices = []
    found = nr.attend(
        image, load(net, card=CARD), [BOX], layers=["attention.2"], ablate=True,
        device="cpu", progress=False,
    )  # fmt: skip
    effects = found.queries[0].effects
    assert [each.head for each in effects] == ["1", "2"]
    there = whole(windows(), image)
    for number, effect in enumerate(effects):
        expected = (whole(windows(1, number), image) - there)[BOX.slices]
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(effect.difference, expected, atol=1e-5)


@pytest.mark.parametrize("weights", [False, True])
def test_heads_of_a_module_are_left_out_one_after_another(weights: bool) -> None:
    net = networks.Encoder(weights=weights).eval()
    model = load(net, card={**CARD, "halo": 64})
    x = torch.from_numpy(scene(64, 96)).permute(2, 0, 1)[None]
    changed = model.without_head("attention.1", 1).without_head("attention.1", 3)
    for head in (1, 3):
        silenced(net.attend.in_proj_weight, 4, head, networks.WIDTH)
        silenced(net.attend.in_proj_bias, 4, head, networks.WIDTH)
    with torch.inference_mode():
        torch.testing.assert_close(changed(x), net(x), atol=1e-6, rtol=1e-5)
        assert not torch.allclose(model(x), net(x), atol=1e-4)
    with pytest.raises(BadModel, match="no gradients"):
        changed(x)
    with pytest.raises(BadParameter, match=r"no head 5 of attention\.1"):
        model.without_head("attention.1", 4)
