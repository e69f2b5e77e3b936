"""Draw small faults in the program and say which of them no near quick test sees.

    python scripts/mutants.py --count 40 --seed 7 [--only engine/masks] [--at FILE:LINE] [--list]

Each fault is written to a copy of the package, whose nearest tests run against it.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from near import ROOT, tests_near

FOLDERS = (
    "engine/planning engine/masks engine/running images/values images/masks images/levels "
    "explain/attribution plugin/areas models/atmosphere models/classical"
).split()
FILES, SECONDS = 6, 60
"""Test files a fault meets, and processor seconds that they have."""
LOADED = "torch hypothesis dask.array zarr tifffile rasterio scipy.ndimage".split()

MOVED = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")}
SIGNS = {ast.Add: ("+", "-"), ast.Sub: ("-", "+")}
SWAPPED = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
SWAPPED |= {"ceil": "floor", "floor": "ceil"}


class Mutant(NamedTuple):
    kind: str
    file: Path
    line: int
    text: str
    """Of the whole file."""
    change: str


class _Source:
    def __init__(self, path: Path) -> None:
        self.path, self.text = path, path.read_text("utf-8")
        self.tree = ast.parse(self.text)
        self._raw = self.text.encode()
        self._starts = [0]
        for line in self._raw.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _span(self, node: ast.expr) -> tuple[int, int]:
        ends = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
        start, end = (self._starts[line - 1] + column for line, column in ends)
        return start, end

    def _of(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self._raw[start:end].decode()

    def _changed(self, kind: str, start: int, end: int, new: str) -> Mutant:
        raw = self._raw[:start] + new.encode() + self._raw[end:]
        line = self._raw[:start].count(b"\n")
        after = raw.splitlines()[line].decode().strip()
        return Mutant(kind, self.path, line + 1, raw.decode(), after)

    def _between(self, kind: str, left: ast.expr, right: ast.expr, old: str, new: str) -> Mutant:
        start, end = self._span(left)[1], self._span(right)[0]
        found = re.search(
            rf"(?<![<>=/*\w]){re.escape(old)}(?![<>=/*\w])", self._raw[start:end].decode()
        )
        assert found is not None
        return self._changed(kind, start + found.start(), start + found.end(), new)

    def mutants(self) -> Iterator[Mutant]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
                    if type(op) in MOVED:
                        yield self._between("boundary", left, right, *MOVED[type(op)])
            elif isinstance(node, ast.BoolOp):
                old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield self._between("and/or", left, right, old, new)
            elif isinstance(node, ast.Call):
                name = node.func
                last = getattr(name, "attr", getattr(name, "id", ""))
                if last in SWAPPED:
                    end = self._span(name)[1]
                    kind = "rounding" if last in ("ceil", "floor") else "min/max"
                    yield self._changed(kind, end - len(last), end, SWAPPED[last])
            elif isinstance(node, ast.BinOp):
                yield from self._of_sum(node)

    def _of_sum(self, node: ast.BinOp) -> Iterator[Mutant]:
        start, end = self._span(node)
        left, right = node.left, node.right
        constants = [n for n in (left, right) if isinstance(n, ast.Constant)]
        if any(isinstance(n.value, str) for n in constants) or isinstance(left, ast.JoinedStr):
            return
        if type(node.op) in SIGNS and not isinstance(left, ast.List | ast.Tuple):
            half = any(n.value == 0.5 for n in constants)
            kind = "half a pixel" if half else "sign"
            yield self._between(kind, left, right, *SIGNS[type(node.op)])
            for each in constants if half else ():
                yield self._changed(kind, *self._span(each), "0")
        if isinstance(node.op, ast.FloorDiv):
            if isinstance(left, ast.UnaryOp) and isinstance(left.op, ast.USub):
                yield self._changed(
                    "rounding", start, end, f"-({self._of(left.operand)} // {self._of(right)})"
                )
            else:
                yield self._changed(
                    "rounding", start, end, f"(-(-({self._of(left)}) // ({self._of(right)})))"
                )
        if isinstance(node.op, ast.Mult | ast.Div | ast.FloorDiv):
            for each in constants:
                if each.value in (2, 0.5):
                    yield self._changed("factor of 2", *self._span(each), "1")


PACKAGE = ROOT / "src" / "napari_restore"


def _mutants_in(folders: Iterable[str]) -> list[Mutant]:
    paths = [path for folder in folders for path in sorted((PACKAGE / folder).rglob("*.py"))]
    return [mutant for path in paths for mutant in _Source(path).mutants()]


def drawn(count: int, seed: int) -> list[Mutant]:
    """Return mutants without repetition, every kind as likely as the others."""
    kinds: dict[str, list[Mutant]] = {}
    for mutant in _mutants_in(FOLDERS):
        kinds.setdefault(mutant.kind, []).append(mutant)
    draw = random.Random(seed)
    taken: dict[tuple[Path, str], Mutant] = {}
    while len(taken) < count:
        mutant = draw.choice(kinds[draw.choice(sorted(kinds))])
        taken.setdefault((mutant.file, mutant.text), mutant)
    return list(taken.values())


def at(places: Iterable[str]) -> list[Mutant]:
    """Return all mutants of lines, each FOLDER/FILE:LINE."""
    found = [place.rpartition(":") for place in places]
    lines = {(PACKAGE / name, int(line)) for name, _, line in found}
    mutants = [mutant for file in {file for file, _ in lines} for mutant in _Source(file).mutants()]
    return [mutant for mutant in mutants if (mutant.file, mutant.line) in lines]


def _load() -> None:
    """Import once what every run needs and no mutant changes; let compiled files be written."""
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in LOADED:
        importlib.import_module(name)


def _tried(copy: Path, words: list[str]) -> None:
    """Run pytest in this process, which was forked for it."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    os.chdir(copy)
    sys.path.insert(0, str(copy / "src"))
    os.environ["PYTHONPATH"] = str(copy / "src")
    os.environ.setdefault("NAPARI_RESTORE_TEST_DATA", str(ROOT.parent / "shared" / "data"))
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        os.dup2(os.open(copy / "said.txt" if number else os.devnull, mode | os.O_CREAT), number)
    import pytest

    os._exit(pytest.main(words))


