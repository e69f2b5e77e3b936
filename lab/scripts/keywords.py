"""Write the keywords of the lab's questions for type checkers: `_keywords.py`, which is compared."""

from __future__ import annotations

from pathlib import Path

from scripts.keywords import keywords

from napari_restore_lab._questions import Evaluate, HazePairs

FILE = Path(__file__).resolve().parent.parent / "src/napari_restore_lab/_keywords.py"


def text() -> str:
    """Return the content of the file."""
    head = FILE.read_text("utf-8").partition("\n\nclass ")[0]
    return head + keywords(Evaluate) + keywords(HazePairs)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
