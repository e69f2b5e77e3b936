"""Functions that plan and run restorations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore.api._cluster import cluster_task, connect
from napari_restore.api._images import Bands, open_image
from napari_restore.api._models import as_model
from napari_restore.api._options import PlanOptions, checked_regions, documents_options
from napari_restore.api._progress_bar import progress_bar
from napari_restore.api._tasks import serialised_task, task_of

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Job, Plan, Result, Worker

WORKER = "napari_restore.api.worker"
"""Module that a child process runs."""


@documents_options(PlanOptions)
def plan(
    image: Any,
    model: str | Path | nn.Module,
    *,
    bands: Bands | None = None,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Plan the restoration of `image` with `model`, without computing pixels.

    Parameters
    ----------
    image
        As for `open_image`: a path, an `Image`, an array (H, W) or (H, W, C), where 3 or 4
        bands are red, green, blue (and alpha), a PIL image, a torch tensor (C, H, W).
    model
        As for `load_model`, or its result: an id, a file, a `torch.nn.Module`.
    bands
        Which band is what, counted from 1: ``"red=4,green=3,blue=2"`` or a mapping.
    region
        A `Region`, or several, of level-0 pixels: ``Region(y0, x0, y1, x1)`` or
        ``Region.from_xywh(x, y, width, height)``; bare tuples are refused. Default: all.
    mask, feather
        A file of local strengths: a raster 0 to 1, GeoJSON polygons or a linear gradient; edges are
        softened over `feather` pixels.
    exclude
        A mask of pixels that stay unchanged and are excluded from statistics.
    strength, luminance_only, protect_shadows, protect_highlights
        How the model's change is applied: its share (1), to the lightness only, and how much the
        darkest and brightest tones are protected (0 to 1).
    exposure
        EV, -3 to 3, by which the restored pixels are brightened in linear light, white staying
        white. ``"auto"`` measures what gives them the median light of their source.
    extent
        Extent of a global model's context: ``"image"`` (default), or ``"region"`` for a draft.
    context
        A context file, shared by several images; see `save_context`.
    other_bands
        Treatment of bands that are no input of the model: ``"correct"``, ``"copy"`` or ``"drop"``.
    black, white
        Values that map to 0 and 1 in the model's input.
    memory, device_memory
        Bytes, or text such as ``"2GiB"``, that the run may allocate beyond the idle process.
    device
        ``"auto"`` (default), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    tile, tile_batch, workers
        Side of a tile's core in pixels, tiles per batch, tiles in parallel.
    precision, residuals, residual_dtype
        Precision of the model (``"float32"``; ``"auto"``: bfloat16 for 8-bit images where the
        processor has it and nearly all values differ by a step at most); where a swept model keeps its maps, and in which precision.
    scratch
        The folder for unfinished results.
    maps
        Whether to store the model's side maps, or the names of some.
    pyramid
        Whether to compute the result's pyramid levels during the run.
    mosaic
        An image that contains this one and its neighbours, so that files join without a seam.
    output
        The .zarr that the result will be saved to: tiles are written there directly.
    shared
        Whether several processes write the result, as on a cluster: tiles are whole chunks of it.

    Raises
    ------
    napari_restore.errors.InputError
        With one sentence naming the cause, and the next step.
    """
    from napari_restore.engine import make_plan

    if "region" in options:
        options["region"] = checked_regions(options["region"])
    return make_plan(open_image(image, bands=bands), as_model(model), **options)


def start(
    plan: Plan, *, process: bool | Worker = False, cluster: Any = None, fresh: bool = False
) -> Job:
    """Run `plan`: iterate over the job for its events.

    With `process` it runs in a child process, so that a window stays responsive: a new one, or a
    `new_worker` that is warm already; it then waits while another run writes the same result
    instead of failing. Arrays and modules in memory run on a thread all the same. With `cluster`,
    which is any that `connect` takes or returns, its workers compute the tiles of a plan that was
    made with ``shared=True``. `fresh` discards the tiles of an earlier run, or
    leaves them to those who read them.
    """
    from napari_restore.engine import ClusterJob, Job, ProcessJob, Worker, begun_anew

    if fresh:
        plan = begun_anew(plan)
    if cluster is not None:
        connection = connect(cluster)
        return ClusterJob(plan, cluster_task(plan), connection, own=connection is not cluster)
    task = None if process is False else serialised_task(plan)
    if task is None:
        return Job(plan, keep=process is not False, wait=process is not False)
    if isinstance(process, Worker):
        return ProcessJob(plan, task, process)
    return ProcessJob(plan, task, new_worker(), own=True)


def new_worker() -> Worker:
    """Start a child process for `start` that runs one plan after another; close it after use."""
    from napari_restore.engine import Worker

    return Worker(WORKER)


def warm(worker: Worker, plan: Plan | None = None) -> None:
    """Let a worker load its libraries, and what `plan` needs; return immediately."""
    worker.warm(None if plan is None else serialised_task(plan))


@documents_options(PlanOptions)
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
    from napari_restore.engine import Result, run_of

    planned = plan(image, model, bands=bands, **options)
    # In this thread: Ctrl-C ends the run within a tile, and then this call.
    with progress_bar(progress) as show:
        record = run_of(planned, show).run()
    record["task"] = task_of(planned)
    return Result.of_run(planned, record)
