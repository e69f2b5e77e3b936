"""Changes formats that say what to do: graphs of ONNX, coordinate systems, TOML."""

from __future__ import annotations

import random
from pathlib import PurePath
from typing import Any

WIDE = (0, 1, -1, 2, 255, 65_536, 2**20, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63))
PLACES = (
    "", ".", "..", "graph.onnx", "w.bin", "../victim/secret.tif", "/@ROOT@/victim/secret.tif",
    "/@ROOT@/victim/pipe", "../victim/pipe", "a\0b", "a" * 5000, "/dev/zero", "@SERVER@/w.bin",
)  # fmt: skip
PIPE = "/@ROOT@/victim/pipe"
"""Whoever opens it hangs, and is seen."""
_PLANE = 'GEOGCS["x",DATUM["y",SPHEROID["z",6378137,298.25]{}],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]{}]'
CRS = (
    "EPSG:4326", "epsg:99999999", "urn:ogc:def:crs:EPSG::32633", "IAU_2015:30100", "", "x", "a" * 5000,
    f"+proj=longlat +ellps=clrk66 +nadgrids={PIPE} +type=crs +no_defs",
    f"  +PROJ=longlat\t+nadgrids = @{PIPE},null +type=crs", f"+proj=utm +zone=33 +geoidgrids={PIPE} +type=crs",
    f"+init={PIPE}:1 +type=crs", f"+proj=pipeline +step +proj=hgridshift +grids={PIPE}", PIPE, f"file://{PIPE}",
    _PLANE.format(f',EXTENSION["PROJ4","+proj=longlat +nadgrids={PIPE}"]', ""),
    _PLANE.format("", f',EXTENSION["PROJ4_GRIDS","{PIPE}"]'), _PLANE.format("", "") + "]" * 50,
    f'BOUNDCRS[SOURCECRS[{_PLANE.format("", "")}],TARGETCRS[{_PLANE.format("", "")}],ABRIDGEDTRANSFORMATION["t",METHOD["NTv2"],PARAMETERFILE["f","{PIPE}"]]]',
    "http://www.opengis.net/def/crs/EPSG/0/4326", "http://www.opengis.net/gml/srs/epsg.xml#4326",
    "@SERVER@/crs", "urn:ogc:def:coordinateOperation:EPSG::1671", "GEOGCS[" * 3000, '{"type":' * 3000,
)  # fmt: skip
TOML = (
    b"[" * 50_000, b"a" + b".a" * 30_000 + b" = 1", b"a = " + b"[" * 50_000, b"a = " + b"{a=" * 9_000,
    b"a = 1e999", b"a = 99999999999999999999", b'a = "\\u0000"', b"a = nan", b"\xff\xfe", b"[a]\n[a]\n",
)  # fmt: skip


def is_onnx(data: bytes, name: str) -> bool:
    return PurePath(name).suffix == ".onnx"


