"""Where a run and the tiles of its steps are computed."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from napari_restore import errors
from napari_restore.engine._region import Region
from napari_restore.engine.ledger.shared_slabs import OpenSlab
from napari_restore.engine.ledger.slab import SlabFile
from napari_restore.engine.running.events import Event
from napari_restore.engine.statistics.context import Counter, on_threads

if TYPE_CHECKING:
    from napari_restore.engine.running.state import RunState
    from napari_restore.engine.running.tile import TileWork
    from napari_restore.engine.running.tile_reader import TileInput

In = TypeVar("In", bound="TileInput")
Out = TypeVar("Out")
Put: TypeAlias = Callable[[Event | BaseException], None]
Make: TypeAlias = Callable[[], Callable[[], object]]
"""Makes a `Run`; returns its `run`."""


@dataclass(frozen=True)
class Stage(Generic[In, Out]):
    """A step over tiles: all of them have to be computed before the run goes on."""

    number: int
    """Of the step among those of the program."""
    title: str
    """The phase, for users."""
    work: TileWork
    """What all tiles share, with all that the steps before have counted."""
    tiles: Sequence[Region]
    read: Callable[[Region], In]
    """Returns the input of a tile, for its core."""
    compute: Callable[[list[In]], list[Out]]
    """Returns the outputs of tiles of equal input shape."""
    keep: Callable[[Out], None]
    """Keeps an output, by one thread at a time."""
    report: Callable[[], None]
    """Reports one more tile as done."""
    restores: bool = False
    """Whether the outputs are restored tiles; else they are maps and counts."""
    counts: bool = False
    backwards: bool = False
    """Whether the last tiles come first."""


class Executor:
    """Computes the tiles of one run, stage by stage; another one needs `map` only."""

    state: RunState
    """Of the run, from `begin` on."""
    open_slab: OpenSlab = SlabFile
    """Opens files of maps and counts."""
    lost: errors.RestoreError | None = None
    """Why the run has ended, if that was not the user's cancel."""

    # -- a job ---------------------------------------------------------------------------

    def start(self, put: Put, make: Make) -> None:
        """Begin the run that `make` makes; `put` gets its events, or the error that ends it."""
        run = make()

        def body() -> None:
            try:
                run()
            except errors.Cancelled:
                # `Stopped` has been emitted.
                pass
            except BaseException as error:
                put(error)
            finally:
                atexit.unregister(end)

        def end() -> None:
            self.cancel()
            thread.join()

        thread = threading.Thread(target=body, name="job", daemon=True)
        # A thread that is inside of a kernel while Python is torn down aborts the process.
        atexit.register(end)
        thread.start()

    def cancel(self) -> None:
        """End the run within a tile."""
        self.state.stop.set()

    def prioritise(self, region: Region) -> None:
        """Compute the tiles nearest to the middle of `region` first."""
        if self.state.schedule is not None:
            self.state.schedule.prioritise(region)

    # -- a run ---------------------------------------------------------------------------

    def begin(self, state: RunState) -> None:
        """Compute for a run from now on; raises where its plan is not for this executor."""
        self.state = state

    def counter(self) -> Counter:
        """Return what counts blocks of the whole image."""
        return on_threads(self.state.plan.layout.workers)

    def opened(self) -> None:
        """Hold the store of the run, which is open now."""

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Be ready for stages of the run."""
        yield

    def map(self, stage: Stage[Any, Any]) -> None:
        """Compute, keep and report all tiles of `stage`, or those that were begun before a stop."""
        raise NotImplementedError

    def close(self) -> None:
        """End what was begun for the run, whose store is closed."""

    def measured(self) -> dict[str, Any]:
        """Return what the record's `measured` says of the executor."""
        return {}
