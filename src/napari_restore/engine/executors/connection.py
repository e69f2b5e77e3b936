"""Connection to the workers of a cluster, by dask.distributed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from napari_restore._json_shapes import read_json
from napari_restore.engine.machine.budget import default_memory
from napari_restore.engine.machine.device import ENVIRONMENT, cores
from napari_restore.engine.running.events import Emit, Phase
from napari_restore.errors import BadParameter, ResourceError, RestoreError, option
from napari_restore.images import cache_environment

T = TypeVar("T")
LOCAL = "local:"
ENCRYPTED = "tls://"
"""Both ends show certificates; all others of dask's protocols take work from whoever reaches them."""
INSECURE = "insecure+"
"""Stands before a cluster without certificates, to which the user consents."""
PATIENCE = 10.0
"""Seconds to wait for a scheduler, and for its first worker."""
LIBRARIES = ("napari-restore", "torch", "numpy")
"""Of equal versions on all machines: others may round differently."""


@dataclass(frozen=True)
class RemoteWork:
    """Functions that workers call; they are sent by name, so they are those of a module."""

    check: Callable[[dict[str, Any]], None]
    """Raises where the worker cannot read what a task names."""
    run: Callable[..., Any]
    """Restores a range of tiles; returns a `RangeReport`."""
    stop: Callable[[str], None]
    """Ends the ranges of a run within a tile."""
    count: Callable[..., Any]
    """Counts blocks of the whole image; returns a `BlockPart` for each."""


class WorkersLost(ResourceError):
    """Several workers were lost one after another, with the same work."""


