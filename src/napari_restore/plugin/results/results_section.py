"""The results of the viewer, and those the cache has stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPlainTextEdit,
    QTabWidget,
    QTextBrowser,
    QWidget,
)
from superqt import QElidingLabel
from superqt.utils import qdebounced, signals_blocked

from napari_restore import api
from napari_restore.errors import RestoreError
from napari_restore.plugin.layers.layer_order import LIVE
from napari_restore.plugin.results.earlier_results_view import (
    EarlierResults,
    apply_settings,
    record_of,
    store_result,
    variant_of_stored,
)
from napari_restore.plugin.results.save_dialog import ask_save_path
from napari_restore.plugin.results.variant_text import (
    area_of,
    line_of,
    record_rows,
    settings_of,
    table_of,
)
from napari_restore.plugin.state.state import RestoreState, image_of
from napari_restore.plugin.tasks.notices import show_note, show_problem
from napari_restore.plugin.tasks.task import in_background
from napari_restore.plugin.widgets.editors import NarrowComboBox
from napari_restore.plugin.widgets.folding import add_button, column_of, flowing, row_of
from napari_restore.plugin.widgets.section import Section
from napari_restore.records import strict_json, write_record

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import KeptResult, Result
    from napari_restore.plugin.state.request import RunRequest
    from napari_restore.plugin.state.variant import Variant


class RecordView(QDialog):
    """A table for people and the JSON for programs; copied, saved, run again."""

    run_again = Signal()
    """The user wants the same run once more."""

    def __init__(
        self, record: Mapping[str, Any], title: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.record = dict(record)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Record – {title}")
        self.resize(640, 560)
        self.table = QTextBrowser(self)
        self.table.setHtml(table_of(record_rows(record)))
        self.text = QPlainTextEdit(strict_json(record, indent=2), self)
        self.text.setReadOnly(True)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        tabs = QTabWidget(self)
        tabs.addTab(self.table, "Summary")
        tabs.addTab(self.text, "JSON")
        self.copy = add_button(self, "Copy JSON", slot=self._on_copy)
        self.save_as = add_button(
            self, "Save …", "napari-restore rerun FILE repeats the run from it", self._on_save
        )
        self.again = add_button(self, "Run again", "Make what is missing of it, or show it")
        self.close_button = add_button(self, "Close", slot=self.close)
        buttons = flowing(self.copy, self.save_as, self.again, self.close_button)
        column_of(self, tabs, buttons).setContentsMargins(9, 9, 9, 9)
        self.again.clicked.connect(self._on_again)

    def ask_path(self, proposed: Path) -> Path | None:
        """Return the name the user chooses; None when there is none."""
        return ask_save_path(self, "Save the record", proposed, "JSON")

    def _on_copy(self) -> None:
        QApplication.clipboard().setText(self.text.toPlainText())

    def _on_save(self) -> None:
        source = self.record["input"]["path"]
        proposed = Path("record.json") if source is None else Path(source).with_suffix(".json")
        path = self.ask_path(proposed)
        if path is None:
            return
        try:
            write_record(path, self.record)
        except RestoreError as error:
            show_problem(error)

    def _on_again(self) -> None:
        self.run_again.emit()
        self.close()


class VariantRow(QWidget):
    """The name of a result, to edit, and what it differs in from the others."""

    chosen = Signal(object)

    def __init__(self, variant: Variant, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.variant = variant
        self.name = QLineEdit(self)
        self.name.setAccessibleName("Name of the result")
        self.name.setFrame(False)
        self.settings = QElidingLabel("", self)
        layout = column_of(self, self.name, self.settings)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(0)
        self.show_name()
        self.name.editingFinished.connect(self._on_edited)
        self.name.selectionChanged.connect(lambda: self.chosen.emit(self.variant))

    def show_name(self) -> None:
        if self.name.text() != self.variant.name:
            self.name.setText(self.variant.name)
            self.name.setCursorPosition(0)
            self.name.setToolTip(
                f"{self.variant.name}\nIts name and that of its layer; edit it here"
            )

    def describe(self, line: str, settings: dict[str, str]) -> None:
        self.settings.setText(line)
        self.settings.setToolTip("\n".join(f"{name}: {value}" for name, value in settings.items()))

    def mousePressEvent(self, event: Any) -> None:
        """Choose the result at a click beside the name."""
        self.chosen.emit(self.variant)
        super().mousePressEvent(event)

    def _on_edited(self) -> None:
        name = self.name.text().strip()
        if name and name != self.variant.name:
            self.variant.layer.name = name
        self.show_name()


ROWS_SHOWN = 4
STORE_MS = 1000
SEARCH_MS = 150


class ResultsSection(Section):
    """All results of the viewer: the current one marked, names to edit, what differs.

    Also offers what the cache has stored of the chosen image.
    """

    TITLE: ClassVar[str] = "Results"
    TIP: ClassVar[str] = "What was made of this image, now and earlier"
    run_requested = Signal(object, object, str, str)
    """A `RunRequest` to run again, the layer to restore, the model's title, the area's name."""
    freed = Signal(bool)
    """A deletion is over: whether the pixels have left the disk."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.rows: dict[Variant, VariantRow] = {}
        self._stored: dict[Variant, bool] = {}
        """Results that are listed in their store, and whether they were finished then."""
        self._store_soon = qdebounced(self._store_changed, timeout=STORE_MS, parent=self)
        self._search_soon = qdebounced(self._search_cache, timeout=SEARCH_MS, parent=self)
        self._build()
        events = state.events
        self.listen(self._on_variants, events.variants)
        self.listen(self._on_current, events.current)
        self.listen(self._on_running, events.running)
        self.listen(self._search_cache, events.layer)
        layers = viewer.layers.events
        self.listen(self._show_differences, layers.inserted, layers.removed)
        self._on_variants()

    def _build(self) -> None:
        self.list = QListWidget(self)
        self.list.setVerticalScrollMode(QListWidget.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setAccessibleName("Results")
        self.list.setToolTip("The results of the images that are open: a click chooses one")
        self.only = add_button(self, "Show only this", "Hide the other results of its image")
        self.use = add_button(self, "Use these settings", "Set the panel as it was for this result")
        self.record = add_button(self, "Record …", "What was done, with what, and what it took")
        self.delete = add_button(self, "Delete …", "Remove it, and its pixels from the cache")
        self.other = NarrowComboBox(
            self, tip="The result to change places with the one marked above", name="Other result"
        )
        self.toggle = add_button(
            self, "A ⇄ B", "Show the other one instead, and back", checkable=True
        )
        self.earlier = EarlierResults(self)
        about_one = flowing(self.only, self.use, self.record, self.delete)
        column_of(self, self.list, about_one, row_of(self.other, self.toggle), self.earlier)
        self.list.currentItemChanged.connect(self._on_chosen)
        self.only.clicked.connect(self.show_only)
        self.use.clicked.connect(self._on_use)
        self.record.clicked.connect(self._on_record)
        self.delete.clicked.connect(self._on_delete)
        self.toggle.toggled.connect(self._on_toggle)
        self.other.currentIndexChanged.connect(lambda: self.toggle.setChecked(False))
        self.earlier.shown.connect(self._on_shown_earlier)
        self.earlier.delete_requested.connect(self._on_delete_earlier)

    # -- the list -----------------------------------------------------------

    def _on_variants(self) -> None:
        """Show a row per result; new results are listed in their store."""
        variants = self.state.variants
        for variant in [one for one in self.rows if one not in variants]:
            self.rows.pop(variant)
            if self._stored.pop(variant, None) is not None and variant.name.startswith(LIVE):
                self._unlist(variant)
        with signals_blocked(self.list):
            self.list.clear()
            for variant in variants:
                row = VariantRow(variant, self.list)
                row.chosen.connect(self._choose)
                self.rows[variant] = row
                item = QListWidgetItem(self.list)
                item.setData(Qt.ItemDataRole.UserRole, variant)
                item.setSizeHint(QSize(0, row.sizeHint().height()))
                self.list.setItemWidget(item, row)
        renamed = ((variant.layer.events.name, self._on_renamed) for variant in variants)
        self.follow(*renamed, *((variant.adjusted, self._on_adjusted) for variant in variants))
        height = sum(row.sizeHint().height() for row in list(self.rows.values())[:ROWS_SHOWN])
        self.list.setFixedHeight(height + 2 * self.list.frameWidth() + 2)
        self.list.setVisible(bool(variants))
        self._show_differences()
        self._store()
        self._on_current()
        self._search_soon()

    def _show_differences(self) -> None:
        for variant, row in self.rows.items():
            others = [one for one in self.rows if one.source is variant.source]
            line = line_of(variant, others)
            if variant.source not in self.viewer.layers:
                line += f" · {variant.source.name} was removed"
            row.describe(line, settings_of(variant))

    def _on_renamed(self, _event: Any = None) -> None:
        for row in self.rows.values():
            row.show_name()
        self._offer_others()
        self._store(again=True)

    def _on_adjusted(self) -> None:
        self._show_differences()
        self._store_soon()

    def _store_changed(self) -> None:
        self._store(again=True)

    def _on_running(self) -> None:
        self._store()
        self._on_current()

    def _store(self, *, again: bool = False) -> None:
        """Store what a later window needs to show these results again."""
        for variant in self.rows:
            whole = variant.result is not None
            if variant.name.startswith(LIVE) and not variant.is_adjusted:
                # It follows view and settings: what nobody has worked on is there again at once.
                continue
            if again or self._stored.get(variant) is not whole:
                self._stored[variant] = whole
                store_result(variant)

    def _unlist(self, variant: Variant) -> None:
        """Offer a live result that another has replaced no more; its pixels stay in the cache."""
        if not self._is_shown(*variant.entry):
            api.unlist_result(*variant.entry)

    def _on_current(self) -> None:
        current = self.state.current
        with signals_blocked(self.list):
            for number in range(self.list.count()):
                item = self.list.item(number)
                if item.data(Qt.ItemDataRole.UserRole) is current:
                    self.list.setCurrentItem(item)
        for each in (self.only, self.use, self.record, self.delete):
            each.setVisible(current is not None)
        self.record.setEnabled(current is not None and bool(current.record))
        self._offer_others()

    def _offer_others(self) -> None:
        """Offer the results that the current one can change places with."""
        current, kept = self.state.current, self.other.currentData()
        others = [] if current is None else [
            one for one in self.rows if one is not current and one.source is current.source
        ]  # fmt: skip
        self.other.offer(((one.name, one) for one in others), kept)
        self.toggle.setChecked(False)
        self.other.setVisible(bool(others))
        self.toggle.setVisible(bool(others))

    # -- choosing and showing ------------------------------------------------------

    def _on_chosen(self, item: QListWidgetItem | None, _before: Any = None) -> None:
        if item is not None:
            self._choose(item.data(Qt.ItemDataRole.UserRole))

    def _choose(self, variant: Variant) -> None:
        """Make it the one that Compare, Adjust and Export apply to."""
        self.state.current = variant
        if variant.layer in self.viewer.layers:
            self.viewer.layers.selection.active = variant.layer

    def show_only(self) -> None:
        current = self.state.current
        if current is None:
            return
        for variant in self.rows:
            if variant.source is current.source:
                variant.layer.visible = variant is current

    def _on_toggle(self, other: bool) -> None:
        current, partner = self.state.current, self.other.currentData()
        if current is None or partner is None:
            return
        current.layer.visible = not other
        partner.layer.visible = other

    # -- settings, record ------------------------------------------------------------

    def _on_use(self) -> None:
        if self.state.current is not None:
            apply_settings(self.state, self.state.current, self.viewer.layers)

    def _on_record(self) -> None:
        variant = self.state.current
        if variant is None or not variant.record:
            return
        view = RecordView(record_of(variant), variant.name, self)
        view.run_again.connect(lambda: self._run(variant))
        view.show()

    def _run(self, variant: Variant) -> None:
        if variant.source not in self.viewer.layers:
            show_note(f"{variant.source.name} was removed. Open it again to run again.")
            return
        self._request_run(variant.request, variant.source, variant.title)

    def _request_run(self, request: RunRequest, source: ImageLayer, title: str) -> None:
        self.run_requested.emit(request, source, title, area_of(request))

    # -- deleting ----------------------------------------------------------------

    def confirmed(self, text: str) -> bool:
        answer = QMessageBox.question(self, "Delete", text)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _on_delete(self) -> None:
        variant = self.state.current
        if variant is None:
            return
        if self.state.running and variant.record is None:
            show_note(f"{variant.name} is still being made. Press Cancel first.")
        elif variant.saving:
            show_note(f"{variant.name} is being saved. Wait for it, or cancel the export.")
        elif self.confirmed(f"Delete {variant.name} and its pixels from the cache?"):
            variant.shown.result.store.close()
            self.viewer.layers.remove(variant.layer)
            self._free(*variant.entry)

    def _on_delete_earlier(self, kept: KeptResult) -> None:
        if self.confirmed(f"Delete the earlier result {kept.title} from the cache?"):
            self._free(kept.store, kept.name)

    def _free(self, store: Path, name: str) -> None:
        """Remove pixels from the disk, which may take a while; on another thread."""
        if self._is_shown(store, name):
            # Made twice with the same settings: the other one still shows them.
            self.freed.emit(False)
            return
        in_background(partial(api.forget_result, store, name), self._on_freed)

    def _on_freed(self, result: bool | RestoreError) -> None:
        if isinstance(result, RestoreError):
            show_problem(result)
            result = False
        self._search_cache()
        self.freed.emit(result)

    # -- earlier -------------------------------------------------------------------

    def _search_cache(self) -> None:
        layer = self.state.layer
        try:
            image = None if layer is None else image_of(layer)
        except RestoreError:
            image = None
        self.earlier.search(image, self._is_here)

    def _is_shown(self, store: Path, name: str) -> bool:
        """Return whether the entry of that name in that store is of a result in the viewer."""
        return any(each.entry == (store, name) for each in self.state.variants)

    def _is_here(self, kept: KeptResult) -> bool:
        return self._is_shown(kept.store, kept.name)

    def _on_shown_earlier(self, kept: KeptResult, result: Result) -> None:
        layer = self.state.layer
        if layer is None or self._is_here(kept):
            return
        variant = variant_of_stored(kept, result, self.viewer, layer)
        self._stored[variant] = True
        self.state.variants = (*self.state.variants, variant)
        self.state.current = variant
        # Now that it shares the source's contrast both may have to reach further.
        variant.shown.refresh()
        if not kept.complete:
            # Tiles of another size would cut across those that are finished.
            options = variant.request.options.replacing(tile=kept.task["options"]["tile"])
            # The run takes place, name and look of what is there.
            self._request_run(replace(variant.request, options=options), layer, kept.method)

    def leave(self) -> None:
        self._store(again=True)
        self.rows.clear()
        self.earlier.discard()
