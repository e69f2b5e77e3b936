"""Scores of earlier calls, from which an interrupted evaluation continues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from napari_restore.extension import Journal, strict_json

NAME = "scores.jsonl"


class JournalPart(NamedTuple):
    """What a process must know of a journal to score one image."""

    rows: list[dict[str, Any]]
    clear: dict[str, dict[str, float]]
    """Scores of clear images by their keys."""


class ScoreJournal:
    """A row for each image and method; a later one replaces an earlier one of its key.

    Keys are digests of all that decides a score, so rows of other evaluations harm nothing. Without
    a folder it is in memory only. One process writes.
    """

    def __init__(self, folder: Path | None) -> None:
        self._journal = None if folder is None else Journal(folder / NAME, {"rows": "scores"})
        self._rows: dict[str, dict[str, Any]] = {}
        self._clear: dict[str, dict[str, float]] = {}
        self.added: list[dict[str, Any]] = []
        """Rows in the order of `add`."""
        if self._journal is None:
            return
        self._journal.mend()
        for row in self._journal.read_known():
            # A row of another shape is scored again.
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                row["values"] = _numbers(row["values"])
                if row.get("clear_values"):
                    row["clear_values"] = _numbers(row["clear_values"])
                self._know(row)

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
    def of_part(cls, part: JournalPart) -> ScoreJournal:
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
        if self._journal is not None:
            self._journal.append(json.loads(strict_json(row)), durable=True)

    def _know(self, row: Mapping[str, Any]) -> None:
        self._rows[row["key"]] = dict(row)
        if row.get("clear_key") and row.get("clear_values"):
            self._clear[row["clear_key"]] = dict(row["clear_values"])


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Convert values to float; infinity and NaN are text in strict JSON."""
    return {name: float(value) for name, value in values.items()}
