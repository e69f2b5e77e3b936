"""Device, tiles and the scope of a model: what most users never change."""

from __future__ import annotations

from enum import Enum
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QLabel, QLineEdit, QWidget
from superqt.utils import signals_blocked

from napari_restore.errors import RestoreError
from napari_restore.plugin.tasks.notices import error_text
from napari_restore.plugin.widgets.editors import NarrowComboBox, OptionRows, combo_of, number_box
from napari_restore.plugin.widgets.folding import (
    add_button,
    column_of,
    flowing,
    form_layout,
    stacked,
)
from napari_restore.questions import Computing, Machine, Reading, Restore

if TYPE_CHECKING:
    from napari_restore.engine import Plan
    from napari_restore.models import ModelCard
    from napari_restore.plugin.state.request import ConnectedCluster, Workers


class Link(Enum):
    """The connection to a cluster, by what a button then does."""

    NONE = "Connect"
    BEING_MADE = "Cancel"
    MADE = "Disconnect"


class ClusterForm(QWidget):
    """A button that unfolds the name of a cluster, and below it whether it is connected."""

    connect_requested = Signal(str)
    """The user wants to connect to the cluster of this name."""
    disconnect_requested = Signal()
    """The user wants to leave the cluster, or to connect no longer."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = add_button(
            self,
            "Cluster …",
            "Let the workers of a dask scheduler compute Restore and Fuse; "
            "drafts, Live and the other tabs stay on this machine",
            checkable=True,
        )
        self.name = QLineEdit(self)
        self.name.setAccessibleName("Cluster")
        self.name.setPlaceholderText("local:2, tls://HOST:PORT or a file")
        self.name.setMinimumWidth(60)
        self.name.setToolTip(
            "local:N starts N processes on this machine; otherwise the address of a scheduler, "
            "or the .json file that it writes. Before one without certificates write insecure+: "
            "whoever reaches it can run programs as you"
        )
        self.file = add_button(self, "File …", "Choose the .json file of a scheduler")
        tip = "Connect to the cluster; when it is connected, leave it"
        self.connection = add_button(self, "Connect", tip, self._on_connection)
        self.line = QLabel(
            self, wordWrap=True, textFormat=Qt.TextFormat.RichText, openExternalLinks=True
        )
        self._folded = QWidget(self)
        buttons = QWidget(self._folded)
        buttons.setLayout(flowing(self.file, self.connection))
        column_of(self._folded, self.name, buttons, self.line)
        column_of(self, self.button, self._folded)
        self._folded.hide()
        self._is_running, self._link = False, Link.NONE
        self.button.toggled.connect(self._folded.setVisible)
        self.file.clicked.connect(self._on_file)
        self.name.returnPressed.connect(self._on_return)
        self._show("")

    def show_connecting(self, name: str) -> None:
        self._link = Link.BEING_MADE
        self.name.setText(name)
        self._show("Connecting …")

    def show_connected(self, cluster: ConnectedCluster, workers: Workers) -> None:
        """Show the workers of a cluster at the moment, and where dask shows them."""
        self._link = Link.MADE
        self.name.setText(cluster.name)
        text = (
            f"Connected: {_counted(workers.count, 'worker')}, {_counted(workers.threads, 'thread')}"
        )
        if cluster.dashboard:
            address = escape(cluster.dashboard, quote=True)
            text += f' · <a href="{address}">dask’s dashboard</a>'
        self._show(text)

    def show_disconnected(self, error: RestoreError | None) -> None:
        self._link = Link.NONE
        # Names are no markup.
        self._show("" if error is None else escape(error_text(error)))

    def show_running(self, running: bool) -> None:
        self._is_running = running
        self._show(self.line.text())

    def _show(self, text: str) -> None:
        idle, is_made = self._link is Link.NONE, self._link is Link.MADE
        self.connection.setText(self._link.value)
        self.connection.setEnabled(not (is_made and self._is_running))
        self.name.setReadOnly(not idle)
        self.file.setEnabled(idle)
        if self.line.text() != text:
            # A link that is pressed must not be made anew.
            self.line.setText(text)
        self.line.setVisible(bool(text))
        if is_made:
            self.button.setChecked(True)

    def _on_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "The file of a scheduler", "", "Scheduler files (*.json)"
        )
        if path:
            self.name.setText(path)

    def _on_connection(self) -> None:
        if self._link is Link.NONE:
            self._on_return()
        else:
            self.disconnect_requested.emit()

    def _on_return(self) -> None:
        name = self.name.text().strip()
        if not name:
            self._show("Name a cluster first: local:2, tls://HOST:PORT or the file of a scheduler.")
        elif self._link is Link.NONE:
            self.connect_requested.emit(name)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@cache
def _accelerators() -> tuple[str, ...]:
    """Return the devices that are found here beside the processor, as a plan has loaded torch."""
    import torch

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return tuple(name for name, is_found in found.items() if is_found)


FROM_FILE = "from a file"
SCOPES = {
    "local": "local: a pixel depends on its surroundings only",
    "counted": "local: a pixel depends on its surroundings, and on statistics of the whole image",
    "swept": "global: a pixel depends on the whole image",
}
EXTENTS = {"image": "the whole image", "region": "only the area (a draft)"}
RESIDUALS = {
    "auto": "automatic",
    "device": "on the device",
    "ram": "in memory",
    "disk": "on the scratch disk",
    "recompute-first": "computed again in the first stage",
    "recompute": "computed again",
}
"""Tiers in words; see `napari_restore.plan`."""
PRECISIONS = {
    "float32": "float32",
    "auto": "automatic",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
"""Precisions in words; see `napari_restore.plan`."""


class AdvancedForm(QWidget):
    """Device, tiles, and for global models their extent and where residuals are stored."""

    changed = Signal(dict)
    """The `RestoreKeywords` that are set here."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._devices: tuple[str, ...] = ()
        """Beside the processor; found once torch is loaded."""
        self._layout = form = form_layout(self)
        self._editors = OptionRows(Reading, Computing, Machine, changed=self._on_changed)
        add = partial(self._editors.add, form)
        self.reason = QLabel(self, wordWrap=True)
        self.reason.setToolTip("The device of the plan, and why")
        self.reason.hide()
        self.cluster = ClusterForm(self)
        self.device = NarrowComboBox(self)
        add("Device", "device", self.device, stacked(self.device, self.reason, self.cluster))
        self.scope = self._add_text("Scope", "How much of the image a restored pixel follows from")
        self.tile = number_box(self, (0, 8192), step=128, suffix=" px", zero="automatic")
        add("Tile", "tile", self.tile)
        self.whole = QCheckBox("the whole image", self)
        self.whole.setToolTip(
            "In one pass, for a network of your own that depends on all of it; must fit the budget"
        )
        self.whole.toggled.connect(self._on_changed)
        form.addRow("", self.whole)
        self.tile_batch = number_box(self, (0, 256), suffix=" tiles", zero="automatic")
        add("Tile batch", "tile_batch", self.tile_batch)
        self.precision = add("Precision", "precision", combo_of(self, PRECISIONS, letters=8))
        self.extent = add("Extent", "extent", combo_of(self, EXTENTS, letters=8))
        self.context = NarrowComboBox(self, 8)
        add("Statistics", "context", self.context)
        self.context.activated.connect(self._on_context)
        self.residuals = add("Residuals", "residuals", combo_of(self, RESIDUALS, letters=8))
        kept = {None: "as the model"} | {name: name for name in PRECISIONS if name != "auto"}
        self.residual_dtype = combo_of(self, kept, letters=8)
        add("Residual precision", "residual_dtype", self.residual_dtype)
        self.grid = self._add_text(
            "Passes",
            "Parts of the image (tokens) or passes over it, bytes of residuals, and the time of each pass",
        )
        self.show_options(Restore())
        self._show_global(False)

    def _add_text(self, title: str, tip: str) -> QLabel:
        text = QLabel(self, wordWrap=True)
        text.setToolTip(tip)
        self._layout.addRow(title, text)
        return text

    def show_options(self, options: Restore) -> None:
        """Show `options`, without a signal."""
        self._offer_devices(options.machine.device)
        self._offer_context(options.reading.context)
        self._editors.show({**options.keywords(), "tile": options.computing.side})
        with signals_blocked(self.whole):
            self.whole.setChecked(options.computing.is_whole)

    def show_card(self, card: ModelCard, cell: int = 0) -> None:
        """Show the scope of `card`, which judges haze on cells of that side, and the settings it has."""
        judged = f"; haze is judged on it in cells of {cell} × {cell} pixels" if cell else ""
        scope = "counted" if card.scope == "local" and card.needs_context else card.scope
        self.scope.setText(SCOPES.get(scope, scope) + judged)
        self._show_global(card.scope == "swept")

    def show_plan(self, plan: Plan) -> None:
        """Show the device that `plan` uses, and why; of a staged model also where residuals go."""
        self._devices = _accelerators()
        self._offer_devices(self.device.currentData())
        # Parameters may change the scope.
        self.show_card(plan.model.card, plan.haze_cell)
        self.reason.setText(f"{plan.device.name}: {plan.device.reason}")
        if plan.staged is not None:
            self.grid.setText(f"{plan.staged.summary()} · {plan.staged.phases()}")
        self.reason.show()

    def _show_global(self, is_global: bool) -> None:
        # Tiles of such a model are a part of it.
        for row in (self.tile, self.whole):
            self._layout.setRowVisible(row, not is_global)
        for row in (self.extent, self.residuals, self.residual_dtype, self.grid):
            self._layout.setRowVisible(row, is_global)

    def _offer_devices(self, chosen: str) -> None:
        """Offer what this machine has, as far as that is known, and what is chosen."""
        names = dict.fromkeys(("auto", "cpu", *self._devices, chosen))
        self.device.offer(((name, name) for name in names), chosen)

    def _offer_context(self, path: str | None) -> None:
        """Offer the image's own statistics, those of the file `path`, and to choose another."""
        chosen = [] if path is None else [(Path(path).name, path)]
        self.context.offer([("of this image", None), *chosen, ("of a file …", FROM_FILE)], path)

    def _on_context(self) -> None:
        path = self.context.currentData()
        if path == FROM_FILE:
            path, _ = QFileDialog.getOpenFileName(self, "A context file", "", "")
        self._offer_context(path or None)
        self._on_changed()

    def _on_changed(self) -> None:
        values = self._editors.values()
        if values["context"] == FROM_FILE:
            # Its file is asked for first.
            return
        tile = "whole" if self.whole.isChecked() else values["tile"]
        self.changed.emit({**values, "tile": None if self.tile.isHidden() else tile})
