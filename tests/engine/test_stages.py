"""The predicted time: of the whole command, by stage, corrected by earlier runs, never by a clock here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import api
from napari_restore.engine import Progress, seconds_left
from napari_restore.engine.planning import Stopwatch, _measurements, _stages, kind_of_file, learn
from napari_restore.engine.planning._layout import LayoutRequest
from napari_restore.engine.planning._stages import BOUND, KINDS, MOST, Past
from napari_restore.images import ExportOptions
from napari_restore.images.export._trial import ImageSample, WritingCost

from ._staged_model import ToyStaged

SIDE = 256
BYTES = SIDE * SIDE * 3


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known costs of decoding and writing, and no earlier runs of other tests."""
    monkeypatch.setattr(_measurements, "FOLDER", "measured-here")
    monkeypatch.setattr(_stages, "sample_of", lambda image: ImageSample(np.zeros(1), 1e-3))
    monkeypatch.setattr(_stages, "writing_cost", lambda *_: WritingCost(serial=1e-3, total=4e-3))
    monkeypatch.setattr(_stages, "cores", lambda: 2)


def image() -> Any:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    return nr.open_image(pixels, bands="red=1,green=2,blue=3")


def plan(model: str = "identity", **options: Any) -> Any:
    return nr.plan(image(), model, **options)


def predicted(planned: Any, **changed: float) -> Any:
    """`planned`, calculated to take these seconds."""
    stages = {**planned.prediction.stages, **changed}
    return replace(
        planned, prediction=replace(planned.prediction, stages=stages, calculated=stages)
    )


# -- the sum ---------------------------------------------------------------------------


def test_a_command_has_a_start_and_writes_and_python_has_neither():
    planned = plan()
    assert list(planned.prediction.stages) == ["read", "restore"]
    whole = api.of_command(planned, "o.tif", 5.0)
    stages = whole.prediction.stages
    assert list(stages) == ["start", "read", "restore", "write"]
    assert stages["start"] == 5.0 + _stages.AROUND_SECONDS
    assert stages["restore"] == planned.prediction.stages["restore"]
    assert whole.to_dict()["predicted_seconds"] == sum(stages.values())
    assert whole.to_dict()["predicted_stages"] == stages
    assert "write ≈" in whole.times()


def test_decoding_counts_as_it_is_measured(monkeypatch):
    slow = plan().prediction.stages["restore"]
    monkeypatch.setattr(_stages, "sample_of", lambda image: ImageSample(np.zeros(1), 3e-3))
    assert plan().prediction.stages["restore"] - slow == pytest.approx(2e-3 * BYTES / 2)


def test_frames_that_are_aligned_count_as_they_are_and_with_every_sweep(monkeypatch):
    pixels = np.full((SIDE, SIDE, 3), 60, np.uint8)
    frames = [nr.open_image(pixels * n, bands="red=1,green=2,blue=3") for n in (1, 2, 3, 4)]
    bracket = nr.open_bracket(frames, reference=1, exposures=[-2, -1, 0, 1], align="off")

    def sample(frame: Any) -> ImageSample:
        is_reference = frame.read((0, 0, 1, 1)).max() == 120
        return ImageSample(None, 1e-3 if is_reference else 5e-3)

    def restore() -> float:
        return nr.plan(bracket, "mertens", tile=128).prediction.calculated["restore"]

    monkeypatch.setattr(_stages, "sample_of", sample)
    # One frame of four is in place.
    once = BYTES * (1e-3 + 3 * 5e-3) / 2
    assert restore() == pytest.approx(once, rel=0.05)
    monkeypatch.setattr(LayoutRequest, "cache_for", lambda *_: 0)
    assert restore() == pytest.approx(2 * once, rel=0.05)


def test_writing_takes_what_its_slowest_thread_or_all_processors_take():
    beside = _stages.SAVING_SECONDS_PER_BYTE * BYTES
    pixels = SIDE * SIDE

    def write(threads: int) -> float:
        return api.of_command(plan(), "o.tif", 0.0, threads=threads).prediction.stages["write"]

    assert write(1) == pytest.approx(4e-3 * pixels + beside)
    assert write(2) == pytest.approx(2e-3 * pixels + beside / 2)
    assert WritingCost(serial=3.0, total=4.0).seconds(10, 4) == 30.0


def test_writing_that_cannot_be_tried_takes_what_is_usual(monkeypatch):
    monkeypatch.setattr(_stages, "writing_cost", lambda *_: None)
    write = api.of_command(plan(), "o.tif", 0.0, threads=1).prediction.stages["write"]
    each = _stages.SAVING_SECONDS_PER_BYTE + _stages.USUAL_SECONDS_PER_BYTE
    assert write == pytest.approx(each * BYTES)


def test_an_area_is_written_alone_and_a_mask_with_the_whole_image(tmp_path):
    area = "POLYGON ((0 0, 64 0, 64 64, 0 64, 0 0))"
    region = nr.Region(0, 0, 64, 64)
    whole = api.of_command(plan(), "o.tif", 0.0).prediction.stages["write"]
    part = api.of_command(plan(region=region), "o.tif", 0.0).prediction.stages["write"]
    assert part == pytest.approx(whole * 64**2 / SIDE**2)
    masked = plan(mask=area)
    assert api.of_command(masked, "o.tif", 0.0).prediction.stages["write"] == whole
    clipped = api.of_command(masked, "o.tif", 0.0, clip="box").prediction.stages["write"]
    assert clipped < whole / 4


