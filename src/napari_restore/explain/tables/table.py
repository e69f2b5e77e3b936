"""The table of many attributions: rows, summary, and their files."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, Self

from napari_restore._format import columns
from napari_restore._journal import Journal
from napari_restore._json_shapes import read_json
from napari_restore._plain_files import read_text
from napari_restore.engine import Emit, Note, lock_exclusive, remove_unused
from napari_restore.errors import BadOutput, Cancelled, DiskFull, RestoreError, is_disk_full, option
from napari_restore.explain.attribution.files import csv_text, write_file
from napari_restore.explain.attribution.summary import FAR
from napari_restore.explain.tables.rows import (
    COLUMNS,
    Compute,
    Group,
    PlannedRow,
    Row,
    RowResult,
    name_of,
    planned_rows,
)
from napari_restore.images import Image, cache_dir, html_of, mark_entry
from napari_restore.models import Labelled, identity_of
from napari_restore.records import check_file, strict_json

SUFFIXES = (".csv", ".json")
FORMAT = 1
"""Raised when the rows on disk change; part of every folder's name."""


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
        """Return all fields as JSON.

        Returns
        -------
        dict
            Status, question, rows, summary and measures.
        """
        rows = {"status": self.status, "question": self.question, "rows": self.rows}
        return {**self.measures, **rows, "summary": self.summary}

    def __str__(self) -> str:
        """Return the summary as a text table."""
        return text_table(self.summary)

    def _repr_html_(self) -> str:
        return html_of(f"Attributions: {len(self.rows)} of {self.planned} rows", {}, text=str(self))

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the rows (.csv), or everything (.json).

        The file appears whole or not at all. Raises `BadOutput`.

        Parameters
        ----------
        path
            The file.
        overwrite
            Whether a file there is replaced.

        Returns
        -------
        pathlib.Path
            The file that was written.
        """
        target = Path(path)
        check_table(target, overwrite=overwrite)
        if target.suffix.lower() == ".json":
            text = strict_json(self.to_dict(), indent=2) + "\n"
        else:
            text = csv_table(self.rows)
        return write_file(target, text.encode(), overwrite=overwrite)


def check_table(path: Path, *, overwrite: bool = False, rows: int = 0) -> None:
    """Raise `BadOutput` for a table that could not be written; says how many of `rows` one has that exists."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadOutput(
            f"{path.name} is not a table, the output of several boxes or models.",
            f"Its name must end in {', '.join(SUFFIXES)}.",
        )
    # It may be of a run that was stopped.
    found = _rows_in(path) if rows and not overwrite else None
    if found is not None:
        raise BadOutput(
            f"The table {path} exists, with {found} of {rows} rows.",
            f"Add {option('overwrite', True)} to replace it, or choose another name.",
        )
    check_file(path, "table", option("path"), overwrite=overwrite)


def _rows_in(path: Path) -> int | None:
    """Return how many rows a file has that is a table; None for any other, and where there is none."""
    try:
        if path.suffix.lower() == ".json":
            return len(read_json(path)["rows"])
        first, *lines = csv.reader(read_text(path).splitlines())
        return len(lines) if tuple(first) == tuple(COLUMNS) else None
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        return None


