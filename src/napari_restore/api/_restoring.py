"""Functions that plan and run restorations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore import engine
from napari_restore.api._cluster import cluster_task, connect
from napari_restore.api._images import Bands, Pathlike, open_image
from napari_restore.api._models import as_model
from napari_restore.api._options import checked_regions, documents_options
from napari_restore.api._progress_bar import progress_bar
from napari_restore.api._tasks import serialised_task, task_of
from napari_restore.questions import Restore, RestoreKeywords

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Job, Plan, Result, Worker

WORKER = "napari_restore.api.worker"
"""Module that a child process runs."""
RUN, WARM = "napari_restore.api._answers:run", "napari_restore.api._answers:warm"


@documents_options(RestoreKeywords, Restore)
def plan(
    image: Any,
    model: str | Path | nn.Module,
    *,
    bands: Bands | None = None,
    sensor: Pathlike | None = None,
    compare: bool = True,
    **options: Unpack[RestoreKeywords],
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
    sensor
        As for `open_image`: the id of a preset, or a sensor file.
    compare
        Whether an array of dask or zarr is read once more, to notice that it was edited in place;
        those of numpy always are.
    {options}

    Returns
    -------
    Plan
        Tiles, memory and seconds of the run, for `start`. ``prediction.stages`` are the seconds of
        reading and of restoring; saving is not counted.

    Raises
    ------
    napari_restore.errors.InputError
        With one sentence naming the cause, and the next step.
    """
    if "region" in options:
        options["region"] = checked_regions(options["region"])
    opened = open_image(image, bands=bands, sensor=sensor)
    return engine.make_plan(opened, as_model(model), compare=compare, **options)


def start(
    plan: Plan, *, process: bool | Worker = False, cluster: Any = None, fresh: bool = False
) -> Job:
    """Run `plan` in the background.

    Parameters
    ----------
    plan
        What `plan` returned.
    process
        Whether to run in a child process, so that a window stays responsive: a new one, or a
        `new_worker` that is warm already. It then waits while another run of this process writes the
        same result instead of failing, as any does for another process. Arrays and modules in
        memory run on a thread all the same.
    cluster
        Any that `connect` takes or returns: its workers compute the tiles of a plan that was made
        with ``shared=True``.
    fresh
        Whether to discard the tiles of an earlier run, or leave them to those who read them.

    Returns
    -------
    Job
        Iterate over it for its events; ``result()`` waits.
    """
    if fresh:
        plan = engine.begun_anew(plan)
    if cluster is not None:
        connection = connect(cluster)
        own = connection is not cluster
        executor = engine.DaskExecutor(cluster_task(plan), connection, own=own)
        return engine.Job(plan, executor, wait=True)
    task = None if process is False else serialised_task(plan)
    if task is None:
        return engine.Job(plan, keep=process is not False, wait=process is not False)
    if isinstance(process, engine.Worker):
        return engine.Job(plan, engine.ChildExecutor(RUN, task, process))
    return engine.Job(plan, engine.ChildExecutor(RUN, task, new_worker(), own=True))


def new_worker() -> Worker:
    """Start a child process for `start` that runs one plan after another; close it after use."""
    from napari_restore.api._answers import message_types

    return engine.Worker(WORKER, message_types)


def warm(worker: Worker, plan: Plan | None = None) -> None:
    """Let a worker load its libraries, and what `plan` needs; return immediately."""
    task = None if plan is None else serialised_task(plan)
    worker.submit(WARM, task or {}, lambda event: None)


@documents_options(RestoreKeywords, Restore)
def restore(
    image: Any,
    model: str | Path | nn.Module,
    *,
    bands: Bands | None = None,
    sensor: Pathlike | None = None,
    progress: bool | None = None,
    **options: Unpack[RestoreKeywords],
) -> Result:
    """Restore `image` with `model`: plan, run and wait.

    Parameters
    ----------
    image, model, bands, sensor
        As for `plan`.
    progress
        Whether to draw a progress bar (tqdm). Default: in a terminal and in a notebook.
    {options}

    Returns
    -------
    Result
        Lazy: `.array` (H, W, C) in the type of the image, `.record`, `.save(path)`,
        ``np.asarray(result)``.

    Raises
    ------
    napari_restore.errors.RestoreError
        With one sentence naming the cause, and the next step.
    """
    planned = plan(image, model, bands=bands, sensor=sensor, **options)
    # In this thread: Ctrl-C ends the run within a tile, and then this call.
    with progress_bar(progress) as show:
        record = engine.Run(planned, show).run()
    record["task"] = task_of(planned)
    return engine.Result.of_run(planned, record)
