"""Python's garbage collector during large imports."""

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
