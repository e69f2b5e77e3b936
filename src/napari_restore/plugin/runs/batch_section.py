"""Several images with the same settings: selected layers, or a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psygnal
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QProgressBar

from napari_restore import api
from napari_restore.errors import BadOutput, Message, RestoreError, UnreadableImage
from napari_restore.plugin.areas.areas import area_of
from napari_restore.plugin.layers.layer_order import is_source
from napari_restore.plugin.runs.run_controller import FolderRun
from napari_restore.plugin.state.state import RestoreState, image_of, named_as, title_of
from napari_restore.plugin.tasks.notices import error_text, listed, show_problem, with_labels
from napari_restore.plugin.tasks.task import LatestQuery
from napari_restore.plugin.widgets.folding import add_button, bring_into_view, column_of, row_of
from napari_restore.plugin.widgets.section import Section
from napari_restore.plugin.widgets.wrapped_label import WrappedLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin.runs.run_controller import RunController
    from napari_restore.plugin.state.request import RunRequest


Failure = tuple[str, str]
"""Name of a layer, and the sentence that says why it was not restored."""


class LayerQueue(QObject):
    """Restores layers one after another with the settings there were at the beginning."""

    # While another run is under way, the next layer waits for its end.

    message = psygnal.Signal(str)
    """Which layer is restored now."""
    ended = psygnal.Signal(str, list)
    """Once: how many were restored, and each `Failure`."""

    def __init__(
        self,
        viewer: ViewerModel,
        state: RestoreState,
        layers: list[ImageLayer],
        runs: RunController,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._state, self._runs = viewer, state, runs
        self._waiting = list(layers)
        self._count = len(layers)
        self._done = 0
        self._failures: list[Failure] = []
        self._layer: ImageLayer | None = None
        """The layer whose turn it is."""
        self._name = ""
        self._next: RunRequest | None = None
        """The request of `_layer`, while another run is under way."""
        self._running: RunRequest | None = None
        """The request of `_layer`, while its run is under way."""
        self._query = LatestQuery("The area cannot be found", self, self._on_area)
        # Changes of the settings are for later runs.
        self._settings = replace(state)
        runs.ended.connect(self._on_run_ended)

    def stop(self) -> None:
        """Drop all layers that wait, and cancel the run under way if it is one of the queue's."""
        self._waiting.clear()
        self._query.discard()
        self._layer = self._next = None
        if self._running is None:
            self._end(cancelled=True)
        else:
            self._runs.cancel()

    def start_next(self) -> None:
        """Find the area of the next layer, which is then restored; end after the last."""
        while self._waiting:
            self._layer = self._waiting.pop(0)
            self._name = self._layer.name
            number = self._done + len(self._failures) + 1
            self.message.emit(f"{number} of {self._count}: {self._name}")
            try:
                if self._is_removed:
                    raise self._removed
                image = image_of(self._layer)
                find = area_of(self._settings, self._viewer, self._layer, image)
            except RestoreError as error:
                self._failures.append((self._name, error_text(error)))
            else:
                self._query.submit(number, find)
                return
        self._end()

    @property
    def _is_removed(self) -> bool:
        """Whether the present layer has left the viewer."""
        return self._layer is not None and self._layer not in self._viewer.layers

    @property
    def _removed(self) -> UnreadableImage:
        return UnreadableImage(f"{self._name} was removed.", "Open it again.")

    def _on_area(self, _: Any, area: Any) -> None:
        layer = self._layer
        assert layer is not None
        if isinstance(area, RestoreError):
            self._fail(area)
            return
        # Bands and sensor are named for each layer by itself.
        settings = self._settings
        settings.layer, settings.named = layer, named_as(layer)
        self._next = settings.request(area)
        self._run_next()

    def _run_next(self) -> None:
        """Run the present layer, once no other run is under way."""
        if self._next is None or self._state.running:
            return
        request, self._next = self._next, None
        if self._is_removed:
            self._fail(self._removed)
            return
        assert self._layer is not None
        title = title_of(request.model)
        run = self._runs.start(request, self._layer, title, self._settings.target.value)
        # Its own request: that may name the cluster that is connected by now.
        self._running = None if run is None else run.request

    def _on_run_ended(self, status: str, outcome: Any, request: RunRequest) -> None:
        if request is not self._running:
            self._run_next()
            return
        self._running = None
        if status == "cancelled" and self._is_removed:
            status, outcome = "failed", self._removed
        if status == "cancelled":
            self._waiting.clear()
            self._end(cancelled=True)
            return
        if status == "failed":
            self._fail(outcome)
        else:
            self._done += 1
            self.start_next()

    def _fail(self, error: RestoreError) -> None:
        self._failures.append((self._name, error_text(error)))
        self.start_next()

    def _end(self, *, cancelled: bool = False) -> None:
        self._runs.ended.disconnect(self._on_run_ended)
        text = f"{restored_count(self._done, self._count)}."
        self.ended.emit(f"Cancelled. {text}" if cancelled else text, self._failures)


