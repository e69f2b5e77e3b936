"""Drafts of a bracket: one at once, then one with the pixels of the screen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.models.test_mertens import frames

import napari_restore as nr
from napari_restore import Region
from napari_restore.images import halve
from napari_restore.plugin.runs.draft import Viewport, live_steps
from napari_restore.plugin.state.request import Area, RunRequest
from napari_restore.plugin.state.state import PYRAMID

SIDE = 256


@pytest.fixture
def request_of_all(draft_seconds: Callable[..., None]) -> RunRequest:
    """A request of a bracket of three frames with four levels each, too slow for true pixels."""
    draft_seconds(true=0.0)
    images = []
    for frame in frames(SIDE, SIDE):
        levels = [(frame * 255).astype(np.uint8)]
        while len(levels) < 4:
            levels.append(halve(levels[-1])[0])
        images.append(nr.open_image(levels))
    bracket = nr.open_bracket(images, exposures=(-2, 0, 2), align="off")
    return RunRequest(bracket, "mertens", (), Area((Region(0, 0, SIDE, SIDE),)), PYRAMID)


@pytest.mark.parametrize(
    ("level", "most", "scales"),
    [(1, 0.0, [8, 2]), (1, 1e9, [2]), (0, 0.0, [8, 1]), (3, 0.0, [8])],
)
def test_the_screens_pixels_follow_a_quick_draft(
    request_of_all: RunRequest,
    level: int,
    most: float,
    scales: list[int],
    draft_seconds: Callable[..., None],
) -> None:
    draft_seconds(draft=most, screen=1e9)
    viewport = Viewport(Region(0, 0, SIDE, SIDE), level)
    steps = list(live_steps(request_of_all, viewport, request_of_all.plan()))
    assert [step.scale for step in steps] == scales
    assert all(step.is_draft for step in steps)
    assert all(step.covers == Region(0, 0, SIDE, SIDE) for step in steps)
    assert {len(step.plan.image.frames) for step in steps} == {3}
    draft_seconds(screen=0.0)
    again = list(live_steps(request_of_all, viewport, request_of_all.plan()))
    assert [step.scale for step in again] == scales[:1]
