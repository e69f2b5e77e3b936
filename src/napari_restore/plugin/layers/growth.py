"""Levels that are still being made while they are shown."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from napari_restore.errors import Cancelled
from napari_restore.plugin.layers.display import Display
from napari_restore.plugin.tasks.main_thread import is_over
from napari_restore.plugin.tasks.notices import show_problem
from napari_restore.plugin.tasks.task import Task

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from napari_restore.images import Image

SECONDS_BETWEEN_REFRESHES = 0.25


def must_grow(image: Image) -> bool:
    """Return whether the file lacks levels, or must be decoded once from top to bottom."""
    return len(image.level_shapes) > image.stored_levels or not image.source.random_access


class Growth(Task):
    """Makes the missing levels of one image on a thread of its own."""

    # The layer's smallest level, `coarsest`, is kept in memory and filled in place: napari 0.9
    # reads it once and keeps it. `on_chunk` is called in the GUI thread, at most every 0.25 s, and
    # with True at the end. The work stops when nobody shows `coarsest` any more; what is made stays
    # in the cache.

    is_daemon = True

    def __init__(
        self,
        image: Image,
        display: Display,
        coarsest: npt.NDArray[Any],
        on_chunk: Callable[[bool], object],
    ) -> None:
        super().__init__(failure="The levels cannot be made")
        self.image = image
        self._display = display
        self._coarsest = weakref.ref(coarsest)
        self._on_chunk = on_chunk
        self._reported = 0.0

    def start(self, owner: QObject | None = None) -> Self:
        if not self.image.source.random_access:
            # From now on, before anybody draws the layer: else the window would wait.
            self.image.progressive = True
        return super().start(owner)

    def work(self) -> None:
        image = self.image
        try:
            if not image.source.random_access:
                image.prepare(progress=self._on_progress, cancelled=self._is_released)
            image.build_pyramid(on_chunk=self._on_progress, cancelled=self._is_released)
        except RuntimeError:
            # As Python ends, its pools of threads take no more work.
            if not is_over():
                raise
            raise Cancelled("The window is gone.") from None
        self._show(finished=True)

    def receive(self, item: bool) -> None:
        self._on_chunk(item)

    def finish(self) -> None:
        status, outcome = self.outcome
        if status == "failed":
            show_problem(outcome)

    def _is_released(self) -> bool:
        return self._coarsest() is None

    def _on_progress(self, *_: Any) -> None:
        if time.monotonic() - self._reported >= SECONDS_BETWEEN_REFRESHES:
            self._show()

    def _show(self, *, finished: bool = False) -> None:
        coarsest = self._coarsest()
        if coarsest is None:
            return
        image = self.image
        level = len(image.level_shapes) - 1
        if level > 0:
            # Not `read`: it would wait for the file that this thread is just decoding.
            pixels = image.read_landed((0, 0, *image.level_shapes[level]), level)
            np.copyto(coarsest, self._display.shown(pixels, image))
        self.send(finished)
        self._reported = time.monotonic()