def restored_count(done: int, count: int) -> str:
    """Return how many of `count` images were restored, as part of a sentence."""
    return f"{done} of {count} images restored"


FOLDERS = {
    False: (
        "Restore folder",
        "Every image of the folder as a whole, with the method set above: "
        "the same as napari-restore restore FOLDER -o RESULTS",
    ),
    True: (
        "Fuse folder",
        "Every bracket of the folder into one file, with the method set above: "
        "the same as napari-restore fuse FOLDER -o RESULTS",
    ),
}
"""Button and tooltip by whether the method fuses brackets."""


class BatchSection(Section):
    """Restores one image after another; failures are listed at the end and stop nothing."""

    TITLE = "Several images"
    TIP = "The same for a whole folder, or for several images that are open"

    def __init__(self, viewer: ViewerModel, state: RestoreState, runs: RunController) -> None:
        super().__init__(viewer, state)
        self._runs = runs
        self.queue: LayerQueue | None = None
        self.folder: FolderRun | None = None
        self._into = ""
        """Where the results of `folder` go."""
        self._build()
        layers, events = viewer.layers, state.events
        self.listen(self._show_what_fits, layers.selection.events.changed, layers.events.removed)
        self.listen(self._show_what_fits, events.running, events.layer, events.method)
        self._show_what_fits()

    def _build(self) -> None:
        self.layers = add_button(
            self,
            "",
            "Those selected in the layer list, one after another, "
            "each with the method and the area that are set above",
        )
        self.planes = add_button(
            self,
            "Restore all planes …",
            "Every plane of the stack as a whole, with the method set above, into one file with the "
            "same axes: the same as napari-restore restore STACK -o FILE --plane all",
        )
        self.source, self.target = QLineEdit(self), QLineEdit(self)
        self.source.setPlaceholderText("folder with images")
        self.target.setPlaceholderText("folder for the results")
        self.start_folder = add_button(self, "", slot=self.restore_folder)
        self.cancel = add_button(self, "Cancel", slot=self.stop)
        self.progress = QProgressBar(self)
        self.message = WrappedLabel("", self)
        folders = (
            self._row(self.source, "Folder with images"),
            self._row(self.target, "Results"),
            self.start_folder,
        )
        column_of(
            self, self.layers, self.planes, *folders, self.progress, self.cancel, self.message
        )
        self.layers.clicked.connect(self.restore_layers)
        self.planes.clicked.connect(self.ask_for_stack)
        self.source.textChanged.connect(self._show_what_fits)
        self.target.textChanged.connect(self._show_what_fits)

    def _row(self, line: QLineEdit, title: str) -> QHBoxLayout:
        browse = add_button(self, "…", title)
        browse.setFixedWidth(32)
        line.setToolTip(title)
        line.setAccessibleName(title)
        browse.setAccessibleName(f"{title} …")

        def choose_folder() -> None:
            chosen = QFileDialog.getExistingDirectory(self, title, line.text())
            if chosen:
                line.setText(chosen)

        browse.clicked.connect(choose_folder)
        return row_of(line, browse)

    # -- layers ------------------------------------------------------------------

    def chosen_layers(self) -> list[ImageLayer]:
        """Return the selected layers that can be restored, the lowest first."""
        selected = self.viewer.layers.selection
        return [x for x in self.viewer.layers if x in selected and is_source(x)]

    def restore_layers(self) -> None:
        if self.is_busy or self._must_wait(self.restore_layers):
            return
        queue = LayerQueue(self.viewer, self.state, self.chosen_layers(), self._runs, self)
        queue.message.connect(self.message.setText)
        queue.ended.connect(self.finish)
        self.queue = queue
        self._begin()
        queue.start_next()

    # -- folders -----------------------------------------------------------------

    def restore_folder(self) -> None:
        """Restore all images of the one folder into the other, as the command does."""
        source, target = self.source.text(), self.target.text()
        self._start(partial(folder_arguments, self.state, source, target), target)

    def ask_for_stack(self) -> None:
        """Ask for a file, and restore all planes of the stack into it."""
        name, _ = QFileDialog.getSaveFileName(self, "Restored planes", "", "Stacks (*.tif *.zarr)")
        if name:
            self.restore_planes(name)

    def restore_planes(self, output: str) -> None:
        """Restore all planes of the stack into a file, as the command does."""
        self._start(partial(planes_arguments, self.state, output), output)

    def _start(self, arguments_of: Callable[[], list[str]], into: str) -> None:
        if self.is_busy or self._must_wait(partial(self._start, arguments_of, into)):
            return
        try:
            arguments = arguments_of()
        except RestoreError as error:
            show_problem(error)
            return
        self._into = into
        make = partial(FolderRun, arguments, self._runs.worker)
        self.folder = self._runs.begin(make, "Folders are")
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

    def _on_folder(self, status: str, outcome: Any) -> None:
        self.folder = None
        problems: list[tuple[str, str]] = []
        if status == "cancelled":
            text = "Cancelled. The same folder goes on where it was."
        elif status == "failed":
            text = error_text(outcome)
        else:
            problems = [
                (Path(image["source"]).name, with_labels(Message(image["error"])))
                for image in outcome
                if image["status"] == "failed"
            ]
            done = len(outcome) - len(problems)
            text = f"{restored_count(done, len(outcome))} in {self._into}."
        self.finish(text, problems)

    # -- both --------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return self.queue is not None or self.folder is not None or self.state.running

    def stop(self) -> None:
        """Stop what is under way, and drop what waits."""
        self.message.setText("Stopping after the tiles in hand …")
        if self.folder is not None:
            self.folder.cancel()
        elif self.queue is not None:
            self.queue.stop()

    def finish(self, text: str, problems: list[tuple[str, str]]) -> None:
        """Show how it ended; `problems` are names and sentences."""
        self.queue = None
        self.message.setText(listed(text, problems))
        self._show_what_fits()
        # Also where it is seen whatever is unfolded: the outcome, and the first that failed.
        self._runs.message.emit(listed(text, problems[:1]))
        if self.message.isVisible():
            bring_into_view(self.message)

    def leave(self) -> None:
        if self.queue is not None:
            self.queue.stop()
        self.queue = self.folder = None

    def _must_wait(self, then: Callable[[], None]) -> bool:
        """Return whether a mask is still being made; `then` is called once it is there."""
        problem = self.state.not_ready
        if problem is not None:
            self._tell(problem)
            self._runs.plans.when_ready(then, self._tell)
        return problem is not None

    def _tell(self, problem: RestoreError) -> None:
        self.message.setText(error_text(problem))

    def _begin(self) -> None:
        self.message.setText("")
        self.progress.setRange(0, 0)
        self._show_what_fits()

    def _show_what_fits(self) -> None:
        count, busy = len(self.chosen_layers()), self.is_busy
        self.layers.setText(f"Restore {count} selected" if count > 1 else "Select two or more")
        self.layers.setEnabled(count > 1 and not busy)
        layer = self.state.layer
        # The layer is set before its image is one that can be restored.
        image = None if layer is None else layer.metadata.get("napari_restore")
        self.planes.setVisible(image is not None and image.planes.count > 1)
        self.planes.setEnabled(not busy)
        title, tip = FOLDERS[fuses(self.state)]
        self.start_folder.setText(title)
        self.start_folder.setToolTip(tip)
        named = bool(self.source.text().strip() and self.target.text().strip())
        self.start_folder.setEnabled(named and not busy)
        is_own = self.queue is not None or self.folder is not None
        self.cancel.setVisible(is_own)
        self.progress.setVisible(self.folder is not None)


