"""Questions about a polygon: what lies in its box but outside of it does not count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.explain._models import Pointwise, Small, scene, wrapped

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.errors import BadParameter, BadRegion
from napari_restore.explain.attribution.target import polygon_of

TRIANGLE = [(40.0, 60.0), (56.0, 60.0), (56.0, 84.0)]
BOX = Region(40, 60, 56, 84)
OPTIONS: dict[str, Any] = {"device": "cpu", "method": "ig", "baseline": "zero", "steps": 4}


def below_the_diagonal() -> np.ndarray[Any, Any]:
    """(16, 24) which centres of the box's pixels lie in the triangle, by hand."""
    y, x = np.mgrid[:16, :24] + 0.5
    found: np.ndarray[Any, Any] = y / 16 > x / 24
    return found


def test_centres_decide() -> None:
    found = polygon_of(TRIANGLE)
    assert found.box == BOX
    assert np.array_equal(found.inside(BOX), below_the_diagonal())
    small = polygon_of([(2.6, 3.2), (2.6, 4.7), (4.4, 4.7), (4.4, 3.2)])
    assert small.box == (2, 3, 5, 5)
    assert small.inside(small.box).tolist() == [[False, False], [True, True], [False, False]]


@pytest.mark.parametrize("objective", ["mean", "sum", "mean+variance"])
def test_it_is_what_masking_by_hand_gives(objective: str) -> None:
    """With pixels that do not count, of a model that looks at no neighbours."""
    pixels = scene()
    model = Pointwise(lambda x: x * x)
    options = {**OPTIONS, "objective": objective}
    found = nr.attribute(pixels, wrapped(model), polygon=TRIANGLE, **options)
    holes = pixels.copy()
    holes[BOX.slices][~below_the_diagonal()] = np.nan
    by_hand = nr.attribute(holes, wrapped(model), BOX, **options)
    assert found.box == by_hand.box == BOX
    assert found.region == by_hand.region
    assert np.abs(found.map).sum() > 0
    assert np.allclose(found.map, by_hand.map, rtol=1e-5, atol=1e-12)
    outside = found.map[BOX.within(found.region)][~below_the_diagonal()]
    assert not outside.any()


def test_neighbours_outside_keep_their_share() -> None:
    """Only the objective leaves them out: the model still sees them."""
    pixels, network = scene(), Small().eval()
    found = nr.attribute(pixels, wrapped(network), polygon=TRIANGLE, objective="sum", **OPTIONS)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    inside = torch.from_numpy(below_the_diagonal())
    total = torch.zeros_like(x)
    from napari_restore.explain.attribution.quadrature import fixed

    rule = fixed("gauss-legendre", 4)
    for alpha, weight in zip(rule.nodes, rule.weights, strict=True):
        picture = (float(alpha) * x).requires_grad_(True)
        (network(picture)[(..., *BOX.slices)] * inside).sum().backward()
        assert picture.grad is not None
        total += float(weight) * picture.grad * x
    expected = total[0].permute(1, 2, 0).numpy()[found.region.slices]
    assert np.linalg.norm(found.map - expected) <= 1e-5 * np.linalg.norm(expected)
    assert np.abs(found.map[BOX.within(found.region)][~below_the_diagonal()]).sum() > 0


def test_a_rectangle_is_a_box() -> None:
    corners = [(40, 60), (40, 84), (56, 84), (56, 60)]
    polygon = nr.attribute(scene(), wrapped(Small()), polygon=corners, **OPTIONS)
    box = nr.attribute(scene(), wrapped(Small()), BOX, **OPTIONS)
    assert np.array_equal(polygon.map, box.map)


def test_a_part_outside_of_the_image_is_cut_off() -> None:
    found = nr.attribute(
        scene(), wrapped(Small()), polygon=[(-9, 150), (12, 150), (12, 190)], **OPTIONS
    )
    assert found.box == (0, 150, 12, 160)
    assert found.record["attribution"]["polygon"] == [[-9.0, 150.0], [12.0, 150.0], [12.0, 190.0]]


@pytest.mark.parametrize(
    ("question", "error", "told"),
    [
        ({}, BadParameter, "a box or a polygon"),
        ({"box": BOX, "polygon": TRIANGLE}, BadParameter, "a box or a polygon"),
        ({"polygon": TRIANGLE[:2]}, BadParameter, "at least three"),
        ({"polygon": [(1, 2), (3, 4), (5, float("nan"))]}, BadParameter, "at least three"),
        ({"polygon": [(1, 2), (3, 4), (5,)]}, BadParameter, "at least three"),
        ({"polygon": [(1, 2), (3, 4), ("a", 6)]}, BadParameter, "at least three"),
        ({"polygon": 5}, BadParameter, "at least three"),
        ({"polygon": [(900, 900), (900, 950), (950, 950)]}, BadRegion, "outside of"),
        ({"polygon": [(9.6, 9.6), (9.6, 9.9), (9.9, 9.9)]}, BadRegion, "its centre inside"),
    ],
)
def test_what_is_no_polygon_is_said(question: Any, error: Any, told: str) -> None:
    with pytest.raises(error, match=told):
        nr.attribute(scene(), wrapped(Small()), **question, **OPTIONS)


def test_the_record_asks_again(tmp_path: Path) -> None:
    from napari_restore.explain.attribution.figure import caption
    from napari_restore.records import write_record

    path = tmp_path / "scene.png"
    Image.fromarray(np.round(255 * scene()).astype(np.uint8)).save(path)
    found = nr.attribute(path, "dcp", polygon=TRIANGLE, device="cpu", method="ig", steps=3)
    assert found.record["attribution"]["polygon"] == [list(vertex) for vertex in TRIANGLE]
    assert "a polygon of 3 vertices in x 60 y 40" in caption(found.record)
    record = write_record(tmp_path / "map.json", {**found.record, "command": "mine"})
    again = api.repeat_attribution(record, device="cpu")
    assert np.array_equal(again.map, found.map)
    whole = nr.attribute(path, "dcp", BOX, device="cpu", method="ig", steps=3)
    assert not np.array_equal(whole.map, found.map)


@pytest.mark.parametrize("question", [{"polygon": TRIANGLE}, {"box": BOX}])
@pytest.mark.slow
@pytest.mark.ids("nightly", "question0", "question1")
def test_the_figure_outlines_what_was_asked_about(
    question: Any, drawn: Callable[[Any], Any]
) -> None:
    figure = drawn(nr.attribute(scene(), wrapped(Small()), **question, **OPTIONS))
    outlined = [axis for axis in figure.axes if axis.patches and axis.images]
    assert len(outlined) == 5
    corners = {tuple(corner) for corner in outlined[0].patches[0].get_xy()}
    box = {(60, 40), (84, 40), (84, 56), (60, 56)}
    assert corners == ({(x, y) for y, x in TRIANGLE} if "polygon" in question else box)
