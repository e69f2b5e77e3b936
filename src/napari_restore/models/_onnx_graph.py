"""What the graph of an ONNX file says before it is computed: its steps, its weights, its memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from napari_restore.errors import BadModel

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Sets of operators that onnxruntime has itself; others would be libraries of code."""
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
_DEEPEST = 100
"""Most functions within each other."""
_SPATIAL = frozenset({2, 3, -1, -2})
_WORKSPACE = 1.25
"""Bytes that onnxruntime takes per byte of live tensors, for reordered copies of them …"""
_FEWEST_CHANNELS = 8
"""… which have at least so many channels."""
_MOST_STEPS = 1 << 20
"""Most nodes of a graph with its functions put in their place, and most rounds of a loop."""
_TRIAL_SIDE = 256


def check_operators(given: Any, name: str) -> bool:
    """Return whether the model `name` has loops that no number ends. Raises `BadModel`."""
    bodies = {(f.domain, f.name, f.overload): [*_nodes(f)] for f in given.functions}
    domains = _DOMAINS | {domain for domain, _, _ in bodies}
    main = [*_nodes(given.graph)]
    nodes = [*main, *(node for body in bodies.values() for node in body)]
    loops, needless = False, "Export it without loops, or with fewer rounds of them."
    ends = _numbers(given, nodes) if any(each.op_type == "Loop" for each in nodes) else {}
    for node in nodes:
        if node.domain not in domains:
            raise BadModel(
                f"{name} has the operator {node.domain}.{node.op_type}, which needs a library "
                "of code.",
                "Export it with the operators of ONNX alone.",
            )
        if node.op_type == "Loop":
            rounds = ends.get(node.input[0] if node.input else "")
            loops = loops or rounds is None
            if rounds is not None and rounds > _MOST_STEPS:
                raise BadModel(f"{name} has a loop of {rounds} rounds.", needless)
    if bodies and _steps_in(main, bodies, {}) > _MOST_STEPS:
        raise BadModel(
            f"{name} has functions that call each other too often, or without end.",
            "Export it without functions.",
        )
    return loops


def flat(model: Any) -> Any:
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


def tensors(message: Any) -> Iterator[Any]:
    """Yield all tensors within a message of any type, whatever field they are in."""
    if message.DESCRIPTOR.full_name == "onnx.TensorProto":
        yield message
        return
    for field, found in message.ListFields():
        if field.message_type is not None:
            for each in (found,) if hasattr(found, "DESCRIPTOR") else found:
                yield from tensors(each)


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


def taking_all(model: Any) -> str:
    """Return the first operator that takes all pixels together, for a sentence; may be empty."""
    graph = model.graph
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


def with_slopes(model: Any, slope: float) -> bytes:
    """Return the model with y + slope · (x − y) for what saturates, y, of floats x."""
    # Weights in other files stay there: in memory a model has 2 GB at most.
    import onnx

    model = onnx.shape_inference.infer_shapes(flat(model))
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


def live_per_pixel(model: Any, bands: int) -> float:
    """Return the most bytes that tensors take at once, per pixel, in the order of the nodes."""
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
    alive, most, live = image, image, {graph.input[0].name: image}
    for n, node in enumerate(graph.node):
        for name in node.output:
            if name and name not in constants:
                live[name] = float(size_of.get(name) or unknown)
                alive += live[name]
        most = max(most, alive)
        for name in {*node.input, *node.output}:
            if last.get(name, n) <= n and name in live:
                alive -= live.pop(name)
    return _WORKSPACE * most / (sides[0] * sides[2] * sides[3])


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
