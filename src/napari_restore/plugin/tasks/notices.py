"""Errors and notes as napari notifications: a sentence with the next step, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QRect, Qt

from napari_restore import Region
from napari_restore._format import format_seconds
from napari_restore.errors import Message, Option, RestoreError, escape_controls
from napari_restore.plugin.tasks.main_thread import on_main_thread

LABELS = {
    "align": "Align the frames {}",
    "arguments": "Settings {}",
    "bands": "the form below Image",
    "baseline": "Baseline {}",
    "bit_depth": "Bit depth {}",
    "check": "Check {}",
    "compress": "Compression {} (Export)",
    "cluster": "Cluster {} (Advanced)",
    "context_gradient": "Context {}",
    "device": "Device {} (Advanced)",
    "clip": "Extent {} (Export)",
    "exclude": "Exclude {}",
    "exclude_bits": "Bits {} (Exclude)",
    "exclude_values": "Values {} (Exclude)",
    "exclude_where": "Attributes {} (Exclude)",
    "extent": "Extent {} (Advanced)",
    "fresh": "Delete (Results)",
    "gap": "Largest gap {}",
    "mask": "Area",
    "memory": "Memory {}",
    "method": "Method {}",
    "models": "Method {}",
    "precision": "Precision {} (Advanced)",
    "quality": "Quality {} (Export)",
    "profile": "Colours {} (Export)",
    "resize": "Longer side {} (Export)",
    "sharpen": "Sharpen for a screen (Export)",
    "residuals": "Residuals {} (Advanced)",
    "scratch": "Cache folder (Preferences)",
    "routing": "Routing {}",
    "sensor": "Sensor {}",
    "subsampling": "Subsampling {} (Export)",
    "tile": "Tile {} (Advanced)",
    "tile_batch": "Tile batch {} (Advanced)",
}
"""Option in Python → the label of its control, where the value stands, and where it is found."""


def error_text(error: RestoreError) -> str:
    """Return cause and next step, with the labels of the window."""
    return with_labels(error.sentence)


def with_labels(text: str) -> str:
    """The sentence with the labels of the window; a plain text as it is."""
    if not isinstance(text, Message):
        return text
    # "another scratch folder" in Python, "another Cache folder" here.
    return text.naming(_label).replace("(Preferences) folder", "(Preferences)")


SHOWN = 8
"""Problems that are listed; more are counted."""


def listed(text: str, problems: Sequence[tuple[str, str]]) -> str:
    """Return how several things ended, a line for each problem: what failed, and the sentence that says why."""
    lines = [text, *(f"{name}: {problem}" for name, problem in problems[:SHOWN])]
    return "\n".join([*lines, *([f"and {len(problems) - SHOWN} more"] if problems[SHOWN:] else [])])


def _label(option: Option) -> str:
    values = " or ".join(_text(value) for value in option.values if value is not True)
    # What has no control keeps its plain name.
    plain = option.name.removesuffix("()").replace("_", " ") + " {}"
    return " ".join(LABELS.get(option.name, plain).format(values).split())


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={each}" for name, each in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def place_text(box: Region) -> str:
    """Return ``"640 × 480 at 100, 20"``: width and height of a box, and its column and row."""
    return f"{box.width} × {box.height} at {box.x0}, {box.y0}"


def box_text(box: Region, pixels: str = "pixels") -> str:
    """Return ``"640 × 480 pixels at x 100, y 20"``."""
    return f"{box.width} × {box.height} {pixels} at x {box.x0}, y {box.y0}"


def done_text(seconds: float, **parts: float) -> str:
    """Return ``"Done in 18.7 s: planning 9.1 s, loading and drawing 6.0 s, computing 3.6 s."``.

    `seconds` have passed since the click; `parts` of them are known by name.
    """
    parts = {"planning": 0.0, "loading and drawing": seconds - sum(parts.values())} | parts
    named = [f"{name} {format_seconds(s, tenths=True)}" for name, s in parts.items() if s >= 0.05]
    return f"Done in {format_seconds(seconds, tenths=True)}: {', '.join(named)}."


def show_problem(error: RestoreError) -> None:
    """Show an error as a napari notification; callable from any thread."""
    from napari.utils.notifications import show_error

    show_error(said := error_text(error))
    on_main_thread(_unfold)(said, "")


def show_note(text: str, about: str = "") -> None:
    """Show a sentence as a napari notification, which begins with the image that it is `about`."""
    from napari.utils.notifications import show_info

    said = escape_controls(with_labels(text))
    said = f"{about}: {said}" if about and about not in said else said
    show_info(said)
    on_main_thread(_unfold)(said, about)


def close_notes(about: str) -> None:
    """Close what is still shown of notes about other images."""
    for note in _notes():
        if note.property(ABOUT) not in (None, "", about):
            note.close()


ABOUT = "napari_restore_about"
ENDLESS = 10_000
MARGIN = 4
"""Pixels beside and above a label's letters, by napari's style: a line as long as the label is broken once more."""
READING_MS = 60
"""For a letter: napari takes a note away after four seconds, however long it is."""


def _notes() -> list[Any]:
    """Return napari's notes on the screen, the last one on top."""
    module = sys.modules.get("napari._qt.dialogs.qt_notification")
    known = () if module is None else module.NapariQtNotification._instances
    # napari forgets none of those that went with their window.
    return [note for note in known if isalive(note)]


def _unfold(said: str, about: str) -> None:
    """Show all of a note, of which napari shows one line, for as long as one reads it."""
    for note in _notes():
        if note.message.text() == said and not note.property("expanded"):
            note.setProperty(ABOUT, about)
            # Else it would grow from where it slides in.
            note.geom_anim.setCurrentTime(note.geom_anim.duration())
            place, label = note.geometry(), note.message
            note.expand()
            # That is by the label's hint, which knows nothing of its width.
            room = QRect(0, 0, label.width() - MARGIN, ENDLESS)
            needed = label.fontMetrics().boundingRect(room, Qt.TextFlag.TextWordWrap, said)
            grown = needed.height() + MARGIN - label.height()
            note.geom_anim.setEndValue(place.adjusted(0, -grown, 0, 0))
            # The canvas may get another size meanwhile.
            note.geom_anim.finished.connect(note.move_to_bottom_right)
            # What lies below, as another note, is not to be read between the letters.
            note.opacity_anim.setEndValue(1.0)
            note.timer.setInterval(max(note.DISMISS_AFTER, READING_MS * len(said)))
