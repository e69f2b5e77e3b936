"""The one door: what window, command line and scripts use, and nothing deeper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore._explain_api import (
    argument_value,
    arguments_in,
    attribute,
    check_figure,
    draw_attribution,
    explainers,
    overview_path,
    repeat_attribution,
)
from napari_restore._image_api import (
    Pathlike,
    check_export,
    check_output,
    open_image,
    open_mosaic,
    output_box,
)
from napari_restore._kept_api import (
    cache_entries,
    clear_cache,
    forget_result,
    keep_result,
    kept_name,
    kept_results,
    plan_of_kept,
    result_of_kept,
)
from napari_restore._recorded_api import read_recorded
from napari_restore._repeat_api import (
    command_of,
    folder_command,
    plan_of,
    repeat_of,
    rerun,
    settled_task,
    task_of,
)
from napari_restore._table_api import attribute_table, boxes_of, check_table, repeat_table
from napari_restore._training_api import evaluate, haze, scores_as_text, train
from napari_restore.engine import ImageStarted, Note, Phase, Progress, Region, TileDone

if TYPE_CHECKING:
    from napari_restore.engine import Job, Plan, Result, Worker
    from napari_restore.models import Labelled, ModelCard, Proposal, RestorationModel

__all__ = [
    "ImageStarted",
    "Note",
    "Phase",
    "Progress",
    "Region",
    "TileDone",
    "argument_value",
    "arguments_in",
    "attribute",
    "attribute_table",
    "boxes_of",
    "cache_entries",
    "check_export",
    "check_figure",
    "check_output",
    "check_table",
    "clear_cache",
    "command_of",
    "draw_attribution",
    "evaluate",
    "explainers",
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
    "load_models",
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
    "overview_path",
    "plan",
    "plan_of",
    "plan_of_kept",
    "read_recorded",
    "repeat_attribution",
    "repeat_of",
    "repeat_table",
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
    "tile_invariance",
    "train",
    "warm",
]


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


def load_models(
    models: Sequence[Any],
    *,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> list[Labelled]:
    """Load models as `evaluate` names them, "dcp:omega=0.9" for instance: `.label`, `.model`.

    `weights` are those of the one model, `parameters` go to every one.
    """
    from napari_restore.models import load_named

    return load_named(models, weights=weights, parameters=parameters, trust=trust)


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


def tile_invariance(model: Any) -> str:
    """What the bits of a model's pixels do not depend on, as measured on this machine.

    `model` is a name, a path or a model. "any tiles, any threads": a run's result is the
    same however it is cut; else plans keep what it does depend on fixed. The first time it is
    measured on made-up tiles, later it is read from the cache folder.
    """
    from napari_restore.engine import invariance_here

    return invariance_here(load_model(model))


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


def restore(image: Any, model: Any, **options: Any) -> Result:
    """Plan, run and wait: `.array`, `.record`, `.save(path)`. Options as for `plan`."""
    return start(plan(image, model, **options)).result()


def info(image: Any) -> dict[str, Any]:
    """How `image` is read: size, bands, roles, range, georeference, notes. JSON-able."""
    from napari_restore.images import describe

    return describe(open_image(image))


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