def change_onnx(data: bytes, rng: random.Random, mutate: Any) -> tuple[bytes, str]:
    """A size, a type, a place of data; or nodes that make much, or go on for long, before the result."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    what = rng.choice(list(_GRAPHS))
    _GRAPHS[what](model, rng)
    return model.SerializeToString(), what


def _number(model: Any, rng: random.Random) -> None:
    """Some whole number of the graph."""
    graph = model.graph
    lists = [each.dims for each in graph.initializer]
    lists += [each.ints for node in graph.node for each in node.attribute if each.ints]
    chosen = rng.choice(lists)
    chosen[rng.randrange(len(chosen))] = rng.choice(WIDE)


def _shape(model: Any, rng: random.Random) -> None:
    port = rng.choice([*model.graph.input, *model.graph.output])
    for size in port.type.tensor_type.shape.dim:
        if rng.random() < 0.5:
            size.dim_value = rng.choice(WIDE)


def _type(model: Any, rng: random.Random) -> None:
    chosen = rng.choice([model.graph.input[0], model.graph.output[0]])
    chosen.type.tensor_type.elem_type = rng.randrange(25)
    if rng.random() < 0.5:
        model.graph.initializer[0].data_type = rng.randrange(25)


def _place(model: Any, rng: random.Random) -> None:
    """The data of a tensor lies elsewhere."""
    tensor = rng.choice((_sparse(model).values, model.graph.initializer[0]))
    tensor.data_location = 1
    about = {"location": rng.choice(PLACES), "offset": rng.choice(WIDE), "length": rng.choice(WIDE)}
    for key, value in about.items():
        if key == "location" or rng.random() < 0.5:
            tensor.external_data.add(key=key, value=str(value))


def _sparse(model: Any, rng: random.Random | None = None) -> Any:
    from onnx import TensorProto

    sparse = model.graph.sparse_initializer.add(dims=[2**31, 2**31] if rng else [4])
    sparse.values.CopyFrom(TensorProto(name="s", data_type=1, dims=[1], float_data=[0.5]))
    sparse.indices.CopyFrom(TensorProto(name="i", data_type=7, dims=[1], int64_data=[1]))
    return sparse


def _added(model: Any, nodes: list[Any], constants: dict[str, Any]) -> None:
    """Nodes whose last one gives `big`, the sum of which is added to the result."""
    import numpy as np
    from onnx import helper, numpy_helper

    graph = model.graph
    last = next(node for node in graph.node if "y" in node.output)
    last.output[0] = "before"
    sums = [helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0)]
    graph.node.extend([*nodes, *sums, helper.make_node("Add", ["before", "sum"], ["y"])])
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _large(model: Any, rng: random.Random) -> None:
    """A tensor of a size that stands in the graph."""
    from onnx import helper

    size = rng.choice(((2**31,), (2**16, 2**16), (2**11, 2**11, 2**9), (2**40,), (-1,), ()))
    one, repeats = [[[[1.0]]]], [1, 1, *((*size, *size)[:2] or (1, 1))]
    kind = rng.choice(("ConstantOfShape", "Expand", "Tile", "Pad", "Range", "Resize"))
    if kind == "ConstantOfShape":
        _added(model, [helper.make_node(kind, ["size"], ["big"])], {"size": _ints(size)})
    elif kind == "Range":
        ports = {"first": 0.0, "end": 1e10, "step": rng.choice((1.0, 1e-9, 0.0, -1.0))}
        nodes = [helper.make_node(kind, list(ports), ["big"])]
        _added(model, nodes, {name: _floats(value) for name, value in ports.items()})
    elif kind == "Resize":
        scales = [1.0, 1.0, rng.choice((1e5, 1e10, -1.0)), 1e4]
        nodes = [helper.make_node(kind, ["one", "", "scales"], ["big"])]
        _added(model, nodes, {"one": _floats(one), "scales": _floats(scales)})
    else:
        values = {"Pad": [0, 0, 0, 0, *repeats], "Expand": size or (1,), "Tile": repeats}[kind]
        nodes = [helper.make_node(kind, ["one", "sizes"], ["big"])]
        _added(model, nodes, {"one": _floats(one), "sizes": _ints(values)})


def _ints(values: Any) -> Any:
    import numpy as np

    return np.asarray(values, np.int64)


def _floats(values: Any) -> Any:
    import numpy as np

    return np.asarray(values, np.float32)


def _long(model: Any, rng: random.Random) -> None:
    """A loop that ends late or never, with a state that may grow; within an If at times."""
    import numpy as np
    from onnx import TensorProto, helper

    grows = rng.random() < 0.5
    step = helper.make_node(
        "Concat" if grows else "Add", ["v", "v"], ["w"], **({"axis": 0} if grows else {})
    )
    ports = [
        helper.make_tensor_value_info("n", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, ["k"]),
    ]
    ends = [
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, ["l"]),
    ]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), step], "body", ports, ends
    )
    count = rng.choice(("count", ""))
    loop = helper.make_node("Loop", [count, "yes", "start"], ["big"], body=body)
    if rng.random() < 0.3:
        branch = helper.make_graph(
            [loop], "branch", [], [helper.make_tensor_value_info("big", 1, ["m"])]
        )
        loop = helper.make_node("If", ["yes"], ["big"], then_branch=branch, else_branch=branch)
    constants = {"count": _ints(rng.choice(WIDE)), "yes": np.asarray(True), "start": _floats([1.0])}
    _added(model, [loop], constants)


def _functions(model: Any, rng: random.Random) -> None:
    """Functions that each call the one before twice, or themselves."""
    from onnx import helper

    domain, depth = "own", rng.choice((3, 30))
    versions = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    for number in range(depth):
        below = f"f{number - 1}" if number else ("Identity", "f0")[rng.random() < 0.2]
        where = {"domain": domain} if below != "Identity" else {}
        nodes = [
            helper.make_node(below, ["a"], ["b"], **where),
            helper.make_node(below, ["b"], ["c"], **where),
        ]
        model.functions.append(
            helper.make_function(domain, f"f{number}", ["a"], ["c"], nodes, versions)
        )
    model.opset_import.append(helper.make_opsetid(domain, 1))
    _added(model, [helper.make_node(f"f{depth - 1}", ["x"], ["big"], domain=domain)], {})


_GRAPHS = {
    "number": _number, "shape": _shape, "type": _type, "place": _place, "sparse": _sparse,
    "large": _large, "long": _long, "functions": _functions,
}  # fmt: skip


def is_crs(data: bytes, name: str) -> bool:
    return PurePath(name).suffix == ".prj"


def change_crs(data: bytes, rng: random.Random, mutate: Any) -> tuple[bytes, str]:
    """Another text in its place, or one of its own kind within it."""
    text = rng.choice(CRS).encode()
    if rng.random() < 0.5 or not data.endswith(b"]"):
        return text, "another system"
    return data[:-1] + b',EXTENSION["PROJ4","' + text.replace(b'"', b'""') + b'"]]', "extension"


def is_toml(data: bytes, name: str) -> bool:
    return PurePath(name).suffix == ".toml"


def change_toml(data: bytes, rng: random.Random, mutate: Any) -> tuple[bytes, str]:
    """A line that is hard to read, before or after the others."""
    line = rng.choice(TOML) + b"\n"
    return (line + data, "first line") if rng.random() < 0.5 else (data + line, "last line")
