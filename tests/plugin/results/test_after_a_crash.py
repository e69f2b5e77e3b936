"""What a window had when it was killed is offered by the next one: results, adjusted as they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_restore.plugin.results.results_section import ResultsSection

pytestmark = [pytest.mark.viewer, pytest.mark.slow, pytest.mark.binding]

KILLED = """
import os, signal, sys, time
import napari
from qtpy.QtWidgets import QApplication
from napari_restore.questions import Adjustment

def until(done):
    end = time.monotonic() + 240
    while not done():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.01)

viewer = napari.Viewer(show=False)
_, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
viewer.open(sys.argv[1], plugin="napari-restore")
panel.models.choose("identity")
how = sys.argv[2]
if how == "live":
    panel.bar.live.setChecked(True)
else:
    panel.target.combo.setCurrentIndex(0)
    panel.advanced.tile.setValue(256)
    panel.bar.button.click()
until(lambda: panel.state.current is not None)
if how == "unfinished":
    panel.bar.button.click()
if how != "live":
    until(lambda: not panel.state.running)
panel.state.current.adjust(Adjustment(strength=0.5))
results = next(x for x in panel.sections if type(x).__name__ == "ResultsSection")
stored = lambda: list(panel.state.current.shown.result.store.path.glob("result-*.json"))
until(lambda: stored() and '"strength": 0.5' in stored()[0].read_text())
if how == "live":
    assert panel.state.current.name.startswith("Live: ")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["whole", "unfinished", "live"])
@pytest.mark.ids("nightly", "whole", "unfinished")
def test_results_and_adjustments_are_offered(
    request: pytest.FixtureRequest, qtbot: Any, sample: Path, how: str
):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(sample), how],
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    panel = request.getfixturevalue("panel")
    results = next(each for each in panel.sections if isinstance(each, ResultsSection))
    panel.viewer.open(sample, plugin="napari-restore")
    qtbot.waitUntil(lambda: bool(results.earlier.rows))
    (row,) = results.earlier.rows
    assert not row.kept.title.startswith("Live")
    said = "A result of" if row.kept.complete else "An unfinished run of"
    assert panel.bar.unfinished.text().startswith(said)
    assert not panel.bar.unfinished.parentWidget().isHidden()
    row.open.click()
    qtbot.waitUntil(lambda: bool(panel.state.current and panel.state.current.result))
    (variant,) = panel.state.variants
    assert variant.name == row.kept.title and variant.layer in panel.viewer.layers
    assert variant.adjustment.strength == 0.5
    assert variant.record["adjustment"]["strength"] == 0.5
