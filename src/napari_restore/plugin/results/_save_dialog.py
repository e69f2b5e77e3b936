"""Asks for the name of a file to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_restore.errors import BadOutput
from napari_restore.plugin._notices import show_problem


def ask_save_path(
    parent: QWidget, title: str, proposed: Path, kind: str, suffixes: Sequence[str] = ()
) -> Path | None:
    """The name the user chooses, with `proposed`'s suffix unless it has one; None for none.

    `kind` is what such files are called, `suffixes` all they may have. Whoever chose a file that exists was asked
    about replacing that very file. A zarr store is a folder, which the dialog enters;
    a name inside one is refused.
    """
    suffix = proposed.suffix
    shown = " ".join(f"*{known}" for known in suffixes or (suffix,))
    # The folder, not the path: a folder of that name would be entered.
    dialog = QFileDialog(parent, title, str(proposed.parent), f"{kind} ({shown})")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    # Added by the dialog, so that it asks about the name that is written.
    dialog.setDefaultSuffix(suffix[1:])
    dialog.selectFile(proposed.name)
    try:
        chosen = Path(dialog.selectedFiles()[0]) if dialog.exec() else None
    finally:
        dialog.deleteLater()
    store = None if chosen is None else store_around(chosen)
    if store is not None:
        show_problem(
            BadOutput(
                f"{store.name} is a zarr store that exists: nothing is saved inside it.",
                "Choose another name, or delete the store first.",
            )
        )
        return None
    return chosen


def store_around(path: Path) -> Path | None:
    """The zarr store inside which `path` lies."""
    inside = [folder for folder in path.parents if _is_store(folder)]
    return inside[-1] if inside else None


def _is_store(folder: Path) -> bool:
    marks = ("zarr.json", ".zgroup", ".zarray")
    return folder.suffix.lower() == ".zarr" or any((folder / mark).exists() for mark in marks)
