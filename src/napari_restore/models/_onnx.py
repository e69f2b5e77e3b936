"""An ONNX file as a module of images, computed by onnxruntime on the processor."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
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
from napari_restore.models._unfit import BAND_COUNTS, Unending
from napari_restore.models._weights import check_unpacked, first_line

SUFFIX, PACKAGE = ".onnx", ".dtmodel"
SUFFIXES = (SUFFIX, PACKAGE)
_MOST_BYTES = 1 << 31
"""Most bytes of a model in memory, by protobuf."""
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Sets of operators that onnxruntime has itself; others would be libraries of code."""
_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
}
_SATURATING = frozenset(
    "Relu Clip HardSigmoid HardSwish Shrink Sign ThresholdedRelu Round Floor Ceil".split()
)
_LIMITING = {"Max": "Min", "Min": "Max"}
"""What takes one of several, of which one may be a limit, and what takes another one."""
_GLOBAL = frozenset(
    "GlobalAveragePool GlobalMaxPool GlobalLpPool InstanceNormalization GroupNormalization "
    "LpNormalization MeanVarianceNormalization DFT LSTM GRU RNN TopK".split()
)
"""Operators that make a value of all pixels, or of one that may lie anywhere."""
_NO_MEMORY = ("llocate memory", "bad_alloc")
"""Words of onnxruntime where an allocation fails."""
_DEEPEST = 100
"""Most functions within each other."""
_TENSOR = "onnx.TensorProto"
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""Key of onnxruntime."""
_SPATIAL = frozenset({2, 3, -1, -2})
_WORKSPACE = 1.25
"""Bytes that onnxruntime takes per byte of live tensors, for reordered copies of them …"""
_FEWEST_CHANNELS = 8
"""… which have at least so many channels."""
_MOST_STEPS = 1 << 20
"""Most nodes of a graph with its functions put in their place, and most rounds of a loop."""
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
    """Import onnxruntime, which must neither write to the user's home nor send what it does.

    From 1.32 on it does both on Linux, where its environment does not forbid it before the import.
    """
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
            self._loops = self._check_operators(given)
            outside = self._outside(given)
        self._bytes += sum(file.stat().st_size for file in outside.values())
        with self._reading(), confined(_COPIES * self._bytes):
            self._graph = _flat(given)
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
                self._per_pixel = _WORKSPACE * _live_per_pixel(self._graph, bands)
            return int(self._per_pixel * pixels)

    def taking_all(self) -> str:
        """Return the first operator that takes all pixels together, for a sentence; may be empty."""
        graph = self._graph.graph
        constants = _constants(graph)
        computed = {name for node in graph.node for name in node.output} - set(constants)
        for node in graph.node:
            is_reduction = node.op_type.startswith("Reduce") or node.op_type in ("ArgMax", "ArgMin")
            if node.op_type in _GLOBAL or (is_reduction and _over_space(node, constants)):
                return str(node.op_type)
        for node in graph.node:
            if node.op_type == "MatMul" and computed.issuperset(node.input):
                return "MatMul of two maps"
        return ""

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
            source = _with_slopes(self._load(), slope)
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
        """Return the outputs for the inputs `given`, images of so many `pixels` together.

        Raises `MemoryError` for what does not fit, `Unending`, and `RuntimeError`.
        """
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

    def _check_operators(self, given: Any) -> bool:
        """Return whether there are loops that no number ends. Raises `BadModel`."""
        bodies = {(f.domain, f.name, f.overload): [*_nodes(f)] for f in given.functions}
        domains = _DOMAINS | {domain for domain, _, _ in bodies}
        main = [*_nodes(given.graph)]
        nodes = [*main, *(node for body in bodies.values() for node in body)]
        loops, needless = False, "Export it without loops, or with fewer rounds of them."
        ends = _numbers(given, nodes) if any(each.op_type == "Loop" for each in nodes) else {}
        for node in nodes:
            if node.domain not in domains:
                raise BadModel(
                    f"{self.name} has the operator {node.domain}.{node.op_type}, which needs a library "
                    "of code.",
                    "Export it with the operators of ONNX alone.",
                )
            if node.op_type == "Loop":
                rounds = ends.get(node.input[0] if node.input else "")
                loops = loops or rounds is None
                if rounds is not None and rounds > _MOST_STEPS:
                    raise BadModel(f"{self.name} has a loop of {rounds} rounds.", needless)
        if bodies and _steps_in(main, bodies, {}) > _MOST_STEPS:
            raise BadModel(
                f"{self.name} has functions that call each other too often, or without end.",
                "Export it without functions.",
            )
        return loops

    def _outside(self, given: Any) -> dict[str, Path]:
        """Return the files that hold its weights, by their names in the graph. Raises `BadModel`.

        All are in its folder or below, or links to where the model file is a link to.
        """
        from onnx import TensorProto

        names = {
            entry.value
            for tensor in _tensors(given)
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
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
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

    @property
    def fixed(self) -> tuple[int, int, int, int] | None:
        """Count, bands, height and width of the images of a file of one size; None for others."""
        count, *sizes = self.shape
        bands, height, width = sizes
        if bands is None or height is None or width is None:
            return None
        return count or 1, bands, height, width

    @property
    def band_counts(self) -> tuple[int, ...]:
        """The number of bands it takes; the usual ones where that is open."""
        bands = self.shape[1]
        return BAND_COUNTS if bands is None else (bands,)

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
        if made_by := self.file.metadata.get("napari_restore.model"):
            if len(inputs) > 1:
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


def _flat(model: Any) -> Any:
    """Return a model with the functions that it defines put in their place."""
    if not model.functions:
        return model
    from onnx.inliner import inline_local_functions

    return inline_local_functions(model)


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield all nodes of a graph, also those of branches and loops."""
    for node in graph.node:
        yield node
        for inner in _inner(node):
            yield from _nodes(inner)


