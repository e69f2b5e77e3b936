"""The one door: what window, command line and scripts use, and nothing deeper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

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
    Bands,
    Pathlike,
    check_export,
    check_output,
    open_image,
    open_mosaic,
    output_box,
    sensor_bands,
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
from napari_restore._model_api import (
    as_model,
    code_file,
    load_described,
    load_model,
    model_factories,
)
from napari_restore._progress_bar import run_to_the_end
from napari_restore._recorded_api import read_recorded
from napari_restore._repeat_api import (
    command_of,
    folder_command,
    lasting_task,
    plan_of,
    repeat_of,
    rerun,
    settled_task,
    task_of,
)
from napari_restore._run_options import PlanOptions, checked_regions, shows
from napari_restore._table_api import attribute_table, boxes_of, check_table, repeat_table
from napari_restore._training_api import evaluate, haze, scores_as_text, train
from napari_restore.engine import ImageStarted, Note, Phase, Progress, Region, TileDone

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Job, Plan, Result, Worker
    from napari_restore.models import Labelled, ModelCard, Proposal

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
    "code_file",
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
    "lasting_task",
    "load_described",
    "load_model",
    "load_models",
    "mask_of_array",
    "mask_of_line",
    "mask_of_polygons",
    "mean_colour",
    "missing_roles",
    "model_factories",
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
    "sensor_bands",
    "settled_task",
    "stamp_of",
    "start",
    "task_of",
    "tile_invariance",
    "train",
    "warm",
]


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


@shows(PlanOptions)
def plan(
    image: Any,
    model: str | Path | nn.Module,
    *,
    bands: Bands | None = None,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Say what restoring `image` with `model` will do; no pixel is restored.

    Parameters
    ----------
    image
        What `open_image` takes: a path, an `Image`, an array (H, W) or (H, W, C), where 3 or 4
        bands are red, green, blue (and alpha), a PIL image, a torch tensor (C, H, W).
    model
        What `load_model` takes, or what it gave: an id, a file, a `torch.nn.Module`.
    bands
        Which band is what, counted from 1: ``"red=4,green=3,blue=2"`` or a mapping.
    region
        A `Region`, or several, of level-0 pixels: ``Region(y0, x0, y1, x1)`` or
        ``Region.from_xywh(x, y, width, height)``; bare tuples are refused. Default: all.
    mask, feather
        A file that says where and how much: a raster of strengths 0 to 1, GeoJSON polygons or a
        line; its edges are softened over `feather` pixels.
    exclude
        A mask of pixels that stay as they are and enter no statistics.
    strength, luminance_only, protect_shadows, protect_highlights
        How the model's change is applied: its share (1), to the lightness only, and how much the
        darkest and brightest tones are spared (0 to 1).
    extent
        What a global model sees: ``"image"`` (default), or ``"region"`` for a draft.
    context
        A file of context that `restore` of several images shared.
    other_bands
        What happens to bands the model does not see: ``"correct"``, ``"copy"`` or ``"drop"``.
    black, white
        Values that the model sees as 0 and 1.
    memory, device_memory
        Bytes, or text such as ``"2GiB"``, that the run may add to what the idle process holds.
    device
        ``"auto"`` (default), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    tile, tile_batch, workers
        Side of a tile's core in pixels, tiles of one call, tiles at the same time.
    precision, residuals, residual_dtype
        Floats the model computes in; where a staged model's residuals lie, and in what floats.
    scratch
        The folder for unfinished results.
    maps
        Whether to keep the model's side maps, or the names of some.
    pyramid
        Whether to make the result's levels while it runs.
    mosaic
        An image that holds this one among its neighbours, so that files join without a seam.
    output
        The .zarr that the result will be saved to: tiles are then written right there.

    Raises
    ------
    napari_restore.errors.InputError
        With one sentence naming the cause, and the next step.
    """
    from napari_restore.engine import make_plan

    if "region" in options:
        options["region"] = checked_regions(options["region"])
    return make_plan(open_image(image, bands=bands), as_model(model), **options)


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


@shows(PlanOptions)
def restore(
    image: Any,
    model: str | Path | nn.Module,
    *,
    bands: Bands | None = None,
    progress: bool | None = None,
    **options: Unpack[PlanOptions],
) -> Result:
    """Plan, run and wait: `.array` (H, W, C), `.record`, `.save(path)`, ``np.asarray(result)``.

    Parameters
    ----------
    image, model, bands
        As for `plan`.
    progress
        Whether to draw a progress bar (tqdm). Default: in a terminal and in a notebook.
    options
        As for `plan`: `region` is a `Region`, ``Region(y0, x0, y1, x1)`` or
        ``Region.from_xywh(x, y, width, height)``; `memory` is bytes or ``"2GiB"``.

    Raises
    ------
    napari_restore.errors.RestoreError
        With one sentence naming the cause, and the next step.
    """
    planned = plan(image, model, bands=bands, **options)
    return run_to_the_end(start(planned), progress)


def info(
    image: Any,
    *,
    bands: Bands | None = None,
    black: float | None = None,
    white: float | None = None,
) -> dict[str, Any]:
    """Tell how `image` is read: size, bands, roles, range, georeference, notes. JSON-able.

    `bands`, `black` and `white` are as for `plan`.
    """
    from napari_restore.images import describe

    return describe(open_image(image, bands=bands), black=black, white=white)


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
    """Write the whole-image statistics of `images`, taken as one, for the option `context`.

    `exclude` is a mask of pixels that do not count; with several images only
    polygons (GeoJSON) fit them all.
    """
    from napari_restore.engine import context_of_images, save_context

    target = Path(path)
    save_context(target, context_of_images([open_image(image) for image in images], exclude))
    return target
