"""Gradients through sweeps and what they count, against those of the whole graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine._swept_model import Chain, ToySwept
from tests.explain._models import scene
from tests.models.andehazeformer._small import network as andehazeformer
from tests.models.hint.test_network import network as hint
from torch import Tensor

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import make_plan
from napari_restore.engine.gradients import swept
from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.engine.gradients.kept import Shelf, check_disk
from napari_restore.engine.gradients.local import LocalGradients
from napari_restore.engine.gradients.swept import Gradients, SweptGradients, gradients_of
from napari_restore.engine.ledger.slab import Slots
from napari_restore.errors import BudgetTooSmall, DiskFull
from napari_restore.explain.attribution.context_gradient import ContextGradient
from napari_restore.images import is_locked, lock_file
from napari_restore.models import RestorationModel, SweptModel, placed_at

BOX = Region(30, 20, 45, 36)
SIZE = (70, 101)
TINY = {"width": 4, "latent": 1}


@pytest.fixture(autouse=True)
def small_trials(measured_on: Callable[..., None]) -> None:
    """What a tile costs is measured on small ones."""
    measured_on(16, 32, gradients=16)


def in_double(model: SweptModel) -> SweptModel:
    """The model in float64, with its maps kept so."""
    kind = type(model)

    class InDouble(kind):  # type: ignore[misc, valid-type]
        def view(self, x: Tensor, statistics: Any = None) -> Tensor:
            return super().view(x.double(), statistics)

        def steps(self) -> Any:
            return tuple(
                replace(step, writes=tuple(replace(m, dtype="float64") for m in step.writes))
                for step in super().steps()
            )

    model.__class__ = InDouble
    return model.double()


def small_hint(values: dict[str, Any], **sizes: int) -> Any:
    return hint({"cache_rounding": "none", **values}, **{**TINY, **sizes})


def calm(model: Any) -> Any:
    """The network with smaller weights: nearly linear, as trained ones are, in float32 too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 0.5 if parameter.ndim > 1 else 1.0
    return model


MODELS: dict[str, Callable[[], Any]] = {
    "toy": ToySwept,
    "toy64": lambda: in_double(ToySwept("float64")),
    "chain": Chain,
    "hint": lambda: calm(small_hint({})).float(),
    "hint64": lambda: in_double(small_hint({"intra_size": 128})),
    "hint64 without cache": lambda: in_double(small_hint({"cache_start": "none"}, inter=0)),
    "andehazeformer": lambda: andehazeformer().float(),
    "andehazeformer64": lambda: in_double(andehazeformer()),
}


def opened(model: RestorationModel, pixels: Any, tmp_path: Path, **options: Any) -> GradientSource:
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    plan = make_plan(image, model, region=BOX, scratch=tmp_path, device="cpu", **options)
    return GradientSource(plan, lambda event: None, threading.Event())


def picture_of(source: GradientSource) -> Any:
    """The image, in the floats of the model."""
    dtype = next(source.plan.model.parameters()).dtype
    return lambda box: source.image(box).to(dtype)


def gradient_of(gradients: Gradients, by_y: Tensor) -> tuple[Tensor, Tensor]:
    """The output in the box, and the gradient of the image."""
    picture = picture_of(gradients.source)
    y = gradients.forward(picture, keep=True)
    found = torch.zeros(1, 3, *gradients.source.size, dtype=y.dtype)
    for part, gradient in gradients.backward(picture, by_y):
        found[(..., *part.slices)] += gradient
    return y, found


def whole_gradient(model: RestorationModel, source: GradientSource, by_y: Tensor) -> Any:
    x = picture_of(source)(Region(0, 0, *source.size)).requires_grad_(True)
    known = {name: v for name, v in source.statistics.items() if name not in model.counted}
    statistics = placed_at(known, [(0, 0)], 1.0, x) if known else None
    valid = source.counted(Region(0, 0, *source.size))
    y = model(x, statistics, valid)[(..., *BOX.slices)]
    (by_x,) = torch.autograd.grad((y * by_y).sum(), x)
    return y.detach(), by_x


