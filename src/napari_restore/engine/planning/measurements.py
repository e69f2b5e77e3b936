"""Measurements of models, kept in the process and on disk: what one has measured, the next one reads."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import threading
import time
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from napari_restore._heap import release_freed_memory
from napari_restore._json_shapes import read_json
from napari_restore._replacing import replacing
from napari_restore.engine.machine.device import Device, cores
from napari_restore.engine.machine.threads import on_new_thread
from napari_restore.errors import option
from napari_restore.images import cache_dir

if TYPE_CHECKING:
    from napari_restore.models import RestorationModel

FOLDER = "measurements"
LONGEST = 30 * 24 * 3600.0
"""Seconds after which a measurement is made again."""


def measurement_file(
    name: str, model: RestorationModel | None, device: Device, circumstances: Hashable
) -> Path:
    """Return the file of a measurement of `model`, or of `circumstances` alone, on this machine."""
    # Its name is a hash of what determines kernels, memory and speed: the layers of the model, the
    # processor, the libraries and this program. What a network computes by is among the
    # circumstances.
    import torch

    instructions = os.environ.get("ONEDNN_MAX_CPU_ISA", ""), os.environ.get("DNNL_MAX_CPU_ISA", "")
    kernels = [torch.__version__, torch.backends.cpu.get_cpu_capability(), *instructions]
    machine = [_processor(), device.name, device.reason if device.is_cuda else "", cores()]
    layers: list[Any] = []
    if model is not None:
        card = model.card
        layers = [card.id, card.weights_sha256, dict(card.values), card.multiple_of, repr(model)]
    about = [version("napari-restore"), name, kernels, machine, layers, circumstances]
    text = json.dumps(about, default=str)
    return cache_dir() / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def read_measurement(file: Path, kind: Any) -> Any:
    """Return the value of type `kind` in `file`; None if there is none, or an old one."""
    try:
        if time.time() - file.stat().st_mtime > LONGEST:
            return None
        content = read_json(file)
        is_whole = content["sha256"] == _seal(file, content)
        return _value_of(content["value"], kind) if is_whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def write_measurement(file: Path, name: str, value: Any) -> None:
    """Write the `value` of a model of this name. Where it cannot be written it is measured again."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        with replacing(file) as part:
            content = value if isinstance(value, str | dict) else dataclasses.asdict(value)
            written = {"model": name, "value": content}
            part.write_text(json.dumps({**written, "sha256": _seal(file, written)}), "utf-8")


def _seal(file: Path, content: Mapping[str, Any]) -> str:
    """Return the digest of a measurement and its place: it decides pixels, and a bit of it may turn."""
    return hashlib.sha256(f"{file.stem} {json.dumps(content['value'])}".encode()).hexdigest()


def kept(
    file: Path, name: str, kind: Any, measure: Callable[[], Any], holds: Callable[[Any], bool]
) -> Any:
    """Return the value in `file` if it still `holds`, else measure and write it."""
    # A file says what decides pixels only together with the network: what code does that is
    # installed, or that computes its imports, no digest knows.
    value = read_measurement(file, kind)
    if value is None or not holds(value):
        value = measure()
        write_measurement(file, name, value)
    return value


def kept_sizes(
    digest: str, name: str, measure: Callable[[], Any], holds: Callable[[Any], bool]
) -> dict[str, int | str]:
    """Return the sizes that a module of this `digest` takes, as `models.keep_sizes` asks for them."""
    file = measurement_file("sizes", None, Device("cpu", ""), digest)
    sizes: dict[str, int | str] = kept(file, name, dict, measure, holds)
    return sizes


def _value_of(content: Any, kind: Any) -> Any:
    """Return the value of type `kind` that was written as `content`; raises `ValueError`."""
    # By hand: importing pydantic takes a tenth of the time in which a small photo is restored.
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        # Defaults stand for what was not measured.
        if content.keys() != hints.keys():
            raise ValueError(f"not all of {', '.join(hints)}, and nothing else")
        return typing.cast("Any", kind)(
            **{name: _value_of(each, hints[name]) for name, each in content.items()}
        )
    if arguments := typing.get_args(kind):
        of_key, of_value = arguments
        return {of_key(key): _value_of(each, of_value) for key, each in content.items()}
    if kind in (str, bool) and not isinstance(content, kind):
        raise ValueError(f"{content!r} is no {kind.__name__}")
    if kind in (int, float):
        number = int if kind is int else int | float
        if isinstance(content, bool) or not isinstance(content, number) or content < 0:
            raise ValueError(f"{content!r} is no number that is measured")
    return kind(content)


@functools.cache
def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            named = [line for line in lines if line.startswith(("model name", "flags"))]
    except OSError:
        import platform

        return platform.processor()
    return "".join(sorted(set(named)))


_spent = [0.0]
_under_way: list[str] = []
"""Titles of the models that are being tried."""


