"""A module that makes no image is refused in one sentence that names the cause."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scaling_networks import shrinking
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_restore.errors import BadModel
from napari_restore.models import load


class Returning(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return x * sigma


class OwnError(Exception):
    pass


def failing(x: Tensor) -> Tensor:
    raise OwnError("no luck\nand more")


@pytest.mark.parametrize(
    ("module", "message", "hint"),
    [
        (TwoInputs(), r"TypeError: .* missing 1 .* argument: 'sigma'\)\. ", "Wrap it"),
        (nn.Conv2d(3, 3, 1).double(), "fails", "weights are float64, .* method float"),
        (nn.Conv2d(3, 3, 1).half(), "fails", "weights are float16"),
        (nn.Conv2d(5, 5, 1), "to have 5 channels, but got 3", "card={'bands': 3"),
        (
            nn.Conv2d(3, 3, 3),
            "an image of 190 × 190 pixels and 3 bands for one of 192 × 192",
            "same",
        ),
        (nn.Conv2d(3, 1, 1), "an image of 192 × 192 pixels and 1 band for one of 192", "same"),
        (
            Returning(lambda x: interpolate(x, scale_factor=1.5)),
            "an image of 288 × 288",
            "whole number of times as large",
        ),
        (
            Returning(lambda x: interpolate(x, (64, 64))),
            "64 × 64 pixels and 3 bands for one of 192 × 192 .*, but an image of 64 × 64 .* for one "
            "of 320 × 320",
            "a whole part of it",
        ),
        (
            Returning(lambda x: x[..., ::2, :]),
            "an image of 192 × 96",
            "whole number of times as large",
        ),
        (
            Returning(lambda x: [x[..., ::2, ::2], x]),
            "a list that begins with an image of 96",
            "Wrap",
        ),
        (Returning(lambda x: {"out": x, "t": 1}), "returns a dict of 'out', 't' for", "Wrap it"),
        (Returning(lambda x: None), "returns None", "Wrap it"),
        (Returning(lambda x: ()), "returns an empty tuple", "Wrap it"),
        (Returning(lambda x: x[0]), r"returns a tensor of \(3, 192, 192\)", "same size"),
        (Returning(lambda x: x.numpy()), "returns an object of type ndarray", "Wrap it"),
        (Returning(lambda x: (x * 255).byte()), "3 bands in uint8", "as floats"),
        (Returning(failing), r"\(OwnError: no luck\)\. ", "card"),
    ],
)
def test_the_cause_is_named(module: nn.Module, message: str, hint: str) -> None:
    with pytest.raises(BadModel, match=message) as caught:
        # What tries it out does not look at the type of its numbers.
        load(module)(torch.rand(1, 3, 192, 192))
    assert re.search(hint, caught.value.hint)
    assert "\n" not in caught.value.message


class Square(nn.Module):
    """Takes the root of its pixels for its sides."""

    def forward(self, x: Tensor) -> Tensor:
        side = int((x.shape[2] * x.shape[3]) ** 0.5)
        return x.flatten(2).view(*x.shape[:2], side, side)


class Reflecting(nn.Module):
    """Reflects by 7 at 1/32, so that its smallest image has 256 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        small = nn.functional.pad(nn.functional.pixel_unshuffle(x, 32), (7, 7, 7, 7), "reflect")
        return x + nn.functional.pixel_shuffle(nn.functional.avg_pool2d(small, 15, 1), 32)


def test_squares_only() -> None:
    with pytest.raises(
        BadModel, match="takes square images only, and fails on one of 320 × 192"
    ) as caught:
        load(Square())
    assert "any shape" in caught.value.hint


def test_what_fails_on_a_small_image_is_tried_on_a_larger_one() -> None:
    card = load(Reflecting()).card
    assert (card.bands, card.multiple_of, card.min_size) == (3, 32, 256)


@pytest.mark.parametrize("stride", [3, 5, 7])
def test_a_multiple_that_is_no_power_of_2_is_not_taken_for_a_least_size(stride: int) -> None:
    card = load(shrinking(stride)).card
    assert (card.multiple_of, card.min_size, card.ratio.denominator) == (stride, 1, stride)


@pytest.mark.parametrize("least", [100, 130, 150, 160, 200, 257])
def test_a_least_size_is_found(least: int) -> None:
    def padded(x: Tensor) -> Tensor:
        return nn.functional.pad(x, [least - 1] * 4, "reflect")[
            ..., least - 1 : 1 - least, least - 1 : 1 - least
        ]

    card = load(Returning(padded)).card
    assert (card.multiple_of, card.min_size) == (1, least if least > 128 else 1)


def test_with_a_card_too() -> None:
    x = torch.rand(1, 3, 20, 30)
    model = load(Returning(lambda x: {"out": x}), card={"bands": 3})
    with pytest.raises(BadModel, match="returns a dict of 'out' for one of 30 × 20 pixels"):
        model(x)
    # What the engine expects of a failure of torch.
    with pytest.raises(RuntimeError, match="OwnError: no luck"):
        load(Returning(failing), card={"bands": 3})(x)


def test_modules_may_write_to_their_input() -> None:
    def halved(x: Tensor) -> Tensor:
        return x.mul_(0.5)

    x = torch.rand(1, 3, 20, 30)
    given = x.clone()
    assert torch.equal(load(Returning(halved))(x), given / 2)
    assert torch.equal(x, given)
    # Leaves of a gradient take no such operation.
    x.requires_grad_(True)
    load(Returning(halved))(x).sum().backward()
    assert x.grad is not None and float(x.grad.mean()) == 0.5
