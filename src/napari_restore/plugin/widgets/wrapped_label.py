"""A label for sentences with long names in them."""

from __future__ import annotations

import re

from qtpy.QtWidgets import QLabel, QWidget

LONGEST = 24
"""Letters of a word that may stay on one line."""
BREAK = "\N{ZERO WIDTH SPACE}"


class WrappedLabel(QLabel):
    """Wraps its plain text also within names of files and layers."""

    # Qt wraps between words only: a name without a space makes a label, and the panel with it, as
    # wide as the name, and what is beyond the edge is cut off.
    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent, wordWrap=True)
        self.setText(text)

    def setText(self, text: str) -> None:
        """Show `text`, with places for a line's end in its long words."""
        super().setText(re.sub(rf"\S{{{LONGEST + 1},}}", _with_breaks, text))

    def text(self) -> str:
        """Return the text as it was set."""
        return super().text().replace(BREAK, "")


def _with_breaks(word: re.Match[str]) -> str:
    parts = re.findall(rf"[^_./\\-]{{0,{LONGEST - 1}}}[_./\\-]?", word[0])
    return BREAK.join(part for part in parts if part)
