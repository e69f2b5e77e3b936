"""`restore` and `fuse` of many images: one model, one summary; errors do not stop the others."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore._format import size_of
from napari_restore.commands._arguments import load_model, open_image, plan_arguments
from napari_restore.commands._checks import files_among
from napari_restore.commands._failures import as_json, as_restore_error
from napari_restore.commands._flags import with_flags
from napari_restore.commands._options import EXCLUDE, given
from napari_restore.commands._outputs import FIRST, Item, Summary, file_sha256, key_of
from napari_restore.commands._result import CommandResult
from napari_restore.commands._runner import Runner
from napari_restore.errors import (
    BadOutput,
    Cancelled,
    DiskFull,
    InputError,
    RestoreError,
    escape_controls,
)
from napari_restore.questions import WHOLE
from napari_restore.records import write_record

CONTEXT = "restore_context.npz"
"""The shared whole-image statistics of `--context first`, kept in the output folder."""

# Options that change no output. All others do, with images and model, so that a new one is not
# forgotten.
_NOT_OF_OUTPUTS = frozenset(
    "argv computes run started version json progress yes paths stack output name record maps "
    "overwrite fresh fail_fast memory device_memory device cluster scratch tile tile_batch "
    "residuals allow_outside model weights set plane".split()
)
Join = Callable[[list[Any]], Any]
"""Makes the one image of a run of the images of an item's files."""


def restore_folder(
    options: Namespace, items: list[Item], runner: Runner, join: Join | None = None
) -> CommandResult:
    """Restore all items; the exit code is that of the first one that failed."""
    # With `join` the files of an item are images of their own, as the frames of a bracket.
    folder = Path(options.output)
    runner.check_formats(items)
    model = load_model(options)
    if model.card.placed and options.context is not None:
        raise model.card.no_shared_statistics()
    folder.mkdir(exist_ok=True)
    if join is None and options.context == FIRST:
        options.context = _context_of_first(options, items, folder / CONTEXT)
    summary, exit_code = Summary(folder), 0
    settings = _settings(options, model)
    entries: list[dict[str, Any]] = []
    for number, item in enumerate(items, start=1):
        runner.announce(item, number, len(items))
        began = time.perf_counter()
        entry: dict[str, Any] = {"input": list(item.sources), "output": str(item.output)}
        stop: RestoreError | None = None
        try:
            entry |= _restore_or_skip(options, item, model, settings, summary, runner, join)
        except (RestoreError, OSError, MemoryError) as error:
            restore_error = as_restore_error(error)
            entry |= {"status": "failed", "error": as_json(restore_error)}
            exit_code = exit_code or restore_error.exit_code
            # These errors would affect the next image, too.
            ends = isinstance(restore_error, (Cancelled, DiskFull))
            stop = restore_error if ends or options.fail_fast else None
            if stop is None:
                runner.fail(item, restore_error)
        entries.append(entry | {"seconds": time.perf_counter() - began})
        summary.write_table(items, with_flags(entries))
        if stop is not None:
            summary.close()
            raise stop
        summary.add(item.output, with_flags(entry))
    summary.close()
    counts = {
        word: sum(entry["status"] == word for entry in entries)
        for word in ("done", "skipped", "failed")
    }
    seconds = round(time.perf_counter() - options.started, 3)
    counts_text = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    data = {"images": entries, **counts, "seconds": seconds, "exit_code": exit_code}
    return CommandResult(
        data,
        f"{counts_text}, see {escape_controls(str(summary.path))}",
        exit_code,
        wrote_files=True,
    )


def _restore_or_skip(
    options: Namespace,
    item: Item,
    model: Any,
    settings: dict[str, Any],
    summary: Summary,
    runner: Runner,
    join: Join | None,
) -> dict[str, Any]:
    paths = [item.sources] if join is None else [(path,) for path in item.sources]
    images = [open_image(options, each, plane=item.plane) for each in paths]
    key = key_of([*(image.fingerprint for image in images), settings])
    done = not options.fresh and summary.is_done(item.output, key)
    if done and summary.has_maps(item):
        record = summary.record_of(item.output)
        # That run may have been one without --record.
        if item.record is not None and record and not item.record.exists():
            write_record(item.record, record)
        return {"status": "skipped", "key": key, "bytes": size_of(item.output)}
    if not (done or runner.overwrites) and summary.is_unchanged(item.output):
        raise BadOutput(
            f"{item.output} was made of another image, by another model or version, or "
            "with other settings.",
            "Add --overwrite to replace it, or name another folder after -o.",
        )
    # An unchanged output of the same command may be replaced, to add the side maps.
    replace = done and summary.is_unchanged(item.output)
    runner.check(item, replace=replace)
    # Aligning frames takes a while.
    image = images[0] if join is None else join(images)
    arguments = plan_arguments(options, image)
    record = runner.restore(item, image, model, arguments, replace=replace)
    maps = [] if item.maps is None else sorted(path.name for path in item.maps.glob("*.tif"))
    size = size_of(item.output)
    return {"status": "done", "key": key, "bytes": size, "maps": maps, "record": record}


def _context_of_first(options: Namespace, items: list[Item], target: Path) -> str | None:
    """Write the statistics of the first image that can be read; return the file, None if none can."""
    for item in items:
        # What is wrong with the others is said when they are restored.
        with suppress(InputError, OSError):
            image = open_image(options, item.sources, plane=item.plane)
            api.save_context([image], target, **given(options, EXCLUDE))
            return str(target)
    return None


def _settings(options: Namespace, model: Any) -> dict[str, Any]:
    """Return the settings that, with the image's fingerprint, identify an output."""
    files = {}
    for name in ("mask", "exclude", "context", "profile"):
        if (named := getattr(options, name)) is not None:
            file = api.mask_file(named) or ""
            # What of the file is meant stays behind its digest.
            found = files_among([file])
            files[name] = named.replace(file, file_sha256(file), 1) if found else named
    values = {name: v for name, v in vars(options).items() if name not in _NOT_OF_OUTPUTS}
    if getattr(options, "tile", None) == WHOLE and model.takes_whole:
        # Other tiles change no output.
        values["tile"] = options.tile
    return {"model": api.model_digest(model), **values, **files}
