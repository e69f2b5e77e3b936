"""Results that stay in the cache after the window that made them has closed.

A window writes an entry for each into its store: how to make its plan again, and its record.
Removing the store removes its entries.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from napari_restore._json_shapes import mismatches, read_json
from napari_restore._replacing import replacing
from napari_restore.engine._region import Region
from napari_restore.engine.ledger.folder import in_use
from napari_restore.engine.ledger.store import ResultStore, discard_store
from napari_restore.engine.ledger.store_files import FORMAT
from napari_restore.images import cache_dir
from napari_restore.records import Record, RecordedTask

if TYPE_CHECKING:
    from napari_restore.engine.planning.plan import Plan

PATTERN = "result-*.json"
_SEARCHING = threading.Lock()
"""Taken while a store is searched, which marks it as in use, and while an entry is removed."""


class _StoredNote(TypedDict):
    """Entry of a result, kept beside its pixels."""

    title: str
    method: str
    task: RecordedTask
    record: Record | None


@dataclass(frozen=True)
class KeptResult:
    """A complete or partial result in the cache."""

    store: Path
    name: str
    """Identifies a result within its store."""
    title: str
    """Name of the result in the window."""
    method: str
    """The model's title."""
    task: dict[str, Any] = field(repr=False)
    """As returned by `api.task_of`."""
    record: dict[str, Any] | None = field(repr=False)
    """Record of the run once it has ended."""
    complete: bool
    finished: float
    """Share of its boxes that is finished, 0 … 1."""
    used: float
    """Time of the last write, seconds since 1970."""

    @property
    def in_use(self) -> bool:
        """Whether a window or a run, this process included, has its store open."""
        return in_use(self.store)


def keep_result(
    store: Path,
    task: Mapping[str, Any],
    title: str,
    method: str,
    record: Mapping[str, Any] | None = None,
) -> str:
    """Write an entry for a result into its store; replaces an earlier one of the same area.

    `title` is its name in the window, `method` the model's title. Returns the `name` of the
    `KeptResult`; nothing is written where there is no store (any more).
    """
    options = task["options"]
    name = _name_of(options["region"], options["mask"], options["feather"])
    note = {
        "title": title,
        "method": method,
        "task": dict(task),
        "record": None if record is None else dict(record),
    }
    path = store / PATTERN.replace("*", name)
    with contextlib.suppress(FileNotFoundError), replacing(path) as part:
        part.write_text(json.dumps(note, default=str), encoding="utf-8")
    return name


def kept_name(plan: Plan) -> str:
    """Return the name of a result of a plan in its store, which has those of one image with one method."""
    return _name_of(plan.targets, plan.target.mask, plan.target.feather)


def _name_of(boxes: Sequence[Sequence[int]], mask: str | None, feather: int) -> str:
    area = [[list(box) for box in boxes], mask, feather]
    return hashlib.sha256(json.dumps(area).encode()).hexdigest()[:12]


def kept_results(fingerprint: str) -> list[KeptResult]:
    """Return the results of the image with that fingerprint, newest first; reads many small files."""
    results: list[KeptResult] = []
    for header in (cache_dir() / "results").glob("*.zarr/header.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            entry = read_json(header)
            if entry["fingerprint"] == fingerprint and entry["format"] == FORMAT:
                results += _of_store(header.parent)
    return sorted(results, key=lambda kept: kept.used, reverse=True)


def _of_store(path: Path) -> list[KeptResult]:
    results: list[KeptResult] = []
    with _SEARCHING:
        if not (notes := sorted(path.glob(PATTERN))):
            return results
        with contextlib.closing(ResultStore.attach(path)) as store:
            for note in notes:
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    entry = read_json(note)
                    if wrong := mismatches(entry, _StoredNote, note.name):
                        raise ValueError(wrong[0])
                    record = entry["record"]
                    results.append(
                        KeptResult(
                            path,
                            note.name.removeprefix("result-").removesuffix(".json"),
                            entry["title"],
                            entry["method"],
                            entry["task"],
                            record,
                            record is not None and record["status"] == "done",
                            _finished(store, entry["task"]["options"]["region"]),
                            note.stat().st_mtime,
                        )
                    )
    return results


def _finished(store: ResultStore, boxes: list[list[int]]) -> float:
    wanted = [Region(*box) for box in boxes]
    done = sum(store.finished_pixels(box) for box in wanted)
    return done / max(1, sum(box.pixels for box in wanted))


def unlist_result(store: Path, name: str) -> None:
    """Remove the entry `name` if there is one; its pixels stay in the cache."""
    (store / PATTERN.replace("*", name)).unlink(missing_ok=True)


def forget_result(store: Path, name: str) -> bool:
    """Remove the entry `name`; return whether the store went with its last one. Raises `ResourceError` in use."""
    with _SEARCHING:
        if any(note.stem != f"result-{name}" for note in store.glob(PATTERN)):
            unlist_result(store, name)
            return False
        discard_store(store)
        return True
