"""Attribution to layers of a network, against captum called on the whole image."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.explain._models import scene, wrapped
from torch import Tensor, nn

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine.gradients.local import LocalGradients
from napari_restore.errors import BadModel, BadParameter, BudgetTooSmall
from napari_restore.explain import attribute

captum = pytest.importorskip("captum.attr")
BOX = Region(160, 200, 208, 264)


class Strided(nn.Module):
    """Two scales and a connection around them; by default operations write into what they are given."""

    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.stem = nn.Conv2d(3, 6, 3, padding=1)
            self.coarse = nn.Sequential(
                nn.Conv2d(6, 8, 4, stride=4), nn.ReLU(inplace), nn.Conv2d(8, 8, 3, padding=1)
            )
            self.up = nn.ConvTranspose2d(8, 6, 4, stride=4)
            self.last = nn.Conv2d(6, 3, 3, padding=1)
            self.unused = nn.Conv2d(3, 3, 1)
            self.twice = nn.ReLU()
            self.pooled = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.twice(self.stem(x))
        y = torch.tanh_(self.up(self.coarse(fine)))
        # What is pooled counts for nothing: the network stays local.
        return x + self.last(self.twice(fine + y)) + 0 * self.pooled(x)


def strided() -> Any:
    return wrapped(Strided(), 40, multiple_of=4)


def ask(model: Any, pixels: Any, layer: str, method: str = "LayerGradCam", **options: Any) -> Any:
    options = {"device": "cpu", "box": BOX, **options}
    return attribute(
        nr.open_image(pixels), model, method=f"captum:{method}", layer=layer, **options
    )


def literal(
    module: nn.Module, pixels: Any, layer: str, method: str, box: Region = BOX, **arguments: Any
) -> Tensor:
    """Return what captum gives for the module on the whole image, (1, K, rows, columns)."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    at = (..., *box.slices)

    def change(images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        step = 1 if isinstance(module, PadsInside) else 4
        grown = nn.functional.pad(images, (0, -width % step, 0, -height % step), mode="reflect")
        return (module(grown)[..., :height, :width] - x)[at].mean((1, 2, 3))

    attributor = getattr(captum, method)
    if "baselines" in inspect.signature(attributor.attribute).parameters:
        arguments["baselines"] = torch.zeros_like(x)
    found: Tensor = attributor(change, module.get_submodule(layer)).attribute(x, **arguments)
    return found.detach()


def in_pixels(shares: Tensor, stride: int, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    cells = shares.sum(1, keepdim=True)
    whole = tuple(stride * side for side in cells.shape[2:])
    return captum.LayerAttribution.interpolate(cells, whole)[0, 0, : size[0], : size[1]].numpy()


def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(self: LocalGradients, box: Region) -> list[Region]:
        side = 64
        return [
            Region(y, x, y + side, x + side).intersect(box)
            for y in range(box.y0, box.y1, side)
            for x in range(box.x0, box.x1, side)
        ]

    monkeypatch.setattr(LocalGradients, "cut", cut)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "arguments", "layer", "stride", "pieces"),
    [
        ("LayerIntegratedGradients", {"n_steps": 6}, "coarse.0", 4, False),
        ("LayerIntegratedGradients", {"n_steps": 6}, "stem", 1, True),
        ("LayerActivation", {}, "coarse.0", 4, True),
        ("LayerActivation", {}, "stem", 1, False),
        ("LayerGradientXActivation", {}, "coarse.0", 4, True),
        ("LayerConductance", {"n_steps": 5}, "coarse.0", 4, False),
        ("LayerConductance", {"n_steps": 5}, "stem", 1, True),
        ("InternalInfluence", {"n_steps": 5}, "stem", 1, True),
    ],
)
@pytest.mark.ids(
    "nightly",
    "LayerConductance-arguments5-coarse.0-4-False",
    "LayerIntegratedGradients-arguments1-stem-1-True",
    "InternalInfluence-arguments7-stem-1-True",
    "LayerConductance-arguments6-stem-1-True",
    "LayerIntegratedGradients-arguments0-coarse.0-4-False",
)
def test_it_is_captum_on_the_whole_image(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    arguments: dict[str, Any],
    layer: str,
    stride: int,
    pieces: bool,
) -> None:
    pixels = scene(333, 402)
    if pieces:
        in_small_pieces(monkeypatch)
    takes = method in ("LayerIntegratedGradients", "LayerConductance", "InternalInfluence")
    options = {"baseline": "zero"} if takes else {}
    found = ask(strided(), pixels, layer, method, arguments=arguments, **options)
    assert found.region != (0, 0, 333, 402)
    whole = in_pixels(
        literal(Strided(False), pixels, layer, method, **arguments), stride, (333, 402)
    )
    expected = whole[found.region.slices]
    if method in ("LayerConductance", "InternalInfluence"):
        # Along these paths what is around the region stays as it is: its margin may differ.
        at = BOX.expand(24).within(found.region)
    else:
        at = (slice(None), slice(None))
    assert np.abs(expected[at]).max() > 0
    assert np.allclose(
        found.map[..., 0][at], expected[at], rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    entry = found.record["attribution"]
    assert entry["layer"] == {
        "name": layer,
        "kind": "Conv2d",
        "channels": {"stem": 6}.get(layer, 8),
        "stride": stride,
    }
    assert entry["arguments"]["interpolation"] == "nearest"


@pytest.mark.slow
@pytest.mark.parametrize("box", [BOX, Region(300, 360, 333, 402)])
@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.ids("nightly", "True-box1")
def test_grad_cam_averages_gradients_over_the_region(
    monkeypatch: pytest.MonkeyPatch, box: Region, pieces: bool
) -> None:
    pixels = scene(333, 402)
    if pieces:
        in_small_pieces(monkeypatch)
    found = ask(strided(), pixels, "coarse.1", box=box)
    cells = literal(Strided(False), pixels, "coarse.1", "LayerGradCam", box)
    expected = in_pixels(cells, 4, (333, 402))[found.region.slices]
    # captum's mean is over all of the image.
    rows, columns = (-(-side // 4) for side in found.region.shape)
    expected = expected * (cells.shape[2] * cells.shape[3] / (rows * columns))
    assert np.allclose(found.map[..., 0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


class PadsInside(Strided):
    """Takes images of any size, and scales by a mean of the whole: it runs in one pass."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        grown = nn.functional.pad(x, (0, -width % 8, 0, -height % 8), mode="reflect")
        y = super().forward(grown)[..., :height, :width]
        return y * (1 + x.mean((2, 3), keepdim=True))


@pytest.mark.slow
def test_a_network_that_pads_inside_has_its_cells() -> None:
    pixels, box = scene(141, 150), Region(40, 40, 80, 80)
    model = nr.load_model(PadsInside())
    found = ask(model, pixels, "coarse.1", box=box)
    assert found.region == (0, 0, 141, 150) and model.card.size_step == 1
    assert found.record["attribution"]["layer"]["stride"] == 4
    cells = literal(PadsInside(False), pixels, "coarse.1", "LayerGradCam", box)
    assert cells.shape[2:] == (36, 38)
    expected = in_pixels(cells, 4, (141, 150))
    assert np.allclose(found.map[..., 0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_shares_of_a_layer_add_up_to_what_went_through_it() -> None:
    found = ask(
        strided(),
        scene(333, 402),
        "coarse.2",
        "LayerIntegratedGradients",
        baseline="zero",
        arguments={"n_steps": 30},
    )
    entry = found.record["attribution"]["completeness"]
    assert entry["reached"] and abs(entry["difference"]) > 1e-6
    # A pixel has the value of its cell, of 4 × 4.
    assert float(found.map.sum(dtype=float)) / 16 == pytest.approx(entry["sum"], rel=1e-4)


@pytest.mark.slow
def test_a_smooth_map_is_interpolated_as_captum_does() -> None:
    pixels = scene(160, 160)
    box = Region(40, 40, 80, 80)
    found = ask(strided(), pixels, "coarse.2", box=box, arguments={"interpolation": "bilinear"})
    assert found.region == (0, 0, 160, 160)
    cells = literal(Strided(False), pixels, "coarse.2", "LayerGradCam", box)
    expected = captum.LayerAttribution.interpolate(cells, (160, 160), "bilinear")[0, 0].numpy()
    assert np.allclose(found.map[..., 0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_what_does_not_count_has_no_share() -> None:
    pixels = scene(333, 402)
    hole = (slice(170, 180), slice(210, 230))
    pixels[hole] = np.nan
    found = ask(strided(), pixels, "stem")
    whole = np.zeros((333, 402))
    whole[found.region.slices] = found.map[..., 0]
    assert np.isfinite(whole).all() and not whole[hole].any() and whole.any()


@pytest.mark.parametrize(
    ("options", "entry"),
    [
        ({"layer": "coarse.9"}, "Did you mean coarse"),
        (
            {"layer": "zzz"},
            "It has stem, coarse, up, last, unused, twice, pooled; napari-restore inspect",
        ),
        ({"layer": "unused"}, "does not run"),
        ({"layer": "twice"}, "called 2 times"),
        ({"layer": "pooled"}, "1 × 1 cells"),
        ({"layer": None}, "is of a layer"),
        ({"layer": "stem", "arguments": {"interpolation": "cubic"}}, "no interpolation 'cubic'"),
        ({"layer": "stem", "method": "ig"}, "of the pixels, not of a layer"),
        ({"layer": "stem", "method": "captum:Saliency"}, "of the pixels, not of a layer"),
        ({"layer": "stem", "method": "captum:LayerDeepLift"}, "changes a network"),
        pytest.param(
            {"layer": "stem", "memory": "150MiB", "box": Region(0, 0, 2000, 2000)},
            "budget",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_be_asked_is_said(options: dict[str, Any], entry: str) -> None:
    pixels = scene(2000, 2000) if "memory" in options else scene(333, 402)
    asked = {"box": BOX, "device": "cpu", "method": "captum:LayerGradCam", **options}
    with pytest.raises((BadParameter, BudgetTooSmall), match=entry):
        attribute(nr.open_image(pixels), strided(), asked.pop("box"), **asked)


def test_a_layer_alone_is_shown_by_grad_cam() -> None:
    found = attribute(
        nr.open_image(scene(160, 160)),
        strided(),
        Region(40, 40, 80, 80),
        layer="stem",
        device="cpu",
    )
    assert found.record["attribution"]["method"] == "captum:LayerGradCam"
    assert "Grad" in repr(found)


def test_layers_of_networks_in_sweeps_are_refused() -> None:
    from tests.engine._staged_model import ToyStaged

    model = ToyStaged()
    (name, *_) = model.named_layers()
    with pytest.raises(BadModel, match="computed in sweeps"):
        attribute(nr.open_image(scene(300, 400)), model, BOX, layer=name, device="cpu")


@pytest.mark.nightly
def test_a_record_asks_again_and_names_the_layer(sample: Path, tmp_path: Path) -> None:
    from napari_restore import api
    from napari_restore.explain.attribution.figure import caption
    from napari_restore.records import write_record

    box = Region(120, 150, 144, 182)
    found = nr.attribute(sample, "haze-unet", box, layer="encode2.0", device="cpu")
    assert found.record["attribution"]["layer"]["stride"] == 4
    assert "layer encode2.0" in caption(found.record)
    found.save(tmp_path / "map.tif")
    found.save(tmp_path / "map.npz")
    api.draw_attribution(found, tmp_path / "figure.png")
    record = write_record(tmp_path / "map.json", found.record)
    again = api.repeat_attribution(record, device="cpu")
    assert np.array_equal(again.map, found.map)
    assert nr.open_image(tmp_path / "map.tif").bands == 1