def hole(pixels: Any) -> Any:
    """The image with a part of it invalid."""
    pixels = pixels.copy()
    pixels[40:60, 60:90] = np.nan
    return pixels


HOLES = ("toy", "hint64", "andehazeformer64")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "has_hole"),
    [
        *(
            pytest.param(name, False, marks=[pytest.mark.slow] * (f"{name}64" in MODELS))
            for name in MODELS
        ),
        *((name, True) for name in HOLES),
    ],
)
@pytest.mark.ids(
    "nightly",
    "andehazeformer-False",
    "andehazeformer64-True",
    "andehazeformer64-False",
    "hint-False",
    "hint64-False",
    "hint64-True",
    "hint64 without cache-False",
)
def test_sweeps_back_equal_the_whole_graph(name: str, has_hole: bool, tmp_path: Path) -> None:
    model = MODELS[name]()
    pixels = hole(scene(*SIZE)) if has_hole else scene(*SIZE)
    source = opened(model, pixels, tmp_path)
    gradients = SweptGradients(source, BOX, tile=48)
    assert gradients.region == (0, 0, *SIZE)
    by_y = torch.randn(1, 3, *BOX.shape, generator=torch.Generator().manual_seed(0))
    y, found = gradient_of(gradients, by_y)
    expected_y, expected = whole_gradient(model, source, by_y)
    limit = 1e-10 if "64" in name else 1e-5
    assert float((y - expected_y).norm()) <= limit * float(expected_y.norm())
    # What is far away has to do with the box through what is counted alone.
    assert float(expected[..., 96:].norm()) > 1e-6 * float(expected.norm())
    assert float((found - expected).norm()) <= limit * float(expected.norm())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy", "chain"])
@pytest.mark.ids("nightly", "toy", "chain")
def test_tiles_and_tiers_do_not_matter(name: str, tmp_path: Path) -> None:
    source = opened(MODELS[name](), scene(49, 60), tmp_path)
    by_y = torch.randn(1, 3, *BOX.shape, generator=torch.Generator().manual_seed(0))
    _, expected = whole_gradient(source.plan.model, source, by_y)
    # The halo of 8 pixels reaches over two tiles of 4, and a tile may be larger than the image.
    for tile in (4, 36, 64) if name == "toy" else (8,):
        gradients = SweptGradients(source, BOX, tile=tile)
        _, in_memory = gradient_of(gradients, by_y)
        assert float((in_memory - expected).norm()) <= 1e-6 * float(expected.norm())
        if tile != 4:
            for ram in (0, 100_000):
                gradients._ram = ram
                _, on_disk = gradient_of(gradients, by_y)
                assert torch.equal(on_disk, in_memory)
    assert not list(tmp_path.rglob("*.slab"))


@pytest.mark.nightly
def test_predicted_maps_are_those_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(Chain(), scene(*SIZE), tmp_path)
    gradients = SweptGradients(source, BOX, tile=32)
    shelves: list[Shelf] = []

    def shelf(ram: int, folder: Path) -> Shelf:
        shelves.append(Shelf(ram, folder))
        return shelves[-1]

    monkeypatch.setattr(swept, "Shelf", shelf)
    for ram in (1 << 30, 400_000, 0):
        gradients._ram = ram
        gradient_of(gradients, torch.ones(1, 3, *BOX.shape))
        predicted = gradients._schedule.on(ram)
        assert shelves[-1].ram_bytes == predicted.ram_bytes <= ram
        assert shelves[-1].disk_bytes == predicted.disk_bytes
        assert (predicted.disk_bytes > 0) == (ram < 1 << 30)
    with pytest.raises(DiskFull, match="scratch disk"):
        check_disk(tmp_path, 1 << 60)


