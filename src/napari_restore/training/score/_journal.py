"""The journal of scores, from which an interrupted evaluation continues."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from napari_restore.records import strict_json

NAME = "scores.jsonl"


class JournalPart(NamedTuple):
    """What a process must know of a journal to score one image."""

    rows: list[dict[str, Any]]
    clear: dict[str, dict[str, float]]
    """Scores of clear images by their keys."""


class Journal:
    """JSON lines, one for each image and method; a later line replaces an earlier one of its key.

    Without a folder it is in memory only.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / NAME
        self._rows: dict[str, dict[str, Any]] = {}
        self._clear: dict[str, dict[str, float]] = {}
        self.added: list[dict[str, Any]] = []
        """Rows in the order of `add`."""
        if self._path is None or not self._path.is_file():
            return
        text = self._path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            try:
                row = json.loads(line)
                row["values"] = _numbers(row["values"])
                if row.get("clear_values"):
                    row["clear_values"] = _numbers(row["clear_values"])
                self._know(row)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # an incomplete line is scored again
        if text and not text.endswith("\n"):
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def row(self, key: str) -> dict[str, Any] | None:
        """Return the row of a key, or None."""
        found = self._rows.get(key)
        return None if found is None else dict(found)

    def values_of_clear(self, key: str) -> dict[str, float] | None:
        """Return the scores of a clear image, which several hazy ones may share, or None."""
        return self._clear.get(key)

    def part(self, group: str, image: str, *, clear: bool) -> JournalPart:
        """Return the rows of an image and, if wanted, the scores of all clear images."""
        names = ("group", "image")
        rows = [
            row
            for row in self._rows.values()
            if tuple(row.get(name) for name in names) == (group, image)
        ]
        return JournalPart(rows, dict(self._clear) if clear else {})

    @classmethod
    def of_part(cls, part: JournalPart) -> Journal:
        """Return a journal in memory that has a part of another one."""
        journal = cls(None)
        journal._clear.update(part.clear)
        for row in part.rows:
            journal._know(row)
        return journal

    def add(self, row: Mapping[str, Any]) -> None:
        """Store a row under its `key`, written to disk before this returns."""
        self._know(row)
        self.added.append(dict(row))
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(strict_json(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _know(self, row: Mapping[str, Any]) -> None:
        self._rows[row["key"]] = dict(row)
        if row.get("clear_key") and row.get("clear_values"):
            self._clear[row["clear_key"]] = dict(row["clear_values"])


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Convert values to float; infinity and NaN are text in strict JSON."""
    return {name: float(value) for name, value in values.items()}