class Cluster:
    """The workers of a scheduler; use it as a context manager, or `close` it.

    Workers may come and go. `owned` is the cluster of this machine, which ends with this object;
    a client that is `lent` stays open.
    """

    def __init__(
        self, client: Any, work: RemoteWork, owned: Any = None, *, lent: bool = False
    ) -> None:
        self.client, self.work = client, work
        self._owned, self._lent = owned, lent
        self._threads: dict[str, int] = {}

    @classmethod
    def connect(cls, address: str, work: RemoteWork) -> Cluster:
        """Return the cluster at an address.

        Parameters
        ----------
        address
            ``local:N`` starts N processes on this machine; otherwise ``tls://HOST:PORT``, or a
            .json file that a scheduler has written. One without certificates, as ``tcp://HOST:PORT``,
            only after ``insecure+``: whoever reaches it can run programs as the user.
        work
            The functions that workers call.

        Returns
        -------
        Cluster
            The connection.

        Raises
        ------
        napari_restore.errors.BadParameter
            There is no cluster, it has no certificates and nobody consented, or dask.distributed is
            not installed.
        """
        distributed = _distributed()
        if address.startswith(LOCAL):
            owned = _local(distributed, address)
            return cls(distributed.Client(owned, set_as_default=False), work, owned)
        place = address.removeprefix(INSECURE)
        if place.endswith(".json"):
            place = _scheduler_in(place)
        if "://" not in place:
            raise BadParameter(
                f"{place!r} is no cluster.",
                "Use local:N, tls://HOST:PORT or the .json file of a scheduler.",
            )
        if place.startswith(ENCRYPTED):
            _check_certificates(distributed, place)
        elif not address.startswith(INSECURE):
            raise BadParameter(
                f"{place} has no certificates: whoever reaches it can run programs as you, here and on "
                "its workers.",
                f"Use {ENCRYPTED}, or write {INSECURE}{address} where nobody else reaches it.",
            )
        try:
            # The default client of a process gets all its dask work: a window's pictures as well.
            client = distributed.Client(place, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            alike = " and certificates of one authority" if place.startswith(ENCRYPTED) else ""
            raise BadParameter(
                f"There is no scheduler at {place}.", f"Start one with dask scheduler{alike}."
            ) from error
        return cls(client, work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; one of this machine ends."""
        for each in (None if self._lent else self.client, self._owned):
            if each is not None:
                # The processes of this machine end with this one in any case.
                with contextlib.suppress(TimeoutError):
                    each.close(timeout=PATIENCE)

    @property
    def dashboard(self) -> str | None:
        """Address of dask's dashboard, where it has one."""
        if self._owned is not None:
            return None
        try:
            return self.client.dashboard_link or None
        except KeyError:
            return None

    def threads(self) -> dict[str, int]:
        """Return the threads of each worker; wait for the first one.

        Raises `ResourceError` where there is none.

        Returns
        -------
        dict
            Numbers of threads by the workers' addresses.
        """
        found: dict[str, int] = self.client.nthreads()
        if not found:
            try:
                self.client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError as error:
                raise ResourceError(
                    "The scheduler has no workers.", "Start some with dask worker ADDRESS."
                ) from error
            found = self.client.nthreads()
        return found

    def default_memory(self) -> int:
        """Return the bytes that a run may add to each worker when the user sets none.

        Processes of this machine share what is free; other machines are taken to be like it.

        Returns
        -------
        int
            Bytes.
        """
        return default_memory() // (len(self.threads()) if self._owned is not None else 1)

    def check(
        self, task: Mapping[str, Any], seen: Callable[[dict[str, Any]], None] | None = None
    ) -> list[str]:
        """Return notes on the workers; raise what keeps one of them from a task.

        All must have the versions of this process, and see image, model and store.

        Parameters
        ----------
        task
            The task as it is sent.
        seen
            Raises in a worker that does not see what the task names; None: the check of tiles.

        Returns
        -------
        list of str
            Sentences.
        """
        notes = self.check_versions()
        for address, error in self._asked(seen or self.work.check, task).items():
            if isinstance(error, RestoreError):
                raise on_machine(error, address)
            if isinstance(error, BaseException):
                raise ResourceError(
                    f"The worker {address} failed: {error!r}.", "See the log of that worker."
                )
        return notes

    def check_versions(self) -> list[str]:
        """Return notes on the workers; raise where their versions are not those of this process.

        They load their libraries for it.

        Returns
        -------
        list of str
            Sentences.
        """
        own, notes = versions(), list[str]()
        answers = self._asked(versions)
        for address, there in answers.items():
            if isinstance(there, BaseException):
                raise ResourceError(
                    f"The worker {address} cannot run napari-restore ({there}).",
                    "Install it in the environment of all workers.",
                )
            for name in LIBRARIES:
                if there[name] != own[name]:
                    raise BadParameter(
                        f"The worker {address} has {name} {there[name]}, this machine has {own[name]}.",
                        "Install equal versions on all machines.",
                    )
        processors = Counter(there["processor"] for there in answers.values())
        if len(processors) > 1:
            kinds = ", ".join(sorted(processors))
            notes.append(
                f"The workers' processors differ ({kinds}): so may the last bit of a pixel."
            )
        return notes

    def _asked(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Return what `function` returns or raises in each worker, but for those that are lost."""
        from distributed.comm.core import CommClosedError

        found = self.client.run(function, *arguments, on_error="return")
        return {
            address: answer
            for address, answer in found.items()
            if not isinstance(answer, CommClosedError)
        }

    def ended(self, futures: Collection[Any], seconds: float) -> list[Any]:
        """Wait until some work has ended, at most so long.

        Parameters
        ----------
        futures
            The work that was sent.
        seconds
            How long to wait.

        Returns
        -------
        list of distributed.Future
            Those that have ended.
        """
        from distributed.client import _wait

        # Futures are cancelled when the scheduler is lost: their status says so.
        with contextlib.suppress(TimeoutError, CancelledError):
            # `distributed.wait` itself asks the default client, which this one is not.
            self.client.sync(_wait, list(futures), timeout=seconds, return_when="FIRST_COMPLETED")
        return [future for future in futures if future.status != "pending"]

    def result(self, future: Any, what: str) -> Any:
        """Return what a worker returned; raise what has stopped it.

        Parameters
        ----------
        future
            The work that was sent.
        what
            What it was to do, for messages.

        Returns
        -------
        object
            What the function returned.
        """
        from distributed import KilledWorker

        if future.status in ("cancelled", "lost"):
            raise _scheduler_gone()
        try:
            return future.result()
        except KilledWorker as error:
            raise WorkersLost(
                f"{1 + error.allowed_failures} workers were lost one after another at {what}.",
                f"If they ran out of memory, lower {option('memory')} or {option('tile')}; "
                "what is finished is kept.",
            ) from error
        except RestoreError:
            # The worker has named itself.
            raise
        except Exception as error:
            raise ResourceError(
                f"A worker failed at {what}: {error!r}.",
                "See the logs of the workers; what is finished is kept.",
            ) from error

    @property
    def is_lost(self) -> bool:
        """Whether there is no connection to the scheduler any more."""
        return bool(self.client.status != "running")

    def threads_now(self) -> dict[str, int]:
        """Return the threads of each worker at the moment, or the last ones known.

        Returns
        -------
        dict
            Numbers of threads by the workers' addresses.
        """
        # A client whose scheduler is gone closes meanwhile, and raises whatever that leads to.
        with contextlib.suppress(Exception, asyncio.CancelledError):
            self._threads = self.client.nthreads()
        return self._threads

    def worker_count(self) -> int:
        """Return the number of workers at the moment, or the last one known.

        Raises `ResourceError` once the scheduler is given up.

        Returns
        -------
        int
            0 while there is none.
        """
        count = len(self.threads_now())
        if self.client.status == "closed":
            raise _scheduler_gone()
        return count

    def stop(self, run: str) -> None:
        """End a run's work on all workers within a tile, and free what they keep of it.

        Parameters
        ----------
        run
            Key of the run.
        """
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            self.client.run(self.work.stop, run, on_error="ignore")


def _scheduler_in(path: str) -> str:
    """Return the address in a file that a scheduler has written; raises `BadParameter`."""
    try:
        return str(read_json(Path(path))["address"])
    except (OSError, ValueError, LookupError, TypeError):
        raise BadParameter(
            f"There is no scheduler file {path}, or it is damaged.",
            "Start the scheduler, or name its file.",
        ) from None


def _check_certificates(distributed: Any, address: str) -> None:
    """Raise `BadParameter` where dask's settings name no certificates for `address`."""
    try:
        if distributed.Security().get_connection_args("client").get("ssl_context") is not None:
            return
        found = "are not set"
    except OSError as error:
        found = f"cannot be read ({error.strerror or error})"
    raise BadParameter(
        f"The certificates for {address} {found}.",
        "Let DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__TLS__CLIENT__CERT and …__TLS__CLIENT__KEY name "
        "their files.",
    )


def _scheduler_gone() -> ResourceError:
    return ResourceError(
        "The scheduler of the cluster is gone; what is finished is kept.",
        "Start it again, then run again.",
    )


def on_machine(error: RestoreError, machine: str) -> RestoreError:
    """Return `error` of a worker with the name of its machine."""
    message = error.message.marked.rstrip(".")
    return type(error)(f"{message} (on {machine}).", error.hint.marked)


def versions() -> dict[str, str]:
    """Return the versions of this process, and the kind of its processor."""
    import torch

    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"processor": kind, **{name: version(name) for name in LIBRARIES}}


def _local(distributed: Any, address: str) -> Any:
    """Return N processes on this machine, which share its cores and serve this process alone."""
    # A worker runs what it is sent. So both ends show certificates that are made for the run, and
    # nothing listens but on 127.0.0.1; no page is served.
    text = address.removeprefix(LOCAL)
    count = int(text) if text.isdecimal() else 0
    if count < 1:
        raise BadParameter(
            f"{address!r} names no number of processes.", "Use for instance local:2."
        )
    import dask

    try:
        security = distributed.Security.temporary()
    except ImportError as error:
        raise BadParameter(
            f"{option('cluster', address)} needs cryptography.",
            'Install it: pip install "napari-restore[cluster]".',
        ) from error
    settings = {
        # Before the processes start: later the C library has made a heap for each thread.
        "distributed.nanny.pre-spawn-environ": ENVIRONMENT | cache_environment(),
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with dask.config.set(settings):
        return distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=max(1, cores() // count),
            processes=True,
            # The engine has a budget of its own; a worker that dask pauses would wait for ever.
            memory_limit=None,
            host="127.0.0.1",
            security=security,
            dashboard_address=None,
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise BadParameter(
            f"{option('cluster')} needs dask.distributed.",
            'Install it: pip install "napari-restore[cluster]".',
        ) from error
    return distributed


POLL = 0.2
"""Seconds after which a run looks for a cancel, new workers and lost ones."""


class Handout(Generic[T]):
    """Work of a run that the workers of `cluster` have; no wait for it outlasts `POLL`."""

    def __init__(self, cluster: Cluster, emit: Emit, stop: threading.Event) -> None:
        self._cluster, self._emit, self._stop = cluster, emit, stop
        self.run_id = uuid.uuid4().hex[:12]
        self.running: dict[Any, T] = {}
        """What is given out, by its future."""
        self._is_waiting = self._is_stopped = False
        self._left_over: set[Hashable] = set()

    def workers(self, phase: str) -> int:
        """Return the number of workers; announces when there are none, and when some are back."""
        count = self._cluster.worker_count()
        if (count == 0) != self._is_waiting:
            self._is_waiting = count == 0
            self._emit(Phase("Waiting for workers" if self._is_waiting else phase))
        return count

    def give(self, item: T, function: Callable[..., Any], *arguments: Any) -> None:
        """Let a worker call `function`."""
        key = f"napari-restore-{uuid.uuid4().hex}"
        self.running[self._cluster.client.submit(function, *arguments, key=key, pure=False)] = item

    def ended(self, what: Callable[[T], str]) -> Iterator[tuple[T, Any]]:
        """Yield what has ended with its result, or with `WorkersLost`; `what` says what an item is.

        After a cancel workers end what they have, and what was not finished comes no more.
        """
        if self._stop.is_set() and not self._is_stopped:
            self._is_stopped = True
            self._cluster.stop(self.run_id)
        if not self.running:
            # No workers at the moment: some may come.
            self._stop.wait(POLL)
            return
        for future in self._cluster.ended(self.running, POLL):
            item = self.running.pop(future)
            try:
                found = self._cluster.result(future, what(item))
                future.release()
            except WorkersLost as error:
                found = error
            except Exception:
                if self._is_stopped:
                    continue
                raise
            yield item, found

    def leave_over(self, first: Hashable, error: WorkersLost) -> None:
        """Note what lost workers have left over; raise `error` the second time: it may be what ends them."""
        if first in self._left_over:
            raise error
        self._left_over.add(first)
