"""Many boxes asked of many models: the rows, what they say together, and files of both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from napari_restore.errors import BadOutput, Cancelled, RestoreError
from napari_restore.explain._attribution import Attribution
from napari_restore.explain._attribution_run import Emit
from napari_restore.explain.tables._rows import Answered, Group, Row, ask_all
from napari_restore.explain.tables._summary import summary_of
from napari_restore.explain.tables._table_text import csv_table, latex_table, text_table
from napari_restore.images import Image
from napari_restore.models import Labelled
from napari_restore.records import check_file, write_json, write_text

SUFFIXES = (".csv", ".json", ".tex")


@dataclass(frozen=True)
class AttributionTable:
    """A row for each image, box and model, and what they say together."""

    rows: list[Row] = field(repr=False)
    """Image by image, box by box, model by model; without those that a stop has left out."""
    models: list[str]
    """Labels; the first is what others are compared to."""
    question: dict[str, Any]
    """The options that all were asked with."""
    asked: int
    """Rows there are without a stop."""
    failures: list[RestoreError] = field(repr=False)
    """Of the rows with an `error`, in their order."""
    measures: dict[str, Any] = field(repr=False)
    """More of what `to_dict` tells."""

    @property
    def status(self) -> str:
        """``"done"``, or ``"cancelled"`` where rows are missing."""
        return "done" if len(self.rows) == self.asked else "cancelled"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """See `summary_of`."""
        return summary_of(self.rows, self.models)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: all that is known."""
        told = {"status": self.status, "question": self.question, "rows": self.rows}
        return {**self.measures, **told, "summary": self.summary}

    def __str__(self) -> str:
        """The summary for people."""
        return text_table(self.summary)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the rows (.csv), everything (.json) or the summary for LaTeX (.tex).

        The file appears whole or not at all. Raises `BadOutput`.
        """
        target = Path(path)
        check_table(target, overwrite=overwrite)
        kind = target.suffix.lower()
        try:
            if kind == ".json":
                write_json(target, self.to_dict())
            else:
                write_text(
                    target, csv_table(self.rows) if kind == ".csv" else latex_table(self.summary)
                )
        except OSError as error:
            raise BadOutput(
                f"{target} cannot be written: {error.strerror or error}.", "Choose another folder."
            ) from None
        return target


def check_table(path: Path, *, overwrite: bool = False) -> None:
    """Raise `BadOutput` for a table that could not be written, before anything is computed."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadOutput(
            f"{path.name} is no table, which several boxes or models make.",
            f"Its name must end in {', '.join(SUFFIXES)}.",
        )
    check_file(path, "table", "-o", overwrite=overwrite)


def make_table(
    groups: Sequence[Group],
    models: Sequence[Labelled],
    *,
    open_image: Callable[[Any], Image],
    ask: Callable[..., Attribution],
    question: Mapping[str, Any],
    account: Mapping[str, Any],
    emit: Emit,
    stop: threading.Event,
) -> AttributionTable:
    """Ask as `ask_all` does, until it is done or stopped, also by Ctrl-C.

    A place that fails has an `error` in its row. `question` and `account` are told with it.

    Raises
    ------
    RestoreError
        Where every place failed: the first one's.
    Cancelled
        Where it was stopped before the first map.
    """
    count = len(models) * sum(len(here) for _, here in groups)
    found: list[Answered] = []
    try:
        for answer in ask_all(groups, models, open_image, ask, emit, stop):
            found.append(answer)
    except (Cancelled, KeyboardInterrupt):
        if all(answer.error is not None for answer in found):
            raise
    found.sort(key=lambda answer: answer.order)
    failures = [answer.error for answer in found if answer.error is not None]
    if len(failures) == len(found):
        raise failures[0]
    told = next(answer.measures for answer in found if answer.error is None)
    return AttributionTable(
        [answer.row for answer in found],
        [model.label for model in models],
        dict(question),
        count,
        failures,
        {**account, **told},
    )
