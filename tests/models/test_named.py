"""Models as people name them."""

from __future__ import annotations

import pytest

from napari_restore.errors import BadParameter
from napari_restore.models import load, load_named, named


def test_models_are_named_with_their_parameters() -> None:
    told = named("dcp:omega=0.9,t0=0.2")
    assert (told.model, told.parameters, told.weights) == (
        "dcp",
        {"omega": "0.9", "t0": "0.2"},
        None,
    )
    told = named("haze-unet:weights=random:0")
    assert (told.model, told.parameters, told.weights) == ("haze-unet", {}, "random:0")
    assert named("a/my.py:build").model == "a/my.py:build"
    assert named("a/my.py:build:width=3").parameters == {"width": "3"}
    assert named("net=2/x.safetensors").model == "net=2/x.safetensors"


def test_labels_tell_models_apart() -> None:
    found = load_named(["dcp:omega=0.9", load("dcp"), "dcp", "dcp:omega=0.9"], taken=("htm",))
    labels = [label for label, _ in found]
    assert labels == ["dcp:omega=0.9", "dcp", "dcp (2)", "dcp:omega=0.9 (2)"]
    assert found[0].model.card.values["omega"] == 0.9
    (one,) = load_named(["dcp"], taken=("dcp",))
    assert one.label == "dcp (2)"


def test_weights_are_those_of_one_model() -> None:
    with pytest.raises(BadParameter, match="2 models"):
        load_named(["dcp", "htm"], weights="random:0")
