"""The predicted time: of the whole command, by stage, never by a clock here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import api
from napari_restore.engine import Progress, seconds_left

from ._staged_model import ToyStaged

SIDE = 256


def image() -> Any:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    return nr.open_image(pixels, bands="red=1,green=2,blue=3")


def plan(model: str = "identity", **options: Any) -> Any:
    return nr.plan(image(), model, **options)


def writing(planned: Any, *, clipped: bool = False) -> float:
    found: float = api.of_command(planned, 0.0, clipped=clipped).prediction.stages["write"]
    return found


def predicted(planned: Any, **changed: float) -> Any:
    """`planned`, predicted to take these seconds."""
    stages = {**planned.prediction.stages, **changed}
    return replace(planned, prediction=replace(planned.prediction, stages=stages))


# -- the sum ---------------------------------------------------------------------------


def test_a_command_has_a_start_and_writes_and_python_has_neither():
    planned = plan()
    assert list(planned.prediction.stages) == ["read", "restore"]
    whole = api.of_command(planned, 5.0, clipped=False)
    stages = whole.prediction.stages
    assert list(stages) == ["start", "read", "restore", "write"]
    assert stages["start"] > 5.0
    assert stages["restore"] == planned.prediction.stages["restore"]
    assert whole.to_dict()["predicted_seconds"] == sum(stages.values())
    assert whole.to_dict()["predicted_stages"] == stages
    assert "write ≈" in whole.times()


def test_an_area_is_written_alone_and_a_mask_with_the_whole_image():
    area = "POLYGON ((0 0, 64 0, 64 64, 0 64, 0 0))"
    whole = writing(plan())
    part = writing(plan(region=nr.Region(0, 0, 64, 64)))
    assert part == pytest.approx(whole * 64**2 / SIDE**2)
    masked = plan(mask=area)
    assert writing(masked) == whole
    assert writing(masked, clipped=True) == part


def test_tiles_that_are_written_in_place_are_not_written_again(tmp_path):
    assert writing(plan(output=tmp_path / "o.zarr")) == 0


# -- time left ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "seconds", "ahead", "predicted", "left"),
    [
        (0, 3.0, 9.0, 0.0, None),
        (5, 10.0, 0.0, 0.0, 10.0),
        (5, 10.0, 20.0, 0.0, 30.0),
        (10, 10.0, 20.0, 0.0, 20.0),
        # All rows are there, but a picture is encoded only now.
        (10, 2.0, 0.0, 9.0, 7.0),
        (10, 12.0, 0.0, 9.0, 0.0),
    ],
)
def test_time_left(done, seconds, ahead, predicted, left):
    assert seconds_left(done, 10, seconds, ahead, predicted) == left


def test_progress_counts_what_is_still_to_be_written(tmp_path):
    planned = plan("dcp", tile=128, scratch=tmp_path)
    planned = predicted(api.of_command(planned, 0.0, clipped=False), restore=1000.0, write=10000.0)
    left: dict[str, list[float]] = {}
    phase = ""
    for event in nr.start(planned):
        phase = getattr(event, "name", phase)
        if isinstance(event, Progress) and event.seconds_left is not None:
            left.setdefault(phase, []).append(event.seconds_left)
    assert all(11000 <= seconds < 12000 for seconds in left["Reading the whole image"])
    assert all(10000 <= seconds < 11000 for seconds in left["Restoring"])


def test_steps_of_a_model_count_those_after_them():
    planned = nr.plan(image(), ToyStaged())
    assert planned.staged is not None
    phases = list(planned.staged.phase_seconds.values())
    assert sum(phases) == pytest.approx(planned.prediction.seconds)
    planned = api.of_command(planned, 0.0, clipped=False)
    write = planned.prediction.stages["write"]
    assert planned.seconds_after(0) == pytest.approx(sum(phases[1:]) + write)
    assert planned.seconds_after(len(phases) - 1) == write
