"""A record to read: what was done, with what, and what it took."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QTabWidget,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_restore.errors import RestoreError
from napari_restore.plugin.results._save_dialog import ask_save_path
from napari_restore.plugin.results._variant_text import record_rows
from napari_restore.plugin.tasks._notices import show_problem
from napari_restore.records import strict_json, write_record


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
        self.table.setHtml(_table(record_rows(record)))
        self.text = QPlainTextEdit(strict_json(record, indent=2), self)
        self.text.setReadOnly(True)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        tabs = QTabWidget(self)
        tabs.addTab(self.table, "Summary")
        tabs.addTab(self.text, "JSON")
        self.copy = QPushButton("Copy JSON", self)
        self.save_as = QPushButton("Save …", self)
        self.save_as.setToolTip("napari-restore rerun FILE repeats the run from it")
        self.again = QPushButton("Run again", self)
        self.again.setToolTip("The same run once more, as a result of its own")
        self.close_button = QPushButton("Close", self)
        buttons = QHBoxLayout()
        for button in (self.copy, self.save_as, self.again):
            buttons.addWidget(button)
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        layout.addWidget(tabs)
        layout.addLayout(buttons)
        self.copy.clicked.connect(self._on_copy)
        self.save_as.clicked.connect(self._on_save)
        self.again.clicked.connect(self._on_again)
        self.close_button.clicked.connect(self.close)

    def ask_path(self, proposed: Path) -> Path | None:
        """Return the name the user chooses; None when there is none."""
        return ask_save_path(self, "Save the record", proposed, "JSON")

    def _on_copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.text.toPlainText())

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


def _table(rows: list[tuple[str, str]]) -> str:
    cells = (
        f"<tr><td style='padding-right:12px'><b>{html.escape(what)}</b></td>"
        f"<td>{html.escape(how_much)}</td></tr>"
        for what, how_much in rows
    )
    return f"<table cellspacing='4'>{''.join(cells)}</table>"
