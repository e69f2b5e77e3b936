"""Takes model files: their card is measured, shown, and confirmed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psygnal
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_restore import api
from napari_restore._format import format_size
from napari_restore.errors import BadOutput, RestoreError
from napari_restore.plugin.method.model_chooser import TASKS, ModelChoice
from napari_restore.plugin.tasks.notices import show_note, show_problem, with_labels
from napari_restore.plugin.tasks.task import Task
from napari_restore.plugin.widgets.editors import combo_of, line_edit
from napari_restore.plugin.widgets.folding import fill, form_layout

if TYPE_CHECKING:
    from napari_restore.engine import Event
    from napari_restore.models import Proposal

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".onnx", ".dtmodel")
CODE = (".pt2", ".py")
"""Files that run on loading; only after a yes."""
WIDTH = 440


class ModelFiles(QObject):
    """From a dropped or chosen file to a model in the chooser."""

    # Nothing of a file runs before the user has allowed it, and nothing is written before the user
    # has seen what it is. Files are inspected on another thread.

    message = psygnal.Signal(str)
    """What is being done, "" when it is over."""
    added = psygnal.Signal(object)
    """The `ModelChoice` that the user confirmed."""

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        self._panel = panel
        self._inspecting: Task | None = None
        self.dialog: QDialog | None = None
        """The question that is open."""
        panel.setAcceptDrops(True)
        panel.installEventFilter(self)

    def ask_for_file(self) -> None:
        patterns = " ".join(f"*{suffix}" for suffix in (*WEIGHTS, *CODE))
        dialog = QFileDialog(self._panel, "Add a model file", "", f"Models ({patterns})")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(self.add_file)
        self._open(dialog)

    def add_file(self, name: str) -> None:
        """Inspect a file; where it has code, after the user allows it to run."""
        path = Path(name)
        if path.suffix.lower() != ".py" and api.code_file(name) is None:
            self._inspect(str(path))
            return
        try:
            factories = api.factories_in(path) if path.suffix.lower() == ".py" else []
        except RestoreError as error:
            show_problem(error)
            return
        dialog = TrustDialog(path, factories, self._panel)
        dialog.accepted.connect(lambda: self._inspect(dialog.source(), trust=True))
        self._open(dialog)

    def leave(self) -> None:
        self._drop()
        self._panel.removeEventFilter(self)
        if self.dialog is not None:
            self.dialog.reject()

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Accept drops of model files; others are left to Qt."""
        kind = event.type()
        if kind in (QEvent.Type.DragEnter, QEvent.Type.Drop):
            files = _model_files(event.mimeData())
            if files:
                event.acceptProposedAction()
                if kind == QEvent.Type.Drop:
                    self.add_file(files[0])
                return True
        return bool(super().eventFilter(watched, event))

    # -- inspecting -----------------------------------------------------------------

    def _inspect(self, source: str, trust: bool = False) -> None:
        self.message.emit(f"Looking at {Path(source).name} …")
        self._drop()
        # Code of others may fail in any way: its author finds where in the log.
        task = Task(
            lambda task: api.inspect_model(source, trust=trust, emit=task.send),
            failure=f"{Path(source).name} cannot be used",
            hint="Check the file.",
        )
        task.sent.connect(self._on_event)
        task.ended.connect(partial(self._on_found, trust))
        self._inspecting = task.start(self)

    def _drop(self) -> None:
        task, self._inspecting = self._inspecting, None
        if task is not None:
            task.abandon()

    def _on_event(self, event: Event) -> None:
        from napari_restore.engine import Progress

        if isinstance(event, Progress):
            self.message.emit(f"Measuring the method: {event.done} s of at most {event.total} s …")

    def _on_found(self, trust: bool, status: str, found: Any) -> None:
        self._inspecting = None
        self.message.emit("")
        if status == "failed":
            show_problem(found)
        if status != "done":
            return
        dialog = ProposalDialog(found, self._panel)
        dialog.accepted.connect(lambda: self._on_confirmed(found, dialog.fields(), trust))
        self._open(dialog)

    def _on_confirmed(self, found: Proposal, fields: dict[str, Any], trust: bool) -> None:
        card = replace(found.model.card, **fields)
        choice = ModelChoice(card, found.source, trust=trust)
        if not found.known and found.card:
            try:
                api.save_card(found, **fields)
            except BadOutput as error:
                network = found.card.get("model")
                if network is None:
                    show_problem(error)
                    return
                # Weights of a known network run without a card, too.
                show_note(f"{with_labels(error.message)} It can be used while this panel is open.")
                choice = ModelChoice(card, network, weights=found.source)
            except RestoreError as error:
                show_problem(error)
                return
        self.added.emit(choice)

    def _open(self, dialog: QDialog) -> None:
        if self.dialog is not None:
            self.dialog.reject()
        self.dialog = dialog
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.finished.connect(lambda: self._on_closed(dialog))
        dialog.open()

    def _on_closed(self, dialog: QDialog) -> None:
        if self.dialog is dialog:
            self.dialog = None


