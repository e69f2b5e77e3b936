"""The record as people read it, copied, saved and run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

import napari_restore as nr
from napari_restore import api
from napari_restore.plugin.results.results_section import RecordView
from napari_restore.plugin.results.variant_text import record_rows
from napari_restore.records import read_record

pytestmark = pytest.mark.viewer


@pytest.fixture
def record(sample: Path) -> dict[str, Any]:
    planned = api.plan(sample, "dcp", region=api.Region(0, 0, 200, 300), strength=0.7, device="cpu")
    result = nr.start(planned).result()
    return {**result.record, "task": api.task_of(planned)}


def test_the_summary_lists_method_and_measures(record: dict[str, Any]):
    record["measured"] |= {"seconds": 2.34, "peak_ram_bytes": 300 << 20}
    record["plan"]["predicted_peak_ram_bytes"] = 1200 << 20
    rows = dict(record_rows(record))
    assert rows["Method"] == "Dark channel prior"
    assert "share removed 0.85" in rows["Settings"]
    assert rows["Area"] == "300 × 200 at 0, 0"
    assert rows["Adjust"] == "strength 0.7"
    first = record["context"]["airlight"][0]
    assert rows["Airlight"].startswith(f"{first:.4g}")
    assert rows["Time"].startswith("2.3 s (predicted ")
    # Side by side, in one unit.
    assert rows["Memory at its peak"] == "0.29 GiB (predicted 1.2 GiB)"
    share = record["measured"]["quality_shares"]["clipped_high"]
    assert rows["Pixels clipped high"] == f"{share:.2%}"


@pytest.fixture
def view(record: dict[str, Any], qtbot: Any) -> Any:
    # Not shown, which no test here needs: Qt once crashed as it took this window apart.
    made = RecordView(record, "<b>a & b</b>")
    qtbot.addWidget(made)
    return made


def test_the_json_is_whole_and_can_be_copied(view: Any, record: dict[str, Any]):
    view.copy.click()
    assert json.loads(QApplication.clipboard().text()) == json.loads(json.dumps(record))
    assert view.text.isReadOnly()
    assert "300 × 200 at 0, 0" in view.table.toPlainText()


def test_a_saved_record_is_one_the_command_line_reads(
    view: Any, record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(view, "ask_path", lambda proposed: tmp_path / "größe.json")
    view.save_as.click()
    saved = tmp_path / "größe.json"
    assert read_record(saved)["model"] == record["model"]
    planned, path, _ = api.repeat_of(saved, tmp_path / "out.tif")
    assert planned.key == record["plan"]["key"]
    assert path == tmp_path / "out.tif"


def test_a_folder_that_cannot_be_written_is_reported(
    view: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reported = []
    notification_manager.notification_ready.connect(lambda shown: reported.append(shown.message))
    monkeypatch.setattr(view, "ask_path", lambda proposed: tmp_path / "no" / "r.json")
    view.save_as.click()
    assert len(reported) == 1 and "cannot be written" in reported[0]


def test_run_again_requests_a_run_and_closes(record: dict[str, Any], qtbot: Any):
    view = RecordView(record, "a")
    view.show()
    asked, gone = [], []
    view.run_again.connect(lambda: asked.append(True))
    # Not by `waitSignal`, which disconnects while it goes: PySide refuses that.
    view.destroyed.connect(lambda: gone.append(True))
    view.again.click()
    qtbot.waitUntil(lambda: bool(gone))
    assert asked == [True]
