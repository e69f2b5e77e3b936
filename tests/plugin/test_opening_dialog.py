"""Opening in a window: what needs consent is asked about, what takes long can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from points import patience
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QMessageBox, QProgressDialog

import napari_restore as nr
from napari_restore.errors import Cancelled
from napari_restore.plugin.tasks import waiting_dialog

pytestmark = [pytest.mark.viewer, pytest.mark.binding]

VRT = (
    '<VRTDataset rasterXSize="64" rasterYSize="48"><VRTRasterBand dataType="Byte" band="1">'
    '<SimpleSource><SourceFilename relativeToVRT="1">../elsewhere/pixels.tif</SourceFilename>'
    "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
)


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    """A VRT that takes its pixels from another folder."""
    import numpy as np
    import rasterio

    source = tmp_path / "elsewhere" / "pixels.tif"
    source.parent.mkdir()
    shape = {"height": 48, "width": 64, "count": 1, "dtype": "uint8"}
    with rasterio.open(source, "w", driver="GTiff", **shape) as new:
        new.write(np.full((1, 48, 64), 7, np.uint8))
    path = tmp_path / "images" / "scene.vrt"
    path.parent.mkdir()
    path.write_text(VRT)
    return path


@pytest.fixture
def answer(qapp: Any) -> Callable[[Callable[[Any], bool]], list[Any]]:
    """Calls a function with the dialog that is open until it says True; the dialogs it saw."""
    seen: list[Any] = []

    def start(act: Callable[[Any], bool]) -> list[Any]:
        def look() -> None:
            dialog = qapp.activeModalWidget()
            if dialog is not None and act(dialog):
                seen.append(dialog)
                timer.stop()

        timer = QTimer(qapp)
        timer.timeout.connect(look)
        timer.start(20)
        return seen

    return start


@pytest.mark.parametrize("word", ["Read them", "No"])
@pytest.mark.ids("slow", "Read them")
def test_files_elsewhere_are_read_after_a_yes(
    word: str,
    outer: Path,
    make_napari_viewer: Any,
    answer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a busy machine the dialog of what takes long would come first.
    monkeypatch.setattr(waiting_dialog, "PATIENCE", 60.0)
    viewer = make_napari_viewer()
    reported: list[str] = []

    def click(dialog: Any) -> bool:
        assert isinstance(dialog, QMessageBox)
        reported.append(dialog.text())
        assert dialog.defaultButton().text() == "No"
        next(button for button in dialog.buttons() if button.text() == word).click()
        return True

    seen = answer(click)
    viewer.open(outer, plugin="napari-restore")
    assert len(seen) == 1 and "pixels.tif" in reported[0] and "outside" in reported[0]
    if word == "No":
        assert len(viewer.layers) == 0
        return
    (layer,) = viewer.layers
    image = layer.metadata["napari_restore"]
    assert image.read((0, 0, 1, 1)).item() == 7
    # The copied command and the child process read the same.
    assert image.spec["allow_outside"]


def test_opening_can_be_cancelled(
    sample: Path, make_napari_viewer: Any, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer()
    reported = threading.Event()

    def endless(*_: Any, cancelled: Any, **options: Any) -> Any:
        while not cancelled():
            pass
        reported.set()
        raise Cancelled("Opening the file was cancelled.")

    def cancel(dialog: Any) -> bool:
        assert isinstance(dialog, QProgressDialog)
        assert sample.name in dialog.labelText()
        assert dialog.findChild(QLabel).textFormat() == Qt.TextFormat.PlainText
        dialog.canceled.emit()
        return True

    monkeypatch.setattr(waiting_dialog, "PATIENCE", 0.0)
    monkeypatch.setattr(nr, "open_image", endless)
    answer(cancel)
    viewer.open(sample, plugin="napari-restore")
    assert len(viewer.layers) == 0
    assert reported.wait(patience())


@pytest.mark.slow
def test_what_takes_long_is_opened_in_the_end(
    sample: Path, make_napari_viewer: Any, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer()
    shown = threading.Event()
    opened = nr.open_image

    def slow(*given: Any, **options: Any) -> Any:
        assert shown.wait(patience())
        return opened(*given, **options)

    monkeypatch.setattr(waiting_dialog, "PATIENCE", 0.0)
    monkeypatch.setattr(nr, "open_image", slow)
    answer(lambda dialog: shown.set() or True)
    viewer.open(sample, plugin="napari-restore")
    assert len(viewer.layers) == 1
