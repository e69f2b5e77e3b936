"""Dehazes the shipped sample in the window; writes demo/ with result, record and screenshot."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import napari
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_restore.records import write_record
from napari_restore.sample import SAMPLE

FOLDER = Path(__file__).resolve().parent.parent / "demo"
LIMIT_S = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exit", action="store_true", help="close the window at the end")
    options = parser.parse_args()
    viewer = napari.Viewer(title="napari-restore", show=True)
    viewer.window._qt_window.resize(1500, 950)
    viewer.open(SAMPLE, plugin="napari-restore")
    _, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    show_part(viewer)

    planned: list[str] = []
    outcome: list[Any] = []
    panel.planned.connect(planned.append)
    wait_for(planned)
    print(f"plan: {panel.bar.plan_line.text()}")

    panel.ended.connect(lambda status, record: outcome.append((status, record)))
    planned.clear()
    panel.bar.button.click()
    wait_for(outcome)
    status, record = outcome[0] if outcome else ("failed", "it took too long")
    if status != "done":
        print(f"The run {status}: {record}", file=sys.stderr)
        return 1
    wait_for(planned)  # The panel plans what a click on Run would do next.
    write(viewer)
    if not options.exit and is_shown_to_someone():
        napari.run()
    else:
        # A window that is left to the end of Python crashes now and then.
        viewer.close()
        QApplication.processEvents()
    return 0


def show_part(viewer: napari.Viewer) -> None:
    """Look at the middle of the sample, so that the rest stays hazy for comparison."""
    QApplication.processEvents()
    viewer.reset_view()
    viewer.scene.camera.zoom *= 2


def write(viewer: napari.Viewer) -> None:
    """Save the result as the menu would, the record, and the window as it is."""
    FOLDER.mkdir(exist_ok=True)
    layer = next(x for x in reversed(viewer.layers) if "napari_restore_result" in x.metadata)
    target = FOLDER / "restored.tif"
    viewer.layers.selection.active = layer
    viewer.layers.save(str(target), selected=True, plugin="napari-restore")
    write_record(FOLDER / "record.json", layer.metadata["napari_restore_record"])
    picture = FOLDER / "window.png"
    viewer.reset_view()
    QApplication.processEvents()
    viewer.screenshot(str(picture), canvas_only=False, flash=False)
    print(f"{target}\n{FOLDER / 'record.json'}\n{picture}")


def wait_for(events: list[Any]) -> None:
    """Run the window until there is an event, or for LIMIT_S."""
    began = time.monotonic()
    while not events and time.monotonic() - began < LIMIT_S:
        QTest.qWait(20)


def is_shown_to_someone() -> bool:
    """False where nobody could close the window: no display, or Xvfb, whose screen is "screen"."""
    if QApplication.platformName() in ("offscreen", "minimal"):
        return False
    xvfb = "xvfb" in os.environ.get("XAUTHORITY", "").lower()
    return not xvfb and QApplication.primaryScreen().name() != "screen"


if __name__ == "__main__":
    sys.exit(main())
