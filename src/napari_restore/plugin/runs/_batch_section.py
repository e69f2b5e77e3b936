"""Several images with the same settings: selected layers, or a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
)

from napari_restore import api
from napari_restore.errors import BadOutput, RestoreError, UnreadableImage
from napari_restore.plugin.layers._layer_order import is_source
from napari_restore.plugin.runs._layer_queue import LayerQueue, restored_count
from napari_restore.plugin.tasks._notices import error_text, show_problem, with_labels_for_flags
from napari_restore.plugin.widgets._section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin.runs._folder_run import FolderRun
    from napari_restore.plugin.runs._run_controller import RunController
    from napari_restore.plugin.state._state import RestoreState

SHOWN = 8
"""Problems that are listed; more are counted."""


class BatchSection(Section):
    """Restores one image after another; failures are listed at the end and stop nothing."""

    TITLE = "Several images"

    def __init__(self, viewer: ViewerModel, state: RestoreState, runs: RunController) -> None:
        super().__init__(viewer, state)
        self._runs = runs
        self.queue: LayerQueue | None = None
        self.folder: FolderRun | None = None
        self._waiting: Callable[[], None] | None = None
        """Called once the mask of excluded pixels is there."""
        self._build()
        self.listen(viewer.layers.selection.events.changed, self._show_what_fits)
        self.listen(viewer.layers.events.removed, self._show_what_fits)
        self.listen(state.events.running, self._show_what_fits)
        self.listen(state.events.exclude_pending, self._on_pending)
        self._show_what_fits()

    def _build(self) -> None:
        self.layers = QPushButton(self)
        self.layers.setToolTip(
            "Those selected in the layer list, one after another, "
            "each with the method and the area that are set above"
        )
        self.source, self.target = QLineEdit(self), QLineEdit(self)
        self.source.setPlaceholderText("folder with images")
        self.target.setPlaceholderText("folder for the results")
        self.start_folder = QPushButton("Restore folder", self)
        self.start_folder.setToolTip(
            "Every image of the folder as a whole, with the method set above: "
            "the same as napari-restore restore FOLDER -o RESULTS"
        )
        self.cancel = QPushButton("Cancel", self)
        self.progress = QProgressBar(self)
        self.message = QLabel(self)
        self.message.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.layers)
        for line, title in ((self.source, "Folder with images"), (self.target, "Results")):
            layout.addLayout(self._row(line, title))
        for widget in (self.start_folder, self.progress, self.cancel, self.message):
            layout.addWidget(widget)
        self.layers.clicked.connect(self.restore_layers)
        self.start_folder.clicked.connect(self.restore_folder)
        self.cancel.clicked.connect(self.stop)
        self.source.textChanged.connect(self._show_what_fits)
        self.target.textChanged.connect(self._show_what_fits)

    def _row(self, line: QLineEdit, title: str) -> QHBoxLayout:
        browse = QPushButton("…", self)
        browse.setFixedWidth(32)
        browse.setToolTip(title)
        line.setToolTip(title)

        def choose_folder() -> None:
            chosen = QFileDialog.getExistingDirectory(self, title, line.text())
            if chosen:
                line.setText(chosen)

        browse.clicked.connect(choose_folder)
        row = QHBoxLayout()
        row.addWidget(line, 1)
        row.addWidget(browse)
        return row

    # -- layers ------------------------------------------------------------------

    def chosen_layers(self) -> list[ImageLayer]:
        """Return the selected layers that can be restored, the lowest first."""
        selected = self.viewer.layers.selection
        return [x for x in self.viewer.layers if x in selected and is_source(x)]

    def restore_layers(self) -> None:
        """Restore the selected layers, each in a layer of its own."""
        if self.is_busy or self._must_wait(self.restore_layers):
            return
        queue = LayerQueue(self.viewer, self.state, self.chosen_layers(), self._runs, self)
        queue.message.connect(self._on_message)
        queue.ended.connect(self.finish)
        self.queue = queue
        self._begin()
        queue.start()

    def _on_message(self, text: str) -> None:
        self.message.setText(text)

    # -- folders -----------------------------------------------------------------

    def restore_folder(self) -> None:
        """Restore all images of the one folder into the other, as the command does."""
        if self.is_busy or self._must_wait(self.restore_folder):
            return
        try:
            arguments = folder_arguments(self.state, self.source.text(), self.target.text())
        except RestoreError as error:
            show_problem(error)
            return
        self.folder = self._runs.restore_folder(arguments)
        if self.folder is not None:
            self.folder.image_started.connect(self._on_image)
            self.folder.progressed.connect(self._on_progress)
            self.folder.ended.connect(self._on_folder)
            self._begin()
            self.message.setText("Loading the method …")

    def _on_image(self, name: str, number: int, images: int) -> None:
        self.message.setText(f"{number} of {images}: {name}")
        self.progress.setRange(0, 0)

    def _on_progress(self, done: int, total: int) -> None:
        self.progress.setRange(0, max(1, total))
        self.progress.setValue(done)

    def _on_folder(self, status: str, output: dict[str, Any]) -> None:
        self.folder = None
        images = output.get("images", [])
        done = sum(image["status"] != "failed" for image in images)
        problems = [
            (Path(image["input"][0]).name, with_labels_for_flags(image["error"]["message"]))
            for image in images
            if image["status"] == "failed"
        ]
        if status == "cancelled":
            text = "Cancelled. The same folder goes on where it was."
        elif status == "failed":
            error = output["error"]
            text = with_labels_for_flags(f"{error['message']} {error.get('hint') or ''}".strip())
        else:
            text = f"{restored_count(done, len(images))} in {self.target.text()}."
        self.finish(text, problems)

    # -- both --------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a queue, a folder or another task is under way."""
        return self.queue is not None or self.folder is not None or self.state.running

    def stop(self) -> None:
        """Stop what is under way, and drop what waits."""
        self.message.setText("Stopping after the tiles in hand …")
        if self.folder is not None:
            self.folder.cancel()
        elif self.queue is not None:
            is_own = self.queue.is_running
            self.queue.clear()
            if is_own:
                self._runs.cancel()

    def finish(self, text: str, problems: list[tuple[str, str]]) -> None:
        """Show how it ended; `problems` are names and sentences."""
        self.queue = None
        lines = [text, *(f"{name}: {problem}" for name, problem in problems[:SHOWN])]
        if len(problems) > SHOWN:
            lines.append(f"and {len(problems) - SHOWN} more")
        self.message.setText("\n".join(lines))
        self._show_what_fits()

    def leave(self) -> None:
        super().leave()
        if self.queue is not None:
            self.queue.clear()
        self.queue = self.folder = None

    def _must_wait(self, then: Callable[[], None]) -> bool:
        """Return whether a mask is still being made; `then` is called once it is there."""
        problem = self.state.not_ready
        self._waiting = None if problem is None else then
        if problem is not None:
            self.message.setText(error_text(problem))
        return problem is not None

    def _on_pending(self, pending: bool) -> None:
        then = self._waiting
        if pending or then is None:
            return
        self._waiting = None
        if self.state.exclude_problem is None:
            then()
        else:
            self.message.setText(error_text(self.state.exclude_problem))

    def _begin(self) -> None:
        self.message.setText("")
        self.progress.setRange(0, 0)
        self._show_what_fits()

    def _show_what_fits(self) -> None:
        count, busy = len(self.chosen_layers()), self.is_busy
        self.layers.setText(f"Restore {count} selected" if count > 1 else "Select two or more")
        self.layers.setEnabled(count > 1 and not busy)
        named = bool(self.source.text().strip() and self.target.text().strip())
        self.start_folder.setEnabled(named and not busy)
        is_own = self.queue is not None or self.folder is not None
        self.cancel.setVisible(is_own)
        self.progress.setVisible(self.folder is not None)


def folder_arguments(state: RestoreState, source: str, target: str) -> list[str]:
    """Return the arguments of the command that restores a folder with the panel's settings.

    Raises `RestoreError` where a folder is missing.
    """
    folder, output = Path(source.strip()).expanduser(), Path(target.strip()).expanduser()
    if not folder.is_dir():
        raise UnreadableImage(f"{folder} is no folder.", "Choose the folder with the images.")
    if output.exists() and not output.is_dir():
        raise BadOutput(f"{output} is a file.", "Choose a folder for the results.")
    model = {
        "model": state.model,
        "weights": state.weights,
        "parameters": state.parameters,
        "code": state.trust,
    }
    adjustment = {} if state.current is None else asdict(state.current.adjustment)
    options = state.options.replacing(**adjustment)
    # Its images are read as the one that the panel shows.
    named = {"bands": state.bands, "sensor": state.sensor}
    return api.folder_command(folder, output, model, **named, **options.keywords())
