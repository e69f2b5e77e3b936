"""Plans, runs and results: the functions that restore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore.api._images import Bands, open_image
from napari_restore.api._models import as_model
from napari_restore.api._options import PlanOptions, checked_regions, shows
from napari_restore.api._progress_bar import run_to_the_end
from napari_restore.api._repeating import settled_task

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Job, Plan, Result, Worker

WORKER = "napari_restore.api.worker"
"""The module that a child process runs."""


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
    if isinstance(process, Worker):
        return ProcessJob(plan, task, process)
    return ProcessJob(plan, task, new_worker(), own=True)


def new_worker() -> Worker:
    """A child process for `start` that serves one plan after another; close it at the end."""
    from napari_restore.engine import Worker

    return Worker(WORKER)


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