def failing(copy: Path, tests: Iterable[str], *more: str) -> list[str]:
    """Return which quick tests fail in `copy`; "?" where it took too long after those that passed."""
    said = copy / "said.txt"
    said.write_text("")
    words = [
        "-q",
        "-m",
        "not slow",
        "--tb=no",
        "--timeout=120",
        "-p",
        "no:cacheprovider",
        "--assert=plain",
    ]
    child = os.fork()
    if not child:
        try:
            _tried(copy, [*words, *more, *tests])
        except BaseException:
            traceback.print_exc()
        os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said.read_text(), re.MULTILINE)
    if code not in (0, 1, 5, -24):
        print(said.read_text()[-1500:], file=sys.stderr)
    return failed or ([] if code in (0, 5) else [f"? {code}"])


def outcome(mutant: Mutant, copy: Path, tests: Iterable[Path | str]) -> str:
    """Return the test that fails under a mutant; "" if none does, "?" if they took too long."""
    target = copy / mutant.file.relative_to(ROOT)
    target.write_text(mutant.text, "utf-8")
    found = failing(copy, [str(ROOT / test).replace(f"{ROOT}/", "") for test in tests], "-x")
    # With its time, for which there is a compiled file.
    shutil.copy2(mutant.file, target)
    return "".join(found[:1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--at", nargs="*", metavar="FILE:LINE", help="instead of drawing")
    parser.add_argument("--tests", nargs="*", help="instead of the nearest")
    parser.add_argument("--numbers", type=int, nargs="*", help="of the draw, from 1")
    parser.add_argument("--list", action="store_true", help="run nothing")
    asked = parser.parse_args()
    mutants = at(asked.at) if asked.at else drawn(asked.count, asked.seed)
    killers: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        # Tests read pages and examples, too; those are only linked.
        for path in () if asked.list else ROOT.iterdir():
            if path.name in ("src", "tests"):
                shutil.copytree(path, copy / path.name)
            elif path.name != ".git":
                (copy / path.name).symlink_to(path)
        _load()
        for number, mutant in enumerate(mutants, 1):
            if asked.numbers and number not in asked.numbers:
                continue
            near = asked.tests or tests_near([mutant.file])[: asked.files]
            killers[number] = "-" if asked.list else outcome(mutant, copy, near)
            where = f"{mutant.file.relative_to(PACKAGE)}:{mutant.line}"
            said = killers[number] or "SURVIVED"
            print(f"{number:3} {said}\n    {mutant.kind} {where}: {mutant.change}", flush=True)
        seen = {test for test in killers.values() if "::" in test}
        broken = failing(copy, sorted(seen)) if seen else []
    killed = sum(not test.startswith("?") for test in killers.values() if test)
    print(f"{killed} of {len(killers)} killed")
    print(f"These fail without a fault, too: {broken}" if broken else "")


if __name__ == "__main__":
    main()
