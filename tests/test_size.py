"""A ratchet on the size of the program: a figure may fall and never rises.

A change that adds deletes as much elsewhere. `python tests/test_size.py` prints the figures of today,
which replace those of the table after a change that lowers them.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "napari_restore"
LAB = ROOT / "lab" / "src"

CODE = {
    "api": 1970,
    "commands": 2804,
    "engine": 12913,
    "explain": 6530,
    "images": 15256,
    "metrics": 543,
    "models": 14641,
    "plugin": 14536,
    "questions": 1074,
    "records": 308,
    "sample": 3,
    "": 624,
    "lab": 7176,
}
"""Lines of code of each folder, "" of the files beside them: without blanks, comments, docstrings, imports.
"lab" is beside the program, and in no other figure."""
LINES, FILES, IMPORTS = 109902, 555, 8965
OPTIONS = {
    "view": 2,
    "models": 5,
    "inspect": 7,
    "info": 9,
    "plan": 49,
    "restore": 53,
    "fuse": 57,
    "attribute": 54,
    "attend": 51,
    "rerun": 6,
    "cache": 4,
}
"""Options of each command of ours, without --help."""
ENTERED = {"restore": (136, 890), "attribute": (155, 1053)}
"""Files and functions of ours that a command enters on a small scene the second time."""
SPARE = 0.05
"""Share by which the figures of ENTERED differ with cores, systems and versions of libraries."""
STALE = 0.03
"""Share by which a figure of the table may be above that of today: then it is lowered."""

SILENT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def weigh(text: str) -> tuple[int, int, int]:
    """Return the lines of code, of imports and of all of a module."""
    code: set[int] = set()
    other: set[int] = set()
    imports: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports |= set(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node, clean=False) is not None:
                other |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SILENT:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - other - imports), len(imports), text.count("\n")


@cache
def weights(folder: Path = PACKAGE) -> dict[Path, tuple[int, int, int]]:
    return {
        path: weigh(path.read_text("utf-8"))
        for kind in ("*.py", "*.pyi")
        for path in folder.rglob(kind)
    }


def code_lines() -> dict[str, int]:
    found = dict.fromkeys(CODE, 0)
    for path, (code, _, _) in weights().items():
        *folders, _ = path.relative_to(PACKAGE).parts
        found[folders[0] if folders else ""] = found.get(folders[0] if folders else "", 0) + code
    return found | {"lab": sum(code for code, _, _ in weights(LAB).values())}


def sums() -> tuple[int, int, int]:
    """Return all lines, files and lines of imports."""
    found = weights().values()
    return sum(row[2] for row in found), len(found), sum(row[1] for row in found)


def options() -> dict[str, int]:
    from napari_restore.commands import build_parser

    found = {}
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name in OPTIONS.keys() & action.choices.keys():
                parser = action.choices[name]
                asked = [each for each in parser._actions if each.option_strings]
                found[name] = len(asked) - 1
    return found


WORDS = {
    "restore": "--model dcp --fresh -o o.tif",
    "attribute": "--model haze-unet --box 40 40 24 24 --steps 2 -o m.tif",
}
COUNTED = """
import os, sys, threading
import napari_restore
from napari_restore.commands import main
found = set()
def hook(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name[0] != "<":
        found.add((code.co_filename, code.co_qualname))
words = [*sys.argv[1:], "--overwrite", "--progress", "off"]
PACKAGE = os.path.dirname(napari_restore.__file__)
assert main(words) == 0
threading.setprofile(hook)
sys.setprofile(hook)
assert main(words) == 0
sys.setprofile(None)
print(len({file for file, _ in found}), len(found))
"""


def entered(command: str, folder: Path) -> tuple[int, int]:
    """Return how many files and functions of ours a command enters that has run before."""
    import numpy as np
    import tifffile

    noise = np.random.default_rng(0).integers(40, 200, (160, 200, 3), np.uint8)
    tifffile.imwrite(folder / "scene.tif", noise, photometric="rgb")
    words = [command, "scene.tif", *WORDS[command].split()]
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    files, functions = done.stdout.split()[-2:]
    return int(files), int(functions)


def check(found: int, known: int, what: str) -> None:
    assert found <= known, f"{what}: {found}, and {known} before; delete as much"
    assert found >= known * (1 - STALE) - 3, f"{what}: only {found}; write it in place of {known}"


@pytest.mark.static
def test_a_folder_has_no_more_code():
    found = code_lines()
    assert found.keys() == CODE.keys()
    for folder, known in CODE.items():
        check(found[folder], known, f"lines of code in {folder or 'the top folder'}")


@pytest.mark.static
def test_there_are_no_more_lines_files_and_imports():
    names = ("lines", "files", "lines of imports")
    for found, known, what in zip(sums(), (LINES, FILES, IMPORTS), names, strict=True):
        check(found, known, what)


@pytest.mark.static
def test_a_command_has_no_more_options():
    found = options()
    assert found.keys() == OPTIONS.keys()
    for command, known in OPTIONS.items():
        check(found[command], known, f"options of {command}")


@pytest.mark.slow
@pytest.mark.parametrize("command", ENTERED)
def test_a_command_enters_no_more_files_and_functions(command, tmp_path):
    names = (f"files that {command} enters", f"functions that {command} enters")
    for found, known, what in zip(entered(command, tmp_path), ENTERED[command], names, strict=True):
        assert found <= known * (1 + SPARE), f"{what}: {found}, and {known} before; enter less"


@pytest.mark.static
def test_what_counts_as_code():
    text = '"""Doc\n\nstring."""\n\nimport a\nfrom b import (\n    c,\n)\n\n# why\nx = [\n    1,  # one\n]\n'
    assert weigh(text) == (3, 4, 13)


if __name__ == "__main__":
    import tempfile

    print("CODE", code_lines())
    print("LINES, FILES, IMPORTS", sums())
    print("OPTIONS", options())
    for each in ENTERED:
        with tempfile.TemporaryDirectory() as made:
            print("ENTERED", each, entered(each, Path(made)))
