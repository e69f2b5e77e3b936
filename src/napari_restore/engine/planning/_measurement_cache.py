"""Cache of measurements of models, for the lifetime of the process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from napari_restore.engine.memory._device import Device
from napari_restore.engine.memory._heap import release_freed_memory
from napari_restore.engine.planning._probe import kind_of
from napari_restore.engine.running._tile import is_out_of_memory
from napari_restore.errors import OutOfMemory, option
from napari_restore.models import RestorationModel

T = TypeVar("T")


class MeasurementCache(Generic[T]):
    """Cache of one measurement, by model, device and circumstances.

    Models of one kind (`kind_of`) share it.
    """

    def __init__(self, *, releases: bool = False) -> None:
        """Create an empty cache; with `releases`, freed memory is returned to the system."""
        self._releases = releases
        self._by_model: WeakKeyDictionary[RestorationModel, dict[Hashable, T]] = WeakKeyDictionary()
        self._by_kind: dict[Hashable, T] = {}
        """By kind or name of a model, device and circumstances."""

    def of(
        self,
        model: RestorationModel,
        device: Device,
        measure: Callable[[], T],
        *circumstances: Hashable,
        roughly: bool = False,
    ) -> T:
        """Return the cached value, or call `measure`; raise `OutOfMemory` where it does not fit.

        With `roughly`, a value of a model of the same name will do.
        """
        measured, kind = self._by_model.setdefault(model, {}), kind_of(model)
        key = (device.name, *circumstances)
        names: list[Hashable] = [] if kind is None else [kind, model.card.id]
        for name in names if roughly else names[:1]:
            if key not in measured and (name, *key) in self._by_kind:
                measured[key] = self._by_kind[name, *key]
        if key not in measured:
            measured[key] = _measured(measure, device)
            if self._releases:
                release_freed_memory()
            for name in names:
                self._by_kind[name, *key] = measured[key]
        return measured[key]


def _measured(measure: Callable[[], T], device: Device) -> T:
    try:
        return measure()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"There is not enough memory on {device.name} to try one tile.",
            f"Close other programs that use it, or use {option('device', 'cpu')}.",
        ) from error