def test_tiles_that_are_written_in_place_are_not_written_again(tmp_path):
    output = tmp_path / "o.zarr"
    assert api.of_command(plan(output=output), output, 0.0).prediction.stages["write"] == 0


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
    planned = predicted(api.of_command(planned, "o.tif", 0.0), restore=1000.0, write=10000.0)
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
    planned = api.of_command(planned, "o.tif", 0.0)
    write = planned.prediction.stages["write"]
    assert planned.seconds_after(0) == pytest.approx(sum(phases[1:]) + write)
    assert planned.seconds_after(len(phases) - 1) == write


# -- what earlier runs teach -------------------------------------------------------------


def test_a_past_forgets_and_has_bounds():
    assert Past().ratio == 1
    assert Past().then(0.1, 0.5).ratio < 1.5, "what is short teaches little"
    long = Past().then(30, 45)
    assert long.ratio == pytest.approx(1.5, abs=0.03)
    assert Past().then(1, 1000).ratio == BOUND and Past().then(1000, 1).ratio == 1 / BOUND
    assert max(vars(Past().then(4000, 5000)).values()) == MOST
    for _ in range(8):
        long = long.then(30, 30)
    assert long.ratio == pytest.approx(1.0, abs=0.01)


def test_the_next_prediction_follows_from_the_last_run():
    first = predicted(plan(), restore=20.0)
    learn(first, "restore", 30.0)
    second = plan()
    ratio = (30 + _stages.PRIOR) / (20 + _stages.PRIOR)
    assert second.prediction.stages["restore"] == pytest.approx(
        ratio * second.prediction.calculated["restore"]
    )
    assert second.prediction.stages["read"] == second.prediction.calculated["read"]
    assert plan("dcp").prediction.stages == plan("dcp").prediction.calculated
    # Nothing but the time depends on it.
    assert (second.key, second.layout) == (first.key, first.layout)


def test_formats_are_learnt_apart():
    def command(**options: Any) -> Any:
        return api.of_command(plan(), "o.tif", 0.0, **options)

    learn(predicted(command(), write=20.0), "write", 40.0)
    ratios = [
        each.prediction.stages["write"] / each.prediction.calculated["write"]
        for each in (command(), command(compress="zstd"), command(cog=True), command(level=9))
    ]
    assert ratios == [pytest.approx(41 / 21), 1, 1, 1]


def test_few_kinds_are_kept():
    planned = predicted(plan(), restore=20.0)
    for number in range(2 * KINDS):
        kinds = {**planned.prediction.kinds, "restore": f"restore {number}"}
        planned = replace(planned, prediction=replace(planned.prediction, kinds=kinds))
        learn(planned, "restore", 30.0)
    known = _stages.learnt(planned.model, planned.device)
    assert list(known) == [f"restore {number}" for number in range(KINDS, 2 * KINDS)]


def test_a_run_teaches_its_stages_and_a_saved_file_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(Stopwatch, "is_disturbed", property(lambda self: False))
    learnt: list[str] = []
    for place in ("running._executor", "results._result"):
        monkeypatch.setattr(
            f"napari_restore.engine.{place}.learn", lambda _, stage, seconds: learnt.append(stage)
        )
    planned = api.of_command(plan(scratch=tmp_path), "o.tif", 0.0)
    result = nr.start(planned).result()
    assert learnt == ["read", "restore"]
    result.save(tmp_path / "a.png")
    assert learnt == ["read", "restore"], "another format was calculated"
    result.save(tmp_path / "a.tif")
    assert learnt == ["read", "restore", "write"]
    assert set(result.record["measured"]["stages"]) == {"read", "restore", "write"}
    nr.start(planned).result()
    assert learnt[3:] == [], "nothing was left to restore"


@pytest.mark.parametrize("options", [{"resize": 20}, {"sharpen": True}, {"profile": "sRGB"}])
def test_a_file_with_other_pixels_teaches_nothing_of_plain_ones(options):
    plain = kind_of_file(Path("a.jpg"), ExportOptions())
    assert kind_of_file(Path("a.jpg"), ExportOptions(**options)) != plain


@pytest.mark.parametrize(
    ("own", "busy", "idle", "disturbed"),
    [
        (20.0, 20.0, 0.0, False),
        (20.0, 22.0, 0.0, False),
        (10.0, 16.0, 4.0, True),
        # A large machine has room for others.
        (20.0, 200.0, 100.0, False),
    ],
)
def test_a_run_beside_others_teaches_nothing(monkeypatch, own, busy, idle, disturbed):
    now = [0.0, 0.0, 0.0, 0.0]
    monkeypatch.setattr(
        _stages,
        "time",
        SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[1]),
    )
    monkeypatch.setattr(
        _stages.psutil,
        "cpu_times",
        lambda: SimpleNamespace(user=now[2], system=0.0, idle=now[3]),
    )
    watch = Stopwatch()
    now[:] = 10.0, own, busy, idle
    assert watch.seconds == 10.0
    assert watch.is_disturbed is disturbed


def test_frames_of_a_bracket_count_as_they_are_decoded(monkeypatch):
    frames = [nr.open_image(np.full((SIDE, SIDE, 3), n, np.uint8)) for n in (40, 90, 200)]
    bracket = nr.open_bracket(frames, exposures=[-2, 0, 2], align="off")
    seconds = dict(zip(bracket.frames, (1e-3, 2e-3, 6e-3), strict=True))
    monkeypatch.setattr(_stages, "sample_of", lambda frame: ImageSample(None, seconds[frame]))
    slow = nr.plan(bracket, "mertens").prediction.stages["restore"]
    monkeypatch.setattr(_stages, "sample_of", lambda frame: ImageSample(None, 1e-3))
    quick = nr.plan(bracket, "mertens").prediction.stages["restore"]
    assert slow - quick == pytest.approx(3 * BYTES * 2e-3 / 2)
