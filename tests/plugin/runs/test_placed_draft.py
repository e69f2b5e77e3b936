"""Drafts of models that map the whole image: from a small level, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import Region
from napari_restore.plugin.runs.draft import Viewport, first_step, live_steps
from napari_restore.plugin.state.request import Area, RunRequest
from napari_restore.questions import Restore

MODEL = f"{Path(__file__).parents[2] / 'engine' / '_position_dependent_model.py'}:Placed"
SIDE = 2048


def request_of(levels: int, model: str = MODEL) -> RunRequest:
    full = np.random.default_rng(0).random((SIDE, SIDE, 3), np.float32) / 2
    sizes = [full[:: 1 << n, :: 1 << n] for n in range(levels)]
    whole = Area((Region(0, 0, SIDE, SIDE),))
    image: Any = nr.open_image(sizes)
    options = Restore().replacing(device="cpu", pyramid=True)
    return RunRequest(image, model, (), whole, options, trust=True)


@pytest.mark.slow
def test_without_a_small_level_nothing_stands_in_for_the_map():
    viewport = Viewport(Region(0, 0, SIDE, SIDE), 0)
    blocks = request_of(1, "dcp")
    assert first_step(blocks, viewport, blocks.plan()) is not None
    request = request_of(1)
    assert request.plan().needs_context_pass
    assert first_step(request, viewport, request.plan()) is None


def test_a_draft_takes_the_map_of_a_small_level():
    request = request_of(3)
    draft = first_step(request, Viewport(Region(0, 0, SIDE, SIDE), 1), request.plan())
    assert draft is not None
    assert (draft.plan.reading.extent, draft.scale, draft.plan.needs_context_pass) == (
        "overview",
        draft.plan.image.scale,
        False,
    )


def test_what_the_worker_keeps_does_not_make_a_draft_coarser():
    request = request_of(3)
    plan = request.plan()
    prediction = replace(plan.prediction, prepare_seconds=5.0, stages={"read": 5.0, "restore": 0.5})
    true = replace(plan, needs_context_pass=False, prediction=prediction)
    (step,) = live_steps(request, Viewport(Region(0, 0, SIDE, SIDE), 0), true)
    assert step.plan is true and not step.is_draft
