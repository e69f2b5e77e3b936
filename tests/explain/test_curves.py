"""The check of a map by taking pixels away and bringing them in, and of the map by other weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.explain._models import HALO, Pointwise, Small, scene, wrapped
from torch import nn

import napari_restore as nr
from napari_restore import Region
from napari_restore.errors import BadParameter, BudgetTooSmall
from napari_restore.explain import attribute
from napari_restore.explain.attribution.curves import AT
from napari_restore.questions import CHECK

BOX = Region(40, 60, 56, 84)


def checked(module: nn.Module, box: Region = BOX, **options: Any) -> Any:
    options = {"method": "ig", "baseline": "zero", "check": CHECK, **options}
    found = attribute(nr.open_image(scene()), wrapped(module, HALO), box, device="cpu", **options)
    return found.record["attribution"]["checks"][CHECK]


def test_one_pixel_that_counts_is_found_first() -> None:
    shifted = Pointwise(lambda x: torch.roll(x, (6, 7), (2, 3)))
    told = checked(shifted, Region(50, 50, 51, 51), objective="mean")
    assert told["at"] == list(AT) and told["pixels"] > 100
    assert told["insertion"]["curve"] == pytest.approx([0] + 20 * [1], abs=1e-5)
    assert told["deletion"]["curve"] == pytest.approx([1] + 20 * [0], abs=1e-5)
    assert told["insertion"]["area"] > 0.998 and told["deletion"]["area"] < 0.002
    assert told["insertion"]["nearest_area"] < told["insertion"]["area"]
    for name in ("insertion", "deletion"):
        for order in ("", "nearest_", "random_"):
            # The area told is that under the curve told.
            under = torch.trapezoid(torch.tensor(told[name][f"{order}curve"]), torch.tensor(AT))
            assert told[name][f"{order}area"] == pytest.approx(under)
    # Of three orders, one pixel comes anywhere.
    assert 0.05 < told["insertion"]["random_area"] < 0.95


@pytest.mark.nightly
def test_a_map_beats_chance_and_the_distance_from_the_box() -> None:
    for method, baseline in (("ig", "zero"), ("lam", None)):
        told = checked(Pointwise(lambda x: x**3), method=method, baseline=baseline, objective="sum")
        up, down = told["insertion"], told["deletion"]
        assert up["area"] > up["nearest_area"] > up["random_area"], method
        assert down["area"] < down["nearest_area"] < down["random_area"], method
    assert told["baseline"] == "the image, blurred (LAM)"
    again = checked(Pointwise(lambda x: x**3), method="lam", baseline=None, objective="sum")
    assert again == told, "the random orders are always the same"


@pytest.mark.slow
def test_a_method_without_a_baseline_is_checked_from_one() -> None:
    image = nr.open_image(scene())
    found = attribute(
        image,
        wrapped(Small(), HALO),
        BOX,
        device="cpu",
        method="smoothgrad",
        baseline="zero",
        check=CHECK,
        arguments={"n": 2},
    ).record["attribution"]
    assert found["baseline"] is None and found["checks"][CHECK]["baseline"] == "zeros"
    assert found["request"]["check"] == CHECK and found["request"]["baseline"] == "zero"


def test_nothing_is_told_of_what_does_nothing() -> None:
    told = checked(Pointwise(lambda x: torch.full_like(x, 0.3)), objective="mean")
    assert told["insertion"]["area"] is None and told["deletion"]["curve"] is None
    assert told["insertion"]["random_curve"] is None


def test_what_cannot_be_checked_is_said() -> None:
    with pytest.raises(BadParameter, match="Check cannot be 'none'"):
        checked(Small(), check="none")
    with pytest.raises(BadParameter, match="context as a constant"):
        checked(Small(), context_gradient="through")
    image, box = nr.open_image(scene(1000, 1000)), Region(100, 100, 900, 900)
    with pytest.raises(BudgetTooSmall, match="memory="):
        attribute(image, wrapped(Small()), box, method="ig", check=CHECK, memory="200MiB")


@pytest.mark.nightly
def test_shipped_weights_give_another_map_than_random_ones() -> None:
    """A map that does not hang on what was learned would show the image, not the model
    (Adebayo et al., NeurIPS 2018)."""
    from scipy.stats import spearmanr

    image = nr.open_image(scene(), bands="red=1,green=2,blue=3")
    learned, random = (
        attribute(
            image,
            nr.load_model("haze-unet", weights=weights),
            BOX,
            method="ig",
            baseline="zero",
            steps=8,
            device="cpu",
        )
        for weights in (None, "random:0")
    )
    inside = BOX.within(learned.region)
    one, other = (np.abs(found.map.sum(axis=2))[inside].ravel() for found in (learned, random))
    assert one.any() and other.any()
    assert spearmanr(one, other).statistic < 0.7
