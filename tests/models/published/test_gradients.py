"""Attributions of every published structure, in one pass and in sweeps, against captum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file
from tests.models.published.test_published import FACTS, _made, _weights_for
from torch import Tensor

import napari_restore as nr
from napari_restore.models import WrappedModel, cut_into_sweeps, structures

# Torch's tracer takes seconds to import.
pytestmark = pytest.mark.slow

SIDE, POINTS = 256, 2
BOX = nr.Region.from_xywh(100, 120, 32, 24)
ASKED: dict[str, Any] = {
    "box": BOX,
    "method": "ig",
    "objective": "mean",
    "baseline": "zero",
    "steps": POINTS,
    "rule": "gauss-legendre",
    "progress": False,
}
NEEDS_WHOLE = ("ffa-net", "nafnet", "restormer", "retinexformer", "dehazeformer", "astv2")
NARROWER = {"ffa-net": {"width": 16}}
ROUNDING = {"restormer": 2e-3}
"""Where more than 1e-5: captum's own map in float32 is 6.5e-4 off its map in float64."""
Pixels = npt.NDArray[np.float32]


@pytest.fixture(autouse=True)
def small_trials(measured_on: Callable[..., None]) -> None:
    """What a tile costs is measured on small ones."""
    measured_on(gradients=32)


def loaded(name: str, folder: Path) -> WrappedModel:
    """Return the small network `name`; its branches are weaker, nearly linear as trained ones are."""
    sizes = FACTS[name]["sizes"] | NARROWER.get(name, {})
    state = _weights_for(_made(name, sizes).network.state_dict())
    for key, value in state.items():
        if value.is_floating_point() and value.ndim > 1 and "temperature" not in key:
            value *= 0.7
    save_file(state, folder / f"{name}.safetensors")
    model = nr.load_model(folder / f"{name}.safetensors")
    assert isinstance(model, WrappedModel)
    return model


def picture(side: int = SIDE) -> Pixels:
    """Return waves and noise (side, side, 3) in 0 … 1."""
    y, x = np.mgrid[:side, :side] / 20
    waves = np.dstack([np.sin(y), np.cos(x), np.sin(x + y)])
    noise = np.random.default_rng(0).random((side, side, 3))
    return (0.5 + 0.3 * waves * noise).astype(np.float32)


def by_captum(model: WrappedModel, pixels: Pixels) -> Pixels:
    """Return the map (h, w, bands) that captum gives for the graph of the whole image."""
    captum = pytest.importorskip("captum.attr")
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]

    def value(batch: Tensor) -> Tensor:
        rows, columns = BOX.slices
        return model(batch)[:, :, rows, columns].mean((1, 2, 3))

    found = captum.IntegratedGradients(value).attribute(
        x, torch.zeros_like(x), n_steps=POINTS, method="gausslegendre", internal_batch_size=1
    )
    theirs: Pixels = found[0].permute(1, 2, 0).detach().numpy()
    return theirs


def difference(found: nr.Attribution, expected: Pixels) -> float:
    """Return the relative L2 difference of a map from that of the whole image."""
    ours = np.zeros_like(expected)
    ours[found.region.slices] = found.map
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("name", structures())
@pytest.mark.ids(
    "nightly",
    "astv2",
    "dehazeformer",
    "ffa-net",
    "nafnet",
    "restormer",
    "retinexformer",
    "swinir",
    "dncnn",
    "unet",
    "drunet",
    "aod-net",
    "ffdnet",
)
def test_integrated_gradients_are_those_of_captum(name: str, tmp_path: Path) -> None:
    model, pixels = loaded(name, tmp_path), picture()
    expected = by_captum(model, pixels)
    found = nr.attribute(pixels, model, **ASKED)
    assert difference(found, expected) <= ROUNDING.get(name, 1e-5)
    if name not in NEEDS_WHOLE:
        return
    swept = nr.attribute(pixels, cut_into_sweeps(model), context_gradient="through", **ASKED)
    assert swept.record["attribution"]["context"]["used"] == "through"
    assert difference(swept, expected) <= ROUNDING.get(name, 1e-5)
