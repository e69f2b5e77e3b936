"""Results of an image that lie in the cache from earlier, to show or resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_restore import api
from napari_restore.errors import RestoreError, escape_controls
from napari_restore.plugin.method._model_files_dialog import TrustDialog
from napari_restore.plugin.tasks._background import in_background
from napari_restore.plugin.tasks._notices import show_problem

if TYPE_CHECKING:
    from napari_restore.engine import KeptResult, Result
    from napari_restore.images import Image


ROWS_SHOWN = 6
"""The newest; older ones follow when these are deleted or shown."""


class EarlierResults(QWidget):
    """One row per earlier result: Show or Go on, and Delete.

    Searching, planning and deleting happen on other threads; a result for an image
    that is no longer the chosen one is dropped.
    """

    shown = Signal(object, object)
    """The `KeptResult` to show and its `Result`."""
    resume_requested = Signal(object, bool)
    """The unfinished `KeptResult` whose Go on was clicked; whether code of its model may run."""
    delete_requested = Signal(object)
    """The `KeptResult` whose Delete was clicked."""
    found = Signal(list)
    """The results that a search has found."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[EarlierRow] = []
        self._image: Image | None = None
        self._known: Callable[[KeptResult], bool] = lambda kept: False
        self._searches = 0
        self.dialog: TrustDialog | None = None
        self.title = QLabel("From earlier", self)
        self.title.setToolTip("Results of this image that are kept in the cache")
        self._list = QVBoxLayout()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addLayout(self._list)
        self.hide()

    def search(self, image: Image | None, known: Callable[[KeptResult], bool]) -> None:
        """Find what the cache has of `image`, less what is `known`; soon, on another thread."""
        if image is not self._image:
            self._show([])
        self._image, self._known = image, known
        self._searches = number = self._searches + 1
        if image is None or image.spec is None:
            return
        in_background(partial(_result_or_error, api.kept_results, image), self._on_found, number)

    def discard(self) -> None:
        """Drop the results of searches under way."""
        self._searches += 1
        self._image = None

    def _on_found(self, number: int, result: list[KeptResult] | RestoreError) -> None:
        if number != self._searches:
            return
        # That an image cannot be read is reported elsewhere.
        kept = [] if isinstance(result, RestoreError) else result
        kept = [one for one in kept if not self._known(one)]
        self._show(kept)
        self.found.emit(kept)

    def _show(self, kept: list[KeptResult]) -> None:
        for row in self.rows:
            self._list.removeWidget(row)
            row.hide()
            row.deleteLater()
        self.rows = [EarlierRow(one, self) for one in kept[:ROWS_SHOWN]]
        more = len(kept) - len(self.rows)
        self.title.setText(f"From earlier, and {more} older" if more else "From earlier")
        for row in self.rows:
            row.open.clicked.connect(lambda *_, row=row: self._on_open(row))
            row.delete.clicked.connect(lambda *_, row=row: self.delete_requested.emit(row.kept))
            self._list.addWidget(row)
        self.setVisible(bool(kept))

    def _on_open(self, row: EarlierRow) -> None:
        model = str(row.kept.task["model"]["model"])
        code = api.code_file(model)
        if code is None:
            self._open(row, trust=False)
            return
        # An entry in the cache is no consent of the user's.
        self.dialog = TrustDialog(Path(code), [], self)
        self.dialog.accepted.connect(partial(self._open, row, trust=True))
        self.dialog.open()

    def _open(self, row: EarlierRow, *, trust: bool) -> None:
        image, kept = self._image, row.kept
        if image is None or row not in self.rows:
            return
        if not kept.complete:
            self.resume_requested.emit(kept, trust)
            return
        row.busy(True)
        open_it = partial(_result_or_error, partial(api.result_of_kept, trust=trust), kept, image)
        in_background(open_it, self._on_opened, image, kept)

    def _on_opened(self, image: Image, kept: KeptResult, result: Result | RestoreError) -> None:
        for row in self.rows:
            if row.kept is kept:
                row.busy(False)
        if image is not self._image:
            return
        if isinstance(result, RestoreError):
            show_problem(result)
        else:
            self.shown.emit(kept, result)


class EarlierRow(QWidget):
    """One earlier result."""

    def __init__(self, kept: KeptResult, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kept = kept
        label = QElidingLabel(_description(kept), self)
        label.setToolTip(_description(kept))
        self.open = QPushButton("Show" if kept.complete else "Go on", self)
        self.open.setToolTip(
            "Show it again, without running" if kept.complete else "Run what is left of it"
        )
        self.delete = QPushButton("Delete …", self)
        self.delete.setToolTip("Remove it from the cache")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(label, 1)
        layout.addWidget(self.open)
        layout.addWidget(self.delete)

    def busy(self, busy: bool) -> None:
        """Disable the row while its result is being opened."""
        self.open.setEnabled(not busy)
        self.delete.setEnabled(not busy)


def _description(kept: KeptResult) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.used))
    state = "" if kept.complete else f" · {kept.finished:.0%} finished"
    return f"{escape_controls(kept.title)} · {when}{state}"


def _result_or_error(compute: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of `compute`, or the error to show."""
    try:
        return compute(*arguments)
    except RestoreError as error:
        return error
    except Exception as error:
        return RestoreError(f"The earlier result cannot be opened: {error}", "Run it again.")
