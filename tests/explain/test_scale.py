"""Attribution of results of another size: the box is on their grid, the map on the image's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from matplotlib.path import Path as Ring
from tests.support import scaling_networks
from tests.support.scaling_networks import enlarging, shrinking
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.errors import BadParameter, BadRegion
from napari_restore.explain.attribution.figure import caption
from napari_restore.models.published.swinir import SwinIR

SCENE = np.random.default_rng(0).random((48, 57, 3)).astype(np.float32)
SIGMA, SIDE, STEPS = 1.2, 9, 5


def planes_of(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def on_whole(attribution: nr.Attribution) -> np.ndarray:
    """Return the map on all of the scene."""
    whole = np.zeros_like(SCENE)
    whole[attribution.region.slices] = attribution.map
    return whole


def blurred(x: Tensor, sigma: float) -> Tensor:
    at = torch.arange(SIDE, dtype=torch.float64) - SIDE // 2
    # LAM's code adds as little, so that 0 is a blur, too.
    weights = torch.exp(-(at[:, None] ** 2 + at**2) / (2 * (sigma + 1e-5) ** 2))
    kernel = (weights / weights.sum()).float().expand(3, 1, SIDE, SIDE)
    return conv2d(pad(x, (SIDE // 2,) * 4, mode="replicate"), kernel, groups=3)


def literal_lam(network: nn.Module, x: Tensor, box: Region) -> Tensor:
    """Return LAM as its public code computes it: gradients on a blurring path, times its steps."""
    path = [blurred(x, SIGMA * (1 - step / STEPS)) for step in range(STEPS + 1)]
    total = torch.zeros_like(x)
    for before, picture in itertools.pairwise(path):
        leaf = picture.clone().requires_grad_(True)
        y = network(leaf)[..., box.y0 : box.y1 + 1, box.x0 : box.x1 + 1]
        down, across = y[..., 1:, :-1] - y[..., :-1, :-1], y[..., :-1, 1:] - y[..., :-1, :-1]
        (gradient,) = torch.autograd.grad(torch.sqrt(down**2 + across**2 + 1e-12).sum(), leaf)
        total += gradient * (picture - before)
    return total


@pytest.mark.slow
@pytest.mark.nightly
def test_lam_of_super_resolution_is_the_literal_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SwinIR(
        width=12,
        depths=(2, 2),
        heads=(2, 2),
        window=4,
        hidden=24,
        scale=2,
        upsampler="pixelshuffle",
        features=8,
    ).eval()
    box = Region(31, 45, 47, 61)
    found = nr.attribute(
        SCENE, network, box, method="lam-2021", steps=STEPS, scratch=tmp_path, progress=False
    )
    record = found.record["attribution"]
    assert (record["output_box"], record["box"]) == ([31, 45, 47, 61], [15, 22, 24, 31])
    expected = literal_lam(network, planes_of(SCENE), box)[0].permute(1, 2, 0).detach().numpy()
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(on_whole(found), expected, rtol=0, atol=1e-5)


def strided() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.Tanh(), nn.Conv2d(6, 3, 5, padding=2)).eval()


def pooled() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 3, 1)
    )


@pytest.mark.parametrize(("make", "size"), [(strided, (24, 29)), (pooled, (23, 28))])
def test_the_last_pixels_of_an_odd_image(
    make: Callable[[], nn.Module], size: tuple[int, int], tmp_path: Path
) -> None:
    module, scene = make(), SCENE[:47]
    options = {"method": "ig", "objective": "mean", "baseline": "zero", "steps": 1, "rule": "right"}
    # What lies beyond the result is cut off.
    box = Region(15, 21, 60, 60)
    found = nr.attribute(scene, module, box, scratch=tmp_path, progress=False, **options)
    assert found.record["attribution"]["output_box"] == [15, 21, *size]
    leaf = planes_of(scene).requires_grad_(True)
    (gradient,) = torch.autograd.grad(module(leaf)[..., 15:, 21:].mean(), leaf)
    expected = (gradient * leaf.detach())[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(on_whole(found)[:47], expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "box"),
    [
        (enlarging(2), Region(17, 20, 41, 55)),
        (enlarging(3), Region(100, 91, 131, 120)),
        (shrinking(2), Region(3, 5, 14, 21)),
    ],
)
@pytest.mark.ids("nightly", "module0-box0", "module1-box1")
def test_integrated_gradients(module: nn.Module, box: Region, tmp_path: Path) -> None:
    options = {"method": "ig", "objective": "mean", "baseline": "zero"}
    scene = SCENE[:, :56]
    found = nr.attribute(
        scene, module, box, steps=4, rule="right", scratch=tmp_path, progress=False, **options
    )
    x = planes_of(scene)
    total = torch.zeros_like(x)
    for step in range(1, 5):
        leaf = (x * step / 4).requires_grad_(True)
        (gradient,) = torch.autograd.grad(module(leaf)[(..., *box.slices)].mean(), leaf)
        total += gradient / 4
    expected = (total * x)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(
        on_whole(found)[:, :56], expected, rtol=0, atol=1e-5 * expected.max()
    )
    assert (expected != 0).any(axis=2).sum() < expected.shape[0] * expected.shape[1] / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "corners"),
    [
        (enlarging(2), [(17, 20), (17, 55), (41, 31)]),
        (shrinking(2), [(3, 5), (14, 6), (12, 21), (2, 18)]),
    ],
)
def test_a_polygon_is_drawn_on_the_results(
    module: nn.Module, corners: list[tuple[int, int]], tmp_path: Path
) -> None:
    options = {"method": "ig", "objective": "mean", "baseline": "zero", "steps": 1, "rule": "right"}
    scene = SCENE[:, :56]
    found = nr.attribute(
        scene, module, polygon=corners, scratch=tmp_path, progress=False, **options
    )
    # With one node the integral is the gradient there, times the way from zero.
    leaf = planes_of(scene).requires_grad_(True)
    results = module(leaf)
    height, width = results.shape[-2:]
    y, x = (np.arange(size) + 0.5 for size in (height, width))
    centres = np.stack(np.broadcast_arrays(x[None], y[:, None]), axis=-1).reshape(-1, 2)
    inside = Ring([(x, y) for y, x in corners]).contains_points(centres)
    counts = torch.from_numpy(inside.reshape(height, width))
    (gradient,) = torch.autograd.grad(results[..., counts].mean(), leaf)
    expected = (gradient * leaf.detach())[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(
        on_whole(found)[:, :56], expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    assert found.record["attribution"]["polygon"] == [list(map(float, each)) for each in corners]


@pytest.mark.parametrize(("module", "side"), [(enlarging(2), 70), (shrinking(2), 17)])
@pytest.mark.ids("slow", "module1-17")
def test_a_polygon_over_nodata_is_refused(module: nn.Module, side: int, tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :56]
    # Its box has valid pixels below the diagonal.
    scene = np.where((y + x < 38)[..., None], np.nan, SCENE[:, :56]).astype(np.float32)
    corners = [(0, 0), (0, side), (side, 0)]
    options = {"method": "ig", "baseline": "zero", "steps": 1, "scratch": tmp_path}
    with pytest.raises(BadRegion, match="No pixel of the polygon is valid"):
        nr.attribute(scene, module, polygon=corners, progress=False, **options)


@pytest.mark.slow
def test_the_figure_of_a_polygon_is_in_pixels_of_the_image(tmp_path: Path) -> None:
    options = {"method": "ig", "baseline": "zero", "steps": 1, "scratch": tmp_path}
    corners = [(17, 20), (17, 55), (41, 31)]
    found = nr.attribute(SCENE, enlarging(2), polygon=corners, progress=False, **options)
    outline = found.plot().patches[0].get_xy()
    assert {tuple(corner) for corner in outline} == {(x / 2, y / 2) for y, x in corners}
    # The text has the box in pixels of the result, as the command has it.
    words = "a polygon of 3 vertices in x 20 y 17, 35 x 24 pixels of the result"
    assert words in caption(found.record)


@pytest.mark.nightly
def test_it_is_repeated_from_its_record(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    PIL.Image.fromarray((SCENE * 255).astype(np.uint8)).save(path)
    code = Path(scaling_networks.__file__).read_text("utf-8")
    (tmp_path / "net.py").write_text(f"{code}\n\ndef make():\n    return enlarging(2)\n", "utf-8")
    model = nr.load_model(f"{tmp_path / 'net.py'}:make", trust=True)
    box = Region(17, 20, 41, 55)
    found = nr.attribute(path, model, box, method="ig", steps=3, progress=False)
    again = api.repeat_attribution(found.record, trust=True)
    np.testing.assert_array_equal(again.map, found.map)
    assert again.record["attribution"]["output_box"] == list(box)


@pytest.mark.slow
def test_what_a_box_of_results_cannot_be(tmp_path: Path) -> None:
    model = nr.load_model(enlarging(2), card={"bands": 3, "halo": 3, "scale": 2})
    with pytest.raises(BadRegion, match="outside of the result of array, which has 114 × 96"):
        nr.attribute(SCENE, model, Region(0, 114, 9, 123), method="ig", progress=False)
    with pytest.raises(BadParameter, match="another size than the image, and is no baseline"):
        nr.attribute(
            SCENE, model, Region(0, 0, 9, 9), method="ig", baseline="output", progress=False
        )
