"""Sweeps that are found in plain modules: what is counted, halos, padding, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import napari_restore as nr
from napari_restore.engine.gradients.local import LocalGradients
from napari_restore.errors import BudgetTooSmall
from napari_restore.explain import attribute
from napari_restore.explain.attribution import context_choice
from napari_restore.models import Uncut, WrappedModel, cut_into_sweeps, load
from napari_restore.models.traced.model import in_tiles

# Torch's tracer takes seconds to import.
pytestmark = pytest.mark.slow

_CUT = LocalGradients.cut


class Gated(nn.Module):
    """Grows an image by zeros to multiples of 4; the mean over it, zeros included, gates channels."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 2, 2)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2 * width, 2 * width, 1))
        self.up = nn.Sequential(nn.Conv2d(2 * width, 8 * width, 1), nn.PixelShuffle(4))
        self.leave = nn.Conv2d(width // 2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 4, 0, -height % 4))
        y = F.avg_pool2d(self.down(F.relu(self.enter(x), inplace=True)), 2)
        y = y * torch.sigmoid(self.gate(y))
        return (x + self.leave(self.up(y)))[:, :, :height, :width]


class Transposed(nn.Module):
    """Attention between channels: their products over all pixels, as in Restormer."""

    def __init__(self, width: int = 4, fused: bool = False) -> None:
        super().__init__()
        self.fused = fused
        self.qkv = nn.Conv2d(3, 3 * width, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor([[[2.0]], [[3.0]]]))
        self.out = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        q, k, v = (t.reshape(n, 2, -1, height * width) for t in self.qkv(x).chunk(3, 1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        if self.fused:
            y = F.scaled_dot_product_attention(q * self.scale, k, v, scale=1.0)
        else:
            y = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return x + self.out(y.reshape(n, -1, height, width))


class Normed(nn.Module):
    """Norms over the image: of groups of channels, of each, and of all together, which is detached."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.enter, self.group = nn.Conv2d(3, width, 3, padding=1), nn.GroupNorm(2, width)
        self.instance = nn.InstanceNorm2d(width, affine=True)
        self.leave = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.instance(torch.tanh(self.group(self.enter(x))))
        mean = y.mean((1, 2, 3), keepdim=True)
        std = ((y - mean).pow(2).mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        return x + self.leave((y - mean) / std) * std.detach()


class Stretched(nn.Module):
    """Between the darkest and the brightest value; the mean is taken of rows, then of columns."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.pool = nn.Conv2d(3, 3, 3, padding=1), nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        low, high = x.amin((1, 2, 3), keepdim=True), self.pool(x)
        y = self.mix((x - low) / (high - low))
        return y - y.mean(3, keepdim=True).mean(2, keepdim=True)


class Context(nn.Module):
    """A softmax over all pixels weighs them, as in networks with global context."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh, self.change = nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = (4 * self.weigh(x)).flatten(2).softmax(-1)
        context = x.flatten(2) @ weights.transpose(1, 2)
        return x + self.change(context[..., None])


class Celled(nn.Module):
    """Its fine map is divided by the number of cells of the coarse one, as in HINT."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.down = nn.Conv2d(4, 4, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 4, 0, -height % 4))
        cells = x.shape[2] // 4 * (x.shape[3] // 4)
        y = torch.tanh(self.enter(x))
        y = y / cells - self.down(y).mean((2, 3), keepdim=True)
        return (x + self.leave(y))[:, :, :height, :width]


def loaded(module: nn.Module) -> WrappedModel:
    """Return a module with random weights as it is loaded."""
    torch.manual_seed(0)
    for weight in module.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.4)
    model = load(module.eval())
    assert isinstance(model, WrappedModel)
    return model


CUT = {
    "gated": (Gated, 2, {"mean": 1}, 4, "zeros"),
    "transposed": (Transposed, 2, {"norm": 2, "gram": 1}, 1, "reflect"),
    "fused": (lambda: Transposed(fused=True), 2, {"norm": 2, "gram": 1}, 1, "reflect"),
    "normed": (Normed, 4, {"mean": 3, "variance": 3}, 1, "reflect"),
    "stretched": (Stretched, 3, {"extreme": 2, "mean": 1}, 1, "reflect"),
    "celled": (Celled, 2, {"mean": 1}, 4, "zeros"),
    "context": (Context, 3, {"extreme": 1, "mean": 1, "gram": 1}, 1, "reflect"),
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.ids("nightly", "transposed")
def test_what_is_counted_and_equal_to_the_module(name: str) -> None:
    make, sweeps, counted, padded_to, padding = CUT[name]
    model = loaded(make())
    cut = cut_into_sweeps(model)
    families = [one.family for piece in cut.pieces for one in piece.counts]
    assert len(cut.steps()) == sweeps
    assert {family: families.count(family) for family in families} == counted
    assert (cut.padded_to, cut.padding) == (padded_to, padding)
    x = torch.rand(2, 3, 37, 54)
    with torch.inference_mode():
        torch.testing.assert_close(
            cut(x), torch.cat([model(one[None]) for one in x]), rtol=0, atol=1e-5
        )


CARDS = {
    "wide": ({"bands": 3, "multiple_of": 16, "whole": "means"}, (37, 54)),
    "range": ({"value_range": [-1, 1]}, (37, 54)),
    "normalised": ({"mean": [0.4, 0.5, 0.6], "std": [0.2]}, (37, 54)),
    "least": ({"bands": 3, "padded_to": 1, "min_size": 96, "whole": "means"}, (97, 131)),
}


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.ids("nightly", "normalised")
def test_zeros_and_least_size_are_those_of_the_card(name: str) -> None:
    fields, (height, width) = CARDS[name]
    torch.manual_seed(0)
    model = load(Gated().eval(), card=fields)
    cut = cut_into_sweeps(model)
    grown = (16, "reflect") if name == "wide" else (4, "zeros")
    assert (cut.padded_to, cut.padding) == grown
    assert cut.fits(height, width) == ""
    x = torch.rand(1, 3, height, width)
    with torch.inference_mode():
        torch.testing.assert_close(in_tiles(cut, x, 32), model(x), rtol=0, atol=1e-5)
    least = model.card.min_size
    assert least == 1 or "grown to its 96 pixels" in cut.fits(least - 1, 200)


def test_halo_is_that_of_each_sweep() -> None:
    cut = cut_into_sweeps(loaded(Gated()))
    # One pixel of the first convolution, in whole cells; then one of the last.
    assert [step.halo for step in cut.steps()] == [4, 4]


class _Sorted(Gated):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.flatten(2).median(-1).values[..., None, None]


class _All(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = _Attention()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x)


class _Attention(nn.Module):
    """Among every fourth pixel of each row and column: among all it takes ten seconds."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x[:, :, ::4, ::4].flatten(2).transpose(1, 2)
        y = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        return y.mean(1)[..., None, None]


class _Positioned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.linspace(0, 1, x.shape[3])
        return x * ramp + x.mean((2, 3), keepdim=True)


class _Asking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x / mean if mean.min() > 0.1 else x


class _Cumulated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(2) - x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_Sorted, r"median.* makes one value of all pixels"),
        (_All, r"bmm in attention relates all pixels to all others"),
        (_Positioned, "tiles differ from the whole image by"),
        (_Asking, "its code asks for values of the image"),
        (_Cumulated, "cumsum.* depends on pixels farther than"),
        (lambda: nn.Conv2d(3, 3, 3, padding=1), "nothing is reduced over the image"),
    ],
)
def test_names_what_cannot_be_cut(make: type[nn.Module], why: str) -> None:
    with pytest.raises(Uncut, match=why):
        cut_into_sweeps(loaded(make()))


class _OfWindows(Gated):
    """Takes the mean of windows where an image is large, as published code for testing does."""

    def forward(self, x: Tensor) -> Tensor:
        if max(x.shape[2:]) > 512:
            return x - F.avg_pool2d(x, 17, 1, 8)
        return x - x.mean((2, 3), keepdim=True)


def test_large_images_that_are_computed_in_another_way_do_not_fit() -> None:
    cut = cut_into_sweeps(loaded(_OfWindows()))
    assert cut.fits(512, 300) == ""
    assert "in different ways" in cut.fits(400, 700)


def test_is_found_once_for_its_weights() -> None:
    model = loaded(Transposed())
    first = cut_into_sweeps(model, "one")
    assert cut_into_sweeps(model, "one") is first
    assert cut_into_sweeps(model, "other") is not first


def test_runs_in_tiles_that_are_asked_for() -> None:
    image = np.random.default_rng(0).random((150, 213, 3)).astype("float32")
    model = loaded(Gated())
    with torch.inference_mode():
        expected = model(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    plan = nr.plan(image, model, tile=64)
    assert plan.model.is_swept
    assert "2 sweeps, which count 1 × mean over the image" in plan.notes[0]
    result = nr.restore(image, model, tile=64, progress=False)
    np.testing.assert_allclose(np.asarray(result), expected.numpy(), rtol=0, atol=1e-5)
    assert not nr.plan(image, model).model.is_swept


def test_gradient_goes_through_the_sweeps() -> None:
    image = np.random.default_rng(0).random((96, 120, 3)).astype("float32")
    model = loaded(Transposed())
    asked = {"box": nr.Region.from_xywh(40, 30, 16, 16), "steps": 2, "progress": False}
    whole = nr.attribute(image, model, **asked)
    cut = nr.attribute(image, cut_into_sweeps(model), context_gradient="through", **asked)
    np.testing.assert_allclose(
        cut.map, whole.map, rtol=0, atol=1e-7 * np.abs(whole.map).max() + 1e-9
    )


def test_the_map_does_not_depend_on_the_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes to go through them."""
    monkeypatch.setattr(context_choice, "LIMIT_SECONDS", 1e-9)
    image = np.random.default_rng(0).random((96, 120, 3)).astype("float32")
    model = loaded(Transposed())
    asked = {"box": nr.Region.from_xywh(40, 30, 16, 16), "steps": 2, "progress": False}
    whole = nr.attribute(image, model, **asked)
    cut = nr.attribute(image, cut_into_sweeps(model), **asked)
    np.testing.assert_allclose(
        cut.map, whole.map, rtol=0, atol=1e-7 * np.abs(whole.map).max() + 1e-9
    )


@pytest.fixture
def no_graph_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass fits, but not its graph."""

    def refused(*_: Any) -> None:
        raise BudgetTooSmall("The graph does not fit.", "Give more.")

    monkeypatch.setattr(LocalGradients, "cut", refused)


@pytest.mark.usefixtures("no_graph_fits")
def test_a_graph_that_does_not_fit_goes_by_sweeps() -> None:
    image = nr.open_image(np.random.default_rng(0).random((96, 120, 3)).astype("float32"))
    ask = partial(
        attribute, image, loaded(Transposed()), nr.Region.from_xywh(40, 30, 16, 16), steps=2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalGradients, "cut", _CUT)
        whole, through = ask(), ask(context_gradient="through")
    swept = ask()
    assert (whole.record["plan"]["scope"], swept.record["plan"]["scope"]) == ("local", "swept")
    np.testing.assert_allclose(
        swept.map, whole.map, rtol=0, atol=1e-7 * np.abs(whole.map).max() + 1e-9
    )
    # Each is repeated in the other way where another budget asks for it.
    requests = [each.record["attribution"]["request"] for each in (whole, swept)]
    assert [each["context_gradient"] for each in requests] == ["auto", "through"]
    np.testing.assert_array_equal(through.map, whole.map)


@pytest.mark.usefixtures("no_graph_fits")
def test_a_map_that_sweeps_do_not_give_is_refused() -> None:
    """A method without a path takes what sweeps count as a constant; one pass does not."""
    image = np.random.default_rng(0).random((96, 120, 3)).astype("float32")
    asked = {"box": nr.Region.from_xywh(40, 30, 16, 16), "progress": False}
    with pytest.raises(BudgetTooSmall, match=r"The graph does not fit\. Give more\.$"):
        nr.attribute(image, loaded(Transposed()), method="smoothgrad", **asked)


@pytest.mark.usefixtures("no_graph_fits")
def test_a_graph_that_does_not_fit_names_what_cannot_be_cut() -> None:
    image = np.random.default_rng(0).random((96, 120, 3)).astype("float32")
    asked = {"box": nr.Region.from_xywh(40, 30, 16, 16), "progress": False}
    with pytest.raises(BudgetTooSmall, match="cannot be cut into sweeps: median"):
        nr.attribute(image, loaded(_Sorted()), **asked)
