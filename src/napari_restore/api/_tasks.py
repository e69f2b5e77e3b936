"""Tasks: plans as JSON, and the commands that repeat them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore import engine, images, models
from napari_restore.api._command_line import EXPORT_OPTIONS
from napari_restore.api._images import Pathlike, check_output, output_box
from napari_restore.api._models import load_described
from napari_restore.api._progress_bar import progress_bar
from napari_restore.api._record_file import RecordFile, read_record_file
from napari_restore.questions import WHOLE, Region, Restore, Storing, recorded

if TYPE_CHECKING:
    from napari_restore.engine import Plan, Result
    from napari_restore.images import SaveOptions
    from napari_restore.questions import RestoreKeywords


def task_of(plan: Plan) -> dict[str, Any] | None:
    """Return `plan` as JSON, to plan again elsewhere; None if image or model exist only in memory.

    Options of the machine – memory, workers, device, scratch – are not part of it.
    """
    spec = plan.image.given.spec
    if spec is None or not plan.model.spec:
        return None
    # Some swept models fix their tiles, and their batches depend on the machine.
    layout = None if plan.model.fixed_tile is not None else plan.layout
    tile = None if layout is None else layout.tile
    planned = Restore(
        plan.target,
        plan.adjustment,
        plan.reading,
        replace(
            plan.computing,
            tile=WHOLE if plan.computing.is_whole else tile,
            tile_batch=None if layout is None else layout.tile_batch,
            residual_dtype=None if plan.counted is None else plan.computing.kept_dtype,
        ),
        storing=Storing(maps=list(plan.maps), pyramid=plan.pyramid),
    )
    return {
        "image": spec,
        "model": plan.model.spec,
        "options": {
            **recorded(planned),
            "region": [list(target) for target in plan.given_targets],
        },
    }


def portable_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return `task` without references to masks that the cache may remove.

    For commands and records: drawn areas become text; long or painted ones are kept in the cache
    until `clear_cache(needed=True)`.
    """
    options = dict(task["options"])
    for name in ("mask", "exclude"):
        if options.get(name) is not None:
            options[name] = images.persistent_mask(os.fspath(options[name]))
    return {**task, "options": options}


def serialised_task(plan: Plan) -> dict[str, Any] | None:
    """Return the task of `plan` with its decisions, for another process; None as for `task_of`."""
    task = task_of(plan)
    if task is None:
        return None
    return {
        **task,
        **models.identity_of(plan.model),
        "plan": engine.serialise_plan(plan),
        "fingerprint": plan.image.given.fingerprint,
    }


def plan_of(task: Mapping[str, Any], *, trust: bool = False) -> Plan:
    """Return the plan of a task; code of a model's file runs only with `trust`."""
    options = dict(task["options"])
    options["region"] = [Region(*box) for box in options["region"]]
    image = images.Image.from_spec(task["image"])
    # Imports torch: a missing file is reported without it.
    return engine.make_plan(image, load_described(task["model"], trust=trust), **options)


def rerun(
    record: Pathlike | Mapping[str, Any],
    output: Pathlike | None = None,
    *,
    trust: bool = False,
    allow_outside: bool = False,
    **options: Unpack[SaveOptions],
) -> Result:
    """Repeat the restoration of a record, which may come from anybody.

    Parameters
    ----------
    record
        A file, or the ``.record`` of a result.
    output
        Where to write; by default the record's own path.
    trust
        Whether code that the record names may run.
    allow_outside
        Whether a VRT may read pixels from files outside its folder.
    **options
        Those of `Result.save`, by default the record's.

    Returns
    -------
    Result
        As of `restore`, written to `output`.

    Raises
    ------
    napari_restore.errors.InputError
        The record does not contain enough.
    napari_restore.errors.SourceChanged
        Image or weights are not the recorded ones.
    """
    planned, path, recorded_options = repeat_of(
        record, output, trust=trust, allow_outside=allow_outside
    )
    # Imports torch: a record that cannot be repeated is reported without it.
    export_options = {**recorded_options, **options}
    check_output(
        path,
        planned.image,
        region=output_box(planned, export_options.get("clip")),
        **export_options,
    )
    with progress_bar(None) as show:
        run_record = engine.Run(planned, show).run()
    result = engine.Result.of_run(planned, run_record)
    result.save(path, **export_options)
    return result


