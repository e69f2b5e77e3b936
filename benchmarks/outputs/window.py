"""The exports of `same_outputs.py` from a real window, found by the words a user sees.

    python benchmarks/outputs/window.py SCENE.tif OUT WINDOW

`WINDOW` is `calls.WINDOW` as JSON.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_MS = 300_000
SUFFIXES = {"OME-Zarr": ".zarr", "PNG": ".png", "JPEG": ".jpg"}


def wait(ready: Callable[[], Any], what: str) -> None:
    """Run Qt's own loop until `ready`."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer, limit = QEventLoop(), QTimer(), QTimer()
    timer.timeout.connect(lambda: ready() and loop.quit())
    limit.setSingleShot(True)
    limit.timeout.connect(lambda: loop.exit(1))
    timer.start(20)
    limit.start(LIMIT_MS)
    code = loop.exec()
    timer.stop()
    limit.stop()
    if code:
        raise TimeoutError(what)


def choose(panel: Any, words: str) -> None:
    """Choose the entry of these words in the first box that has it."""
    from qtpy.QtWidgets import QComboBox

    for box in panel.findChildren(QComboBox):
        for number in range(box.count()):
            if box.itemText(number).removeprefix("★ ") == words:
                box.setCurrentIndex(number)
                box.activated.emit(number)
                return
    raise LookupError(words)


def button(panel: Any, *words: str) -> Any:
    """The first button that says one of these; a hidden one only where none is seen."""
    from qtpy.QtWidgets import QPushButton

    found = [each for each in panel.findChildren(QPushButton) if each.text() in words]
    if not found:
        raise LookupError(words)
    return next((each for each in found if each.isVisible()), found[0])


def main() -> None:
    scene, out = Path(sys.argv[1]), Path(sys.argv[2])
    import napari
    from qtpy.QtWidgets import QApplication, QFileDialog

    viewer = napari.Viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    viewer.open(scene, plugin="napari-restore")
    source = viewer.layers[0]
    corners = np.array([(60, 70), (60, 300), (250, 330), (300, 90)], float)
    ring = np.array([source.data_to_world(corner)[-2:] for corner in corners])
    viewer.add_shapes([ring], shape_type="polygon", name="Areas", units=source.units)
    painted = np.zeros(
        source.data[0].shape[:2] if source.multiscale else source.data.shape[:2], int
    )
    painted[100:220, 150:330] = 1
    names = ("scale", "translate", "affine", "units")
    placed = {name: getattr(source, name) for name in names}
    viewer.add_labels(painted, name="Painted", **placed)
    start = button(panel, "Run")
    for name, (method, target, form) in json.loads(sys.argv[3]).items():
        folder = out / name
        folder.mkdir(parents=True)
        path = folder / f"a{SUFFIXES.get(form, '.tif')}"
        viewer.layers.selection.active = source
        choose(panel, method)
        choose(panel, target)
        results = len(viewer.layers)
        wait(lambda: start.isEnabled() and start.text() == "Run", "ready")
        start.click()
        wait(lambda: start.text() != "Run" or len(viewer.layers) > results, "start")  # noqa: B023
        wait(lambda: start.text() == "Run" and start.isEnabled(), "end of the run")
        export = button(panel, "Export …", "Export…")
        wait(export.isEnabled, "a result")
        choose(panel, form)
        QFileDialog.exec = lambda self: 1
        QFileDialog.selectedFiles = lambda self: [str(path)]  # noqa: B023
        export.click()
        wait(lambda: path.exists() and export.isEnabled(), "the file")  # noqa: B023
        button(panel, "Copy command").click()
        line = re.sub(r" --tile \d+", "", QApplication.clipboard().text())
        (folder / "command.txt").write_text(line)
    panel.close()
    viewer.close()


if __name__ == "__main__":
    main()
