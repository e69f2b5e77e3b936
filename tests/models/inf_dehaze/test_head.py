"""What is made of a tile and the decoder's last map."""

from __future__ import annotations

import pytest
import torch

from napari_restore.models.inf_dehaze._config import Head
from napari_restore.models.inf_dehaze._head import AIRLIGHT, DEEPEST, outputs, restored

X = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", ["change", "airlight"])
def test_zeros_leave_every_bit(head: Head) -> None:
    nothing = torch.zeros(2, outputs(head, 3), 5, 7)
    assert torch.equal(restored(head, X, nothing), X)


def test_a_change_is_added() -> None:
    change = torch.full_like(X, 0.25)
    assert torch.equal(restored("change", X, change), X + change)


def test_the_right_depth_and_airlight_give_the_scene_back() -> None:
    depth = torch.tensor([0.1, 0.7, 2.0])[None, :, None, None].expand_as(X)
    airlight = torch.tensor([0.6, 0.8, 0.95])[None, :, None, None].expand_as(X)
    t = torch.exp(-depth)
    told = torch.cat([DEEPEST * torch.atanh(depth / DEEPEST), airlight - AIRLIGHT], 1)
    assert torch.allclose(restored("airlight", X * t + airlight * (1 - t), told), X, atol=1e-5)


def test_the_depth_is_bounded() -> None:
    told = torch.cat([torch.full_like(X, 1e6), torch.zeros_like(X)], 1)
    y = restored("airlight", X, told)
    assert torch.allclose(
        y, AIRLIGHT + torch.exp(torch.tensor(DEEPEST)) * (X - AIRLIGHT), atol=1e-5
    )
