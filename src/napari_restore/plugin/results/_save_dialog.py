"""Asks for the name of a file to write."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget


def ask_save_path(parent: QWidget, title: str, proposed: Path, kind: str) -> Path | None:
    """The name the user chooses, with `proposed`'s suffix unless it has one; None for none.

    `kind` is what such files are called. Whoever chose a name that exists was asked
    about replacing that very file.
    """
    suffix = proposed.suffix
    dialog = QFileDialog(parent, title, str(proposed), f"{kind} (*{suffix})")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    # Added by the dialog, so that it asks about the name that is written.
    dialog.setDefaultSuffix(suffix[1:])
    dialog.selectFile(proposed.name)
    try:
        return Path(dialog.selectedFiles()[0]) if dialog.exec() else None
    finally:
        dialog.deleteLater()