def folder_arguments(state: RestoreState, source: str, target: str) -> list[str]:
    """Return the arguments of the command that restores a folder with the panel's settings; raises `RestoreError`."""
    folder, output = Path(source.strip()).expanduser(), Path(target.strip()).expanduser()
    if not folder.is_dir():
        raise UnreadableImage(f"{folder} is no folder.", "Choose the folder with the images.")
    if output.exists() and not output.is_dir():
        raise BadOutput(f"{output} is a file.", "Choose a folder for the results.")
    return _command(state, folder, output)


def planes_arguments(state: RestoreState, output: str) -> list[str]:
    """Return the arguments of the command that restores all planes of the layer's file; raises `RestoreError`."""
    image = None if state.layer is None else image_of(state.layer)
    if image is None or image.path is None:
        raise UnreadableImage("The layer shows no file.", "Open the stack itself.")
    # The dialog has asked whether to replace it.
    replace = ["--overwrite"] if Path(output).exists() else []
    return [*_command(state, image.path, Path(output), planes="all"), *replace]


def fuses(state: RestoreState) -> bool:
    """Return whether the method that is set takes the frames of brackets."""
    card = state.method.card
    return card is not None and card.inputs != 1


def _command(
    state: RestoreState, source: Path, output: Path, planes: str | None = None
) -> list[str]:
    method = state.method
    model = {
        "model": method.model,
        "weights": method.weights,
        "parameters": method.parameters,
        "code": method.trust,
    }
    adjustment = {} if state.current is None else asdict(state.current.look)
    options = state.options.replacing(**adjustment)
    # Its images are read as the one that the panel shows.
    named: dict[str, Any] = {**state.named._asdict(), "planes": planes}
    if not fuses(state):
        return api.folder_command(source, output, model, **named, **options.keywords())
    whole = [] if state.crop else ["--no-crop"]
    return [*api.folder_command(source, output, model, brackets=True, **options.keywords()), *whole]
