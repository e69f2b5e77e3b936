"""`plan`, `restore` and `rerun`."""

from __future__ import annotations

import shlex
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from napari_restore._commands import Answer
from napari_restore._commands._failures import as_json, as_restore_error
from napari_restore._commands._interrupt import Interrupt
from napari_restore._commands._outputs import (
    Item,
    Summary,
    file_sha256,
    file_size,
    is_folder,
    key_of,
    refuse_existing,
    work_items,
)
from napari_restore._commands._progress import Report, duration, reporter
from napari_restore.errors import BadModel, BadRegion, Cancelled, DiskFull, RestoreError


def plan(options: Namespace) -> Answer:
    """Show what `restore` would do."""
    import napari_restore as nr

    with Interrupt():
        image = _open(options, options.paths)
        planned = nr.plan(image, _load_model(options), **_plan_arguments(options, image))
        return Answer(planned.to_dict(), planned.summary())


def restore(options: Namespace) -> Answer:
    """Restore one image into a file, or many into a folder."""
    items = work_items(
        options.paths,
        options.output,
        stack=options.stack,
        name=options.name,
        record=options.record,
    )
    report = reporter(options.progress)
    with Interrupt() as interrupt:
        if len(items) > 1:
            return _Folder(options, interrupt, report).restore(items)
        (item,) = items
        refuse_existing(item.output, overwrite=options.overwrite)
        if is_folder(options.output, options.paths, stack=options.stack):
            item.output.parent.mkdir(exist_ok=True)
        image = _open(options, item.sources)
        record = _restore_one(options, item, image, _load_model(options), interrupt, report)
        return Answer(record, _sentence(item, record))


def rerun(options: Namespace) -> Answer:
    """Repeat the run of a record."""
    import napari_restore as nr
    from napari_restore.records import read_record

    record = read_record(options.record)
    output = options.output or (record["output"] or {}).get("path")
    if output is None:
        raise BadOutput_without_path(options.record)
    raise NotImplementedError(nr)


def _restore_one(
    options: Namespace,
    item: Item,
    image: Any,
    model: Any,
    interrupt: Interrupt,
    report: Report,
) -> dict[str, Any]:
    """Run one image to its end, write what was asked for, return the record."""
    import napari_restore as nr

    arguments = _plan_arguments(options, image)
    job = nr.start(nr.plan(image, model, output=item.output, **arguments))
    interrupt.job = job
    try:
        interrupt.check()
        for event in job:
            report(event)
        result = job.result()
    except RestoreError:
        _keep_record(item, options, getattr(job, "record", None))
        raise
    finally:
        interrupt.job = None
    interrupt.check()
    if options.maps:
        Path(options.maps).mkdir(exist_ok=True)
        result.save_maps(options.maps)
    result.save(
        item.output,
        overwrite=options.overwrite,
        cog=options.cog,
        compress=options.compress,
        bit_depth=options.bit_depth,
        quality=options.quality,
        progress=interrupt.check,
    )
    return _keep_record(item, options, result.record)


def _keep_record(item: Item, options: Namespace, record: Any) -> dict[str, Any]:
    """The record with the command's words in it, written where `--record` says."""
    if record is None:
        return {}
    complete = {**record, "command": shlex.join(["napari-restore", *options.words])}
    if item.record is not None:
        from napari_restore.records import write_record

        write_record(item.record, complete)
    return complete


def _sentence(item: Item, record: dict[str, Any]) -> str:
    seconds = record.get("measured", {}).get("seconds")
    return f"wrote {item.output}" + ("" if seconds is None else f" in {duration(seconds)}")