def _inner(node: Any) -> Iterator[Any]:
    """Yield the branches of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(message: Any) -> Iterator[Any]:
    """Yield all tensors within a message of any type, whatever field they are in."""
    if message.DESCRIPTOR.full_name == _TENSOR:
        yield message
        return
    for name in _holding(message.DESCRIPTOR):
        found = getattr(message, name)
        for each in (found,) if hasattr(found, "DESCRIPTOR") else found:
            yield from _tensors(each)


@cache
def _holding(kind: Any) -> tuple[str, ...]:
    """Return the fields of a type of messages that tensors may be in."""
    return tuple(
        field.name
        for field in kind.fields
        if field.message_type is not None and _leads_to_tensor(field.message_type, frozenset())
    )


def _leads_to_tensor(kind: Any, above: frozenset[str]) -> bool:
    if kind.full_name == _TENSOR:
        return True
    inner = (field.message_type for field in kind.fields if field.message_type is not None)
    deeper = above | {kind.full_name}
    return any(_leads_to_tensor(each, deeper) for each in inner if each.full_name not in deeper)


def _numbers(model: Any, nodes: list[Any]) -> dict[str, int]:
    """Return the single whole numbers that are constant, by name; of several of one name the largest."""
    from onnx import TensorProto
    from onnx.numpy_helper import to_array

    found = dict[str, int]()
    graphs = [model.graph, *(inner for node in nodes for inner in _inner(node))]
    named = [(each.name, each) for graph in graphs for each in graph.initializer]
    for node in nodes:
        if node.op_type == "Constant" and node.output:
            named += [(node.output[0], each.t) for each in node.attribute if each.name == "value"]
            for number in (each.i for each in node.attribute if each.name == "value_int"):
                found[node.output[0]] = max(found.get(node.output[0], 0), number)
    for name, tensor in named:
        is_here = tensor.data_location != TensorProto.EXTERNAL
        if is_here and tensor.data_type == TensorProto.INT64 and math.prod(tensor.dims) == 1:
            # Bytes that are none are found by who reads all.
            with suppress(ValueError, IndexError):
                found[name] = max(found.get(name, 0), int(to_array(tensor).flatten()[0]))
    return found


def _steps_in(nodes: list[Any], bodies: dict[Any, list[Any]], known: dict[Any, float]) -> float:
    """Return the nodes of a graph with functions in their places; infinite where they do not end."""
    total = 0.0
    for node in nodes:
        key = node.domain, node.op_type, node.overload
        if key in bodies and key not in known:
            # Of those that are not finished, deep ones or one within itself, the end is not known.
            known[key] = math.inf
            is_deep = sum(each == math.inf for each in known.values()) > _DEEPEST
            known[key] = math.inf if is_deep else _steps_in(bodies[key], bodies, known)
        total += known.get(key, 1)
    return total


def _constants(graph: Any) -> dict[str, Any]:
    """Return the tensors of a graph that do not follow from its input, by name."""
    found = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = next((a.t for a in node.attribute if a.name == "value"), None)
    return found


def _over_space(node: Any, constants: dict[str, Any]) -> bool:
    """Return whether a reduction is over rows or columns."""
    from onnx.numpy_helper import to_array

    for attribute in node.attribute:
        if attribute.name == "axes":
            return not _SPATIAL.isdisjoint(attribute.ints)
        if attribute.name == "axis":
            return attribute.i in _SPATIAL
    if len(node.input) < 2:
        return True
    axes = constants.get(node.input[1])
    return axes is None or not _SPATIAL.isdisjoint(to_array(axes).flatten().tolist())


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


def _with_slopes(model: Any, slope: float) -> bytes:
    """Return the model with y + slope · (x − y) for what saturates, y, of floats x.

    Weights in other files stay there: in memory a model has 2 GB at most.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(_flat(model))
    graph, constants = model.graph, set(_constants(model.graph))
    kinds = {
        each.name: each.type.tensor_type.elem_type
        for each in (*graph.value_info, *graph.input, *graph.output)
    }
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    nodes = []
    for node in graph.node:
        nodes.append(node)
        kind = kinds.get(node.output[0], 0) if node.output else 0
        varying = [name for name in node.input if name not in constants]
        if node.input and not varying:
            constants.update(node.output)
        other = _LIMITING.get(node.op_type, "")
        is_limit = bool(other and varying) and len(node.input) > 1
        if not (node.op_type in _SATURATING or is_limit) or kind not in floats:
            continue
        x, y = varying[0] if is_limit else node.input[0], node.output[0]
        raw, more, less, factor = (f"{y}/{part}" for part in ("raw", "more", "less", "slope"))
        if len(varying) > 1:
            x = f"{y}/other"
            nodes.append(onnx.helper.make_node(other, list(node.input), [x]))
        node.output[0] = raw
        graph.initializer.append(onnx.helper.make_tensor(factor, kind, (), [slope]))
        nodes += [
            onnx.helper.make_node("Sub", [x, raw], [more]),
            onnx.helper.make_node("Mul", [more, factor], [less]),
            onnx.helper.make_node("Add", [raw, less], [y]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    made: bytes = model.SerializeToString()
    return made


_TRIAL_SIDE = 256


def _live_per_pixel(model: Any, bands: int) -> float:
    """Return the most bytes of tensors alive at once, per pixel, in the order of the nodes."""
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    dims = graph.input[0].type.tensor_type.shape.dim
    sizes = (1, bands, _TRIAL_SIDE, _TRIAL_SIDE)
    sides = [dim.dim_value or size for dim, size in zip(dims, sizes, strict=False)]
    for dim, size in zip(dims, sides, strict=False):
        dim.dim_value = size
    # Its names of sizes would stand against the numbers.
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(copied, data_prop=True).graph
    except Exception:  # of a model that onnxruntime reads more kindly
        graph = copied.graph
    size_of = {
        each.name: _bytes_of(each.type.tensor_type) for each in (*graph.value_info, *graph.output)
    }
    image = float(np.prod(sides)) * 4
    # Of unknown shape are most often maps.
    unknown = max([*(size for size in size_of.values() if size), image])
    last = {name: n for n, node in enumerate(graph.node) for name in node.input}
    constants = set(_constants(graph))
    alive, most, held = image, image, {graph.input[0].name: image}
    for n, node in enumerate(graph.node):
        for name in node.output:
            if name and name not in constants:
                held[name] = float(size_of.get(name) or unknown)
                alive += held[name]
        most = max(most, alive)
        for name in {*node.input, *node.output}:
            if last.get(name, n) <= n and name in held:
                alive -= held.pop(name)
    return most / (sides[0] * sides[2] * sides[3])


def _bytes_of(kind: Any) -> int:
    """Return the bytes of a tensor; 0 where its shape is open."""
    if not kind.HasField("shape"):
        return 0
    sizes = [dim.dim_value for dim in kind.shape.dim]
    if not all(sizes):
        return 0
    if len(sizes) == 4:
        sizes[1] = max(sizes[1], _FEWEST_CHANNELS)
    # Nearly all are float32; the others are small.
    return 4 * int(np.prod(sizes)) if sizes else 4
