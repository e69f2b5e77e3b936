"""Python's garbage collector, which looks at every object of every library again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Collect no garbage inside the block.

    For imports that leave hundreds of thousands of objects: every collection looks at all of them,
    a tenth of the time that importing torch takes. Outside, the collector is as it was.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


SELDOM = 100_000
"""Objects after which garbage is collected, while a command starts."""
_usual: tuple[int, int, int] | None = None


def collect_seldom() -> None:
    """Collect hardly any garbage in this process until `collect_as_usual`.

    For the start of a program that ends soon: it was a fifth of the time of a small photo.
    """
    global _usual
    _usual = gc.get_threshold()
    gc.set_threshold(SELDOM, *_usual[1:])


def collect_as_usual() -> None:
    """Collect garbage as Python does, but never what exists by now: libraries and a model.

    To be called before long work, whose garbage may be large. Nothing where `collect_seldom` was not
    called.
    """
    global _usual
    if _usual is not None:
        gc.freeze()
        gc.set_threshold(*_usual)
        _usual = None
