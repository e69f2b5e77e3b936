"""The finished rows of a table, from which an interrupted one continues."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from napari_restore.engine import StoreBusy, lock_exclusive, writer_of
from napari_restore.errors import DiskFull, RestoreError, is_disk_full, option
from napari_restore.explain.tables._rows import PlannedRow, Row, RowResult
from napari_restore.images import cache_dir, mark_entry

FORMAT = 1
"""Raised when the lines change; part of every folder's name."""
ROWS = "rows.jsonl"


class RowJournal:
    """JSON lines in a folder beside unfinished results, one for each finished row.

    Use it as a context manager: it locks the folder, and removes it when `is_complete`. Rows with an
    error are not kept. Raises `StoreBusy` while another process computes the same table, `DiskFull`.
    """

    def __init__(
        self, task: Mapping[str, Any] | None, scratch: str | os.PathLike[str] | None
    ) -> None:
        """Read the finished rows of the table that `task` determines; None: keep none on disk."""
        self.is_complete = False
        self._path: Path | None = None
        self._known: dict[tuple[int, int], tuple[Row, dict[str, Any]]] = {}
        self._unlock: Callable[[], None] | None = None
        if task is None:
            return
        text = json.dumps([FORMAT, task], sort_keys=True, default=str)
        parent = cache_dir() / "results" if scratch is None else Path(scratch)
        self._path = parent / f"attributions-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        with suppress(OSError):
            self._read((self._path / ROWS).read_text(encoding="utf-8", errors="replace"))

    def __len__(self) -> int:
        return len(self._known)

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                mark_entry(self._path, {"attributions": self._path.name}, complete=False)
                self._unlock = lock_exclusive(self, self._path)
            except StoreBusy as error:
                raise StoreBusy(
                    f"The same table is being computed already (process {writer_of(self._path)}).",
                    f"Wait until it is done, or use another {option('scratch')} folder.",
                ) from error
            except OSError as error:
                if is_disk_full(error):
                    raise self._full(error) from error
                # A table can do without, as in a cache that cannot be written.
                self._path = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._unlock is None or self._path is None:
            return
        self._unlock()
        if self.is_complete or not (self._path / ROWS).exists():
            shutil.rmtree(self._path, ignore_errors=True)

    def known(self, planned: PlannedRow) -> RowResult | None:
        """Return the finished row of this image, model and place; None where there is none."""
        row, run = self._known.get(planned.order, ({}, {}))
        told = {name: value for name, value in planned.row.items() if value is not None}
        if not row or any(row.get(name) != value for name, value in told.items()):
            return None
        return RowResult(planned.order, row, run, None)

    def add(self, result: RowResult) -> None:
        """Keep a row, written to disk before this returns; rows with an error are left out."""
        if self._path is None or result.error is not None:
            return
        line = {"order": result.order, "row": result.row, "run": result.measures}
        try:
            with (self._path / ROWS).open("a", encoding="utf-8") as file:
                # A line that an interruption cut off is ended by the line break.
                file.write(f"\n{json.dumps(line)}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._full(error) from error

    def _read(self, text: str) -> None:
        for line in text.splitlines():
            # Lines that are empty or cut off are no rows.
            with suppress(ValueError, KeyError, TypeError):
                found = json.loads(line)
                first, second = found["order"]
                self._known[int(first), int(second)] = dict(found["row"]), dict(found["run"])

    def _full(self, error: OSError) -> RestoreError:
        assert self._path is not None
        return DiskFull(
            f"The finished rows cannot be kept in {self._path.parent}: {error.strerror or error}.",
            f"Free some space, or name another folder with {option('scratch')}.",
        )