class TrustDialog(QDialog):
    """Asks whether the code of a file may run; No unless the user says otherwise."""

    def __init__(self, path: Path, factories: list[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Run this file's code?")
        self._path = path
        kind = "Python code" if path.suffix.lower() == ".py" else "an exported program"
        text = QLabel(
            f"{path.name} is {kind}. It can do anything on this machine that you can. "
            "Run it only if you trust its author.",
            self,
            wordWrap=True,
        )
        self.factory = QComboBox(self)
        self.factory.addItems(factories)
        self.factory.setToolTip("The function of the file that makes the model")
        self.factory.setVisible(bool(factories))
        self.buttons = QDialogButtonBox(self)
        run = self.buttons.addButton("Run it", QDialogButtonBox.ButtonRole.AcceptRole)
        no = self.buttons.addButton("No", QDialogButtonBox.ButtonRole.RejectRole)
        run.setAutoDefault(False)
        no.setDefault(True)
        no.setFocus()
        _arrange(self, text, self.factory, self.buttons)

    def source(self) -> str:
        """Return the argument of `inspect_model`."""
        factory = self.factory.currentText()
        return f"{self._path}:{factory}" if factory else str(self._path)


RANGES = {None: "0 to 1", (-1.0, 1.0): "−1 to 1", (0.0, 255.0): "0 to 255"}
ORDERS = {
    None: "As in the image",
    ("red", "green", "blue"): "Red, green, blue",
    ("blue", "green", "red"): "Blue, green, red",
}


class ProposalDialog(QDialog):
    """Shows what a file was found to be; the title can be changed, and an unknown task chosen."""

    def __init__(self, found: Proposal, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Add this model?")
        self._title = QLineEdit(found.model.card.title, self)
        self._title.setReadOnly(found.known or not found.card)
        self._title.setToolTip("Under this title it is offered")
        # First what is true where nothing is chosen.
        tasks = {"other": TASKS["other"], **TASKS}
        tip = "What the weights were trained for, which their file does not tell"
        self.task = combo_of(self, tasks, tip)
        self._asks_task = bool(found.card) and not found.known and found.model.card.task == "other"
        form = form_layout()
        form.addRow("Title", self._title)
        form.addRow("Task", self.task)
        form.setRowVisible(self.task, self._asks_task)
        self._add_inputs(form, bool(found.questions))
        for name, text in description_of(found).items():
            label = QLabel(text, self, wordWrap=True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            form.addRow(name, label)
        card = found.path.with_suffix(".json").name
        if found.known:
            sentence = f"Its card {card} lies beside it and stays as it is."
        elif found.card:
            sentence = f"What was found is kept beside it as {card}."
        else:
            sentence = "It brings a card of its own."
        about = QLabel(sentence, self, wordWrap=True)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel, self)
        self.buttons.addButton("Add", QDialogButtonBox.ButtonRole.AcceptRole).setDefault(True)
        _arrange(self, form, about, self.buttons)

    def _add_inputs(self, form: QFormLayout, asks: bool) -> None:
        """Ask what the author of a network alone knows: its range of values, and the order of its bands."""
        self.values = combo_of(self, RANGES, "What the network takes for black and white")
        self.order = combo_of(self, ORDERS, "The order in which the network takes its bands")
        tip = "What is {} before the network, one number or one for each band"
        self.mean = line_edit(self, "none", tip.format("subtracted"))
        self.std = line_edit(self, "none", tip.format("divided by"))
        rows = {"Value range": self.values, "Order of bands": self.order}
        for name, widget in (rows | {"Mean": self.mean, "Deviation": self.std}).items():
            form.addRow(name, widget)
            form.setRowVisible(widget, asks)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the card that the user has chosen."""
        chosen = {
            "value_range": self.values.currentData(),
            "roles": self.order.currentData(),
            "mean": _numbers(self.mean.text()),
            "std": _numbers(self.std.text()),
        }
        task = {"task": self.task.currentData()} if self._asks_task else {}
        inputs = {name: tuple(value) for name, value in chosen.items() if value}
        return {"title": self._title.text().strip() or "Model", **task, **inputs}


def _numbers(text: str) -> tuple[float, ...]:
    """Return the numbers in a text; none where it has something else."""
    try:
        return tuple(float(each) for each in text.replace(",", " ").split())
    except ValueError:
        return ()


def _arrange(
    dialog: QDialog, first: QWidget | QFormLayout, second: QWidget, buttons: QDialogButtonBox
) -> None:
    """Lay out the dialog, as high as its wrapped text needs; Qt by itself cuts it off."""
    layout = QVBoxLayout(dialog)
    fill(layout, first, second, buttons)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    dialog.setMinimumWidth(WIDTH)
    dialog.setMinimumHeight(layout.totalHeightForWidth(WIDTH))


def description_of(found: Proposal) -> dict[str, str]:
    """Return what was found, by the labels the dialog shows."""
    card = found.model.card
    how = " (measured)" if found.measured else ""
    bands = f"{card.bands}" if card.bands else "any number"
    roles = f": {', '.join(card.roles)}" if card.roles else ""
    halo = f"{card.halo} px, steps of {card.multiple_of} px"
    if card.whole:
        halo = f"the whole image: {card.whole}"
    half = len(found.sha256) // 2
    takes = api.inputs_in_words(card)
    return {
        "File": found.path.name,
        "Architecture": found.architecture,
        **({"Takes": takes} if takes else {}),
        "Bands": bands + roles + how,
        "Halo": halo + how,
        **({"Result": f"× {card.ratio} along a side{how}"} if card.ratio != 1 else {}),
        "Size": format_size(found.bytes),
        "SHA-256": f"{found.sha256[:half]}\n{found.sha256[half:]}",
    }


def _model_files(mime: Any) -> list[str]:
    files = [url.toLocalFile() for url in mime.urls() if url.isLocalFile()]
    return [name for name in files if Path(name).suffix.lower() in (*WEIGHTS, *CODE)]
