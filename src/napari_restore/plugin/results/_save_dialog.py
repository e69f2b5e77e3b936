"""Dialogs for saving a result: the name of the file, and the progress of writing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QProgressDialog, QWidget

from napari_restore._format import format_seconds
from napari_restore.errors import BadOutput, Cancelled
from napari_restore.plugin._notices import show_problem
from napari_restore.plugin.results._save_task import SaveTask

if TYPE_CHECKING:
    from napari_restore.engine import Result

PATIENCE_MS = 500
"""A file that takes no longer is written without a dialog."""


def ask_save_path(
    parent: QWidget, title: str, proposed: Path, kind: str, suffixes: Sequence[str] = ()
) -> Path | None:
    """Return the name the user chooses, with `proposed`'s suffix unless it has one; None for none.

    `kind` is what such files are called, `suffixes` are all they may have. The dialog asks before
    an existing file is chosen. A zarr store is a folder, which the dialog enters; a name inside
    one is refused.
    """
    suffix = proposed.suffix
    shown = " ".join(f"*{known}" for known in suffixes or (suffix,))
    # The folder, not the path: a folder of that name would be entered.
    dialog = QFileDialog(parent, title, str(proposed.parent), f"{kind} ({shown})")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    # Added by the dialog, so that it asks about the name that is written.
    dialog.setDefaultSuffix(suffix[1:])
    dialog.selectFile(proposed.name)
    try:
        chosen = Path(dialog.selectedFiles()[0]) if dialog.exec() else None
    finally:
        dialog.deleteLater()
    store = None if chosen is None else store_around(chosen)
    if store is not None:
        show_problem(
            BadOutput(
                f"{store.name} is a zarr store that exists: nothing is saved inside it.",
                "Choose another name, or delete the store first.",
            )
        )
        return None
    return chosen


def store_around(path: Path) -> Path | None:
    """Return the zarr store inside which `path` lies, or None."""
    inside = [folder for folder in path.parents if _is_store(folder)]
    return inside[-1] if inside else None


def _is_store(folder: Path) -> bool:
    marks = ("zarr.json", ".zgroup", ".zarray")
    return folder.suffix.lower() == ".zarr" or any((folder / mark).exists() for mark in marks)


def save_with_dialog(result: Result, path: Path) -> Path:
    """Save on another thread and wait, in the GUI thread; a dialog appears when it takes long.

    Raises `BadOutput`, `Cancelled`.
    """
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
    saving.start(loop)
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
