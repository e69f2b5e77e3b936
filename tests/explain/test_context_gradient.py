"""Attribution through the statistics of the whole image, against the graph as a whole."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from tests.explain._models import scene

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import make_plan
from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.engine.gradients.swept import gradients_of
from napari_restore.errors import BadParameter, BudgetTooSmall
from napari_restore.explain.attribution import (
    attribution_run,
    context_choice,
)
from napari_restore.explain.attribution.context_choice import predicted_seconds
from napari_restore.explain.attribution.context_gradient import ContextGradient
from napari_restore.models import load, placed_at

BOX = Region(150, 100, 180, 140)
SIZE = (256, 320)


def no_other(model: str) -> GradientSource:
    raise AssertionError("the model tells its haze itself")


@pytest.fixture(scope="module")
def hazy() -> np.ndarray[Any, Any]:
    """A scene under haze that thickens to the right."""
    t = np.linspace(0.8, 0.3, SIZE[1], dtype=np.float32)[None, :, None]
    return np.asarray(0.6 * scene(*SIZE) * t + 0.85 * (1 - t), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["atmosphere", "haze-unet"])
@pytest.mark.ids("nightly", "atmosphere")
def test_gradients_equal_those_of_the_whole_graph(name: str, hazy: Any, tmp_path: Path) -> None:
    model = load(name)
    image = nr.open_image(hazy, bands="red=1,green=2,blue=3")
    plan = make_plan(image, model, region=BOX, scratch=tmp_path, device="cpu")
    opened = GradientSource(plan, lambda event: None, threading.Event())
    through = ContextGradient(opened, "straight", "zero", None, no_other)
    assert through.step == 1
    through.show(1.0)
    gradients = gradients_of(opened, BOX)
    y = gradients.forward(opened.image, keep=True)
    by_pixels = torch.zeros(1, 3, *SIZE)
    for part, gradient in gradients.backward(opened.image, torch.ones_like(y)):
        by_pixels[(..., *part.slices)] += gradient
    # From zeros the speed is the image, so a division gives the gradient.
    by_overview = through.back(1.0, gradients.by_statistics) / through.image

    x = torch.from_numpy(hazy).permute(2, 0, 1)[None].requires_grad_(True)
    statistics = model.follow(x, torch.ones(1, 1, *SIZE), opened.statistics)
    assert statistics is not None
    whole = model(x, placed_at(statistics, [(0, 0)], 1.0, x))
    (expected,) = torch.autograd.grad(whole[(..., *BOX.slices)].sum(), x)
    found = by_pixels + by_overview
    assert float(by_overview.norm()) > 0.01 * float(expected.norm())
    assert float((found - expected).norm()) <= 1e-5 * float(expected.norm())


@pytest.mark.slow
def test_the_statistics_of_the_image_are_followed_to_themselves(hazy: Any, tmp_path: Path) -> None:
    image = nr.open_image(hazy, bands="red=1,green=2,blue=3")
    plan = make_plan(image, load("atmosphere"), region=BOX, scratch=tmp_path, device="cpu")
    opened = GradientSource(plan, lambda event: None, threading.Event())
    ContextGradient(opened, "straight", "zero", None, no_other).show(1.0)
    assert opened.work.statistics.keys() == opened.statistics.keys()
    for name, value in opened.statistics.items():
        assert torch.allclose(opened.work.statistics[name], value, atol=1e-6), name
    opened.show(None)
    assert opened.work.statistics is opened.statistics


@pytest.mark.slow
@pytest.mark.nightly
def test_what_lies_far_away_has_a_share_through_the_statistics(hazy: Any, tmp_path: Path) -> None:
    options = {"device": "cpu", "method": "ig", "baseline": "blur", "steps": 4}
    image = nr.open_image(hazy, bands="red=1,green=2,blue=3")
    stopped, through = (
        nr.attribute(image, load("atmosphere"), BOX, context_gradient=choice, **options)
        for choice in ("stop", "through")
    )
    assert stopped.overview is None
    assert stopped.record["attribution"]["rings"]["box"] == pytest.approx(1)
    attribution = through.record["attribution"]
    assert attribution["context"]["used"] == "through"
    assert through.overview is not None and through.overview.values.shape == (*SIZE, 3)
    assert attribution["overview_share"] > 0
    assert sum(attribution["rings"].values()) == pytest.approx(1)
    assert attribution["rings"]["64-128"] > 0
    far = through.overview.values.sum(dtype=np.float64)
    parts = through.map.sum(dtype=np.float64) + far
    assert parts == pytest.approx(attribution["completeness"]["sum"], rel=1e-3)
    blocks, side = through.overview.blocks()
    assert blocks.shape == (64, 80) and side == 4
    assert blocks.sum() == pytest.approx(far, rel=1e-4)
    corner = through.overview.values[8:12, 4:8].sum(dtype=np.float64)
    assert blocks[2, 1] == pytest.approx(corner, rel=1e-4)
    through.save(tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map_overview.tif") as raster:
        np.testing.assert_allclose(
            raster.read(1), through.overview.values.sum(axis=2), rtol=1e-4, atol=1e-9
        )


def test_models_without_such_gradients_say_so(hazy: Any) -> None:
    with pytest.raises(BadParameter, match="no gradients"):
        nr.attribute(hazy, load("dcp"), BOX, context_gradient="through", device="cpu")
    with pytest.raises(BadParameter, match="cannot be"):
        nr.attribute(hazy, load("dcp"), BOX, context_gradient="mine", device="cpu")


def chosen(image: Any, model: str = "atmosphere", **options: Any) -> dict[str, Any]:
    """What the record says of the context, for a question of two points."""
    given = {"steps": 2, "method": "ig", "device": "cpu", **options}
    found = nr.attribute(image, load(model), BOX, **given)
    attribution = found.record["attribution"]
    assert (found.overview is None) == (attribution["context"]["used"] != "through")
    # A record that is asked again names what was used, not `auto`.
    request = attribution["context"]["used"].replace("none", "stop")
    assert attribution["context"]["requested"] == options.get("context_gradient", "auto")
    if found.record["task"] is not None:
        assert found.record["task"]["question"]["context_gradient"] == request
    return dict(attribution["context"])


@pytest.mark.slow
def test_the_default_follows_the_context_where_that_is_quick(
    hazy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hazy.tif"
    height, width = SIZE
    place = from_origin(0, height, 1, 1)
    with rasterio.open(
        path, "w", height=height, width=width, count=3, dtype="float32", transform=place
    ) as raster:
        raster.write(np.moveaxis(hazy, 2, 0))
    image = nr.open_image(path, bands="red=1,green=2,blue=3")
    quick = chosen(image)
    assert quick["used"] == "through" and quick["share"] > 0
    # Nothing is measured for it: the same question has the same map on any machine.
    pixels = SIZE[0] * SIZE[1]
    assert quick["predicted_seconds"] == round(predicted_seconds(pixels, 2), 1)
    monkeypatch.setattr(context_choice, "POINT_SECONDS", 10.0 * 1e6 / pixels)
    slow = chosen(image)
    assert slow["used"] == "stop" and "predicted to take 20 s" in slow["reason"]
    assert slow["share"] > 0
    assert chosen(image, context_gradient="through")["used"] == "through"


@pytest.mark.slow
@pytest.mark.nightly
def test_what_came_through_a_held_context_is_the_change_with_its_own(hazy: Any) -> None:
    image = nr.open_image(hazy, bands="red=1,green=2,blue=3")
    options = {"method": "ig", "baseline": "zero", "steps": 2, "device": "cpu"}
    stopped, through = (
        nr.attribute(image, load("atmosphere"), BOX, context_gradient=choice, **options)
        for choice in ("stop", "through")
    )
    attribution, whole = (found.record["attribution"] for found in (stopped, through))
    context, pixels = (
        attribution["context"]["difference"],
        attribution["completeness"]["difference"],
    )
    assert context + pixels == pytest.approx(whole["completeness"]["difference"], rel=1e-3)
    share = abs(context) / (abs(context) + abs(pixels))
    assert attribution["context"]["share"] == pytest.approx(share)
    assert through.overview is not None
    far = through.overview.values.sum(dtype=np.float64)
    assert whole["context"]["difference"] == pytest.approx(far, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("identity", {}, "nothing from the whole image"),
        ("dcp", {}, "no gradients"),
        ("atmosphere", {"method": "lam"}, "leaves the overview as it is"),
        ("atmosphere", {"method": "occlusion", "steps": None}, "to the pixels alone"),
        ("atmosphere", {"method": "smoothgrad", "steps": None}, "no baseline"),
        ("atmosphere", {"method": "dam-released", "baseline": "blur"}, "no path integral"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.slow
def test_why_a_context_is_held_is_recorded(
    hazy: Any, model: str, options: dict[str, Any], reason: str
) -> None:
    if options.get("method") == "smoothgrad":
        options = {**options, "arguments": {"n": 1}}
    if options.get("method") == "occlusion":
        options = {**options, "arguments": {"side": 40}}
    attribution = chosen(nr.open_image(hazy, bands="red=1,green=2,blue=3"), model, **options)
    assert attribution["used"] != "through" and reason in attribution["reason"]


@pytest.mark.slow
def test_a_context_that_does_not_fit_the_budget_is_held_and_said(
    hazy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = nr.open_image(hazy, bands="red=1,green=2,blue=3")
    monkeypatch.setattr(attribution_run, "OVERVIEW_BYTES", 1 << 20)
    attribution = chosen(image, memory="1GiB")
    assert attribution["used"] == "stop" and "memory" in attribution["reason"]
    with pytest.raises(BudgetTooSmall):
        chosen(image, memory="1GiB", context_gradient="through")


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param({"steps": 3}, id="haze", marks=pytest.mark.slow),
        pytest.param({"method": "ig", "baseline": "blur", "steps": 17}, id="ig"),
    ],
)
@pytest.mark.ids("nightly", "ig")
def test_a_staged_model_behind_a_context_is_followed_too(hazy: Any, path: dict[str, Any]) -> None:
    image = nr.open_image(hazy, bands="red=1,green=2,blue=3")
    model = load("inf-dehaze-small")
    options = {"device": "cpu", "context_gradient": "through"}
    attribution = nr.attribute(image, model, BOX, **path, **options).record["attribution"]
    assert attribution["method"] == path.get("method", "haze")
    assert attribution["overview_share"] > 0
    assert attribution["completeness"]["relative_gap"] < 0.05
    assert attribution["completeness"]["recomputed_difference"] is not None
    with pytest.raises(BadParameter, match="does not restore the overview"):
        nr.attribute(image, model, BOX, method="ig", baseline="output", **options)


def test_a_staged_model_pays_for_every_tile() -> None:
    assert predicted_seconds(1_000_000, 10, tiles=16) > 4 * predicted_seconds(1_000_000, 10)
    assert predicted_seconds(1_000_000, None) == predicted_seconds(1_000_000, 17)
