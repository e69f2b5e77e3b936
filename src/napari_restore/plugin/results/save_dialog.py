"""Dialogs for saving a result: the name of the file, and the progress of writing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QApplication, QFileDialog, QWidget

from napari_restore import api
from napari_restore._format import size_of
from napari_restore.errors import BadOutput, Cancelled, RestoreError
from napari_restore.plugin.tasks.notices import error_text, show_problem
from napari_restore.plugin.tasks.task import Task, in_background
from napari_restore.plugin.tasks.waiting_dialog import wait_for

if TYPE_CHECKING:
    from napari_restore.engine import Result
    from napari_restore.images import Image


SECONDS_BETWEEN_REPORTS = 0.1

Report = Callable[[int, int], None]


def copy_command(command: Callable[[], str], output: Callable[[], Path]) -> tuple[str, str]:
    """Put what `command` returns on the clipboard; return a sentence about it, and the command.

    `output` returns the file it writes. Where there is none the sentence says why, as does a
    notification.
    """
    try:
        line, path = command(), output()
    except RestoreError as error:
        show_problem(error)
        return error_text(error), ""
    QApplication.clipboard().setText(line)
    there = f" {path.name} exists, and the command says how to replace it." if path.exists() else ""
    return f"Copied: paste it into a terminal.{there}", line


def save(
    result: Result,
    path: Path,
    options: Mapping[str, Any],
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Write what `result` shows, verified, then renamed; raises `BadOutput`, `Cancelled`, `DiskFull`."""
    # The dialog of the name asks about replacing a file; the source is never replaced.
    api.check_output(path, result.like, overwrite=True, region=result.region, **options)
    written = result.save(path, overwrite=True, progress=progress, cancelled=cancelled, **options)
    output = result.record.get("output")
    if output is not None:
        output["options"] = dict(options)
    return written


class SaveTask(Task):
    """A result being saved; napari asks before it closes its window over it.

    Nothing is left behind of one that is cancelled. Sends rows done, rows in all, and seconds left or
    None; `ended` gives the path.
    """

    def __init__(self, result: Result, path: Path, options: Mapping[str, Any]) -> None:
        super().__init__(
            name=f"export to {path.name}",
            failure=f"{path.name} was not written",
            hint="Try another format.",
        )
        self.result = result
        self.path = path
        self.size = 0
        """Bytes of what was written, once it was."""
        self._options = dict(options)
        self._reported = self._predicted = 0.0

    def work(self) -> Path:
        clipped = self._options.get("clip") is not None
        planned = api.of_command(self.result.plan, 0.0, clipped=clipped)
        self._predicted = planned.prediction.stages["write"]
        self._began = time.monotonic()
        written = save(self.result, self.path, self._options, self._on_rows, self.stop.is_set)
        # Here: a zarr may have a hundred thousand files.
        self.size = size_of(written)
        return written

    def _on_rows(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._reported < SECONDS_BETWEEN_REPORTS:
            return
        self._reported = now
        left = api.seconds_left(done, total, now - self._began, predicted=self._predicted)
        self.send((done, total, left))


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


class FileSaver:
    """Asks for the names of files about an image, and writes them on another thread."""

    def __init__(self, parent: QWidget, what: str) -> None:
        """Begin in the user's folder; `what` ends the names that are proposed."""
        self._parent, self._what = parent, what
        self.folder = Path.home()
        self._saved: dict[tuple[str, str], Path] = {}

    def proposed(self, image: Image, suffix: str) -> Path:
        """Return the name of the last file of an image; at first one beside it, or in the last folder."""
        beside = Path(image.path).parent if image.path else self.folder
        name = beside / f"{Path(image.name).stem}_{self._what}{suffix}"
        return self._saved.get((image.name, suffix), name)

    def save(
        self, image: Image, title: str, suffixes: Sequence[str], write: Callable[[Path], object]
    ) -> None:
        """Let the user choose a name, and write there."""
        proposed = self.proposed(image, suffixes[0])
        path = ask_save_path(self._parent, f"Save the {title.lower()}", proposed, title, suffixes)
        if path is not None:
            self.folder = path.parent
            self._saved[image.name, path.suffix] = path
            in_background(partial(write, path), _on_written)


def _on_written(answer: Any) -> None:
    if isinstance(answer, RestoreError):
        show_problem(answer)


def store_around(path: Path) -> Path | None:
    """Return the zarr store inside which `path` lies, or None."""
    inside = [folder for folder in path.parents if _is_store(folder)]
    return inside[-1] if inside else None


def _is_store(folder: Path) -> bool:
    marks = ("zarr.json", ".zgroup", ".zarray")
    return folder.suffix.lower() == ".zarr" or any((folder / mark).exists() for mark in marks)


def save_with_dialog(result: Result, path: Path) -> Path:
    """Save on another thread and wait for it, as `wait_for` does; raises `BadOutput`, `Cancelled`."""
    task = SaveTask(result, path, {})
    wait_for(task, "Save", f"Writing {path.name}", for_cancel=True)
    if task.outcome[0] == "cancelled":
        raise Cancelled(f"{path.name} was not written.", "Save the layer again to write it.")
    written: Path = task.value()
    return written