def test_maps_of_a_killed_attribution_are_deleted_by_the_next(tmp_path: Path) -> None:
    left, other = tmp_path / "gradients.left", tmp_path / "gradients.other"
    for folder in (left, other):
        folder.mkdir()
        (folder / "0.slab").write_bytes(b"maps")
    (left / "writer").write_text("0")
    locked = lock_file(other / "writer")
    assert locked is not None
    shelf = Shelf(0, tmp_path)
    folder, _ = shelf.file(Slots(0, 0, 1))
    assert sorted(tmp_path.iterdir()) == sorted([folder, other])
    assert is_locked(folder / "writer")
    shelf.close()
    locked.release()
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.slow
def test_a_constant_context_is_the_local_gradient_to_the_bit(tmp_path: Path) -> None:
    model = MODELS["hint"]()
    source = opened(model, scene(*SIZE), tmp_path)
    gradients = gradients_of(source, BOX)
    assert isinstance(gradients, LocalGradients)
    by_y = torch.randn(1, 3, *BOX.shape, generator=torch.Generator().manual_seed(0))
    y, found = gradient_of(gradients, by_y)
    box = source.input_box(BOX)
    x = source.image(box).requires_grad_(True)
    whole = model(x, source.statistics)[(..., *BOX.within(box))]
    (expected,) = torch.autograd.grad((whole * by_y).sum(), x)
    assert torch.equal(y, whole) and torch.equal(found[(..., *box.slices)], expected)
    through = gradients_of(source, BOX, through=True)
    assert isinstance(through, SweptGradients)
    _, other = gradient_of(through, by_y)
    assert float((other - found).norm()) > 1e-3 * float(found.norm())
    # With the statistics of the image, sweeps give the same pixels.
    torch.testing.assert_close(through.forward(source.image, counting=False), y, rtol=0, atol=1e-5)


@pytest.mark.nightly
def test_both_ways_through_the_image_add_up(tmp_path: Path) -> None:
    """Of anDehazeFormer: by the overview's haze, and by the tokens of its caches."""
    model = MODELS["andehazeformer"]()
    source = opened(model, scene(*SIZE), tmp_path)
    context = ContextGradient(source, "straight", "zero", None, lambda name: source)
    context.show(1.0)
    gradients = SweptGradients(source, BOX, tile=32)
    by_y = torch.randn(1, 3, *BOX.shape, generator=torch.Generator().manual_seed(0))
    _, by_pixels = gradient_of(gradients, by_y)
    by_overview = context.back(1.0, gradients.by_statistics) / context.image
    x = source.image(Region(0, 0, *SIZE)).requires_grad_(True)
    known = {name: v for name, v in source.statistics.items() if name not in model.counted}
    followed = model.follow(x, torch.ones(1, 1, *SIZE), known)
    y = model(x, placed_at(followed, [(0, 0)], 1.0, x))[(..., *BOX.slices)]
    (expected,) = torch.autograd.grad((y * by_y).sum(), x)
    assert float(by_overview.norm()) > 1e-3 * float(expected.norm())
    found = by_pixels + by_overview
    assert float((found - expected).norm()) <= 1e-5 * float(expected.norm())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hint", "andehazeformer"])
