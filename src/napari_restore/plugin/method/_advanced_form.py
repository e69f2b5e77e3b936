"""Device, tiles and the scope of a model: what most users never change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from napari_restore.plugin.method._cluster_form import ClusterForm
from napari_restore.plugin.widgets._combo_box import NarrowComboBox
from napari_restore.plugin.widgets._folding import form_layout

if TYPE_CHECKING:
    from napari_restore.engine import Plan
    from napari_restore.models import ModelCard
    from napari_restore.questions import Restore

DEVICES = ("auto", "cpu", "cuda", "mps")
SCOPES = {
    "local": "local: a pixel depends on its surroundings only",
    "swept": "swept: the model passes over the whole image",
}
EXTENTS = {"image": "the whole image", "region": "only the area (a draft)"}
RESIDUALS = {
    "auto": "automatic",
    "device": "on the device",
    "ram": "in memory",
    "disk": "on the scratch disk",
    "recompute-first": "kept but for the first stage's",
    "recompute": "made again",
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
        self.device = NarrowComboBox(self)
        self.device.addItems(DEVICES)
        self.device.setToolTip("Where the model runs; auto takes a GPU where there is one")
        self.reason = QLabel(self)
        self.reason.setWordWrap(True)
        self.reason.setToolTip("The device of the plan, and why")
        self.cluster = ClusterForm(self)
        self.scope = QLabel(self)
        self.scope.setWordWrap(True)
        self.scope.setToolTip("How much of the image a restored pixel follows from")
        self.tile = _number(self, 8192, 128, " px")
        self.tile.setToolTip("Edge of a tile; the memory budget chooses it. The result is the same")
        self.whole = QCheckBox("the whole image", self)
        self.whole.setToolTip(
            "In one pass, for a network of your own that depends on all of it; must fit the budget"
        )
        self.tile_batch = _number(self, 256, 1, " tiles")
        self.tile_batch.setToolTip("Tiles given to the model at once; helps networks on a GPU")
        self.precision = _choice(self, PRECISIONS)
        self.precision.setToolTip(
            "Automatic computes 8-bit images in bfloat16 where the processor has it and the "
            "method bears it: quicker, with differences of a step"
        )
        self.extent = _choice(self, EXTENTS)
        self.extent.setToolTip(
            "A global model looks at the whole image once, whatever is restored. "
            "Looking at the area only is quicker, and a draft"
        )
        self.residuals = _choice(self, RESIDUALS)
        self.residuals.setToolTip(
            "Where the encoder leaves what the decoder needs; automatic is the quickest within "
            "the budgets. The result is the same"
        )
        self.grid = QLabel(self)
        self.grid.setWordWrap(True)
        self.grid.setToolTip("How much the model looks at at once, and what its encoder leaves")
        self._layout = self._rows()
        self.reason.hide()
        self._show_global(False)
        for box in (self.device, self.precision, self.extent, self.residuals):
            box.currentIndexChanged.connect(self._on_changed)
        self.tile.valueChanged.connect(self._on_changed)
        self.whole.toggled.connect(self._on_changed)
        self.tile_batch.valueChanged.connect(self._on_changed)

    def _rows(self) -> QFormLayout:
        layout = form_layout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        where = QWidget(self)
        column = QVBoxLayout(where)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.device)
        column.addWidget(self.reason)
        column.addWidget(self.cluster)
        where.setFocusProxy(self.device)
        layout.addRow("Device", where)
        layout.addRow("Scope", self.scope)
        layout.addRow("Tile", self.tile)
        layout.addRow("", self.whole)
        layout.addRow("Tile batch", self.tile_batch)
        layout.addRow("Precision", self.precision)
        layout.addRow("Extent", self.extent)
        layout.addRow("Residuals", self.residuals)
        layout.addRow("Grid", self.grid)
        return layout

    def show_options(self, options: Restore) -> None:
        """Show `options`, without a signal."""
        computing = options.computing
        self.blockSignals(True)
        self.device.setCurrentText(options.machine.device)
        self.tile.setValue(computing.side or 0)
        self.whole.setChecked(computing.is_whole)
        self.tile_batch.setValue(computing.tile_batch or 0)
        self.precision.setCurrentIndex(self.precision.findData(computing.precision))
        self.extent.setCurrentIndex(self.extent.findData(options.reading.extent))
        self.residuals.setCurrentIndex(self.residuals.findData(computing.residuals))
        self.blockSignals(False)

    def show_card(self, card: ModelCard) -> None:
        """Show the scope of `card`, and the settings of models of this scope."""
        self.scope.setText(SCOPES.get(card.scope, card.scope))
        self._show_global(card.scope == "swept")

    def show_plan(self, plan: Plan) -> None:
        """Show the device that `plan` uses, and why; of a staged model also where residuals go."""
        # Parameters may change the scope.
        self.show_card(plan.model.card)
        self.reason.setText(f"{plan.device.name}: {plan.device.reason}")
        if plan.staged is not None:
            self.grid.setText(f"{plan.staged.summary()} · {plan.staged.phases()}")
        self.reason.show()

    def _show_global(self, is_global: bool) -> None:
        # Tiles of such a model are a part of it.
        self._layout.setRowVisible(self.tile, not is_global)
        self._layout.setRowVisible(self.whole, not is_global)
        self._layout.setRowVisible(self.extent, is_global)
        self._layout.setRowVisible(self.residuals, is_global)
        self._layout.setRowVisible(self.grid, is_global)

    def _tile(self) -> int | str | None:
        return "whole" if self.whole.isChecked() else self.tile.value() or None

    def _on_changed(self) -> None:
        self.changed.emit(
            {
                "device": self.device.currentText(),
                "tile": None if self.tile.isHidden() else self._tile(),
                "tile_batch": self.tile_batch.value() or None,
                "precision": self.precision.currentData(),
                "extent": self.extent.currentData(),
                "residuals": self.residuals.currentData(),
            }
        )


def _choice(parent: QWidget, texts: Mapping[str, str]) -> QComboBox:
    box = NarrowComboBox(parent, letters=8)
    for value, text in texts.items():
        box.addItem(text, value)
    return box


def _number(parent: QWidget, most: int, step: int, suffix: str) -> QSpinBox:
    box = QSpinBox(parent)
    box.setRange(0, most)
    box.setSingleStep(step)
    box.setSuffix(suffix)
    box.setSpecialValueText("automatic")
    # A half-typed number is not applied.
    box.setKeyboardTracking(False)
    return box
