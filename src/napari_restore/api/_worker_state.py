"""What a worker of a cluster keeps between two calls, and whose turn it is to compute."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from napari_restore.api._task_cache import TaskCache
from napari_restore.errors import BadModel, Cancelled, ResourceError, RestoreError

if TYPE_CHECKING:
    from napari_restore.models import RestorationModel

KEPT_STOPS = 100
"""Runs that were stopped are remembered for work that begins later."""
cache = TaskCache()
opening = threading.Lock()
"""To be held while `cache` opens something."""
_computing = threading.Lock()
_stops: dict[str, threading.Event] = {}
_log = logging.getLogger("distributed.worker")


def check_same_model(model: RestorationModel, known: Mapping[str, Any], owner: str) -> None:
    """Raise `BadModel` for a model that differs from what the `owner` has `known` of it."""
    from napari_restore.models import changed_part

    part = changed_part(model, known)
    if part is not None:
        raise BadModel(
            f"The {part} of {model.card.id} are not those of the {owner}.",
            "Copy the same files to all machines.",
        )


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Wait for the turn to compute: a worker does one thing at a time, on all of its threads.

    Errors are raised with the name of the machine, and without their causes: those are in its log.
    """
    from distributed import get_worker

    machine = get_worker().address
    with _computing:
        try:
            yield
        except Cancelled as error:
            raise Cancelled(error.message.marked, error.hint.marked) from None
        except RestoreError as error:
            from napari_restore.engine import on_machine

            _log.info("%s", error, exc_info=True)
            raise on_machine(error, machine) from None
        except Exception as error:
            _log.exception("a task of napari-restore failed")
            raise ResourceError(
                f"A worker failed: {error!r} (on {machine}).",
                "See the log of that worker; what is finished is kept.",
            ) from None


@contextlib.contextmanager
def turn_if_free() -> Iterator[bool]:
    """Yield whether nothing is computed, and keep it so."""
    free = _computing.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _computing.release()


def stop_of(run: str) -> threading.Event:
    """Return what is set when `run` is to stop, also before its work begins."""
    while len(_stops) > KEPT_STOPS:
        _stops.pop(next(iter(_stops)), None)
    return _stops.setdefault(run, threading.Event())
