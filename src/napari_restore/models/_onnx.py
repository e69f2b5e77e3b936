"""An ONNX file as a module of images, computed by onnxruntime on the processor."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self, TypeVar, cast
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor, nn

from napari_restore._confined import awaited, confined, room
from napari_restore._format import format_size
from napari_restore.errors import BadModel, Cancelled, RestoreError
from napari_restore.models._onnx_graph import (
    check_operators,
    flat,
    live_per_pixel,
    taking_all,
    tensors,
    with_slopes,
)
from napari_restore.models._unfit import BAND_COUNTS, Unending
from napari_restore.models._weights import check_unpacked, first_line, sha256_of_file

SUFFIX, PACKAGE = ".onnx", ".dtmodel"
SUFFIXES = (SUFFIX, PACKAGE)
_MOST_BYTES = 1 << 31
"""Most bytes of a model in memory, by protobuf."""
_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
}
_NO_MEMORY = ("llocate memory", "bad_alloc")
"""Words of onnxruntime where an allocation fails."""
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""Key of onnxruntime."""
_OPENING = 10.0
"""Seconds in which a file is opened; one more for each of …"""
_PER_SECOND = 10 << 20
"""… bytes."""
_TRYING, _LOOPING = 120.0, 3.0
"""Seconds for each of `_TRIED` pixels or fewer, of a graph and of one with loops that no number ends."""
_TRIED = 1 << 16
_COPIES = 4
"""Bytes in memory per byte of weights, read and arranged for use."""
_MOST_TRIED = 1 << 30
"""Most bytes of the image that a graph of a single size takes."""
_SLOPE: ContextVar[float] = ContextVar("slope", default=0.0)


@contextmanager
def sloped(slope: float) -> Iterator[None]:
    """Give what saturates or rounds in ONNX models this slope beyond its ends, within ``with``."""
    token = _SLOPE.set(slope)
    try:
        yield
    finally:
        _SLOPE.reset(token)


T = TypeVar("T")


class Port(NamedTuple):
    """An input or output of an ONNX model."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


def silent_onnxruntime() -> ModuleType:
    """Import onnxruntime, which must neither write to the user's home nor send what it does."""
    # From 1.32 on it does both on Linux, where its environment does not forbid it before the
    # import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return cast("ModuleType", onnxruntime)


