"""A card is believed only when the loaded weights bear it out."""

import sys

import pytest
import torch
from torch import nn

from napari_restore.engine import probe
from napari_restore.errors import BadModel, OutOfMemory
from napari_restore.models import load

pytestmark = pytest.mark.measured


def conv(radius, dilation=1, groups=1):
    layer = nn.Conv2d(3, 3, 2 * radius + 1, padding=radius * dilation, dilation=dilation)
    nn.init.uniform_(layer.weight, 0.01, 0.02)
    return layer


def wrapped(module, **card):
    return load(module, card={"id": "toy", "title": "Toy", "summary": "", "bands": 3, **card})


def test_a_halo_that_suffices_is_kept():
    assert probe(wrapped(nn.Sequential(conv(2), nn.ReLU(), conv(3)), halo=5)).halo == 5


def test_a_halo_that_fails_is_raised_and_said():
    found = probe(wrapped(nn.Sequential(conv(2), conv(3, dilation=2)), halo=4))
    assert found.halo == 8
    assert "measured and used: 8" in found.note


def test_a_far_tap_is_found_even_with_a_tiny_weight():
    layer = conv(1, dilation=20)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, :, 1, 1] = 1
        layer.weight[:, :, 0, 0] = 1e-12
    assert probe(wrapped(layer, halo=0)).halo == 20


def test_strided_networks_are_measured_in_whole_steps():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 8, 3, padding=1), nn.ConvTranspose2d(8, 3, 4, 4)
    )
    found = probe(wrapped(net, halo=0, multiple_of=4))
    assert found.halo == 4


class Everywhere(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=(2, 3), keepdim=True)


@pytest.mark.slow
def test_a_global_model_posing_as_local_is_given_the_whole_image():
    assert "depend on others" in probe(wrapped(Everywhere(), halo=8)).whole


class RunningSum(nn.Module):
    """A mean over 5 pixels by running sums: carries a NaN far without depending on it."""

    def forward(self, x):
        padded = nn.functional.pad(x.double(), (3, 2, 0, 0), mode="replicate")
        total = padded.cumsum(-1)
        return ((total[..., 5:] - total[..., :-5]) / 5).to(x.dtype)


def test_running_sums_are_not_taken_for_a_global_dependence():
    assert probe(wrapped(RunningSum(), halo=2)).halo == 2


class Halved(nn.Module):
    def forward(self, x):
        return x[..., ::2, ::2]


class Broken(nn.Module):
    def forward(self, x):
        return x / 0


@pytest.mark.parametrize(
    ("module", "words"), [(Halved(), "returns"), (Broken(), "NaN"), (nn.Conv2d(4, 4, 1), "fails")]
)
def test_unusable_output_is_refused(module, words):
    with pytest.raises(BadModel, match=words):
        probe(wrapped(module))


@pytest.mark.parametrize("name", ["dcp", "hot", "htm", "identity", "haze-unet"])
def test_our_own_cards_are_true(name):
    model = load(name, weights="random:0" if name == "haze-unet" else None)
    found = probe(model)
    assert found.note == ""
    assert found.halo == model.card.halo


class Related(nn.Module):
    """Every pixel attends to every other: memory grows as the fourth power of the side."""

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return (tokens @ tokens.mT).softmax(-1).matmul(tokens).mT.reshape(x.shape)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the system holds no limit of addresses")
@pytest.mark.parametrize("card", [{"halo": 0, "multiple_of": 1}, {"halo": 16}])
def test_a_network_is_not_tried_beyond_its_budget(card):
    with pytest.raises(OutOfMemory, match="not enough memory to try"):
        probe(wrapped(Related(), **card), memory=512 << 20)
