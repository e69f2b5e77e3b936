"""What an answer says: choosing one, its plots and measures, files, and two side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QVBoxLayout

from napari_restore import api
from napari_restore._options import CHECK, THROUGH
from napari_restore.errors import BadOutput, RestoreError
from napari_restore.plugin._background import in_background
from napari_restore.plugin._combo_box import NarrowComboBox
from napari_restore.plugin._folding import flowing, form_layout, in_a_row, stacked
from napari_restore.plugin._notices import show_problem
from napari_restore.plugin._section import Section
from napari_restore.plugin.attribution._beside import Beside, Found
from napari_restore.plugin.attribution._curve_plot import CurvePlot
from napari_restore.plugin.attribution._layers import VIEWS
from napari_restore.plugin.attribution._plots import PathPlot, RingPlot
from napari_restore.plugin.attribution._words import as_html, leaves_out_context, report
from napari_restore.plugin.results._save_dialog import ask_save_path
from napari_restore.records import write_record

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.explain import Attribution
    from napari_restore.plugin._state import RestoreState

EXPONENTS = {1.0: "1", 0.5: "1/2", 0.25: "1/4", 0.125: "1/8"}


class FoundSection(Section):
    """All answers of a viewer; the chosen one is described, and it alone is on the canvas."""

    follow_wanted = Signal(object)
    """A `Question` to run again with its gradient through the context."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.all: list[Found] = []
        self._pair = Beside(viewer)
        self._hidden: list[Found] = []
        """Those that made room for an answer that is coming."""
        self._folder = Path.home()
        self.which = NarrowComboBox(self)
        self.other = NarrowComboBox(self)
        self.measures = QLabel(self)
        self.measures.setWordWrap(True)
        self.measures.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.path, self.rings = PathPlot(self), RingPlot(self)
        self.curves = CurvePlot(self)
        self.follow = self._button(
            "Go through the context",
            "Ask again, with the share that came through what the model draws from the whole image",
            self._on_follow,
        )
        self.view = NarrowComboBox(self)
        for name, title in VIEWS.items():
            self.view.addItem(title, name)
        self.view.setToolTip(
            "What the layer shows: signed shares, their magnitude, or a smooth area of where it lies"
        )
        self.exponent = NarrowComboBox(self)
        for value, title in EXPONENTS.items():
            self.exponent.addItem(f"exponent {title}", value)
        self.exponent.setCurrentIndex(1)
        self.exponent.setToolTip(
            "The magnitude is (|a| / its largest) to this power: the smaller, the more of "
            "what is weak is seen"
        )
        self.side_by_side = QPushButton("Side by side", self)
        self.side_by_side.setCheckable(True)
        self.side_by_side.setToolTip("Both maps over their pictures, under one camera")
        self.figure = self._button("Figure …", "Maps, legends and all settings", self._figure)
        self.map = self._button("Map …", "Shares as a float32 raster", self._map)
        self.record = self._button("Record …", "All it takes to ask again", self._record)
        self._build()
        self.which.currentIndexChanged.connect(self._on_chosen)
        self.view.currentIndexChanged.connect(self._on_view)
        self.exponent.currentIndexChanged.connect(self._on_view)
        self.side_by_side.clicked.connect(self._on_side_by_side)
        self._pair.ended.connect(lambda: self.side_by_side.setChecked(False))
        self.listen(viewer.layers.events.removed, self._on_removed)
        self._offer()

    def _build(self) -> None:
        form = form_layout()
        form.addRow("Answer", self.which)
        form.addRow("Show", in_a_row(self.view, self.exponent))
        # Names are long, and the panel is narrow.
        form.addRow("Compare with", stacked(self.other, self.side_by_side))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        for widget in (self.measures, self.follow, self.path, self.rings, self.curves):
            layout.addWidget(widget)
        layout.addLayout(flowing(self.figure, self.map, self.record))

    def _button(self, title: str, tip: str, slot: Any) -> QPushButton:
        button = QPushButton(title, self)
        button.setToolTip(tip)
        button.clicked.connect(slot)
        return button

    def leave(self) -> None:
        """The layers stay; they are no longer described."""
        self._pair.end()
        super().leave()

    # -- which -------------------------------------------------------------------

    @property
    def current(self) -> Found | None:
        """The answer that is described."""
        found: Found | None = self.which.currentData()
        return found

    def add(self, found: Found) -> None:
        """Tell of a new answer; the one before is offered to be compared with."""
        self.all.append(found)
        self._offer()

    def make_room(self) -> None:
        """Hide what is on the canvas: another answer comes there."""
        self._pair.end()
        self._hidden = [found for found in self.all if found.layers.visible]
        for found in self._hidden:
            found.layers.visible = False

    def show_again(self) -> None:
        """Undo `make_room`: no answer has come."""
        for found in self._hidden:
            found.layers.visible = True
        self._hidden = []

    def _offer(self) -> None:
        """Choose the newest."""
        self.which.blockSignals(True)
        _fill(self.which, self.all)
        self.which.setCurrentIndex(len(self.all) - 1)
        self.which.blockSignals(False)
        self._on_chosen()

    def _on_chosen(self) -> None:
        current = self.current
        self.setVisible(current is not None)
        others = [found for found in reversed(self.all) if found is not current]
        _fill(self.other, others)
        self.side_by_side.setEnabled(bool(others))
        if current is not None:
            self._pair.end()
            for found in self.all:
                found.layers.visible = found is current
            self._hidden = []
            record = current.answer.record
            attribution = record["attribution"]
            self.measures.setText(as_html(report(record)))
            self.follow.setVisible(leaves_out_context(record))
            self.path.show_nodes(attribution["nodes"])
            self.rings.show_rings(attribution["rings"])
            self.curves.show_check(attribution.get("checks", {}).get(CHECK))
            self._on_view()

    def _on_view(self) -> None:
        self.exponent.setVisible(self.view.currentData() == "magnitude")
        if self.current is not None:
            self.current.layers.show(self.view.currentData(), self.exponent.currentData())

    def _on_follow(self) -> None:
        if self.current is not None:
            # The check takes the context as a constant.
            question = replace(self.current.question, context_gradient=THROUGH, check=None)
            self.follow_wanted.emit(question)

    def _on_removed(self, event: Any) -> None:
        for found in self.all:
            if event.value is found.layers.map:
                self.all.remove(found)
                found.layers.remove()
                self._offer()
                return

    def _on_side_by_side(self, wanted: bool) -> None:
        self._pair.end()
        one, other = self.current, self.other.currentData()
        if wanted and one is not None and other is not None:
            self._pair.show(one, other)

    # -- files -------------------------------------------------------------------

    def _figure(self) -> None:
        exponent = self.exponent.currentData()
        self._save(
            "Figure",
            [".png", ".pdf", ".svg"],
            lambda found, path: _drawn(found.answer, path, exponent),
        )

    def _map(self) -> None:
        self._save("Map", [".tif"], lambda found, path: _saved(found.answer, path))

    def _record(self) -> None:
        self._save("Record", [".json"], lambda found, path: write_record(path, found.answer.record))

    def _save(self, title: str, suffixes: list[str], write: Any) -> None:
        found = self.current
        if found is None:
            return
        image = found.answer.image
        folder = Path(image.path).parent if image.path else self._folder
        proposed = folder / f"{Path(image.name).stem}_attribution{suffixes[0]}"
        path = ask_save_path(self, f"Save the {title.lower()}", proposed, title, suffixes)
        if path is not None:
            self._folder = path.parent
            in_background(partial(_tried, partial(write, found, path)), self._on_saved)

    def _on_saved(self, problem: RestoreError | None) -> None:
        if problem is not None:
            show_problem(problem)


def _fill(combo: QComboBox, answers: Sequence[Found]) -> None:
    """Offer `answers`; where a name is cut off, it is whole under the pointer."""
    combo.clear()
    for number, found in enumerate(answers):
        combo.addItem(found.title, found)
        combo.setItemData(number, found.title, Qt.ItemDataRole.ToolTipRole)


def _drawn(found: Attribution, path: Path, exponent: float) -> None:
    api.draw_attribution(found, path, exponent=exponent, overwrite=True)


def _saved(found: Attribution, path: Path) -> None:
    """Write it; raises `BadOutput` rather than replace a file without consent."""
    overview = api.overview_path(path)
    if found.overview is not None and overview.exists():
        raise BadOutput(f"{overview} exists.", "Choose another name for the map.")
    found.save(path, overwrite=True)


def _tried(write: Any) -> RestoreError | None:
    try:
        write()
    except RestoreError as error:
        return error
    return None
