"""The table of many attributions: rows, summary, and their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from napari_restore.engine import Note
from napari_restore.errors import BadOutput, Cancelled, RestoreError, option
from napari_restore.explain.attribution._attribution_run import Emit
from napari_restore.explain.tables._row_journal import RowJournal
from napari_restore.explain.tables._rows import (
    Compute,
    Group,
    PlannedRow,
    Row,
    RowResult,
    planned_rows,
)
from napari_restore.explain.tables._summary import summary_of
from napari_restore.explain.tables._table_text import csv_table, latex_table, text_table
from napari_restore.images import Image
from napari_restore.models import Labelled
from napari_restore.records import check_file, write_json, write_text

SUFFIXES = (".csv", ".json", ".tex")


@dataclass(frozen=True)
class AttributionTable:
    """A row for each image, box and model, and their summary."""

    rows: list[Row] = field(repr=False)
    """Rows by image, box and model; those after a cancellation are missing."""
    models: list[str]
    """Labels; the others are compared to the first."""
    question: dict[str, Any]
    """Options of all attributions."""
    planned: int
    """Number of rows without a cancellation."""
    failures: list[RestoreError] = field(repr=False)
    """Errors of the rows with an ``error``, in their order."""
    measures: dict[str, Any] = field(repr=False)
    """Further fields of `to_dict`."""

    @property
    def status(self) -> str:
        """``"done"``, or ``"cancelled"`` where rows are missing."""
        return "done" if len(self.rows) == self.planned else "cancelled"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Means and differences, see `summary_of`."""
        return summary_of(self.rows, self.models)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON."""
        rows = {"status": self.status, "question": self.question, "rows": self.rows}
        return {**self.measures, **rows, "summary": self.summary}

    def __str__(self) -> str:
        """Return the summary as a text table."""
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
    """Raise `BadOutput` for a table that could not be written; called before the computation."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadOutput(
            f"{path.name} is not a table, the output of several boxes or models.",
            f"Its name must end in {', '.join(SUFFIXES)}.",
        )
    check_file(path, "table", option("path"), overwrite=overwrite)


def make_table(
    groups: Sequence[Group],
    models: Sequence[Labelled],
    *,
    open_image: Callable[[Any], Image],
    compute: Compute,
    question: Mapping[str, Any],
    extra: Mapping[str, Any],
    journal: RowJournal,
    emit: Emit,
) -> AttributionTable:
    """Compute the rows until all are done or the run is cancelled, also by Ctrl-C.

    Rows that `journal` has are not computed again. A place that fails has an ``error`` in its row.
    `question` are the options that the table records, `extra` further fields of its `to_dict`.

    Raises
    ------
    RestoreError
        Where every place failed: the first error.
    Cancelled
        Where it was cancelled before the first map.
    """
    count = len(models) * sum(len(places) for _, places in groups)
    results: list[RowResult] = []
    if len(journal):
        emit(Note(f"Continues after {len(journal)} of {count} rows."))

    def left() -> Iterator[PlannedRow]:
        for planned in planned_rows(groups, models, open_image):
            known = journal.known(planned)
            if known is None:
                yield planned
            else:
                results.append(known)

    with journal:
        try:
            for result in compute(left()):
                journal.add(result)
                results.append(result)
        except (Cancelled, KeyboardInterrupt):
            if all(result.error is not None for result in results):
                raise
        journal.is_complete = len(results) == count
    results.sort(key=lambda result: result.order)
    failures = [result.error for result in results if result.error is not None]
    if len(failures) == len(results):
        raise failures[0]
    run = next(result.measures for result in results if result.error is None)
    return AttributionTable(
        [result.row for result in results],
        [model.label for model in models],
        dict(question),
        count,
        failures,
        {**extra, **run},
    )
