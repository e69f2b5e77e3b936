"""Options of a plan are sorted into their groups, and travel as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.engine import deserialise_plan, serialise_plan
from napari_restore.engine.planning.decided import TileInvariance
from napari_restore.questions import Restore, Target


def test_keywords_are_sorted_into_their_groups():
    given = {"feather": 3, "strength": 0.5, "black": 1.0, "tile": 256, "workers": 2, "maps": True}
    options = Restore.of({**given, "region": (0, 1, 20, 30), "mask": Path("a.tif")})
    assert options.target == Target((nr.Region(0, 1, 20, 30),), "a.tif", 3)
    assert (options.adjustment.strength, options.reading.black) == (0.5, 1.0)
    assert (options.computing.tile, options.machine.workers) == (256, 2)
    assert options.storing.maps is True
    assert Restore.of({}) == Restore()
    assert Restore.of(options.keywords()) == options
    assert options.replacing(black=2.0, tile=None).keywords() == {
        **options.keywords(),
        "black": 2.0,
        "tile": None,
    }


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(TypeError, match="'tyle'"):
        nr.plan(np.zeros((20, 20, 3), np.float32), "identity", tyle=256)


@pytest.mark.parametrize("invariance", TileInvariance)
def test_a_plan_is_the_same_in_another_process(invariance: TileInvariance, tmp_path: Path):
    pixels = np.random.default_rng(0).random((300, 200, 3), np.float32)
    options = {"region": nr.Region(10, 20, 200, 90), "exclude": None, "strength": 0.5, "black": 0.1}
    made = nr.plan(pixels, "identity", scratch=tmp_path, device="cpu", maps=True, **options)
    plan = replace(made, layout=replace(made.layout, invariance=invariance))
    text = json.dumps(serialise_plan(plan))
    again = deserialise_plan(json.loads(text), plan.image, plan.model)
    assert again == plan
    # On a processor with fixed tiles they are the grid that all runs follow.
    assert again.step == plan.step
    assert again.layout.invariance is invariance