def repeat_of(
    record: Pathlike | Mapping[str, Any] | RecordFile,
    output: Pathlike | None = None,
    *,
    trust: bool = False,
    allow_outside: bool = False,
) -> tuple[Plan, Path, dict[str, Any]]:
    """Return what repeats the run of a record: plan, output path, options of `Result.save`.

    Raises `InputError` and `SourceChanged`; see `rerun`.
    """
    from napari_restore.errors import InputError, option

    record_file = read_record_file(record)
    task = record_file.task("restoration", allow_outside=allow_outside)
    recorded = record_file.record
    written = recorded["output"] or {}
    path = output or written.get("path")
    if path is None:
        raise InputError(
            f"{record_file.path} names no file to write.", f"Name one with {option('output')}."
        )
    planned = plan_of(task, trust=trust)
    record_file.check_image(planned.image.given, recorded["input"]["fingerprint"])
    record_file.check_frames(planned.image)
    record_file.check_model(planned.model, recorded["model"])
    record_file.check_read(planned.read)
    # Only options of the format: the record must not decide to overwrite a file.
    recorded_options = written.get("options", {})
    options = {name: recorded_options[name] for name in EXPORT_OPTIONS if name in recorded_options}
    # Of another format, or of a version that ignored what a format has not.
    for name in list(images.unfit_options(path, images.ExportOptions(**options))):
        del options[name]
    return planned, Path(path), options


def command_of(
    what: Plan | Mapping[str, Any],
    output: Pathlike,
    *,
    device: str = "auto",
    **options: Unpack[SaveOptions],
) -> str:
    """Return the `napari-restore` command that writes `output` with the same pixels.

    `what` is a plan or a record (or its `task` and `input`; of an attribution or of attention,
    too), `options` are those of
    `Result.save`. Raises `InputError` for what the command line cannot express: an
    image or model in memory, for instance.
    """
    from napari_restore.api._command_line import command_arguments, quoted
    from napari_restore.errors import InputError

    if isinstance(what, Mapping):
        task, size = what.get("task"), what["input"]["size"]
        if task is not None and "attribution" in what:
            task = {**task, "scale": what["attribution"]["scale"]}
    else:
        image = what.image.given
        task, size = task_of(what), (image.height, image.width)
    if task is None:
        raise InputError(
            "There is no command for it: image and model must be files.",
            "Save the image and open the file.",
        )
    return quoted(
        command_arguments(portable_task(task), size, output, device=device, options=options)
    )


def known_command(
    what: Plan | Mapping[str, Any],
    output: Pathlike,
    *,
    device: str = "auto",
    **options: Unpack[SaveOptions],
) -> str:
    """Return what `command_of` does, for records: "" for what the command line cannot express."""
    from napari_restore.errors import InputError

    try:
        return command_of(what, output, device=device, **options)
    except InputError:
        return ""


def folder_command(
    folder: Pathlike,
    output: Pathlike,
    model: Mapping[str, Any],
    /,
    *,
    bands: str | None = None,
    sensor: str | None = None,
    planes: str | None = None,
    brackets: bool = False,
    **options: Unpack[RestoreKeywords],
) -> list[str]:
    """Return the arguments of `napari-restore` that restore all images of `folder` into `output`.

    With `planes` (``"all"``) both are files: those of the one become those of the other. With
    `brackets` each bracket in the folder is fused into one file.

    `model` has the arguments of `load_model` and its id or file as `model`; `bands` and `sensor`
    are as for `open_image`; `options`
    are those of `plan` that suit any image: device, memory, residuals, tile, tile_batch,
    exclude, strength and the like.
    """
    from napari_restore.api._command_line import command_arguments

    given: dict[str, Any] = {name: v for name, v in options.items() if v is not None}
    # The images may have different CRSs: areas stay in their file, which names its own.
    if given.get("exclude") is not None:
        given["exclude"] = images.absolute_mask(os.fspath(given["exclude"]))
    whole = {"region": [[0, 0, 1, 1]], **given}
    image = {"source": os.fspath(folder), "bands": bands, "sensor": sensor}
    task = {"image": image, "model": dict(model), "options": whole}
    # The trailing separator marks a folder, even one that does not exist yet.
    if planes is not None:
        return [*command_arguments(task, (1, 1), output)[1:], "--plane", planes]
    _, command, *arguments = command_arguments(task, (1, 1), os.path.join(output, ""))
    return ["fuse" if brackets else command, *arguments]
