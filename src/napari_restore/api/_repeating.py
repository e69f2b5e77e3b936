"""Tasks, and the commands that repeat them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore.api._images import Pathlike, check_output, output_box
from napari_restore.api._models import load_described
from napari_restore.api._progress_bar import run_to_the_end
from napari_restore.api._recorded import Recorded, read_recorded
from napari_restore.engine import Region

if TYPE_CHECKING:
    from napari_restore.engine import Plan, Result

OF_THE_FILE = ("cog", "compress", "bit_depth", "quality")
"""Options of `Result.save` that are taken from a record."""


def task_of(plan: Plan) -> dict[str, Any] | None:
    """All that is needed to make `plan` again elsewhere; None if image or model cannot travel.

    What belongs to one machine – memory, workers, device, scratch – is left out.
    """
    if plan.image.spec is None or not plan.model.spec:
        return None
    y, x = plan.origin
    return {
        "image": plan.image.spec if plan.part is None else plan.part.spec,
        "mosaic": None if plan.part is None else plan.image.spec,
        "model": plan.model.spec,
        "options": {
            "region": [list(target.shift(-y, -x)) for target in plan.targets],
            "mask": plan.mask,
            "feather": plan.feather,
            "exclude": plan.exclude,
            **plan.adjustment.to_dict(),
            "extent": plan.extent,
            "other_bands": plan.other_bands,
            "black": plan.black,
            "white": plan.white,
            # Tiles of a staged model are its own, and batches belong to the machine.
            "tile": plan.tile if plan.staged is None else None,
            "tile_batch": plan.tile_batch if plan.staged is None else None,
            "precision": plan.precision,
            "residual_dtype": None if plan.staged is None else plan.staged.residual_dtype,
            "context": plan.context_file,
            "maps": list(plan.maps),
            "pyramid": plan.pyramid,
        },
    }


def lasting_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """`task` for a command or a record: it names no mask that the cache may remove.

    Drawn areas become text, long or painted ones stay in the cache until it is told to
    remove them, too.
    """
    from napari_restore.images import persistent_mask

    options = dict(task["options"])
    for name in ("mask", "exclude"):
        if options.get(name) is not None:
            options[name] = persistent_mask(os.fspath(options[name]))
    return {**task, "options": options}


def settled_task(plan: Plan) -> dict[str, Any] | None:
    """As `task_of`, with all that was settled here; None if image or model cannot travel."""
    from napari_restore.engine import serialise_plan

    task = task_of(plan)
    if task is None:
        return None
    return {**task, "settled": serialise_plan(plan), "fingerprint": plan.image.fingerprint}


def plan_of(task: Mapping[str, Any], *, trust: bool = False) -> Plan:
    """The plan that `task_of` described; code of a model's file runs only with `trust`."""
    from napari_restore.images import Image

    options = dict(task["options"])
    options["region"] = [Region(*box) for box in options["region"]]
    if task.get("mosaic") is not None:
        options["mosaic"] = Image.from_spec(task["mosaic"])
    image = Image.from_spec(task["image"])
    # Torch comes with these; a missing file is told of without it.
    from napari_restore.engine import make_plan

    return make_plan(image, load_described(task["model"], trust=trust), **options)


def rerun(
    record: Pathlike,
    output: Pathlike | None = None,
    *,
    trust: bool = False,
    allow_outside: bool = False,
    **options: Any,
) -> Result:
    """Repeat the restoration of a record; `output` defaults to the record's own path.

    A record may come from anybody: code that it names runs only with `trust`, and a VRT takes
    pixels from files outside its folder only with `allow_outside`. `options` are those of `Result.save`, by default the record's. Raises `InputError`
    when the record does not say enough and `SourceChanged` when image or weights are not
    those it tells of.
    """
    planned, path, told = repeat_of(record, output, trust=trust, allow_outside=allow_outside)
    # Torch comes with it; a record that cannot be repeated is told of without it.
    from napari_restore.engine import Job

    chosen = {**told, **options}
    check_output(path, planned.part or planned.image, region=output_box(planned), **chosen)
    result = run_to_the_end(Job(planned), None)
    result.save(path, **chosen)
    return result


def repeat_of(
    record: Pathlike | Recorded,
    output: Pathlike | None = None,
    *,
    trust: bool = False,
    allow_outside: bool = False,
) -> tuple[Plan, Path, dict[str, Any]]:
    """What repeats the run of a record: its plan, the path to write, options of `Result.save`.

    Raises `InputError` and `SourceChanged`; see `rerun`.
    """
    from napari_restore.errors import InputError

    recorded = read_recorded(record)
    task = recorded.task("restoration", allow_outside=allow_outside)
    told = recorded.told
    written = told["output"] or {}
    path = output or written.get("path")
    if path is None:
        raise InputError(f"{recorded.path} names no file to write.", "Name one with -o.")
    planned = plan_of(task, trust=trust)
    recorded.check_image(planned.image, told["input"]["fingerprint"])
    recorded.check_model(planned.model, told["model"]["weights_sha256"])
    # No more than how the file is made: whether it replaces another is said today.
    given = written.get("options", {})
    return planned, Path(path), {name: given[name] for name in OF_THE_FILE if name in given}


def command_of(
    what: Plan | Mapping[str, Any], output: Pathlike, *, device: str = "auto", **options: Any
) -> str:
    """The `napari-restore restore` line that writes `output` with the same pixels.

    `what` is a plan or a record (or its `task` and `input`), `options` are those of
    `Result.save`. Raises `InputError` for what the command line cannot do: an image
    or model that lies in no file, for instance.
    """
    from napari_restore.api._command_line import quoted, words_of
    from napari_restore.errors import InputError

    if isinstance(what, Mapping):
        task, size = what.get("task"), what["input"]["size"]
    else:
        own = what.part or what.image
        task, size = task_of(what), (own.height, own.width)
    if task is None:
        raise InputError(
            "There is no command for it: image and model must lie in files.",
            "Save the image and open the file.",
        )
    return quoted(words_of(lasting_task(task), size, output, device=device, options=options))


def folder_command(
    folder: Pathlike, output: Pathlike, model: Mapping[str, Any], **options: Any
) -> list[str]:
    """The words after `napari-restore` that restore all images of `folder` into `output`.

    `model` holds the arguments of `load_model` and its id or file as `model`; `options`
    are those of `plan` that any image can be given: device, memory, residuals, tile, tile_batch,
    exclude, strength and the like.
    """
    from napari_restore.api._command_line import words_of

    given = {name: value for name, value in options.items() if value is not None}
    device, memory = given.pop("device", "auto"), given.pop("memory", None)
    residuals = given.pop("residuals", "auto")
    # Many images may lie in many systems: areas stay in their file, which names its own.
    if given.get("exclude") is not None:
        given["exclude"] = os.path.abspath(given["exclude"])
    whole = {"region": [[0, 0, 1, 1]], **given}
    task = {"image": {"source": os.fspath(folder)}, "model": dict(model), "options": whole}
    # A folder even where it is to be made and holds one image.
    words = words_of(task, (1, 1), os.path.join(output, ""), device=device)[1:]
    words += ["--memory", str(memory)] if memory is not None else []
    return words + (["--residuals", residuals] if residuals != "auto" else [])