class RowJournal:
    """Finished rows of a table, without errors, in a locked folder; raises `StoreBusy`, `DiskFull`."""

    # It is a context manager that removes the folder when the table `is_complete`.
    def __init__(
        self, task: Mapping[str, Any] | None, scratch: str | os.PathLike[str] | None
    ) -> None:
        """Keep rows of the table that `task` determines; None: keep none on disk."""
        self.is_complete = False
        self._journal: Journal | None = None
        self._known: dict[tuple[int, int], dict[str, Any]] = {}
        self._unlock: Callable[[], None] | None = None
        if task is None:
            return
        text = json.dumps([FORMAT, task], sort_keys=True, default=str)
        parent = cache_dir() / "results" if scratch is None else Path(scratch)
        self._path = parent / f"attributions-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        self._journal = Journal(self._path / "rows.jsonl", {"task": text})

    def __len__(self) -> int:
        return len(self._known)

    def __enter__(self) -> Self:
        if self._journal is not None:
            try:
                self._unlock = lock_exclusive(
                    self,
                    self._path,
                    "The same table is being computed already ({}).",
                    f"use another {option('scratch')} folder",
                )
                mark_entry(self._path, {"attributions": self._path.name}, complete=False)
                self._journal.mend()
                for line in self._journal.read_known():
                    first, second = line["order"]
                    self._known[first, second] = line
            except OSError as error:
                if is_disk_full(error):
                    raise self._full(error) from error
                # A table can do without, as in a cache that cannot be written.
                self._journal = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._unlock is None or self._journal is None:
            return
        self._unlock()
        if self.is_complete or not self._journal.path.exists():
            remove_unused(self._path)

    def known(self, planned: PlannedRow) -> RowResult | None:
        """Return the finished row of this image, model and target; None where there is none."""
        line = self._known.get(planned.order, {"row": {}})
        row, stated = line["row"], {k: v for k, v in planned.row.items() if v is not None}
        if not row or any(row.get(name) != value for name, value in stated.items()):
            return None
        return RowResult(planned.order, row, line["run"], None)

    def add(self, result: RowResult) -> None:
        """Keep a row, written to disk before this returns; rows with an error are left out."""
        if self._journal is None or result.error is not None:
            return
        line = {"order": result.order, "row": result.row, "run": result.measures}
        try:
            self._journal.append(line, durable=True)
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> RestoreError:
        return DiskFull(
            f"The finished rows cannot be kept in {self._path.parent}: {error.strerror or error}.",
            f"Free some space, or name another folder with {option('scratch')}.",
        )


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

    Rows that `journal` has are not computed again. A target that fails has an ``error`` in its row.
    `question` are the options that the table records, `extra` further fields of its `to_dict`.
    Raises the first `RestoreError` where every target failed, `Cancelled` before the first map.
    """
    count = len(models) * sum(len(targets) for _, targets in groups)
    results: list[RowResult] = []

    def left() -> Iterator[PlannedRow]:
        for planned in planned_rows(groups, models, open_image):
            known = journal.known(planned)
            if known is None:
                yield planned
            else:
                results.append(known)

    with journal:
        if len(journal):
            emit(Note(f"Continues after {len(journal)} of {count} rows."))
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


def table_task_of(
    groups: Sequence[Group],
    models: Sequence[Labelled],
    rows: Sequence[Row],
    spec_of: Callable[[Any], Mapping[str, Any] | None],
) -> dict[str, Any] | None:
    """Return images with their targets, and models, as JSON; None if some exist only in memory.

    `spec_of` returns how an image is opened again.
    """
    specs = [spec_of(source) for source, _ in groups]
    if None in specs or not all(model.spec for _, model in models):
        return None
    fingerprints = {row["number"]: row["fingerprint"] for row in rows}
    images, number = [], 0
    for (source, targets), spec in zip(groups, specs, strict=True):
        record = {
            "name": name_of(source),
            "spec": spec,
            "fingerprint": fingerprints.get(number + 1),
        }
        images.append({**record, "places": [target.to_dict() for target in targets]})
        number += len(targets)
    return {
        "images": images,
        "models": [
            {"label": label, "spec": model.spec, **identity_of(model)} for label, model in models
        ],
    }


def text_table(summary: Mapping[str, Any]) -> str:
    """Return means and differences as a text table, with notes on their boxes."""
    head = ("", *(measure.title for measure in MEASURES.values()))
    rows = [
        (summary_row["model"], *_cells(summary_row["means"])) for summary_row in summary["models"]
    ]
    differences = [
        (f"{summary_row['model']} - {summary_row['to']}", *_cells(summary_row["means"]))
        for summary_row in summary["differences"]
    ]
    lines = [columns([head, *rows, *differences]), ""]
    for summary_row in summary["models"]:
        if not summary_row["boxes"]:
            lines.append(f"{summary_row['model']}: not run")
            continue
        counted = f"{summary_row['model']}: {summary_row['boxes'] - summary_row['failed']} of {summary_row['boxes']} boxes"
        if summary_row["empty"]:
            counted += f", in {summary_row['empty']} nothing has a share"
        if summary_row["not_reached"]:
            counted += f", in {summary_row['not_reached']} the gap was not reached"
        lines.append(f"{counted}, method {', '.join(summary_row['methods']) or 'none'}")
    return "\n".join(lines)


def csv_table(rows: Sequence[Row]) -> str:
    """Return the rows as CSV; unknown values are empty, polygons JSON."""
    cells = ({column: _csv_value(value) for column, value in row.items()} for row in rows)
    return csv_text(COLUMNS, cells)


def _cells(means: Mapping[str, Any]) -> list[str]:
    return [_mean_text(means[name]["mean"], measure) for name, measure in MEASURES.items()]


def _mean_text(mean: float | None, measure: Measure) -> str:
    _, scale, decimals = measure
    # Rounded first, and + 0.0, to avoid -0.0.
    return "–" if mean is None else f"{round(mean * scale, decimals) + 0.0:.{decimals}f}"


def _csv_value(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.8g}"
    return json.dumps(value) if isinstance(value, list) else value


class Measure(NamedTuple):
    """A column with a mean in the summary, and its number format."""

    title: str
    scale: float
    """Factor for display."""
    decimals: int
    """Decimals for display."""


MEASURES = {
    "diffusion_index": Measure("index of the map", 1, 1),
    "area_95": Measure("area of the map (pixels)", 1, 0),
    f"beyond_{FAR}": Measure(f"beyond {FAR} px (% of all)", 100, 1),
    "relative_gap": Measure("gap (%)", 100, 2),
}
"""Measures by column."""


def mean_of(values: Iterable[float | None]) -> dict[str, float | None]:
    """Return how many values are known, ``n``, and their ``mean``, None of none."""
    known = [value for value in values if value is not None]
    return {"n": len(known), "mean": fmean(known) if known else None}


def summary_of(rows: Sequence[Row], models: Sequence[str]) -> dict[str, Any]:
    """Return means over boxes for every model, and paired differences to the first one.

    Maps of zeros count as ``empty`` and enter no mean but that of the gap. Each mean has n and mean,
    see `mean_of`, over the boxes with a known value; a difference, over those known for both models.
    """
    by_model: dict[str, dict[int, Row]] = {model: {} for model in models}
    for row in rows:
        by_model[row["model"]][row["number"]] = row
    first, *others = models
    return {
        "models": [
            {
                "model": model,
                "boxes": len(of_model),
                "failed": sum(row["error"] is not None for row in of_model.values()),
                "empty": sum(
                    row["error"] is None and row["in_box"] is None for row in of_model.values()
                ),
                "not_reached": sum(row["reached"] is False for row in of_model.values()),
                "methods": sorted({row["method"] for row in of_model.values()} - {None}),
                "means": {
                    name: mean_of(row[name] for row in of_model.values()) for name in MEASURES
                },
            }
            for model, of_model in by_model.items()
        ],
        "differences": [
            {
                "model": model,
                "to": first,
                "means": {
                    name: mean_of(_differences(by_model[first], by_model[model], name))
                    for name in MEASURES
                },
            }
            for model in others
        ],
    }


def _differences(first: Mapping[int, Row], other: Mapping[int, Row], name: str) -> list[float]:
    pairs = [(first[number][name], row[name]) for number, row in other.items() if number in first]
    return [float(b - a) for a, b in pairs if a is not None and b is not None]
