"""Attributions of a fused picture to the frames of its bracket."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.ipl.test_sweeps import model as ipl
from tests.models.test_mertens import frames

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import make_plan
from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.engine.gradients.swept import SweptGradients
from napari_restore.errors import BadParameter
from napari_restore.images import Image, bracket_of, open_image
from napari_restore.models import for_frames

BOX = Region(30, 20, 45, 36)
SIZE = (90, 101)


@pytest.fixture(autouse=True)
def small_trials(measured_on: Callable[..., None]) -> None:
    """What a tile costs is measured on small ones."""
    measured_on(64, 128, gradients=64)


def bracket(size: tuple[int, int] = SIZE, reference: int = 1, hole: bool = False) -> Image:
    """Three frames of a textured scene, one of which is not valid in a part."""
    given = np.array(frames(*size), np.float32)
    # Far from black and white, where weights of all frames are 0.
    given = 0.1 + 0.8 * given
    if hole:
        given[2, 10:60, 50:80] = np.nan
    opened = [open_image(frame) for frame in given]
    return bracket_of(opened, reference, (-2, 0, 2), align=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "reference", "hole"),
    [
        ("mertens", SIZE, 1, False),
        ("mertens", SIZE, 0, True),
        ("ipl", (70, 300), 1, False),
        ("ipl", (70, 300), 1, True),
    ],
)
def test_sweeps_back_equal_the_whole_graph(
    name: str, size: tuple[int, int], reference: int, hole: bool, tmp_path: Path
) -> None:
    model: Any = nr.load_model("mertens") if name == "mertens" else ipl(mixes=1, curves=1, detail=4)
    image = bracket(size, reference, hole)
    plan = make_plan(image, model, region=BOX, scratch=tmp_path, device="cpu")
    source = GradientSource(plan, lambda event: None, threading.Event())
    assert source.planes == 9
    gradients = SweptGradients(source, BOX, tile=64 if name == "mertens" else 256)
    assert gradients._grid.count > 1
    by_y = torch.randn(1, 3, *BOX.shape, generator=torch.Generator().manual_seed(0))
    y = gradients.forward(source.image, keep=True)
    found = torch.zeros(1, 9, *size)
    for part, gradient in gradients.backward(source.image, by_y):
        found[(..., *part.slices)] += gradient
    whole = Region(0, 0, *size)
    x = source.image(whole).requires_grad_(True)
    expected_y = for_frames(model, 3, reference)(x, None, source.known(whole))[..., *BOX.slices]
    (expected,) = torch.autograd.grad((expected_y * by_y).sum(), x)
    expected_y = expected_y.detach()
    assert float((y - expected_y).norm()) <= 1e-5 * float(expected_y.norm())
    assert float((found - expected).norm()) <= 1e-5 * float(expected.norm())
    assert all(float(frame.norm()) > 0 for frame in expected[0].split(3))
    if hole:
        assert not found[0, 6:, 10:60, 50:80].any()


@pytest.mark.nightly
def test_shares_of_frames_add_up_to_the_mean() -> None:
    image = bracket()
    found = nr.attribute(image, "mertens", BOX, progress=False)
    attribution = found.record["attribution"]
    assert attribution["method"] == "ig" and attribution["objective"] == "mean"
    assert attribution["baseline"] == "zeros"
    assert attribution["completeness"]["relative_gap"] < 0.01
    shares = [each["sum"] for each in attribution["frames"]]
    assert [each["ev"] for each in attribution["frames"]] == [-2, 0, 2]
    mean = float(np.asarray(nr.restore(image, "mertens", progress=False))[BOX.slices].mean())
    assert sum(shares) == pytest.approx(mean, rel=0.011)
    by_frame = found.by_frame(found.region)
    assert by_frame.shape == (*SIZE, 3)
    np.testing.assert_allclose(by_frame.sum((0, 1), dtype=np.float64), shares, atol=1e-5)
    assert sum(each["mass"] for each in attribution["frames"]) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.nightly
def test_what_the_other_frames_add_is_attributed_from_the_reference(tmp_path: Path) -> None:
    image = bracket(reference=2)
    found = nr.attribute(
        image, "mertens", BOX, baseline="reference", objective="change", steps=33, progress=False
    )
    attribution = found.record["attribution"]
    assert attribution["baseline"] == "the reference in place of every frame"
    assert attribution["completeness"]["relative_gap"] < 0.03
    assert [each["sum"] == 0 for each in attribution["frames"]] == [False, False, True]
    assert not found.map[..., 6:].any()
    written = open_image(found.save(tmp_path / "map.tif"))
    values = written.read((0, 0, *SIZE))
    assert values.shape == (*SIZE, 4)
    np.testing.assert_allclose(values[..., 0], values[..., 1:].sum(2), atol=1e-6)


@pytest.mark.slow
def test_a_grey_bracket_has_finite_gradients() -> None:
    """Saturation is a root, whose slope at 0 is infinite."""
    given = [np.full((*SIZE, 3), value, np.float32) for value in (0.2, 0.5, 0.8)]
    image = bracket_of([open_image(frame) for frame in given], 1, (-2, 0, 2), align=False)
    found = nr.attribute(image, "mertens", BOX, steps=3, progress=False)
    assert np.isfinite(found.map).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "haze"}, "no path for the frames"),
        ({"baseline": "output"}, "does not begin at one image"),
        ({"baseline": "dehazed"}, "does not begin at one image"),
    ],
)
def test_paths_of_one_image_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        nr.attribute(bracket(), "mertens", BOX, progress=False, **options)


def test_one_image_has_no_reference() -> None:
    pixels = np.full((64, 64, 3), 90, np.uint8)
    with pytest.raises(BadParameter, match="no reference frame"):
        nr.attribute(
            pixels, "dcp", Region(3, 3, 9, 9), method="ig", baseline="reference", progress=False
        )