@pytest.mark.ids("nightly", "hint")
def test_decisions_of_one_picture_can_be_fixed(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    source = opened(model, scene(*SIZE), tmp_path)
    gradients = SweptGradients(source, BOX, tile=32)
    assert gradients.routes

    def other(box: Region) -> Tensor:
        return 0.3 + 0.4 * source.image(box).flip(1).sqrt()

    free = gradients.forward(other)
    gradients.fix_routing(source.image)
    assert gradients._fixed is not None
    choices = dict(gradients._fixed.choices)
    made = {key: dict(each.made) for key, each in gradients._fixed.tiles.items()}
    fixed = gradients.forward(other)
    assert not torch.equal(free, fixed)
    for chosen, value in choices.items():
        assert torch.equal(gradients._fixed.choices[chosen], value)
    again = {key: each.made for key, each in gradients._fixed.tiles.items()}
    assert all(again[key].keys() >= each.keys() for key, each in made.items())
    assert any("into" in each for each in made.values()) == (name == "andehazeformer")
    # The picture's own are those that it would make.
    y = gradients.forward(source.image)
    gradients.fix_routing(None)
    assert torch.equal(gradients.forward(source.image), y)


@pytest.mark.slow
@pytest.mark.nightly
def test_an_attribution_through_sweeps_is_complete(tmp_path: Path) -> None:
    image = nr.open_image(hole(scene(*SIZE)), bands="red=1,green=2,blue=3")
    model = MODELS["hint"]()
    options: dict[str, Any] = {"method": "ig", "baseline": "blur", "device": "cpu"}
    gaps = []
    for steps in (2, 8):
        found = nr.attribute(image, model, BOX, context_gradient="through", steps=steps, **options)
        attribution = found.record["attribution"]
        gaps.append(attribution["completeness"]["relative_gap"])
        assert not found.map[40:60, 60:90].any()
    assert gaps[1] < 0.01 < gaps[0]
    assert found.overview is None and found.region == (0, 0, *SIZE)
    assert found.map[:, 96:].any()
    context = attribution["context"]
    assert context["used"] == "through" and context["share"] > 0.01
    assert attribution["routing"] == "fixed"
    stopped = nr.attribute(image, model, BOX, context_gradient="stop", steps=2, **options)
    attribution = stopped.record["attribution"]
    assert attribution["routing"] == "none" and attribution["context"]["share"] is None


@pytest.mark.slow
def test_the_default_goes_through_small_images_only() -> None:
    image = nr.open_image(scene(*SIZE), bands="red=1,green=2,blue=3")
    options: dict[str, Any] = {"method": "ig", "baseline": "blur", "device": "cpu", "steps": 2}
    found = nr.attribute(image, ToySwept(), BOX, **options)
    context = found.record["attribution"]["context"]
    assert context["used"] == "through" and context["predicted_seconds"] < 10
    stopped = nr.attribute(image, ToySwept(), BOX, check="insertion-deletion", **options)
    assert stopped.record["attribution"]["context"]["used"] == "stop"


def test_what_does_not_fit_is_refused_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    image = nr.open_image(scene(*SIZE), bands="red=1,green=2,blue=3")
    options: dict[str, Any] = {"method": "ig", "baseline": "blur", "device": "cpu", "steps": 2}
    needed = "napari_restore.engine.gradients.swept.computing_bytes"
    monkeypatch.setattr(needed, lambda *arguments: 1 << 50)
    with pytest.raises(BudgetTooSmall):
        nr.attribute(image, ToySwept(), BOX, context_gradient="through", **options)
    monkeypatch.setattr("napari_restore.engine.gradients.kept.DISK_SHARE", 0.0)
    with pytest.raises(DiskFull, match="sweeps and their gradients"):
        nr.attribute(image, ToySwept(), BOX, context_gradient="through", **options)
    found = nr.attribute(image, ToySwept(), BOX, **options)
    context = found.record["attribution"]["context"]
    assert context["used"] == "stop" and "does not fit" in context["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, 0.5])
@pytest.mark.parametrize("name", ["hint", "andehazeformer"])
@pytest.mark.ids("nightly", "hint-0.0", "hint-0.5", "andehazeformer-0.5")
def test_gradients_of_a_uniform_image_are_finite(name: str, level: float, tmp_path: Path) -> None:
    """Nothing correlates, and all tokens are alike."""
    pixels = np.full((*SIZE, 3), level, np.float32)
    gradients = SweptGradients(opened(MODELS[name](), pixels, tmp_path), BOX, tile=128)
    y, found = gradient_of(gradients, torch.ones(1, 3, *BOX.shape))
    assert y.isfinite().all() and found.isfinite().all() and found.any()
