from __future__ import annotations

from pathlib import Path

import pytest

from napari_restore_lab.loop import Log, LogSums


def test_rows_are_kept_up_to_a_step_and_gaps_stay_empty(tmp_path: Path):
    log = Log(tmp_path / "training.csv", ["l1"], ["score"])
    log.start(0)
    for step in (10, 20, 30):
        log.add(
            {"step": step, "loss": 0.125, "l1": 0.25, **({"score": 21.5} if step == 20 else {})}
        )
    log.start(20)
    log.add({"step": 25, "loss": 1.0})
    rows = log.rows()
    assert [row["step"] for row in rows] == ["10", "20", "25"]
    assert [row["score"] for row in rows] == ["", "21.5", ""]
    assert rows[0]["lr"] == ""


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path):
    log = Log(tmp_path / "training.csv", ["l1"], ["score"])
    log.start(0)
    log.add({"step": 10, "loss": 0.5})
    with log.path.open("a") as file:
        file.write("2")
    assert [row["step"] for row in log.rows()] == ["10"]
    other = Log(log.path, ["l1"], ["score", "aerial_model"])
    other.start(30)
    assert other.rows()[0]["aerial_model"] == ""


def test_sums_are_means_until_a_row_is_told():
    sums = LogSums(seconds=2.0, pairs=8)
    sums.add(1.0, {"l1": 0.5})
    sums.add(2.0, {"l1": 1.5})
    assert sums.means() == {"loss": 1.5, "l1": 1.0}
    assert sums.rate == 4.0
    assert LogSums().means() == {}
    assert LogSums().rate == 0.0


def test_a_plot_is_drawn_of_any_number_of_rows(tmp_path: Path):
    pytest.importorskip("matplotlib")
    log = Log(tmp_path / "training.csv", ["l1"], ["score", "aerial_model", "aerial_input"])
    log.start(0)
    path = tmp_path / "training.png"
    assert log.plot(path)
    log.add({"step": 1, "loss": 0.5, "l1": 0.25, "score": 20.0, "aerial_model": 20.0})
    log.add({"step": 2, "loss": 0.25, "l1": 0.125})
    assert log.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
