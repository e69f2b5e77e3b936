"""Attributors of captum through the protocol, against what is known without it."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from tests.explain._models import HALO, Pointwise, Small, scene, wrapped
from torch import nn

import napari_restore as nr
from napari_restore import Region
from napari_restore.errors import BadParameter
from napari_restore.explain import attribute
from napari_restore.explain.attribution.captum import explainer_of

BOX = Region(40, 60, 56, 84)


def ask(module: nn.Module, method: str, pixels: Any = None, **options: Any) -> Any:
    image = nr.open_image(scene() if pixels is None else pixels)
    options = {"device": "cpu", "method": method, **options}
    return attribute(image, wrapped(module, HALO), BOX, **options)


@pytest.fixture(autouse=True)
def captum() -> Any:
    return pytest.importorskip("captum.attr")


@pytest.mark.slow
def test_integrated_gradients_are_ours(captum: Any) -> None:
    import captum as package

    theirs = ask(Small(), "captum:IntegratedGradients", baseline="zero", arguments={"n_steps": 12})
    ours = ask(Small(), "ig", baseline="zero", steps=12)
    assert np.linalg.norm(theirs.map - ours.map) <= 1e-5 * np.linalg.norm(ours.map)
    told, expected = (found.record["attribution"] for found in (theirs, ours))
    assert told["method"] == "captum:IntegratedGradients"
    assert told["arguments"]["method"] == "gausslegendre"
    assert told["baseline"] == expected["baseline"] == "zeros"
    assert theirs.record["versions"]["captum"] == package.__version__
    for name in ("sum", "difference", "relative_gap"):
        assert told["completeness"][name] == pytest.approx(expected["completeness"][name], rel=1e-3)
    assert told["completeness"]["reached"] == expected["completeness"]["reached"]


@pytest.mark.slow
def test_saliency_is_the_size_of_the_gradient() -> None:
    found = ask(Small(), "captum:Saliency")
    signed = ask(Small(), "captum:Saliency", arguments={"abs": False})
    own = ask(Small(), "smoothgrad", arguments={"n": 1, "sigma": 0})
    assert np.allclose(found.map, np.abs(own.map), atol=1e-9)
    assert np.allclose(signed.map, own.map, atol=1e-9)
    times = ask(Small(), "captum:InputXGradient")
    assert np.allclose(times.map, own.map * scene()[own.region.slices], atol=1e-9)
    assert found.record["attribution"]["baseline"] is None


@pytest.mark.nightly
def test_ablation_of_squares_is_occlusion() -> None:
    def of(method: str, arguments: dict[str, Any]) -> Any:
        return ask(Small(), method, scene(64, 88), baseline="zero", arguments=arguments)

    theirs = of("captum:FeatureAblation", {"feature_mask": 8})
    ours = of("occlusion", {"side": 8})
    assert np.linalg.norm(theirs.map - ours.map) <= 1e-4 * np.linalg.norm(ours.map)
    windows = {"sliding_window_shapes": (3, 8, 8), "strides": [3, 8, 8]}
    windowed = of("captum:Occlusion", windows)
    sides = of("captum:Occlusion", {"sliding_window_shapes": 8, "strides": 8})
    assert np.array_equal(windowed.map, sides.map)
    # There every value has what its window has. Windows within the box count for it.
    at = (slice(40, 56), slice(64, 80))
    assert ours.region == (0, 0, 64, 88) and np.abs(ours.map[at]).max() > 1e-6
    assert np.allclose(windowed.map[at], 8 * 8 * 3 * ours.map[at], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_shapley_values_add_up_and_spare_what_does_not_count() -> None:
    pixels = scene()
    hole = (slice(44, 50), slice(70, 78))
    pixels[hole] = np.nan
    options = {"arguments": {"feature_mask": 16, "n_samples": 1}, "baseline": "zero"}
    found = ask(Small(), "captum:ShapleyValueSampling", pixels, **options)
    told = found.record["attribution"]["completeness"]
    assert told["reached"] and told["relative_gap"] < 1e-3
    whole = np.zeros_like(pixels)
    whole[found.region.slices] = found.map
    assert not whole[hole].any()


@pytest.mark.slow
def test_chance_comes_from_the_seed_and_is_left_as_it_was() -> None:
    def draw(seed: int) -> Any:
        arguments = {"n_samples": 3, "stdevs": 0.05, "seed": seed}
        return ask(Small(), "captum:GradientShap", baseline="zero", arguments=arguments).map

    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    one, same, other = draw(0), draw(0), draw(1)
    assert np.array_equal(one, same) and not np.allclose(one, other)
    assert (torch.rand(1), np.random.rand()) == expected


@pytest.mark.slow
def test_a_surrogate_is_fitted_to_squares() -> None:
    pytest.importorskip("sklearn")
    arguments = {"feature_mask": 16, "n_samples": 60}
    found = ask(Pointwise(lambda x: 2 * x), "captum:KernelShap", arguments=arguments)
    assert found.map.shape == (*found.region.shape, 3)


@pytest.mark.parametrize(
    ("method", "arguments", "told"),
    [
        ("captum:Deconvolution", {}, "changes a network"),
        ("captum:GuidedGradCam", {}, "changes a network"),
        ("captum:LayerGradCam", {}, "of a layer of the network. Name it by layer="),
        ("captum:NoiseTunnel", {}, "changes a network"),
        ("captum:FeaturePermutation", {}, "between images"),
        ("captum:Salience", {}, "Did you mean Saliency"),
        ("captum:", {}, "no attributor"),
        ("captum:TokenReferenceBase", {}, "no attributor"),
        ("captum:Occlusion", {}, r'arguments={"sliding_window_shapes": VALUE}'),
        ("captum:Occlusion", {"sliding_window_shapes": (3, 900, 900)}, "does not fit"),
        ("captum:Occlusion", {"sliding_window_shapes": 900}, "does not fit the image"),
        ("captum:Occlusion", {"sliding_window_shapes": (8, 8)}, "does not fit"),
        ("captum:Occlusion", {"sliding_window_shapes": 8, "strides": 0}, "strides=0 does not fit"),
        ("captum:Occlusion", {"sliding_window_shapes": 8, "strides": 9}, "failed"),
        ("captum:ShapleyValues", {"feature_mask": 8}, "in every order"),
        ("captum:Saliency", {"target": 1}, "no argument 'target'"),
        ("captum:FeatureAblation", {"feature_mask": "big"}, "not a side of squares"),
    ],
)
def test_what_cannot_run_is_said(method: str, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(BadParameter, match=told):
        ask(Small(), method, arguments=arguments)


def test_without_captum_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadParameter, match=r"napari-restore\[captum\]"):
        ask(Small(), "captum:Saliency")


@pytest.mark.parametrize("method", ["KernelShap", "Lime"])
def test_without_scikit_learn_the_way_to_it_is_told_before_any_work(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    there = importlib.util.find_spec

    def find_spec(name: str, *more: Any) -> Any:
        return None if name == "sklearn" else there(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    pictures: list[Any] = []
    with pytest.raises(BadParameter, match=rf"{method} fits.*napari-restore\[captum\]"):
        ask(Pointwise(lambda x: pictures.append(x) or x), f"captum:{method}")
    assert not pictures
    # Others need none.
    ask(Small(), "captum:Saliency")


@pytest.mark.parametrize("method", ["KernelShap", "Lime"])
def test_with_scikit_learn_it_is_asked(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    there = importlib.util.find_spec

    def find_spec(name: str, *more: Any) -> Any:
        return there("json") if name == "sklearn" else there(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    found = explainer_of(f"captum:{method}")
    assert found.takes_baseline and found.parameters is not None
    assert found.parameters["feature_mask"].default == 16
