"""Messages name options; Python and the command line each in their own way (the window: tests/plugin)."""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import json
import pickle
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import api, records
from napari_restore.api.worker import Call
from napari_restore.commands import build_parser, flag, with_flags
from napari_restore.engine import Note
from napari_restore.errors import BadParameter, Message, Option, RestoreError, option
from napari_restore.images import SaveOptions

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "napari_restore"
WRITES_COMMANDS = PACKAGE / "api" / "_command_line.py"
FLAG = re.compile(r"(?<![\w-])--[a-z]{2,}|(?<![\w-])-o\b")
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] != "commands" and path != WRITES_COMMANDS
)


def texts(tree: ast.AST) -> Iterator[str]:
    """String literals but for docstrings, and for bare flags, which go to another process."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    arguments = {
        id(item) for node in ast.walk(tree) if isinstance(node, (ast.List, ast.Tuple))
        for item in node.elts
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in documentation and id(node) not in arguments:
                yield node.value


def flags_in(source: str) -> list[str]:
    """Texts of a module that name a flag; those that quote a whole command may."""
    return [
        text
        for text in texts(ast.parse(source))
        if FLAG.search(re.sub(r"napari-restore [a-z]+ .*", "", text))
    ]


@pytest.mark.static
def test_no_message_below_the_command_line_names_a_flag() -> None:
    found = [
        f"{path.relative_to(PACKAGE).as_posix()}: {text}"
        for path in MODULES
        for text in flags_in(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(["name it by errors.option", *found])


@pytest.mark.static
def test_the_walk_finds_flags() -> None:
    sources = [
        'raise BadParameter("Too small.", f"Use --memory {least}MiB or more.")',
        'hint = "Free some" + ", or use --residuals recompute"',
        'notes.append("It is Landsat 8: --sensor sets its bands.")',
        'check_file(path, "record", "--record")',
        'InputError("No file.", "Name one with -o.")',
    ]
    assert [source for source in sources if len(flags_in(source)) != 1] == []


@pytest.mark.static
def test_the_walk_finds_no_flag_in_commands_and_docstrings() -> None:
    source = '"""As --mask."""\nargs += ["--memory", "1"]\ntip = "as napari-restore restore A -o B"'
    assert flags_in(source) == []


def named_options() -> set[str]:
    """Names that the sources give to `option` in words."""
    calls = (
        node
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "option"
    )
    constants = (each for call in calls for each in ast.walk(call.args[0]))
    return {
        each.value
        for each in constants
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }


def python_names() -> set[str]:
    """Parameters of the public functions, and these functions themselves."""
    functions = {
        name: function
        for module in (api, records)
        for name in module.__all__
        if inspect.isfunction(function := getattr(module, name))
    }
    parameters = {name for f in functions.values() for name in inspect.signature(f).parameters}
    return parameters | set(SaveOptions.__annotations__) | {f"{name}()" for name in functions}


def command_line_flags() -> set[str]:
    subparsers = next(
        action for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )  # fmt: skip
    return {
        text
        for parser in subparsers.choices.values()
        for action in parser._actions
        for text in action.option_strings
    }


@pytest.mark.static
def test_every_named_option_is_one_in_python_and_on_the_command_line() -> None:
    names = named_options()
    assert {"memory", "tile", "write_record()", "context_gradient"} <= names
    assert names <= python_names()
    flags = command_line_flags()
    assert {name for name in names if flag(Option(name)).split()[0] not in flags} == set()


def test_an_option_reads_as_python_writes_it() -> None:
    error = BadParameter(
        f"{option('rule')} needs steps.",
        f"Use {option('residuals', 'ram', 'disk')}, {option('overwrite', True)}, "
        f"{option('tile', 1024)}, {option('arguments', {'n': 2})}, "
        f"{option('baseline', 'zero', 'FILE')} or {option('write_record()')}.",
    )
    assert str(error) == (
        'rule= needs steps. Use residuals="ram" or "disk", overwrite=True, tile=1024, '
        'arguments={"n": 2}, baseline="zero" or FILE or write_record().'
    )
    assert with_flags(error.sentence) == (
        "--rule needs steps. Use --residuals ram or disk, --overwrite, --tile 1024, "
        "--argument n=2, --baseline zero or FILE or --record."
    )


def test_a_message_keeps_its_options_on_its_way() -> None:
    error = pickle.loads(pickle.dumps(BadParameter("No.", f"Use {option('tile', 1024)}.")))
    longer = RestoreError(f"a.tif: {error.hint.marked}")
    assert with_flags(longer.message) == "a.tif: Use --tile 1024."
    event = Note(f"Use {option('sensor', 'naip')}.").to_dict()
    assert event["text"] == 'Use sensor="naip".'
    assert with_flags({"events": [event]})["events"][0]["text"] == "Use --sensor naip."


def test_the_child_process_of_a_window_keeps_options() -> None:
    error, stream = BadParameter("No.", f"Use {option('tile', 1024)}."), io.StringIO()
    call = Call({"call": "a:b", "task": 1, "what": {}}, stream, threading.Lock())
    call.send({"event": "Error", "message": error.message, "hint": error.hint})
    data = json.loads(stream.getvalue())
    assert (
        with_flags(RestoreError(data["message"], data["hint"]).sentence) == "No. Use --tile 1024."
    )


@pytest.mark.parametrize("name", ["\ufdd0tile\ufdd1x\ufdd2", "\ufdd0tile", "\ufdd2\x1b[1m"])
def test_the_name_of_a_file_is_no_option(name: str) -> None:
    shown = str(Message(f"There is no {name}."))
    assert shown.isprintable() and "tile=" not in shown


def test_an_error_in_python_names_arguments() -> None:
    image = np.zeros((500, 500, 3), np.uint8)
    with pytest.raises(RestoreError) as caught:
        nr.plan(image, "identity", bands="red=1,green=2,blue=3", memory="1KiB", device="cpu")
    assert re.search(r'Use memory="\d+MiB" or more, or a smaller tile=\.$', str(caught.value))


CODE = {
    "Status Message: /src/onnxruntime/core/math/ops.h:563 void onnxruntime::BroadcastIterator::Init("
    "ptrdiff_t, ptrdiff_t) axis == 1 was false. 19 by 192": "Status Message: axis == 1 was false. 19 by 192",
    "Status Message: concatbase.h:135 PrepareForComputeImpl Axis 2": "Status Message: "
    "PrepareForComputeImpl Axis 2",
    "fails: bool a::B<int>::f(std::function<void(int)>, const T&) const: no such axis": "fails: bool "
    "a::B<int>::f(std::function<void(int)>, const T&) const: no such axis",
    "fails: a::B::~B(std::function<void(int)>, const T&) const: no axis": "fails: no axis",
    "scene.hpp (1 of 2) in C:/data: FILE.py:factory, band::2": "scene.hpp (1 of 2) in C:/data: "
    "FILE.py:factory, band::2",
}


@pytest.mark.parametrize("text", CODE)
def test_the_code_of_a_library_is_in_no_message(text: str) -> None:
    assert BadParameter(text).message == CODE[text]


def test_a_long_list_is_cut() -> None:
    names = [f"layer{number}" for number in range(1000)]
    error = BadParameter("There is no layer x.", f"It has {', '.join(names)}; see them.")
    assert error.hint == f"It has {', '.join(names[:16])}, … (983 more), layer999; see them."
    assert pickle.loads(pickle.dumps(error)).sentence == error.sentence
    few = f"It has {', '.join(names[:24])}."
    assert BadParameter("", few).hint == few
    given = (
        f"It has {', '.join(names[:30])}, {option('bands', names)}, and {', '.join(names[:30])}."
    )
    assert BadParameter("", given).hint.marked == given
