"""Attributions whose sums lie on disk go on where they were stopped, to the bit."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from tests.engine import _staged_model
from tests.engine._staged_model import ToyStaged
from tests.explain._models import scene

import napari_restore as nr
from napari_restore import Region, open_image
from napari_restore.engine import Note, StoreBusy
from napari_restore.errors import BadOutput, Cancelled, DiskFull, InputError
from napari_restore.explain import attribute
from napari_restore.explain.attribution import (
    _request,
    attribution_run,
    stored_accumulator,
)
from napari_restore.explain.attribution.stored_accumulator import StoredAccumulator
from napari_restore.images import cache_entries, clear_cache

BOX = Region(120, 100, 150, 140)


class Broken(Exception):
    """What no one expects."""


Answer = tuple[tuple[bytes, Any], list[float]]


class Problem:
    """One model and image, asked again and again with sums on disk; counts what is evaluated."""

    def __init__(
        self, patch: pytest.MonkeyPatch, scratch: Path | None, known: dict[str, Answer]
    ) -> None:
        self.patch, self.scratch, self.known = patch, scratch, known
        self.model, self.image = ToyStaged(), open_image(scene(200, 260))
        self.alphas: list[float] = []
        self.notes: list[str] = []
        self.until: int | None = None
        self.stop = threading.Event()
        node = attribution_run.AttributionRun.node

        def counted(run: Any, path: Any, alpha: float, add: Any) -> Any:
            self.alphas.append(alpha)
            found = node(run, path, alpha, add)
            if len(self.alphas) == self.until:
                self.stop.set()
            return found

        patch.setattr(attribution_run.AttributionRun, "node", counted)
        patch.setattr(attribution_run, "SMALL", 0)
        # More than one chunk, and few points.
        patch.setattr(stored_accumulator, "CHUNK", 128)
        patch.setattr(_request, "NESTED", (3, 5, 9))

    def __call__(self, until: int | None = None, **options: Any) -> Any:
        """Ask, and stop after `until` points."""
        self.until, self.stop = until, threading.Event()
        self.alphas, self.notes = [], []

        def emit(event: Any) -> None:
            if isinstance(event, Note) and event.text.startswith("Continues"):
                self.notes.append(event.text)

        asked = {"method": "ig", "gap": 0.0, "device": "cpu", "workers": 1, **options}
        asked.setdefault("scratch", self.scratch)
        box = asked.pop("box", BOX)
        return attribute(self.image, self.model, box, emit=emit, stop=self.stop, **asked)

    @property
    def folders(self) -> list[Path]:
        assert self.scratch is not None
        return sorted(self.scratch.glob("attribution-*"))


@pytest.fixture(scope="module")
def known() -> dict[str, Answer]:
    """What uninterrupted runs gave, by their options."""
    return {}


@pytest.fixture
def ask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: dict[str, Answer]
) -> Iterator[Problem]:
    # Several threads round in another order from run to run, whether these go on or not.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Problem(monkeypatch, tmp_path, known)
    torch.set_num_threads(threads)


def answer(found: Any) -> tuple[bytes, Any]:
    told = found.record["attribution"]
    return found.map.tobytes(), (told["nodes"], told["completeness"], told["rule"])


def whole(ask: Problem, tmp_path: Path, **options: Any) -> Answer:
    """What an uninterrupted run gives, elsewhere, and which points it evaluates."""
    if (asked := repr(options)) not in ask.known:
        found = answer(ask(scratch=tmp_path / "whole", **options))
        assert not list((tmp_path / "whole").glob("attribution-*"))
        ask.known[asked] = found, list(ask.alphas)
    return ask.known[asked]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("points", "of"), [(1, 3), pytest.param(3, 3, marks=pytest.mark.slow), (6, 9)]
)
@pytest.mark.ids("nightly", "3-3", "1-3")
def test_after_a_stop_it_goes_on(ask: Problem, tmp_path: Path, points: int, of: int) -> None:
    expected, alphas = whole(ask, tmp_path)
    assert len(alphas) == 9
    with pytest.raises(Cancelled):
        ask(points)
    (folder,) = ask.folders
    assert ask.alphas == alphas[:points]
    found = ask()
    assert ask.alphas == alphas[points:]
    assert ask.notes == [f"Continues after {points} of {of} points."]
    assert answer(found) == expected
    assert ask.folders == [folder]
    del found
    assert not ask.folders


@pytest.mark.slow
@pytest.mark.parametrize("place", ["add", "_commit"])
@pytest.mark.ids("nightly", "_commit")
def test_after_a_failure_it_goes_on(ask: Problem, tmp_path: Path, place: str) -> None:
    expected, alphas = whole(ask, tmp_path, steps=4)
    method, calls = getattr(stored_accumulator.StoredSums, place), 0
    # In the second point: each adds the parts of four tiles of the box, then of all six.
    last = 15 if place == "add" else 10

    def fails(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == last:
            raise Broken
        return method(*given)

    with ask.patch.context() as patch:
        patch.setattr(stored_accumulator.StoredSums, place, fails)
        with pytest.raises(Broken):
            ask(steps=4)
    assert ask.alphas == alphas[:2]
    found = ask(steps=4)
    # Parts of a point do not count; a whole one is taken in by who comes next.
    assert ask.alphas == alphas[2 if place == "_commit" else 1 :]
    assert answer(found) == expected


@pytest.mark.slow
@pytest.mark.parametrize("last", [4, 10])
@pytest.mark.ids("nightly", "10", "4")
def test_after_a_failure_in_the_sums_of_kept_points_it_goes_on(
    ask: Problem, tmp_path: Path, last: int
) -> None:
    # Six chunks of the first rule, then of the finer ones together.
    expected, alphas = whole(ask, tmp_path)
    commit, calls = stored_accumulator.StoredSums._commit, 0

    def fails(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            raise Broken
        commit(*given)

    with ask.patch.context() as patch:
        patch.setattr(stored_accumulator.StoredSums, "_commit", fails)
        with pytest.raises(Broken):
            ask()
    assert ask.alphas == alphas[:3]
    assert len(list(ask.folders[0].glob("pixels/point-*"))) == 3
    found = ask()
    assert ask.alphas == alphas[3:]
    assert answer(found) == expected
    assert not list(ask.folders[0].glob("pixels/point-*"))


@pytest.mark.slow
def test_kept_points_are_seen_before_their_rule_ends(ask: Problem, tmp_path: Path) -> None:
    finish, seen = StoredAccumulator.finish, []

    def looked_at(accumulator: StoredAccumulator, node: Any) -> None:
        finish(accumulator, node)
        region = accumulator.pixels.region
        sums = accumulator.pixels.of(0).read(region)
        points = [
            accumulator.pixels._point(number).read(*region.within(region)) * weights[0]
            for number, weights in enumerate(map(accumulator.weights, accumulator.nodes), 1)
        ]
        np.testing.assert_array_equal(sums, np.sum(points, axis=0))
        seen.append(node.alpha)

    ask.patch.setattr(StoredAccumulator, "finish", looked_at)
    ask(gap=10.0)
    assert seen == ask.alphas and len(seen) == 3


@pytest.mark.slow
def test_a_smaller_gap_without_a_kept_point_is_one_sentence(ask: Problem, tmp_path: Path) -> None:
    coarse = ask(gap=10.0)
    values = coarse.map.copy()
    point = ask.folders[0] / "pixels" / "point-2"
    point.unlink()
    with pytest.raises(InputError, match="is gone or damaged"):
        ask()
    # What is finished stays.
    np.testing.assert_array_equal(coarse.map, values)
    del coarse
    assert len(ask(gap=10.0).record["attribution"]["nodes"]) == 3 and not ask.alphas


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "short", "another"])
@pytest.mark.ids("nightly", "gone", "another", "short")
def test_without_a_kept_point_it_begins_again(ask: Problem, tmp_path: Path, damage: str) -> None:
    expected, alphas = whole(ask, tmp_path)
    with pytest.raises(Cancelled):
        ask(2)
    first, second = sorted(ask.folders[0].glob("pixels/point-*"))
    if damage == "gone":
        first.unlink()
    elif damage == "short":
        first.write_bytes(first.read_bytes()[:-9])
    else:
        first.write_bytes(second.read_bytes())
    found = ask()
    assert ask.alphas == alphas
    assert answer(found) == expected


@pytest.mark.slow
def test_after_a_full_disk_it_goes_on(ask: Problem, tmp_path: Path) -> None:
    expected, alphas = whole(ask, tmp_path, steps=3)
    written = stored_accumulator.write_chunks
    calls = 0

    def full(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise OSError(28, "No space left on device")
        written(*given)

    with ask.patch.context() as patch:
        patch.setattr(stored_accumulator, "write_chunks", full)
        with pytest.raises(DiskFull, match="finished points are kept"):
            ask(steps=3)
    found = ask(steps=3)
    assert ask.alphas == alphas[2:]
    assert answer(found) == expected


KILLED = """
import os, sys, torch
import napari_restore as nr
from napari_restore.explain.attribution import attribution_run, stored_accumulator