class _Folder:
    """Many images with one model: goes on after an error and skips what is done."""

    def __init__(self, options: Namespace, interrupt: Interrupt, report: Report) -> None:
        self._options, self._interrupt, self._report = options, interrupt, report
        self._folder = Path(options.output)
        self._exit_code = 0
        self._counts = {"done": 0, "skipped": 0, "failed": 0}

    def restore(self, items: list[Item]) -> Answer:
        self._folder.mkdir(exist_ok=True)
        summary = Summary(self._folder)
        model = _load_model(self._options)
        settings = _settings(self._options, model)
        for item in items:
            began = time.monotonic()
            entry: dict[str, Any] = {"input": list(item.sources), "output": str(item.output)}
            try:
                entry |= self._restore_or_skip(item, model, settings, summary)
            except (RestoreError, OSError, MemoryError) as error:
                known = as_restore_error(error)
                entry |= {"status": "failed", "error": as_json(known)}
                self._exit_code = self._exit_code or known.exit_code
                print(f"napari-restore: {item.label}: {known}", file=sys.stderr)
                if isinstance(known, (Cancelled, DiskFull)):
                    raise known from None
            self._counts[entry["status"]] += 1
            summary.add(item.output, **entry, seconds=round(time.monotonic() - began, 3))
        names = [item.output.name for item in items]
        data = {
            "images": [summary.entries[name] for name in names],
            **self._counts,
            "exit_code": self._exit_code,
        }
        text = ", ".join(f"{count} {word}" for word, count in self._counts.items() if count)
        return Answer(data, f"{text}: {self._folder}", self._exit_code)

    def _restore_or_skip(
        self, item: Item, model: Any, settings: dict[str, Any], summary: Summary
    ) -> dict[str, Any]:
        image = _open(self._options, item.sources)
        key = key_of([image.fingerprint, settings])
        if not self._options.fresh and summary.is_done(item.output, key):
            return {"status": "skipped", "key": key, "bytes": file_size(item.output)}
        refuse_existing(item.output, overwrite=self._options.overwrite)
        record = _restore_one(
            self._options, item, image, model, self._interrupt, self._report
        )
        size = file_size(item.output)
        return {"status": "done", "key": key, "bytes": size, "record": record}


def _settings(options: Namespace, model: Any) -> dict[str, Any]:
    """Everything but the image that decides what an output holds."""
    names = (
        "bands sensor srcwin projwin feather strength black white other_bands context "
        "cog compress bit_depth quality"
    ).split()
    files = {
        name: file_sha256(path)
        for name in ("mask", "exclude")
        if (path := getattr(options, name)) is not None
    }
    card = model.card
    return {
        "model": [card.id, card.weights_sha256, dict(card.values)],
        **{name: getattr(options, name) for name in names},
        **files,
    }


def _open(options: Namespace, paths: Any) -> Any:
    import napari_restore as nr

    if len(paths) > 1 and not options.stack:
        from napari_restore.errors import InputError

        raise InputError(
            f"{len(paths)} images were given, one is taken.",
            "Add --stack if they are the bands of one image.",
        )
    source = list(paths) if options.stack else paths[0]
    return nr.open_image(source, stack=options.stack, bands=options.bands, sensor=options.sensor)


def _load_model(options: Namespace) -> Any:
    import napari_restore as nr

    trust = options.yes
    if not trust and ".py:" in options.model:
        trust = _ask(f"Run the Python code in {options.model.rpartition(':')[0]}?")
        if not trust:
            raise BadModel(
                f"The Python code of {options.model} was not run.", "Add --yes if you trust it."
            )
    return nr.load_model(
        options.model, weights=options.weights, parameters=dict(options.set), trust=trust
    )


def _ask(question: str) -> bool:
    """A yes from a person at a terminal; everything else is a no."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _plan_arguments(options: Namespace, image: Any) -> dict[str, Any]:
    """The options as keywords of `nr.plan`; None stays its default."""
    return {
        "region": _region(options, image),
        "mask": options.mask,
        "feather": options.feather,
        "exclude": options.exclude,
        "strength": options.strength,
        "other_bands": options.other_bands,
        "black": _one_or_all(options.black),
        "white": options.white,
        "memory": options.memory,
        "device_memory": options.device_memory,
        "device": options.device,
        "tile": options.tile,
        "tile_batch": options.tile_batch,
        "scratch": options.scratch,
        "context": options.context,
        "fresh": options.fresh,
    }


def _one_or_all(values: list[float] | None) -> float | list[float] | None:
    return values[0] if values is not None and len(values) == 1 else values


def _region(options: Namespace, image: Any) -> Any:
    import napari_restore as nr

    if options.srcwin is not None:
        return nr.Region.from_xywh(*options.srcwin)
    if options.projwin is not None:
        return nr.Region(*box_of_projwin(options.projwin, image))
    return None


def box_of_projwin(window: list[float], image: Any) -> tuple[int, int, int, int]:
    """The pixels (y0, x0, y1, x1) around two corners given in the image's coordinates.

    Edges go to the nearest pixel edge; in a rotated image it is the box around
    the window's four corners.
    """
    georeference = image.georeference
    if georeference is None or georeference.transform is None:
        raise BadRegion(
            f"{image.name} has no coordinate system, so --projwin cannot be placed.",
            "Give the region in pixels with --srcwin.",
        )
    a, b, c, d, e, f = tuple(georeference.transform)[:6]
    determinant = a * e - b * d
    rows, columns = [], []
    for x in (window[0], window[2]):
        for y in (window[1], window[3]):
            columns.append((e * (x - c) - b * (y - f)) / determinant)
            rows.append((a * (y - f) - d * (x - c)) / determinant)
    return round(min(rows)), round(min(columns)), round(max(rows)), round(max(columns))
