"""Files that are programs: what they make is within limits of memory and time, and a signal ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto as T, helper, numpy_helper

from napari_restore import _confined
from napari_restore._confined import awaited, confined, room_for, unconfined
from napari_restore.api import code_file, inspect_model
from napari_restore.errors import BadModel
from napari_restore.models import load
from napari_restore.models._weights import layers_in

node = helper.make_node
linux = pytest.mark.skipif(sys.platform != "linux", reason="no limit of addresses holds elsewhere")


def value(name: str, kind: int, shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values), name)


def saved(path: Path, nodes: list[Any], *constants: Any, functions: Any = ()) -> Path:
    ports = [value(name, T.FLOAT, (1, 3, "h", "w")) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    sets = [helper.make_opsetid("", 17), *([helper.make_opsetid("own", 1)] if functions else [])]
    model = helper.make_model(graph, opset_imports=sets, ir_version=9, functions=functions)
    onnx.save(model, path)
    return path


REST = [node("ReduceMax", ["big"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]
SIDE = 1 << 15
TWICE = [node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=1) for i in range(20)]
BRANCH = helper.make_graph([node("ConstantOfShape", ["s"], ["o"])], "b", [], [value("o", 1, None)])
LARGE = {
    "constant": ([node("ConstantOfShape", ["s"], ["big"])], tensor("s", [SIDE, SIDE])),
    "expand": (
        [node("Expand", ["x0", "s"], ["big"])],
        *(tensor("x0", np.float32([1])), tensor("s", [SIDE, SIDE])),
    ),
    "shape": (
        [
            node("Shape", ["x"], ["n"]),
            node("Mul", ["n", "k"], ["s"]),
            node("ConstantOfShape", ["s"], ["big"]),
        ],
        tensor("k", [1, 100, 10, 10]),
    ),
    "pad": ([node("Pad", ["x", "p"], ["big"])], tensor("p", [0] * 6 + [SIDE, SIDE])),
    "range": (
        [node("Range", ["a", "b", "c"], ["big"])],
        *tuple(tensor(n, np.float32(v)) for n, v in zip("abc", (0, 3000000000.0, 1), strict=True)),
    ),
    "doubled": (
        [node("Concat", ["x", "x"], ["c0"], axis=1), *TWICE, node("Neg", ["c20"], ["big"])],
    ),
    "outer": (
        [
            node("Reshape", ["x", "l"], ["p"]),
            node("Reshape", ["x", "r"], ["q"]),
            node("MatMul", ["p", "q"], ["big"]),
        ],
        *(tensor("l", [-1, 1]), tensor("r", [1, -1])),
    ),
    "branch": (
        [
            node("ReduceMax", ["x"], ["t"], keepdims=0),
            node("Greater", ["t", "z"], ["c"]),
            node("If", ["c"], ["big"], then_branch=BRANCH, else_branch=BRANCH),
        ],
        *(tensor("z", np.float32(0)), tensor("s", [SIDE, SIDE])),
    ),
}
"""Nodes that make "big", more than 2 GiB of an image of 128 × 128 pixels, and their constants."""
MEASURED = """
import resource, sys
from napari_restore._confined import room_for
from napari_restore.errors import OutOfMemory
from napari_restore.models import load
load("dcp")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        with room_for(256 << 20):
            load(path)
        print("loaded", path)
    except OutOfMemory as error:
        assert "it may take" in str(error), error
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10)
"""


@linux
def test_graphs_make_no_more_than_they_are_allowed(tmp_path):
    paths = [
        saved(tmp_path / f"{name}.onnx", nodes + REST, *constants)
        for name, (nodes, *constants) in LARGE.items()
    ]
    command = [sys.executable, "-c", MEASURED, *map(str, paths)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert int(answer.stdout) < 900, answer.stdout


def loop(rounds: str) -> Any:
    body = helper.make_graph(
        [node("Identity", ["ci"], ["co"]), node("Identity", ["vi"], ["vo"])],
        "b",
        [value("n", T.INT64, []), value("ci", T.BOOL, []), value("vi", T.FLOAT, [])],
        [value("co", T.BOOL, []), value("vo", T.FLOAT, [])],
    )
    return node("Loop", [rounds, "t", "z"], ["q"], body=body)


LOOP = (tensor("t", np.bool_(True)), tensor("z", np.float32(0)))
ADDED = node("Add", ["x", "q"], ["y"])


def test_loops_of_a_constant_number_are_judged_before_they_run(tmp_path):
    path = saved(tmp_path / "n.onnx", [loop("m"), ADDED], *LOOP, tensor("m", np.int64(2**62)))
    with pytest.raises(BadModel, match="has a loop of 4611686018427387904 rounds"):
        load(path)
    path = saved(tmp_path / "ok.onnx", [loop("m"), ADDED], *LOOP, tensor("m", np.int64(20)))
    assert load(path).card.bands == 3


@pytest.mark.parametrize("rounds", ["", "m"], ids=["none", "computed"])
def test_loops_that_do_not_end_are_stopped(tmp_path, rounds):
    counted = [node("Shape", ["x"], ["s"]), node("ReduceProd", ["s"], ["p"], keepdims=0)]
    counted += [node("Mul", ["p", "k"], ["m"])]
    path = saved(
        tmp_path / "n.onnx", [*counted, loop(rounds), ADDED], *LOOP, tensor("k", np.int64(2**40))
    )
    with pytest.raises(BadModel, match="does not come to an end"):
        load(path)


@pytest.mark.parametrize("last", ["Identity", "f0"], ids=["doubling", "recursive"])
def test_functions_that_call_each_other_without_end_are_refused(tmp_path, last):
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]

    def function(number: int) -> Any:
        inner = f"f{number + 1}" if number < 29 else last
        domain = "" if inner == "Identity" else "own"
        calls = [node(inner, ["a"], ["t"], domain=domain), node(inner, ["t"], ["b"], domain=domain)]
        return helper.make_function("own", f"f{number}", ["a"], ["b"], calls, sets)

    calls = [node("f0", ["x"], ["y"], domain="own")]
    path = saved(tmp_path / "n.onnx", calls, functions=[function(n) for n in range(30)])
    with pytest.raises(BadModel, match="functions that call each other too often"):
        load(path)


def test_an_input_that_is_too_large_is_refused(tmp_path):
    x = value("x", T.FLOAT, (1, 3, 2**31, 2**31))
    y = value("y", T.FLOAT, (1, 3, "h", "w"))
    graph = helper.make_graph([node("Identity", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, ir_version=9), tmp_path / "n.onnx")
    with pytest.raises(BadModel, match="too large to be tried"):
        load(tmp_path / "n.onnx")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of consoles")
def test_a_signal_ends_what_a_library_computes(tmp_path):
    """Products of 4000 × 4000, folded while the file is opened: onnxruntime hears nothing."""
    nodes = [node("ConstantOfShape", ["s"], ["c0"], value=tensor("v", np.float32([1])))]
    nodes += [node("MatMul", [f"c{i}", "c0"], [f"c{i + 1}"]) for i in range(200)]
    nodes += [node("ReduceMax", ["c200"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]
    path = saved(tmp_path / "n.onnx", nodes, tensor("s", [4000, 4000]))
    script = f"""if True:
        import threading, time
        from napari_restore.models import _onnx, load
        _onnx._OPENING = 1e4
        def tell():
            while all(each.name != "awaited" for each in threading.enumerate()):
                time.sleep(0.01)
            print(1, flush=True)
        threading.Thread(target=tell, daemon=True).start()
        load({str(path)!r})
    """
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "1\n"
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    # A thread that is left alone may add a line when the process ends.
    assert "KeyboardInterrupt" in said.splitlines()


def test_work_that_is_awaited_no_more_is_left_alone():
    going, asked = threading.Event(), threading.Event()
    with pytest.raises(TimeoutError):
        awaited(lambda: going.wait(60), 0.2, asked.set)
    assert asked.is_set()
    going.set()
    assert awaited(lambda: 3, 60, asked.set) == 3
    with pytest.raises(ZeroDivisionError):
        awaited(lambda: 1 // 0, 60, asked.set)


@linux
def test_limits_of_addresses_are_those_of_before_afterwards():
    import resource

    before, free = resource.getrlimit(resource.RLIMIT_AS), _confined.available_memory()
    with room_for(1 << 28), confined():
        held = resource.getrlimit(resource.RLIMIT_AS)[0]
        assert 0 < held < (1 << 50)
        with pytest.raises(MemoryError):
            np.ones(1 << 30)
        # What others plan with meanwhile, and children, are not concerned.
        assert _confined.available_memory() > free / 2
        with unconfined():
            assert resource.getrlimit(resource.RLIMIT_AS) == before
        assert resource.getrlimit(resource.RLIMIT_AS)[0] == held
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_checkpoint_that_unpacks_to_more_is_refused(tmp_path):
    """The storage of 16 numbers becomes one of 128 MiB of zeros, deflated to 130 KB."""
    torch.save({"w": torch.zeros(16)}, tmp_path / "t.pth")
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(tmp_path / "t.pth") as given, zipfile.ZipFile(bomb, "w", 8) as made:
        for name in given.namelist():
            with made.open(name, "w", force_zip64=True) as record:
                if name.endswith("/data/0"):
                    for _ in range(8):
                        record.write(bytes(1 << 24))
                else:
                    record.write(given.read(name).replace(b"K\x10", b"J\0\0\0\x02"))
    with pytest.raises(BadModel, match=r"unpacks to 128\.?0? MiB"):
        load("nafnet", weights=bomb)


def test_a_checkpoint_of_mappings_without_end_is_refused(tmp_path):
    itself: dict[str, Any] = {}
    itself["model"] = itself
    other: dict[str, Any] = {}
    other["q"] = {"q": other}
    many: dict[str, Any] = {}
    for _ in range(60):
        many = {"a": many, "b": many}
    full: dict[str, Any] = {"w": torch.zeros(1)}
    for _ in range(60):
        full = {"a": full, "b": full}
    large = {"w": torch.zeros(1).expand(2**20, 2**20)}
    for content in (itself, other, many, full, large):
        torch.save(content, tmp_path / "n.pth")
        with pytest.raises(BadModel, match=r"n\.pth (contains|has w of)"):
            load("nafnet", weights=tmp_path / "n.pth")


def test_names_of_layers_make_no_layers():
    assert layers_in({f"body.{n}.weight": 0 for n in (0, 1, 999_999_999)}, "body") == 3


def test_a_device_is_no_model():
    for door in (code_file, inspect_model):
        with pytest.raises(BadModel, match=r"no (plain|model) file"):
            door("/dev/zero")
