"""What was measured of a model, remembered while the process lives."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from napari_restore.engine._device import Device, release_freed_memory
from napari_restore.engine._probe import kind_of
from napari_restore.engine._tile import is_out_of_memory
from napari_restore.errors import OutOfMemory
from napari_restore.models import RestorationModel

T = TypeVar("T")


class Remembered(Generic[T]):
    """One sort of measurement, of every model, device and circumstance once.

    Models of one kind (`kind_of`) share it.
    """

    def __init__(self, *, releases: bool = False) -> None:
        """With `releases`, what a measurement freed goes back to the system."""
        self._releases = releases
        self._own: WeakKeyDictionary[RestorationModel, dict[Hashable, T]] = WeakKeyDictionary()
        self._alike: dict[Hashable, T] = {}
        """By kind or name of a model, device and circumstances."""

    def of(
        self,
        model: RestorationModel,
        device: Device,
        measure: Callable[[], T],
        *circumstances: Hashable,
        roughly: bool = False,
    ) -> T:
        """Return what is known, or else what `measure` finds; raises `OutOfMemory` where it has no
        room.

        With `roughly`, what is known of a model of the same name will do.
        """
        own, kind = self._own.setdefault(model, {}), kind_of(model)
        key = (device.name, *circumstances)
        names: list[Hashable] = [] if kind is None else [kind, model.card.id]
        for name in names if roughly else names[:1]:
            if key not in own and (name, *key) in self._alike:
                own[key] = self._alike[name, *key]
        if key not in own:
            own[key] = _measured(measure, device)
            if self._releases:
                release_freed_memory()
            for name in names:
                self._alike[name, *key] = own[key]
        return own[key]


def _measured(measure: Callable[[], T], device: Device) -> T:
    try:
        return measure()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"There is not even room on {device.name} to try one tile.",
            "Close other programs that use it, or use --device cpu.",
        ) from error
