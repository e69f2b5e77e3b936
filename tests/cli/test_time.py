"""The recorded time is the time that was taken: start, reading, writing and renaming included."""

from __future__ import annotations

import json
import time

import pytest

from napari_restore import api
from napari_restore._format import format_seconds
from napari_restore.images.export import write

START, END = 1000.0, 20000.0


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening takes `START` seconds, giving a file its name `END`; the clock is turned on by them."""
    clock, ahead = time.perf_counter, [0.0]

    def delayed(function, seconds):
        def call(*given, **named):
            ahead[0] += seconds
            return function(*given, **named)

        return call

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + ahead[0])
    monkeypatch.setattr(api, "open_image", delayed(api.open_image, START))
    monkeypatch.setattr(write, "take_name", delayed(write.take_name, END))


def test_a_restoration(slow, cli, scene, tmp_path):
    record = tmp_path / "record.json"
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--record", record]
    run = cli(*words)
    assert run.code == 0
    measured = json.loads(record.read_text())["measured"]
    assert START + END < measured["seconds"] < 3 * START + END
    assert measured["run_seconds"] < START
    assert run.out.endswith(f"in {format_seconds(measured['seconds'], tenths=True)}\n")


def test_several_images(slow, cli, scene, tmp_path):
    other = tmp_path / "b.tif"
    other.write_bytes(scene.read_bytes())
    run = cli("restore", scene, other, "-o", tmp_path / "out", "--model", "identity", "--json")
    assert run.code == 0
    told = run.json
    each = [image["record"]["measured"]["seconds"] for image in told["images"]]
    assert all(START + END <= seconds < 3 * START + END for seconds in each)
    assert sum(each) <= told["seconds"] < sum(each) + 3 * START


def test_a_map(slow, cli, scene, tmp_path):
    words = ["attribute", scene, "--model", "dcp", "--box", 20, 20, 8, 8, "--method", "ig"]
    words += ["--steps", 2, "--baseline", "zero", "-o", tmp_path / "map.tif", "--json"]
    run = cli(*words)
    assert run.code == 0
    measured = run.json["measured"]
    assert START + END < measured["seconds"] < 3 * START + END
    assert measured["run_seconds"] < START


def test_a_file_that_python_saves(slow, scene, tmp_path):
    result = api.restore(scene, "identity")
    before = result.record["measured"]["seconds"]
    for name in ("a.tif", "b.tif"):
        result.save(tmp_path / name)
        assert before + END <= result.record["measured"]["seconds"] < before + END + START
