"""Chooses what of the image is restored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_restore.errors import RestoreError
from napari_restore.plugin.areas._drawing_controller import Tool
from napari_restore.plugin.state._targets import Area, Target
from napari_restore.plugin.tasks._notices import with_labels
from napari_restore.plugin.widgets._combo_box import NarrowComboBox

FEATHER_LIMIT = 4096
TIPS = {
    Target.VISIBLE: "The part of the image on the screen",
    Target.DRAWN: "Rectangles and polygons of a Shapes layer: the selected ones, else all",
    Target.PAINTED: "Where a Labels layer is painted, or as strong as a grey layer says",
    Target.GRADIENT: "Nothing at one end of a line, everything at the other",
    Target.WHOLE: "Every pixel",
}


class TargetChooser(QWidget):
    """The targets, the tools to draw with, and which pixels are restored now."""

    changed = Signal(object)
    """The chosen `Target`."""
    draw_requested = Signal(object)
    """The button of a `Tool` was pressed."""
    feather_changed = Signal(int)
    """Pixels."""
    strength_changed = Signal(object)
    """The layer to take the strength from."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.combo = NarrowComboBox(self)
        for number, target in enumerate(Target):
            self.combo.addItem(target.value.capitalize(), target)
            self.combo.setItemData(number, TIPS[target], Qt.ItemDataRole.ToolTipRole)
        self.strength = NarrowComboBox(self)
        # Names may be long; the panel is not.
        self.strength.setToolTip("Painted labels count in full; grey values from 0 to 1")
        self.tools = {tool: self._button(tool) for tool in Tool}
        self.feather = QSpinBox(self)
        self.feather.setRange(0, FEATHER_LIMIT)
        self.feather.setSingleStep(8)
        self.feather.setSuffix(" px")
        self.feather.setPrefix("Feather ")
        self.feather.setKeyboardTracking(False)
        self.feather.setToolTip("Pixels over which the effect fades inside the edge")
        self.hint = QLabel(self)
        self.hint.setWordWrap(True)
        self.pixels = QLabel(self)
        self.pixels.setWordWrap(True)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        for button in self.tools.values():
            row.addWidget(button)
        row.addStretch(1)
        fade = QHBoxLayout()
        fade.setContentsMargins(0, 0, 0, 0)
        fade.addWidget(self.feather)
        fade.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        layout.addWidget(self.strength)
        layout.addLayout(row)
        layout.addLayout(fade)
        layout.addWidget(self.hint)
        layout.addWidget(self.pixels)
        self.combo.currentIndexChanged.connect(self._on_chosen)
        self.strength.currentIndexChanged.connect(self._on_strength)
        self.feather.valueChanged.connect(self.feather_changed)
        self.show_tool(None)
        self._show_what_fits()

    def target(self) -> Target:
        """Return the chosen target."""
        return Target(self.combo.currentData())

    def choose(self, target: Target) -> None:
        """Choose as a click would."""
        self.combo.setCurrentIndex(list(Target).index(target))

    def show_area(self, area: Area | None, problem: RestoreError | None = None) -> None:
        """Show which pixels the target is, or why there are none."""
        if area is not None:
            self.pixels.setText(area_text(area, self.target()))
        elif problem is not None:
            # The drawing tool shows what to do next.
            text = problem.sentence if self.hint.isHidden() else problem.message
            self.pixels.setText(with_labels(text))
        else:
            self.pixels.setText("")
        # A strength with grades of its own has no edge that could fade.
        self.feather.setVisible(self.target().fades and not (area is not None and area.soft))

    def show_tool(self, tool: Tool | None) -> None:
        """Press the button of the tool in use and show its hint."""
        for each, button in self.tools.items():
            button.setChecked(each is tool)
        self.hint.setText("" if tool is None else f"{tool.hint} Esc ends drawing.")
        self.hint.setVisible(tool is not None)

    def offer_strength(self, layers: Iterable[Any], chosen: Any) -> None:
        """Offer layers to take the strength from."""
        self.strength.blockSignals(True)
        self.strength.clear()
        for layer in layers:
            self.strength.addItem(layer.name, layer)
            if layer is chosen:
                self.strength.setCurrentIndex(self.strength.count() - 1)
        self.strength.blockSignals(False)
        self._show_what_fits()

    def _button(self, tool: Tool) -> QPushButton:
        button = QPushButton(tool.label, self)
        button.setCheckable(True)
        button.setToolTip(tool.hint)
        button.clicked.connect(lambda: self.draw_requested.emit(tool))
        return button

    def _on_chosen(self) -> None:
        self._show_what_fits()
        self.changed.emit(self.target())

    def _on_strength(self) -> None:
        self.strength_changed.emit(self.strength.currentData())

    def _show_what_fits(self) -> None:
        target = self.target()
        for tool, button in self.tools.items():
            button.setVisible(tool.target is target)
        self.feather.setVisible(target.fades)
        self.strength.setVisible(target is Target.PAINTED and self.strength.count() > 1)


def area_text(area: Area, target: Target) -> str:
    """Return an area in one line: how many, how large, where."""
    box = area.region
    # Unbreakable within, so that no lonely number begins a line.
    corner = _unbroken(f"at x {box.x0}, y {box.y0}")
    size = _unbroken(f"{box.width} × {box.height}")
    if area.mask is None or target is Target.GRADIENT:
        return f"{size} pixels {corner}"
    count = len(area.targets)
    parts = [f"{count} areas"] if count > 1 else []
    if area.pixels is not None:
        # Thin spaces: a million is easier to read in groups.
        parts.append(
            _unbroken(f"≈ {area.pixels:,} pixels".replace(",", "\N{NARROW NO-BREAK SPACE}"))
        )
    return f"{', '.join([*parts, f'within {size}'])} {corner}"


def _unbroken(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")