class OnnxFile:
    """A checked ONNX file, its digest, and its sessions by threads and slope; copies share them."""

    def __init__(self, path: Path) -> None:
        """Read and check `path`. Raises `BadModel`."""
        for package in ("onnx", "onnxruntime"):
            if find_spec(package) is None:
                raise BadModel(
                    f"{path.name} needs {package}, which is not installed.",
                    'Install it: pip install "napari-restore[onnx]".',
                )
        # A cache of a model hub has links, and the names of weights are those beside the link.
        self.path, self.name = path.absolute(), path.name
        self._packed = _packed_in(path) if path.suffix.lower() == PACKAGE else None
        """The model in a package, which has no other files."""
        self._bytes = path.stat().st_size if self._packed is None else len(self._packed)
        with self._reading(), confined(_COPIES * self._bytes):
            given = self._load()
            if not given.graph.input or not given.graph.output:
                raise BadModel(f"{self.name} is no ONNX model.", "Export it again.")
            self._loops = check_operators(given, self.name)
            outside = self._outside(given)
        self._bytes += sum(file.stat().st_size for file in outside.values())
        with self._reading(), confined(_COPIES * self._bytes):
            self._graph = flat(given)
        self.sha256 = self._digest([*outside.values()])
        here = self.path.parent.resolve()
        is_linked = any(not file.is_relative_to(here) for file in outside.values())
        self._linked = outside if is_linked else {}
        """Its files of weights by the names in the graph, where some lie elsewhere."""
        self._maps = [_mapped(file) for file in self._linked.values()]
        self.metadata = {each.key: each.value for each in self._graph.metadata_props}
        self._sessions: dict[tuple[int, float], Any] = {}
        self._lock = threading.Lock()
        self._per_pixel: float | None = None
        session = self.session()
        with self._reading():
            self.inputs, self.outputs = (
                [Port(each.name, each.type, tuple(each.shape)) for each in ports]
                for ports in (session.get_inputs(), session.get_outputs())
            )

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def session(self) -> Any:
        """Return the session for the threads of this thread, and the slope that is asked."""
        key = torch.get_num_threads(), _SLOPE.get()
        with self._lock:
            if key not in self._sessions:
                # Tiles have one thread, one pass over the image all of them.
                for other in [k for k in self._sessions if k[1] == key[1] and k[0] != 1]:
                    del self._sessions[other]
                self._sessions[key] = self._made(*key)
            return self._sessions[key]

    def live_bytes(self, pixels: int, bands: int) -> int:
        """Return the bytes of tensors that are alive at the same time for so many pixels."""
        with self._lock:
            if self._per_pixel is None:
                self._per_pixel = live_per_pixel(self._graph, bands)
            return int(self._per_pixel * pixels)

    def taking_all(self) -> str:
        """Return the first operator that takes all pixels together, for a sentence; may be empty."""
        return taking_all(self._graph)

    def _made(self, threads: int, slope: float) -> Any:
        onnxruntime = silent_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Memory goes back after each tile: a run has a budget.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source: str | bytes = self._packed or str(self.path)
        if slope:
            source = with_slopes(self._load(), slope)
        if self._linked:
            # onnxruntime follows no link out of the folder.
            source = source if slope else self.path.read_bytes()
            sizes = [each.size for each in self._maps]
            names = [*self._linked]
            options.add_external_initializers_from_files_in_memory(names, self._maps, sizes)
        elif slope:
            # A model in memory does not know where its weights lie.
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(self.path.parent))

        def made() -> Any:
            return onnxruntime.InferenceSession(
                source,
                sess_options=options,
                providers=["CPUExecutionProvider"],
                # It would print the error and try the same again.
                enable_fallback=False,
            )

        seconds = _OPENING + self._bytes / _PER_SECOND
        with self._reading():
            return self._awaited(made, seconds, lambda: options.set_load_cancellation_flag(True))

    def run(self, given: dict[str, Any], pixels: int) -> list[Any]:
        """Return the outputs for images of so many `pixels`; raises `MemoryError`, `Unending`, `RuntimeError`."""
        options = silent_onnxruntime().RunOptions()
        seconds = (_LOOPING if self._loops else _TRYING) * max(1, pixels / _TRIED)

        def stop() -> None:
            options.terminate = True

        try:
            session = self.session()
            return self._awaited(lambda: session.run(None, given, options), seconds, stop)
        except (MemoryError, Unending, Cancelled):
            raise
        except Exception as error:  # onnxruntime has exceptions of its own
            raise RuntimeError(first_line(error)) from error

    def _awaited(self, work: Callable[[], T], seconds: float, stop: Callable[[], None]) -> T:
        def within_limits() -> T:
            with confined(_COPIES * self._bytes):
                return work()

        try:
            return awaited(within_limits, seconds, stop)
        except TimeoutError:
            raise Unending(
                f"{self.name} does not come to an end: it was stopped after {seconds:.0f} s.",
                "Export it without loops, or with fewer rounds of them.",
            ) from None
        except Exception as error:
            if isinstance(error, MemoryError) or any(w in str(error) for w in _NO_MEMORY):
                raise MemoryError(f"more than {format_size(room())}") from error
            raise

    def _load(self) -> Any:
        import onnx

        if self._packed is not None:
            return onnx.load_model_from_string(self._packed)
        return onnx.load(self.path, load_external_data=False)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RestoreError):
            raise
        except Exception as error:  # protobuf, onnx and onnxruntime have exceptions of their own
            raise BadModel(
                f"{self.name} is no readable ONNX model: {first_line(error)}.", "Export it again."
            ) from error

    def _outside(self, given: Any) -> dict[str, Path]:
        """Return the files that hold its weights, by their names in the graph; raises `BadModel`."""
        # All must be in its folder or below, or links to where the model file is a link to.
        from onnx import TensorProto

        names = {
            entry.value
            for tensor in tensors(given)
            if tensor.data_location == TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
        folder, found = self.path.parent, dict[str, Path]()
        # Links lead to where that of the file leads, at most.
        allowed = folder.resolve(), self.path.resolve().parent
        for name in sorted(names, key=str):
            if not isinstance(name, str):
                raise ValueError("the name of a file in it is no UTF-8")
            inside = not Path(name).is_absolute() and not {"..", "\0"} & {*Path(name).parts, *name}
            file = (folder / name).resolve() if inside else folder
            if not inside or not any(file.is_relative_to(each) for each in allowed):
                raise BadModel(
                    f"{self.name} names weights outside its folder: {name}.",
                    "Save them beside it, or within it.",
                )
            if not file.is_file():
                raise BadModel(
                    f"{self.name} lacks its weights {name}.", "Copy that file beside it."
                )
            found[name] = file
        return found

    def _digest(self, files: list[Path]) -> str:
        digest = hashlib.sha256(self._packed or self.path.read_bytes())
        for file in files:
            digest.update(bytes.fromhex(sha256_of_file(file)))
        return digest.hexdigest()


class OnnxNetwork(nn.Module):
    """(N, C, H, W) float32 → the outputs of an ONNX file: a tensor, or a tuple of several.

    A second input is given what the card calls a noise level. There are no gradients.
    """

    def __init__(self, file: OnnxFile, output: int | str = 0, *, takes_level: bool = False) -> None:
        """Take `file`, and of several outputs the one of the name `output`. Raises `BadModel`."""
        super().__init__()
        self.file = file
        self.chosen = self._place_of(output)
        self._check_inputs(takes_level)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Count, bands, height and width that the file takes; None where they are open."""
        return tuple(n if isinstance(n, int) else None for n in self.file.inputs[0].shape)

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        """Return the outputs; raises `BadModel` where a gradient is asked."""
        if x.requires_grad and torch.is_grad_enabled():
            raise BadModel(
                f"{self.file.name} has no gradients: onnxruntime computes results only.",
                "Load the network that it was exported from, FILE.py:factory or a .pt2 program.",
            )
        given = {}
        for entry, value in zip(self.file.inputs, (x, *others), strict=False):
            if value is not x:
                value = _level(value, entry.shape, x)
            kind = _TYPES[entry.type]
            given[entry.name] = value.detach().to("cpu", kind).contiguous().numpy()
        # Counted while it runs: what onnxruntime allocates is seen by nobody else.
        held = torch.empty(
            self.file.live_bytes(x.shape[0] * x.shape[2] * x.shape[3], x.shape[1]),
            dtype=torch.uint8,
            device="meta",
        )
        made = self.file.run(given, x.shape[0] * x.shape[2] * x.shape[3])
        del held
        outputs = [_as_tensor(each, x) for each in made]
        if self.chosen is not None:
            return outputs[self.chosen]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _place_of(self, output: int | str) -> int | None:
        if isinstance(output, int):
            return None
        names = [each.name for each in self.file.outputs]
        if output not in names:
            raise BadModel(
                f"{self.file.name} has no output {output!r}; it has {', '.join(names)}.",
                "Correct the field output of the card.",
            )
        return names.index(output)

    def _check_inputs(self, takes_level: bool) -> None:
        name, inputs = self.file.name, self.file.inputs
        names = ", ".join(each.name for each in inputs)
        made_by = self.file.metadata.get("napari_restore.model")
        if made_by and len(inputs) > 1:
            raise BadModel(
                f"{name} is {made_by} with its context as inputs ({names}).",
                f"Take {made_by} itself: it computes them.",
            )
        if len(inputs) != 1 + takes_level:
            level = "noise_level=25 and noise_as=argument"
            hint = f"If {inputs[-1].name} is a noise level, say so on a card: {level}."
            raise BadModel(
                f"{name} takes {len(inputs)} inputs: {names}.",
                hint if len(inputs) == 2 else "Export it with the image as its only input.",
            )
        for each in inputs:
            if each.type not in _TYPES:
                raise BadModel(
                    f"{name} takes {each.type} as {each.name}, not floats.",
                    "Export it for images (N, C, H, W) of float32.",
                )
        shape = inputs[0].shape
        if len(shape) != 4:
            raise BadModel(
                f"{name} does not take images (N, C, H, W), but {shape}.", "Export it again."
            )
        for each in inputs:
            sizes = [n for n in each.shape if isinstance(n, int)]
            if 4 * math.prod(sizes) > _MOST_TRIED:
                raise BadModel(
                    f"{name} takes {' × '.join(map(str, each.shape))} values as {each.name}, which is "
                    "too large to be tried.",
                    "Export it with free height and width.",
                )
        if shape[3] in BAND_COUNTS and shape[1] not in BAND_COUNTS:
            raise BadModel(
                f"{name} takes images with bands last, {shape}.", "Export it for (N, C, H, W)."
            )


def _mapped(file: Path) -> Any:
    """Return the bytes of a file, which stay on disk; none can be mapped of an empty one."""
    size = file.stat().st_size
    return np.memmap(file, np.uint8, "r") if size else np.empty(0, np.uint8)


def network_in(module: nn.Module) -> OnnxNetwork | None:
    """Return the ONNX network in `module`; None where there is none."""
    return next((each for each in module.modules() if isinstance(each, OnnxNetwork)), None)


def _level(value: Tensor, shape: tuple[int | str | None, ...], x: Tensor) -> Tensor:
    """Return levels (N, 1, 1, 1) of the images `x` as an input of `shape`: a number, a list, or maps."""
    if not shape:
        return value.flatten()[0]
    value = value.reshape((-1,) + (1,) * (len(shape) - 1))
    if len(shape) != 4:
        return value
    sides = [1 if side == 1 else now for side, now in zip(shape[2:], x.shape[2:], strict=True)]
    return value.expand(-1, -1, *sides)


def _as_tensor(values: Any, like: Tensor) -> Tensor:
    tensor = torch.from_numpy(np.asarray(values))
    return tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)


def _packed_in(path: Path) -> bytes:
    """Return the only ONNX model in a package of darktable, a zip. Raises `BadModel`."""
    check_unpacked(path)
    try:
        with ZipFile(path) as package:
            models = [each for each in package.infolist() if each.filename.endswith(SUFFIX)]
            if len(models) == 1 and models[0].file_size <= _MOST_BYTES:
                return package.read(models[0])
    except (OSError, BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise BadModel(f"{path.name} is no package ({error}).", "Download it again.") from error
    raise BadModel(
        f"{path.name} does not have one {SUFFIX} file of at most 2 GB.",
        f"Unpack it, and give one of its {SUFFIX} files.",
    )
