"""Saves a restored layer from napari's File menu, as the panel's export does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_restore.errors import BadOutput, Cancelled

PATIENCE_MS = 500
"""A file that takes no longer is written without a word."""


def write_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the result that a layer shows; `data` is what the screen needs, not what is saved.

    napari has asked the user before it comes here with the name of an existing file, so
    that is replaced; the source is not. napari also offers this writer first for
    layers that have nothing to do with us: they are left to its own writer.
    Raises `BadOutput`, `Cancelled`.
    """
    metadata = attributes.get("metadata", {})
    result = metadata.get("napari_restore_result")
    if result is None:
        return _write_foreign(path, data, attributes)
    return [str(_save(result, Path(path)))]


def _save(result: Any, path: Path) -> Path:
    """Save on another thread and wait for it: napari wants the file when we return.

    In a window a dialog appears when it takes long. It keeps everything else of
    napari shut meanwhile, shows how far it is, and can cancel.
    """
    from qtpy.QtCore import QThread
    from qtpy.QtWidgets import QApplication

    app = QApplication.instance()
    if app is None or QThread.currentThread() is not app.thread():
        from napari_restore.plugin.results._save_task import save

        return save(result, path, {})
    return _save_with_dialog(result, path)


def _save_with_dialog(result: Any, path: Path) -> Path:
    from qtpy.QtCore import QEventLoop, Qt, QTimer
    from qtpy.QtWidgets import QApplication, QProgressDialog

    from napari_restore._format import format_seconds
    from napari_restore.plugin.results._save_task import SaveTask

    text = f"Writing {path.name}"
    dialog = QProgressDialog(text, "Cancel", 0, 0, QApplication.activeWindow())
    dialog.setWindowTitle("Save")
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setAutoReset(False)
    dialog.setAutoClose(False)
    dialog.reset()  # else it shows itself after a while of its own
    loop = QEventLoop()
    outcomes: list[tuple[str, Any]] = []
    saving = SaveTask(result, path, {})

    def on_progress(done: int, total: int, left: float | None) -> None:
        dialog.setRange(0, max(1, total))
        dialog.setValue(min(done, total))
        dialog.setLabelText(text if left is None else f"{text}\n{format_seconds(left)} left")

    def on_ended(*outcome: Any) -> None:
        outcomes.append(outcome)
        loop.quit()

    saving.progressed.connect(on_progress)
    saving.ended.connect(on_ended)
    dialog.canceled.connect(saving.cancel)
    QTimer.singleShot(PATIENCE_MS, lambda: None if outcomes else dialog.show())
    saving.start()
    # Until the dialog keeps them away, clicks wait.
    while not outcomes and not dialog.isVisible():
        QApplication.processEvents(
            QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents
            | QEventLoop.ProcessEventsFlag.WaitForMoreEvents
        )
    if not outcomes:
        loop.exec()
    dialog.close()
    dialog.deleteLater()
    status, outcome = outcomes[0]
    if status == "failed":
        raise outcome
    if status == "cancelled":
        raise Cancelled(f"{path.name} was not written.", "Save the layer again to write it.")
    written: Path = outcome
    return written


def _write_foreign(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    name = attributes.get("name", "This layer")
    if "napari_restore_source" in attributes.get("metadata", {}):
        raise BadOutput(f"{name} is not finished.", "Run it to its end, then save it.")
    from napari_builtins.io import napari_write_image  # type: ignore[import-untyped]

    written = napari_write_image(path, data, attributes)
    if not written:
        raise BadOutput(
            f"napari cannot write {name} as {Path(path).suffix}.", "Save it as .tif or .png."
        )
    return [written]
