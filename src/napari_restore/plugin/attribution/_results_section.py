"""The finished attributions: choosing one, its plots and measures, files, two side by side."""

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
from napari_restore.errors import BadOutput, RestoreError
from napari_restore.plugin.attribution._layers import VIEWS
from napari_restore.plugin.attribution._map_comparison import MapComparison
from napari_restore.plugin.attribution._plots import CurvePlot, PathPlot, RingPlot
from napari_restore.plugin.attribution._report import as_html, leaves_out_context, report
from napari_restore.plugin.results._save_dialog import ask_save_path
from napari_restore.plugin.tasks._background import in_background
from napari_restore.plugin.tasks._notices import show_problem
from napari_restore.plugin.widgets._combo_box import NarrowComboBox
from napari_restore.plugin.widgets._folding import flowing, form_layout, in_a_row, stacked
from napari_restore.plugin.widgets._section import Section
from napari_restore.questions import CHECK, THROUGH
from napari_restore.records import write_record

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.explain import Attribution
    from napari_restore.plugin.attribution._attribution_task import AttributionResult
    from napari_restore.plugin.state._state import RestoreState

EXPONENTS = {1.0: "1", 0.5: "1/2", 0.25: "1/4", 0.125: "1/8"}


class AttributionResultsSection(Section):
    """All attributions of a viewer; the chosen one is reported, and it alone is on the canvas."""

    rerun_requested = Signal(object)
    """The `AttributionRequest` of the chosen one, with its gradient through the context."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.all: list[AttributionResult] = []
        self._comparison = MapComparison(viewer)
        self._hidden: list[AttributionResult] = []
        """Those that are hidden while another one is computed."""
        self._folder = Path.home()
        self.which = NarrowComboBox(self)
        self.other = NarrowComboBox(self)
        self.measures = QLabel(self)
        self.measures.setWordWrap(True)
        self.measures.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.path, self.rings = PathPlot(self), RingPlot(self)
        self.curves = CurvePlot(self)
        self.through_context = self._button(
            "Go through the context",
            "Ask again, with the share that came through what the model draws from the whole image",
            self._on_through_context,
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
        self.record = self._button("Record …", "All that repeats the attribution", self._record)
        self._build()
        self.which.currentIndexChanged.connect(self._on_chosen)
        self.view.currentIndexChanged.connect(self._on_view)
        self.exponent.currentIndexChanged.connect(self._on_view)
        self.side_by_side.clicked.connect(self._on_side_by_side)
        self._comparison.ended.connect(lambda: self.side_by_side.setChecked(False))
        self.listen(viewer.layers.events.removed, self._on_removed)
        self._offer()

    def _build(self) -> None:
        form = form_layout()
        form.addRow("Attribution", self.which)
        form.addRow("Show", in_a_row(self.view, self.exponent))
        # Names are long, and the panel is narrow.
        form.addRow("Compare with", stacked(self.other, self.side_by_side))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        for widget in (self.measures, self.through_context, self.path, self.rings, self.curves):
            layout.addWidget(widget)
        layout.addLayout(flowing(self.figure, self.map, self.record))

    def _button(self, title: str, tip: str, slot: Any) -> QPushButton:
        button = QPushButton(title, self)
        button.setToolTip(tip)
        button.clicked.connect(slot)
        return button

    def leave(self) -> None:
        """Disconnect; the layers stay."""
        self._comparison.end()
        super().leave()

    # -- choosing -------------------------------------------------------------------

    @property
    def current(self) -> AttributionResult | None:
        """The attribution that is chosen."""
        result: AttributionResult | None = self.which.currentData()
        return result

    def add(self, result: AttributionResult) -> None:
        """Offer and choose a new attribution; the others are offered to be compared with."""
        self.all.append(result)
        self._offer()

    def hide_layers(self) -> None:
        """Hide what is on the canvas: another attribution comes there."""
        self._comparison.end()
        self._hidden = [result for result in self.all if result.layers.visible]
        for result in self._hidden:
            result.layers.visible = False

    def show_layers(self) -> None:
        """Undo `hide_layers`: the attribution was not finished."""
        for result in self._hidden:
            result.layers.visible = True
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
        others = [result for result in reversed(self.all) if result is not current]
        _fill(self.other, others)
        self.side_by_side.setEnabled(bool(others))
        if current is not None:
            self._comparison.end()
            for result in self.all:
                result.layers.visible = result is current
            self._hidden = []
            record = current.attribution.record
            attribution = record["attribution"]
            self.measures.setText(as_html(report(record)))
            self.through_context.setVisible(leaves_out_context(record))
            self.path.show_nodes(attribution["nodes"])
            self.rings.show_rings(attribution["rings"])
            self.curves.show_check(attribution.get("checks", {}).get(CHECK))
            self._on_view()

    def _on_view(self) -> None:
        self.exponent.setVisible(self.view.currentData() == "magnitude")
        if self.current is not None:
            self.current.layers.show(self.view.currentData(), self.exponent.currentData())

    def _on_through_context(self) -> None:
        if self.current is not None:
            # The check takes the context as a constant.
            request = self.current.request
            settings = replace(request.settings, context_gradient=THROUGH, check=None)
            self.rerun_requested.emit(replace(request, settings=settings))

    def _on_removed(self, event: Any) -> None:
        for result in self.all:
            if event.value is result.layers.map:
                self.all.remove(result)
                result.layers.remove()
                self._offer()
                return

    def _on_side_by_side(self, checked: bool) -> None:
        self._comparison.end()
        one, other = self.current, self.other.currentData()
        if checked and one is not None and other is not None:
            self._comparison.show(one, other)

    # -- files -------------------------------------------------------------------

    def _figure(self) -> None:
        exponent = self.exponent.currentData()
        self._save(
            "Figure",
            [".png", ".pdf", ".svg"],
            lambda result, path: _draw(result.attribution, path, exponent),
        )

    def _map(self) -> None:
        self._save("Map", [".tif"], lambda result, path: _save_map(result.attribution, path))

    def _record(self) -> None:
        self._save(
            "Record", [".json"], lambda result, path: write_record(path, result.attribution.record)
        )

    def _save(self, title: str, suffixes: list[str], write: Any) -> None:
        result = self.current
        if result is None:
            return
        image = result.attribution.image
        folder = Path(image.path).parent if image.path else self._folder
        proposed = folder / f"{Path(image.name).stem}_attribution{suffixes[0]}"
        path = ask_save_path(self, f"Save the {title.lower()}", proposed, title, suffixes)
        if path is not None:
            self._folder = path.parent
            in_background(partial(_error_of, partial(write, result, path)), self._on_saved)

    def _on_saved(self, problem: RestoreError | None) -> None:
        if problem is not None:
            show_problem(problem)


def _fill(combo: QComboBox, results: Sequence[AttributionResult]) -> None:
    """Offer `results`; where a name is cut off, it is whole under the pointer."""
    combo.clear()
    for number, result in enumerate(results):
        combo.addItem(result.title, result)
        combo.setItemData(number, result.title, Qt.ItemDataRole.ToolTipRole)


def _draw(attribution: Attribution, path: Path, exponent: float) -> None:
    api.draw_attribution(attribution, path, exponent=exponent, overwrite=True)


def _save_map(attribution: Attribution, path: Path) -> None:
    """Write it; raises `BadOutput` rather than replace a file without consent."""
    overview = api.overview_path(path)
    if attribution.overview is not None and overview.exists():
        raise BadOutput(f"{overview} exists.", "Choose another name for the map.")
    attribution.save(path, overwrite=True)


def _error_of(write: Any) -> RestoreError | None:
    try:
        write()
    except RestoreError as error:
        return error
    return None
