"""`restore` with many images: one model, one account, errors do not stop the rest."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from napari_restore._format import size_of
from napari_restore.commands._answer import Answer
from napari_restore.commands._arguments import load_model, open_image, plan_arguments
from napari_restore.commands._checks import files_among
from napari_restore.commands._failures import as_json, as_restore_error
from napari_restore.commands._outputs import (
    SHARED,
    Item,
    Summary,
    file_sha256,
    key_of,
)
from napari_restore.commands._runner import Runner
from napari_restore.commands._streams import write_error
from napari_restore.errors import Cancelled, DiskFull, InputError, RestoreError, escape_controls
from napari_restore.records import write_record

CONTEXT = "restore_context.npz"
"""The shared whole-image statistics of `--context first|joint`, kept in the output folder."""

# Everything besides image and model that decides what an output holds.
_DECISIVE = (
    "bands sensor srcwin projwin feather strength luminance_only protect_shadows "
    "protect_highlights black white other_bands "
    "cog compress bit_depth quality"
).split()


def restore_folder(options: Namespace, items: list[Item], runner: Runner) -> Answer:
    """Restore all items; the exit code is that of the first one that failed."""
    folder = Path(options.output)
    model = load_model(options)
    if model.card.placed and options.context not in (None, "joint"):
        raise model.card.no_shared_statistics()
    mosaic, unreadable = _share_context(options, items, folder, model.card)
    folder.mkdir(exist_ok=True)
    summary, exit_code = Summary(folder), 0
    settings = _settings(options, model)
    entries: list[dict[str, Any]] = []
    for number, item in enumerate(items, start=1):
        runner.announce(item, number, len(items))
        entry: dict[str, Any] = {"input": list(item.sources), "output": str(item.output)}
        stop: RestoreError | None = None
        try:
            if item in unreadable:
                raise unreadable[item]
            entry |= _restore_or_skip(options, item, model, settings, summary, runner, mosaic)
        except (RestoreError, OSError, MemoryError) as error:
            known = as_restore_error(error)
            entry |= {"status": "failed", "error": as_json(known)}
            exit_code = exit_code or known.exit_code
            # After these the next image would fare no better.
            stop = known if isinstance(known, (Cancelled, DiskFull)) else None
            if stop is None:
                write_error(f"{item.sources[0]}: {known}")
        entries.append(entry)
        if stop is not None:
            raise stop
        summary.add(item.output, entry)
    counts = {
        word: sum(entry["status"] == word for entry in entries)
        for word in ("done", "skipped", "failed")
    }
    seconds = round(time.perf_counter() - options.began, 3)
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    data = {"images": entries, **counts, "seconds": seconds, "exit_code": exit_code}
    return Answer(
        data, f"{told}, see {escape_controls(str(summary.path))}", exit_code, wrote_files=True
    )


def _restore_or_skip(
    options: Namespace,
    item: Item,
    model: Any,
    settings: dict[str, Any],
    summary: Summary,
    runner: Runner,
    mosaic: Any,
) -> dict[str, Any]:
    image = open_image(options, item.sources)
    around = None if mosaic is None else mosaic.fingerprint
    key = key_of([image.fingerprint, around, settings])
    done = not options.fresh and summary.is_done(item.output, key)
    if done and summary.holds_maps(item):
        _bring_record(item, summary.record_of(item.output))
        return {"status": "skipped", "key": key, "bytes": size_of(item.output)}
    # What the same command wrote may be written again, to have the maps with it.
    replace = done and summary.is_untouched(item.output)
    runner.check(item, replace=replace)
    arguments = plan_arguments(options, image) | {"mosaic": mosaic}
    record = runner.restore(item, image, model, arguments, replace=replace)
    maps = [] if item.maps is None else sorted(path.name for path in item.maps.glob("*.tif"))
    size = size_of(item.output)
    return {"status": "done", "key": key, "bytes": size, "maps": maps, "record": record}


def _bring_record(item: Item, record: dict[str, Any]) -> None:
    """Write the record of a finished run that was made without `--record`."""
    if item.record is not None and record and not item.record.exists():
        write_record(item.record, record)


def _share_context(
    options: Namespace, items: list[Item], folder: Path, card: Any
) -> tuple[Any, dict[Item, RestoreError]]:
    """Carry out `--context first|joint`; the mosaic of all images or None, and what failed.

    Joint images that lie on one map grid are taken as that mosaic, so that a pixel
    sees its neighbours across the border, too. Otherwise the shared statistics become
    a file that every image of the call is given. Images that cannot be read are
    left out. Raises `BadParameter` for a model of `card` that cannot share statistics.
    """
    failed: dict[Item, RestoreError] = {}
    if options.context not in SHARED:
        return None, failed
    from napari_restore import api

    joint = options.context == "joint"
    target = folder / CONTEXT
    images: dict[Item, Any] = {}
    for item in items:
        try:
            images[item] = open_image(options, item.sources)
        except (InputError, OSError) as error:
            failed[item] = as_restore_error(error)
    if joint and not options.stack and options.mask is None and len(images) > 1:
        sources = [source for item in images for source in item.sources]
        mosaic = api.open_mosaic(
            sources, bands=options.bands, sensor=options.sensor, allow_outside=options.allow_outside
        )
        if mosaic is not None:
            options.context = None
            return mosaic, failed
    if card.placed:
        if len(images) > 1:
            raise card.no_shared_statistics()
        options.context = None
        return None, failed
    folder.mkdir(exist_ok=True)
    chosen = []
    for item, image in images.items():
        try:
            # One by one, so that a file that breaks off is known by its name.
            api.save_context([image], target, exclude=options.exclude)
        except (InputError, OSError) as error:
            failed[item] = as_restore_error(error)
            continue
        chosen.append(image)
        if not joint:
            break
    if len(chosen) > 1:
        api.save_context(chosen, target, exclude=options.exclude)
    options.context = str(target) if chosen else None
    return None, failed


def _settings(options: Namespace, model: Any) -> dict[str, Any]:
    """With the image's fingerprint, the identity of an output."""
    card = model.card
    files = {
        name: file_sha256(path) if files_among([path]) else path
        for name in ("mask", "exclude", "context")
        if (path := getattr(options, name)) is not None
    }
    values = {name: getattr(options, name) for name in _DECISIVE}
    return {"model": [card.id, card.weights_sha256, dict(card.values)], **values, **files}
