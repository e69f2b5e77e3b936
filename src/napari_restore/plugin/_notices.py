"""Errors and notes in napari's own way: a sentence with the next step, no traceback."""

from __future__ import annotations

from napari_restore.errors import RestoreError


def show_problem(error: RestoreError) -> None:
    """Show what went wrong and what to do; callable from any thread."""
    from napari.utils.notifications import show_error

    show_error(str(error))


def show_note(text: str) -> None:
    """Show a sentence the user should read."""
    from napari.utils.notifications import show_info

    show_info(text)