@contextlib.contextmanager
def measuring(model: RestorationModel, device: Device) -> Iterator[None]:
    """Call `model` on `device` in the block, and leave it as it was; see `seconds_measuring`."""
    from napari_restore.models import undisturbed

    began = time.perf_counter()
    try:
        model.to(device.torch)
        with undisturbed(model.weighted), trying(model):
            yield
    finally:
        _spent[0] += time.perf_counter() - began


def seconds_measuring() -> float:
    """Return the seconds that this process has measured models, which a later one need not."""
    return _spent[0]


@contextlib.contextmanager
def trying(model: RestorationModel) -> Iterator[None]:
    """Let `tried_now` report `model` in the block."""
    _under_way.append(model.card.title)
    try:
        yield
    finally:
        _under_way.remove(model.card.title)


def tried_now() -> str:
    """Return the title of a model that this process tries and measures at the moment; "" for none."""
    return next(iter(_under_way), "")


T = TypeVar("T")
_OWN: WeakKeyDictionary[RestorationModel, str] = WeakKeyDictionary()


def kind_of(model: RestorationModel) -> tuple[Any, ...] | None:
    """Return a key shared by models that differ in numbers only; None if there is no such key."""
    spec, card = model.spec, model.card
    if not spec or ".py:" in str(spec.get("model", "")):
        return None
    # Whole numbers are sizes and counts, which change a model's reach and cost; so do side maps.
    sizes = tuple((n, v) for n, v in sorted(card.values.items()) if not isinstance(v, float))
    shape = (card.halo, card.bands, card.inputs, card.multiple_of, card.maps)
    return card.id, card.weights_sha256, shape, sizes


def _kind(model: RestorationModel) -> Hashable:
    """Return what models share their costs by; of a user's code, what it computes by when first asked."""
    from napari_restore.models import content_of

    kind = kind_of(model)
    if kind is None and model not in _OWN:
        _OWN[model] = content_of(model)
    return _OWN[model] if kind is None else kind


class MeasurementCache(Generic[T]):
    """Cache of one measurement, by model, device and circumstances, which models of one `kind_of` share."""

    def __init__(self, kind: type[T], *, timed: bool = False, releases: bool = False) -> None:
        """Create an empty cache of values of the dataclass `kind`; `releases` returns freed memory to the system."""
        # Those that are `timed` are measured on a thread of their own, which may set torch's number
        # of threads; they are not kept on disk where others used the processor.
        self._kind, self._timed, self._releases = kind, timed, releases
        self._known: dict[Hashable, T] = {}
        """By kind or name of a model, device and circumstances."""
        self._measuring = threading.RLock()

    def of(
        self,
        model: RestorationModel,
        device: Device,
        measure: Callable[[], T],
        *circumstances: Hashable,
        roughly: bool = False,
    ) -> T:
        """Return the value of this model, or `roughly` of one of its name, or call `measure`; raises `OutOfMemory`."""
        kind, key = _kind(model), (device.name, *circumstances)
        # Own networks of one name may have nothing else in common.
        name = kind if model in _OWN else model.card.id
        if (kind, *key) not in self._known:
            # One after another: beside each other they would time each other, and what one has
            # measured the next need not. A crash in torch was seen while three measured for the first time.
            with self._measuring:
                if roughly and (name, *key) in self._known:
                    self._known.setdefault((kind, *key), self._known[name, *key])
                if (kind, *key) not in self._known:
                    found = self._read_or_measured(model, device, measure, (kind, circumstances))
                    self._known[kind, *key] = self._known[name, *key] = found
        return self._known[kind, *key]

    def _read_or_measured(
        self,
        model: RestorationModel,
        device: Device,
        measure: Callable[[], T],
        circumstances: Hashable,
    ) -> T:
        file = measurement_file(self._kind.__name__, model, device, circumstances)
        value: T | None = read_measurement(file, self._kind)
        if value is None:
            value, alone = self._measured(model, device, measure)
            if alone or not self._timed:
                write_measurement(file, model.card.id, value)
        return value

    def _measured(
        self, model: RestorationModel, device: Device, measure: Callable[[], T]
    ) -> tuple[T, bool]:
        """Return the value, and whether the process had its processor for itself."""
        from napari_restore.engine.machine.failures import out_of_memory_as

        no_room = f"There is not enough memory on {device.name} to try one tile."
        hint = f"Close other programs that use it, or use {option('device', 'cpu')}."
        began, used = time.perf_counter(), time.process_time()
        with out_of_memory_as(no_room, hint), measuring(model, device):
            value = on_new_thread(measure, "calibrate") if self._timed else measure()
        seconds, used = time.perf_counter() - began, time.process_time() - used
        if self._releases:
            release_freed_memory()
        return value, device.is_accelerator or used > ALONE * seconds


ALONE = 0.8
"""Seconds of processor time per second from which on no other program took part of a processor."""