torch.set_num_threads(1)
attribution_run.SMALL, stored_accumulator.CHUNK = 0, 128
source, model, scratch, place, last = sys.argv[1:]
method, calls = getattr(stored_accumulator.StoredSums, place), 0

def counted(*given):
    global calls
    calls += 1
    if calls == int(last):
        os._exit(9)
    return method(*given)

setattr(stored_accumulator.StoredSums, place, counted)
asked = {"method": "ig", "steps": 3, "device": "cpu", "workers": 1, "scratch": scratch}
found = nr.attribute(
    source, nr.load_model(model, trust=True), nr.Region(120, 100, 150, 140), **asked,
    emit=lambda event: print(getattr(event, "text", "")),
)
found.map.tofile(scratch + "/map")
"""


@pytest.mark.nightly
def test_after_a_kill_it_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "scene.tif"
    tifffile.imwrite(source, scene(200, 260), photometric="rgb")
    model = f"{_staged_model.__file__}:ToyStaged"

    def run(scratch: str, place: str, last: int) -> subprocess.CompletedProcess[str]:
        (tmp_path / scratch).mkdir(exist_ok=True)
        words = [str(source), model, str(tmp_path / scratch), place, str(last)]
        return subprocess.run(
            [sys.executable, "-u", "-c", KILLED, *words], capture_output=True, text=True
        )

    whole = run("whole", "add", 10**6)
    assert whole.returncode == 0, whole.stderr
    assert run("killed", "add", 15).returncode == 9
    (folder,) = (tmp_path / "killed").glob("attribution-*")
    again = run("killed", "_commit", 10)
    assert again.returncode == 9
    assert "Continues after 1 of 3 points." in again.stdout
    assert len((folder / "points.jsonl").read_text().splitlines()) == 2
    last = run("killed", "add", 10**6)
    assert last.returncode == 0, last.stderr
    assert "Continues after 2 of 3 points." in last.stdout
    assert not folder.exists()
    maps = [(tmp_path / name / "map").read_bytes() for name in ("whole", "killed")]
    assert maps[0] == maps[1]


@pytest.mark.parametrize(
    "other",
    [
        {"box": Region(121, 100, 150, 140)},
        {"method": "lam"},
        {"baseline": "zero"},
        {"objective": "mean"},
        {"steps": 4},
        {"white": 0.9},
    ],
)
@pytest.mark.slow
@pytest.mark.ids("nightly", "other1", "other2", "other3", "other5")
def test_another_question_begins_anew(ask: Problem, other: dict[str, Any]) -> None:
    for question in ({}, other):
        with pytest.raises(Cancelled):
            ask(1, **{"steps": 3, **question})
        assert not ask.notes
    assert len(ask.folders) == 2


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("journal", marks=pytest.mark.slow),
        pytest.param("points", marks=pytest.mark.slow),
        pytest.param("chunk", marks=pytest.mark.slow),
        "count",
        pytest.param("array", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
@pytest.mark.ids("nightly", "chunk", "points", "array", "count")
def test_what_is_damaged_is_begun_anew(ask: Problem, tmp_path: Path, damage: str) -> None:
    expected, alphas = whole(ask, tmp_path, steps=3)
    with pytest.raises(Cancelled):
        ask(2, steps=3)
    (folder,) = ask.folders
    journal, chunk = folder / "points.jsonl", folder / "pixels" / "0" / "c" / "0" / "1" / "1"
    if damage == "journal":
        journal.write_text(journal.read_text()[:-9])
    elif damage == "points":
        journal.write_text(journal.read_text().replace("0.", "0.1"))
    elif damage == "chunk":
        chunk.write_bytes(chunk.read_bytes()[:100])
    elif damage == "count":
        chunk.unlink()
    else:
        (folder / "pixels" / "zarr.json").write_text("{")
    found = ask(steps=3)
    assert ask.alphas == alphas
    assert answer(found) == expected


@pytest.mark.nightly
def test_a_smaller_gap_goes_on_and_a_larger_one_takes_what_is_there(
    ask: Problem, tmp_path: Path
) -> None:
    expected, alphas = whole(ask, tmp_path)
    coarse = ask(gap=10.0)
    assert ask.alphas == alphas[:3]
    values = coarse.map.copy()
    # While the first map is looked at: its sums stay though the rule does not suffice.
    with pytest.raises(Cancelled):
        ask(1)
    assert ask.alphas == alphas[3:4]
    np.testing.assert_array_equal(coarse.map, values)
    again = ask(gap=10.0)
    # The sums of three points are given up by then, those of five were begun.
    assert ask.alphas == alphas[4:5]
    assert len(again.record["attribution"]["nodes"]) == 5
    finest = ask()
    assert ask.alphas == alphas[5:]
    assert answer(finest) == expected
    del coarse, again
    assert ask.folders
    assert answer(finest)[0] == expected[0]
    del finest
    assert not ask.folders


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["atmosphere", pytest.param("inf-dehaze-small", marks=pytest.mark.slow)]
)
@pytest.mark.ids("nightly", "inf-dehaze-small", "atmosphere")
def test_the_overview_goes_on_too(ask: Problem, tmp_path: Path, model: str) -> None:
    ask.model = nr.load_model(model)
    ask.image = open_image(scene(256, 320), bands="red=1,green=2,blue=3")
    options = {"context_gradient": "through", "steps": 2}
    expected = ask(scratch=tmp_path / "whole", **options)
    alphas = list(ask.alphas)
    with pytest.raises(Cancelled):
        ask(1, **options)
    found = ask(**options)
    assert ask.alphas == alphas[1:]
    assert answer(found) == answer(expected)
    np.testing.assert_array_equal(found.overview.values, expected.overview.values)


@pytest.mark.slow
def test_a_map_that_cannot_be_written_is_kept(ask: Problem, tmp_path: Path) -> None:
    found = ask(steps=3)
    with pytest.raises(BadOutput):
        found.save(tmp_path / "nowhere" / "map.tif")
    del found
    assert len(ask.folders) == 1
    found = ask(steps=3)
    assert not ask.alphas
    found.save(tmp_path / "map.tif")
    del found
    assert not ask.folders


@pytest.mark.slow
def test_one_process_at_a_time(ask: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, seen = StoredAccumulator.finish, []

    def twice(accumulator: StoredAccumulator, node: Any) -> None:
        finish(accumulator, node)
        if not seen:
            seen.append(True)
            with pytest.raises(StoreBusy, match="same attribution is already running"):
                ask(steps=3)

    monkeypatch.setattr(StoredAccumulator, "finish", twice)
    ask(steps=3)


@pytest.mark.slow
def test_the_cache_counts_and_removes_it(ask: Problem) -> None:
    ask.scratch = None
    with pytest.raises(Cancelled):
        ask(1, steps=3)
    (entry,) = [e for e in cache_entries() if e.path.name.startswith("attribution-")]
    assert entry.kind == "results" and entry.size > 2**20 and not entry.in_use
    clear_cache()
    assert not entry.path.exists()
    found = ask(steps=3)
    assert len(ask.alphas) == 3
    assert [e.in_use for e in cache_entries() if e.path == entry.path] == [True]
    clear_cache()
    assert np.abs(found.map).max() > 0
    del found
    assert not entry.path.exists()
