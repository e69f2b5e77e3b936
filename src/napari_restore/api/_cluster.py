"""Connection to a cluster whose workers compute the tiles of a run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_restore import engine
from napari_restore.errors import BadParameter, RestoreError, option

if TYPE_CHECKING:
    from napari_restore.engine import Cluster, Event, Plan
    from napari_restore.explain import PlannedRow, RowResult
    from napari_restore.models import Labelled


def connect(cluster: Any) -> Cluster:
    """Return a connection to the workers of a dask scheduler, for `start`.

    Plan for it with ``shared=True`` and, where workers are on other machines, a `scratch` folder that
    all of them see.

    Parameters
    ----------
    cluster
        ``"local:N"`` for N processes on this machine, ``"tls://HOST:PORT"`` of a scheduler, the .json
        file that a scheduler writes, or a `distributed.Client`, which stays open. A scheduler without
        certificates only as ``"insecure+tcp://HOST:PORT"`` or ``"insecure+FILE.json"``: whoever reaches
        it can run programs as you.

    Returns
    -------
    Cluster
        A context manager; or `close` it.

    Raises
    ------
    napari_restore.errors.BadParameter
        There is no scheduler, it has no certificates and that was not consented to, or
        dask.distributed is not installed.
    """
    from napari_restore.api import cluster_worker

    work = engine.RemoteWork(
        cluster_worker.check,
        cluster_worker.restore_range,
        cluster_worker.stop,
        cluster_worker.count_blocks,
    )
    if isinstance(cluster, engine.Cluster):
        return cluster
    if isinstance(cluster, str):
        return engine.Cluster.connect(cluster, work)
    return engine.Cluster(cluster, work, lent=True)


@contextmanager
def connected(cluster: Any) -> Iterator[Cluster]:
    """Connect as `connect`, and leave a cluster that was named by its address afterwards."""
    connection = connect(cluster)
    try:
        yield connection
    finally:
        if isinstance(cluster, str):
            connection.close()


def cluster_task(plan: Plan) -> dict[str, Any]:
    """Return the task that workers run; raises `BadParameter` for what exists only in memory."""
    from napari_restore.api._tasks import serialised_task

    task = serialised_task(plan)
    if task is None:
        raise BadParameter(
            "Image and model must be files for a cluster.", "Save the image and open the file."
        )
    return task


ROWS = "Attributing"


class TableRun(NamedTuple):
    """Where rows are computed, and who receives events."""

    emit: Callable[[Event], None]
    stop: threading.Event
    """Cancels the run when set."""
    cluster: Any = None
    """As for `connect`; None: this process."""


def computed_on(
    run: TableRun,
    rows: Iterator[PlannedRow],
    models: Sequence[Labelled],
    options: Mapping[str, Any],
    read: Mapping[str, Any],
) -> Iterator[RowResult]:
    """Yield the results of `rows` as workers finish them.

    `options` are those of `attribute`, `read` digests of the files that they name. Images and models
    are opened by the workers; all images are opened here first, so that each worker's are checked.
    Raises `BadParameter` for what exists only in memory, `Cancelled`, and what keeps a worker from
    the table.
    """
    from napari_restore.api import cluster_worker
    from napari_restore.models import identity_of

    if options.get("watch") is not None:
        raise BadParameter(
            "Partial maps stay on the workers of a cluster.",
            f"Leave watch or {option('cluster')} out.",
        )
    numbers = {id(model): number for number, (_, model) in enumerate(models)}
    planned: list[PlannedRow] = []
    items: list[tuple[int, dict[str, Any]]] = []
    images: list[dict[str, Any]] = []
    for row in rows:
        if row.image is None:
            assert row.error is not None
            yield row.failed(row.error)
            continue
        target, image = row.target, {"spec": row.image.spec, "fingerprint": row.image.fingerprint}
        if image["spec"] is None or not row.model.spec:
            raise BadParameter(
                "Images and models must be files for a cluster.",
                "Save the image and open the file.",
            )
        if not images or images[-1] != image:
            images.append(image)
        where = {"box": target.box, "polygon": target.polygon}
        items.append((len(planned), {**image, **where, "model": numbers[id(row.model)]}))
        # Workers open the image.
        planned.append(replace(row, image=None))
    if not planned:
        return
    with connected(run.cluster) as connection:
        task = {
            "models": [{"spec": model.spec, **identity_of(model)} for _, model in models],
            "options": _options_there(options, connection),
            "threads": engine.Threads.of_process(),
        }
        spread = engine.ItemRun(
            connection,
            engine.Remote(cluster_worker.check_table, cluster_worker.attribute_row),
            task,
            ROWS,
            run.emit,
            run.stop,
        )
        spread.check({**task, **read, "images": images})
        for number, found in spread.results(items, len(items)):
            row = planned[number]
            for note in found.notes:
                run.emit(row.note(note))
            if isinstance(found.result, RestoreError):
                yield row.failed(found.result)
            else:
                yield row.measured(found.result)


def _options_there(options: Mapping[str, Any], connection: Any) -> dict[str, Any]:
    """Return the options of `attribute` in a worker: with its budget, and absolute paths."""
    there = {name: value for name, value in options.items() if name != "watch"}
    if there.get("memory") is None:
        there["memory"] = connection.default_memory()
    if there.get("scratch") is not None:
        there["scratch"] = os.path.abspath(there["scratch"])
    return there
