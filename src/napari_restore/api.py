"""The one door: what window, command line and scripts use, and nothing deeper."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore._training_api import evaluate, haze, scores_as_text, train
from napari_restore.engine import ImageStarted, Note, Phase, Progress, Region, TileDone

if TYPE_CHECKING:
    from napari_restore.engine import Job, KeptResult, Plan, Result, Worker
    from napari_restore.images import CacheEntry, Image
    from napari_restore.models import ModelCard, Proposal, RestorationModel

__all__ = [
    "ImageStarted",
    "Note",
    "Phase",
    "Progress",
    "Region",
    "TileDone",
    "cache_entries",
    "check_export",
    "check_output",
    "clear_cache",
    "command_of",
    "evaluate",
    "folder_command",
    "forget_result",
    "haze",
    "info",
    "inspect_model",
    "is_ready",
    "keep_result",
    "kept_name",
    "kept_results",
    "load_model",
    "mask_of_array",
    "mask_of_line",
    "mask_of_polygons",
    "mean_colour",
    "missing_roles",
    "models",
    "new_worker",
    "open_image",
    "open_mosaic",
    "output_box",
    "plan",
    "plan_of",
    "plan_of_kept",
    "repeat_of",
    "rerun",
    "restore",
    "result_of_kept",
    "save_card",
    "save_context",
    "scores_as_text",
    "settled_task",
    "stamp_of",
    "start",
    "task_of",
    "train",
    "warm",
]

Pathlike = str | os.PathLike[str]


def open_image(
    source: Any,
    *,
    stack: bool = False,
    bands: str | Mapping[str, int] | None = None,
    sensor: str | None = None,
) -> Image:
    """Open a raster, photo, zarr or array lazily.

    Parameters
    ----------
    source
        A path; several paths, side by side on one map grid or with `stack` the bands
        of one image; an array (H, W) or (H, W, C), or a list of its levels. An image
        that is open already comes back, with `bands` as one that knows them.
    stack
        Take several single-band files as one image.
    bands
        Which band is what, counted from 1: "red=4,green=3,blue=2,nir=5" or a mapping.
    sensor
        A preset ("landsat8", "sentinel2", "naip" …) for roles, wavelengths and scale.

    Raises
    ------
    napari_restore.errors.UnreadableImage
        With one sentence naming the cause.
    """
    from napari_restore import images

    if isinstance(source, images.Image):
        return source if bands is None else source.with_roles(bands)
    return images.open_image(source, stack=stack, bands=bands, sensor=sensor)


def load_model(
    model: Any,
    *,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> RestorationModel:
    """Load a model by id, by ``"FILE.py:factory"``, by weights file, or wrap a module.

    `weights` is a file or ``"random:SEED"``; foreign Python runs only with `trust`.
    The result is a `torch.nn.Module` with a `.card`.
    """
    from napari_restore.models import load

    return load(model, weights=weights, parameters=parameters, card=card, trust=trust)


def stamp_of(*names: str | None) -> tuple[Any, ...]:
    """Size and time of files, and of the cards beside them: other after a change.

    Names as `load_model` takes them; what is no file has none.
    """
    stamps: list[tuple[int, int] | None] = []
    for name in filter(None, names):
        script, colon, _ = name.rpartition(":")
        path = Path(script if colon and script.endswith(".py") else name)
        for file in (path, path.with_suffix(".json")):
            try:
                found = file.stat()
            except (OSError, ValueError):
                stamps.append(None)
            else:
                stamps.append((found.st_size, found.st_mtime_ns))
    return tuple(stamps)


def models() -> tuple[ModelCard, ...]:
    """The cards of all known models."""
    from napari_restore.models import card_of, model_ids

    return tuple(card_of(name) for name in model_ids())


def is_ready(model_id: str) -> bool:
    """Whether a known model runs as it is: it needs no weights, or they come with it."""
    from napari_restore.models import is_ready

    return is_ready(model_id)


def inspect_model(path: Pathlike, *, trust: bool = False) -> Proposal:
    """Find out what a model file is, and propose the card it lacks.

    `path` is a .safetensors, .pth, .pt or .ckpt file of weights, an exported .pt2
    program or ``"FILE.py:factory"``. The model is run on made-up tiles: not for the
    thread of a window. Programs and Python run only with `trust`. Raises
    `MissingWeights`, `BadModel`.
    """
    from napari_restore.engine import probe
    from napari_restore.models import propose

    proposal = propose(path, trust=trust)
    found = probe(proposal.model)
    if not proposal.measured:
        return proposal
    proposal.model.card = replace(proposal.model.card, halo=found.halo)
    return replace(proposal, card={**proposal.card, "halo": found.halo})


def save_card(proposal: Proposal, **fields: Any) -> Path:
    """Write the card of `inspect_model`, with `fields` over it, beside the model's file.

    Returns its path, NAME.json, where `load_model` looks. Raises `BadModel` for
    fields a card does not have and `BadOutput`.
    """
    from napari_restore.models import write_card

    return write_card(proposal, fields)


def missing_roles(image: Any, card: ModelCard) -> tuple[str, ...]:
    """The band roles that `open_image(bands=...)` must name before `card` runs on `image`.

    Raises `UnknownBands` where that cannot help.
    """
    from napari_restore.engine import missing_roles

    return missing_roles(open_image(image), card)


def mean_colour(
    image: Any, model: str | ModelCard, box: Sequence[int], level: int = 0
) -> tuple[float, ...]:
    """The mean of the valid pixels of a box in the range a model sees, a number per band.

    `box` (y0, x0, y1, x1) is in pixels of `level`. Where the range follows from all
    values the whole image is looked at once. Raises `BadRegion` if nothing in the box
    is valid.
    """
    from napari_restore.engine import mean_colour
    from napari_restore.models import card_of

    card = card_of(model) if isinstance(model, str) else model
    y0, x0, y1, x1 = (int(v) for v in box)
    return mean_colour(open_image(image), card, (y0, x0, y1, x1), level)


def plan(image: Any, model: Any, **options: Any) -> Plan:
    """What restoring `image` with `model` will do; see `napari_restore.engine.make_plan`.

    `image` may be anything `open_image` takes and `model` an id; `options` are
    region, mask, feather, exclude, strength, luminance_only, protect_shadows,
    protect_highlights, extent, other_bands, black, white,
    memory, device_memory, device, tile, tile_batch, residuals, residual_dtype, precision,
    scratch, context, maps, pyramid, mosaic.
    """
    from napari_restore.engine import make_plan

    opened = open_image(image)
    loaded = load_model(model) if isinstance(model, str) else model
    return make_plan(opened, loaded, **options)


def start(plan: Plan, *, process: bool | Worker = False, fresh: bool = False) -> Job:
    """Run `plan`: iterate over the job for its events.

    With `process` it runs in a child process, so that a window stays free: in one of
    its own, or in a `new_worker` that has loaded things already, and waits while
    another run writes the same result instead of failing. Arrays and modules that only
    this process holds run on a thread all the same. `fresh` discards what an earlier,
    unfinished run left.
    """
    from napari_restore.engine import Job, ProcessJob, Worker, discard

    if fresh:
        discard(plan.store)
    task = None if process is False else settled_task(plan)
    if task is None:
        return Job(plan, keep=process is not False, wait=process is not False)
    return ProcessJob(plan, task, process if isinstance(process, Worker) else None)


def new_worker() -> Worker:
    """A child process for `start` that serves one plan after another; close it at the end."""
    from napari_restore.engine import Worker

    return Worker()


def warm(worker: Worker, plan: Plan | None = None) -> None:
    """Let a worker load its libraries, and what `plan` needs; returns at once."""
    worker.warm(None if plan is None else settled_task(plan))


def settled_task(plan: Plan) -> dict[str, Any] | None:
    """As `task_of`, with all that was settled here; None if image or model cannot travel."""
    from napari_restore.engine import settled

    task = task_of(plan)
    if task is None:
        return None
    return {**task, "settled": settled(plan), "fingerprint": plan.image.fingerprint}


def restore(image: Any, model: Any, **options: Any) -> Result:
    """Plan, run and wait: `.array`, `.record`, `.save(path)`. Options as for `plan`."""
    return start(plan(image, model, **options)).result()


def info(image: Any) -> dict[str, Any]:
    """How `image` is read: size, bands, roles, range, georeference, notes. JSON-able."""
    from napari_restore.images import describe

    return describe(open_image(image))


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


def plan_of(task: Mapping[str, Any]) -> Plan:
    """The plan that `task_of` described."""
    from napari_restore.images import Image

    options = dict(task["options"])
    options["region"] = [Region(*box) for box in options["region"]]
    if task.get("mosaic") is not None:
        options["mosaic"] = Image.from_spec(task["mosaic"])
    return plan(Image.from_spec(task["image"]), load_model(**task["model"]), **options)


def rerun(record: Pathlike, output: Pathlike | None = None, **options: Any) -> Result:
    """Repeat the run of a record; `output` defaults to the record's own path.

    `options` are those of `Result.save`, by default the record's. Raises `InputError`
    when the record does not say enough and `SourceChanged` when the image is not the
    one it tells of.
    """
    planned, path, told = repeat_of(record, output)
    chosen = {**told, **options}
    check_output(path, planned.part or planned.image, region=output_box(planned), **chosen)
    result = start(planned).result()
    result.save(path, **chosen)
    return result


def repeat_of(
    record: Pathlike, output: Pathlike | None = None
) -> tuple[Plan, Path, dict[str, Any]]:
    """What repeats the run of a record: its plan, the path to write, options of `Result.save`.

    Raises `InputError` and `SourceChanged`; see `rerun`.
    """
    from napari_restore.errors import InputError, SourceChanged
    from napari_restore.records import read_record

    told: dict[str, Any] = dict(read_record(Path(record)))
    written = told["output"] or {}
    path = output or written.get("path")
    if told.get("task") is None or path is None:
        raise InputError(
            f"{record} does not say enough to repeat its run.",
            "Only finished runs of images that lie in files can be repeated.",
        )
    planned = plan_of(told["task"])
    if planned.image.fingerprint != told["input"]["fingerprint"]:
        raise SourceChanged(
            f"{planned.image.name} is not the image that {record} tells of.",
            "Restore it as a new image: napari-restore restore.",
        )
    return planned, Path(path), dict(written.get("options", {}))


def command_of(
    what: Plan | Mapping[str, Any], output: Pathlike, *, device: str = "auto", **options: Any
) -> str:
    """The `napari-restore restore` line that writes `output` with the same pixels.

    `what` is a plan or a record (or its `task` and `input`), `options` are those of
    `Result.save`. Raises `InputError` for what the command line cannot do: an image
    or model that lies in no file, for instance.
    """
    from napari_restore._line import quoted, words_of
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
    return quoted(words_of(task, size, output, device=device, options=options))


def folder_command(
    folder: Pathlike, output: Pathlike, model: Mapping[str, Any], **options: Any
) -> list[str]:
    """The words after `napari-restore` that restore all images of `folder` into `output`.

    `model` holds the arguments of `load_model` and its id or file as `model`; `options`
    are those of `plan` that any image can be given: device, memory, residuals, tile, tile_batch,
    exclude, strength and the like.
    """
    from napari_restore._line import words_of

    given = {name: value for name, value in options.items() if value is not None}
    device, memory = given.pop("device", "auto"), given.pop("memory", None)
    residuals = given.pop("residuals", "auto")
    whole = {"region": [[0, 0, 1, 1]], **given}
    task = {"image": {"source": os.fspath(folder)}, "model": dict(model), "options": whole}
    # A folder even where it is to be made and holds one image.
    words = words_of(task, (1, 1), os.path.join(output, ""), device=device)[1:]
    words += ["--memory", str(memory)] if memory is not None else []
    return words + (["--residuals", residuals] if residuals != "auto" else [])


def output_box(plan: Plan) -> Region | None:
    """The box of the output in pixels of its image; None for all of it."""
    y, x = plan.origin
    return None if plan.mask is not None else plan.region.shift(-y, -x)


def mask_of_polygons(image: Any, polygons: Sequence[Any]) -> Path:
    """Keep polygons as a file for the option `mask`, on the map where `image` lies on one.

    A polygon is its outer ring and then its holes, a ring a list of points (x, y) in
    pixels, edges at whole numbers. The file lies in the cache; the same polygons
    have the same file.
    """
    from napari_restore import images

    return images.keep_polygons(open_image(image), polygons)


def mask_of_line(image: Any, start: tuple[float, float], end: tuple[float, float]) -> Path:
    """Keep a gradient from `start` (0) to `end` (1) for `mask`; otherwise as `mask_of_polygons`."""
    from napari_restore import images

    return images.keep_line(open_image(image), start, end)


def mask_of_array(
    image: Any, strengths: Any, place: tuple[float, float, float, float, float, float]
) -> Path:
    """Keep strengths, an array (h, w), for `mask`; otherwise as `mask_of_polygons`.

    `place` (a, b, c, d, e, f) takes column and row in the array to those in the image,
    x = a column + b row + c, counted from the corner of the first pixel: the array
    may be coarser than the image. Floats are 0 … 1; integers 0 or 1 if none is larger,
    else 0 … the type's largest value. Reads the array in pieces. Raises `BadMask`
    where no strength is above 0.
    """
    from napari_restore import images

    return images.keep_strengths(open_image(image), strengths, place)


def save_context(images: Sequence[Any], path: Pathlike, exclude: Pathlike | None = None) -> Path:
    """Write the whole-image facts of `images`, taken as one, for the option `context`.

    `exclude` is a mask of pixels that do not count; with several images only
    polygons (GeoJSON) fit them all.
    """
    from napari_restore.engine import context_of_images, save_context

    target = Path(path)
    save_context(target, context_of_images([open_image(image) for image in images], exclude))
    return target


def open_mosaic(sources: Sequence[Pathlike], **options: Any) -> Image | None:
    """Open files that lie on one map grid as one image; None if they do not.

    `options` are those of `open_image`.
    """
    from napari_restore.errors import UnreadableImage

    try:
        return open_image([os.fspath(source) for source in sources], **options)
    except UnreadableImage:
        return None


def check_output(
    path: Pathlike,
    image: Any,
    overwrite: bool = False,
    *,
    region: Sequence[int] | None = None,
    **options: Any,
) -> None:
    """Raise `BadOutput` if the result of `image` cannot be written to `path`.

    `region` (y0, x0, y1, x1) is the part that will be written, by default all;
    `options` are those of `Result.save`.
    """
    from napari_restore import images

    opened = open_image(image)
    inputs = [] if opened.path is None else list(opened.reader.files())
    whole = Region(0, 0, opened.height, opened.width)
    part = whole if region is None else Region(*region).intersect(whole)
    height, width = (whole if part.is_empty else part).shape
    images.check_output(
        Path(path),
        inputs,
        overwrite,
        like=opened,
        shape=(height, width, opened.bands),
        options=images.ExportOptions(**options),
    )


def check_export(**options: Any) -> None:
    """Raise `BadOutput` if `options` of `Result.save` do not exist or go beyond their limits."""
    from napari_restore import images

    images.ExportOptions(**options)


def keep_result(
    store: Pathlike,
    task: Mapping[str, Any],
    title: str,
    method: str,
    record: Mapping[str, Any] | None = None,
) -> str:
    """Leave a note in a store, so that `kept_results` finds what was made; returns its name.

    `task` is that of `task_of`, `title` what people know it by, `method` the model's
    title, `record` the run's once it has ended.
    """
    from napari_restore.engine import keep_result

    return keep_result(Path(store), task, title, method, record)


def kept_name(plan: Plan) -> str:
    """The name of the `KeptResult` that `plan` leaves: it tells areas of one store apart."""
    from napari_restore.engine import name_of_plan

    return name_of_plan(plan)


def kept_results(image: Any) -> list[KeptResult]:
    """Results of `image` that lie in the cache from earlier, the newest first.

    Reads a part of the image to know it again: not for the thread of a window.
    """
    from napari_restore.engine import kept_results

    return kept_results(open_image(image).fingerprint)


def result_of_kept(kept: KeptResult, image: Any) -> Result:
    """The pixels of a `KeptResult` of `image`. Makes its plan again: that may take seconds.

    Levels that the image lacks are those of the cache, if they are there. Raises
    `ResourceError` if other pixels would be made today, by another version of the
    model for instance.
    """
    from napari_restore.engine import Result
    from napari_restore.images import attach_pyramid

    planned = plan_of_kept(kept, image)
    attach_pyramid(planned.image)
    return Result.of_run(planned, kept.record or {})


def plan_of_kept(kept: KeptResult, image: Any) -> Plan:
    """The plan that makes a `KeptResult` of `image`, which may have another name now."""
    spec = open_image(image).spec
    task = dict(kept.task)
    if spec is not None:
        task["image"] = {**task["image"], "source": spec["source"]}
    return replace(plan_of(task), store=kept.store)


def forget_result(store: Pathlike, name: str) -> bool:
    """Remove a `KeptResult`, and its store when it was the last; whether the store went.

    Raises `ResourceError` while somebody uses the store.
    """
    from napari_restore.engine import forget_result

    return forget_result(Path(store), name)


def cache_entries() -> list[CacheEntry]:
    """What lies in the cache, the most recently used first."""
    from napari_restore import images

    return images.cache_entries()


def clear_cache() -> int:
    """Empty the cache; returns the bytes freed."""
    from napari_restore import images

    return images.clear_cache()
