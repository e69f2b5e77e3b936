"""Errors and notes as napari notifications: a sentence with the next step, no traceback."""

from __future__ import annotations

import re

from napari_restore.errors import RestoreError, escape_controls

OPTIONS = {
    "bands": "the form below Image",
    "bit-depth": "Values",
    "device": "Device (Advanced)",
    "exclude": "Exclude",
    "fresh": "Delete (Results)",
    "mask": "Area",
    "memory": "Memory",
    "tile": "Tile (Advanced)",
}
"""Option of the command line → what the panel calls it."""


def error_text(error: RestoreError) -> str:
    """Return cause and next step, with options named as the panel names them."""
    text = re.sub(r"--scratch( folder)?", "cache folder (Preferences)", str(error))
    return re.sub(r"--([a-z-]+)", lambda found: OPTIONS.get(found[1], found[0]), text)


def show_problem(error: RestoreError) -> None:
    """Show an error as a napari notification; callable from any thread."""
    from napari.utils.notifications import show_error

    show_error(error_text(error))


def show_note(text: str) -> None:
    """Show a sentence as a napari notification."""
    from napari.utils.notifications import show_info

    show_info(escape_controls(text))
