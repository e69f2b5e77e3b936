"""A progress bar for Python: in a terminal and in a notebook, by tqdm."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_restore.engine import Event


@contextlib.contextmanager
def progress_bar(
    shown: bool | None, emit: Callable[[Event], None] | None = None
) -> Iterator[Callable[[Event], None]]:
    """Yield a callback for events: `emit`, or one that shows them in a progress bar.

    `shown` None: in terminals and notebooks, where no `emit` is given.
    """
    from tqdm.auto import tqdm

    if shown is None and emit is not None:
        shown = False
    elif shown is None:
        # In a notebook tqdm.auto defines its own class; elsewhere it re-exports another one.
        shown = tqdm.__module__ == "tqdm.auto" or (sys.stderr is not None and sys.stderr.isatty())
    waiting = "{desc} [{elapsed}]"
    bar: Any = tqdm(
        total=0,
        desc="Planning",
        bar_format=waiting,
        disable=not shown,
        leave=False,
        dynamic_ncols=True,
    )

    def show(event: Event) -> None:
        # By name, to avoid an import of the engine.
        kind = type(event).__name__
        if not shown:
            return
        if kind == "Phase":
            # The first `Progress` event has the number of steps.
            bar.bar_format = waiting
            bar.set_description_str(event.name, refresh=False)  # type: ignore[attr-defined]
            bar.reset()
        elif kind == "Progress":
            bar.bar_format = None
            bar.total, bar.n = event.total, event.done  # type: ignore[attr-defined]
            bar.refresh()
        elif kind == "Note":
            bar.write(f"note: {event.text}", file=sys.stderr)  # type: ignore[attr-defined]

    try:
        yield emit or show
    finally:
        bar.close()
