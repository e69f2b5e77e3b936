"""Tables of what many calls produce, to show that a refactoring moves nothing.

    python benchmarks/same_outputs.py run ../shared/data -o before.json
    python benchmarks/same_outputs.py run ../shared/data -o after.json
    python benchmarks/same_outputs.py compare before.json after.json --renames renames.json

`run` makes small inputs, runs the calls of `outputs/calls.py` on one core with the package that
is installed or on PYTHONPATH, and writes hashes of decoded pixels, metadata and bytes, and the fields
of records without times, paths, versions and memory. `compare` prints what differs and exits 1 if
anything does. A file of renames is one JSON object; each entry is applied to both tables:

    "facts": "context"                   a field of this name, at any depth
    "attribution.context": "gradient"    a field within a field; null drops it
    "used=held": "used=stop"             a value of a field; "=held" that of any
    "~--facts held": "~--context-gradient stop"   any part of a text
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from outputs import calls
from outputs.hashes import DROPPED, Items, Normal, kind_of, of_array, of_folder
from outputs.inputs import make_inputs

MAIN = """
import sys
try:
    from napari_restore.commands import main
except ImportError:  # before the package of that name
    from napari_restore.cli import main
sys.exit(main())
"""
PROGRAM = (sys.executable, "-c", MAIN)
KINDS = ("exit", "pixels", "meta", "bytes", "record", "words")


# -- running ---------------------------------------------------------------------


class Runner:
    """Runs calls, each in a folder of its own below `work`."""

    def __init__(self, data: Path, work: Path) -> None:
        self.work, self.calls = work, work / "calls"
        self.normal = Normal(work)
        self.paths = make_inputs(data, work / "inputs")
        self._help: dict[str, str] = {}

    def words(self, line: str, out: Path) -> list[str]:
        """The words of a call as the program on the path spells them."""
        named = {name: str(path) for name, path in self.paths.items()}
        words = shlex.split(line.format(o=out, calls=self.calls, **named))
        words[1:1] = shlex.split(calls.COMMON[words[0]])
        for number, word in enumerate(words):
            for spelling, values in calls.FLAGS.get(word, []):
                if re.search(rf"{spelling}\b", self.help_of(words[0])):
                    words[number : number + 2] = [
                        spelling,
                        values.get(words[number + 1], words[number + 1]),
                    ]
                    break
        return words

    def help_of(self, command: str) -> str:
        if command not in self._help:
            self._help[command] = self.main([command, "--help"])[1]
        return self._help[command]

    def main(self, words: list[str]) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of the command line, in this process."""
        try:
            from napari_restore.commands import main
        except ImportError:  # before the package of that name
            from napari_restore.cli import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
        return code, out.getvalue(), err.getvalue()

    def process(self, words: list[str]) -> tuple[int, str, str]:
        """The same of a process of its own."""
        command = [*PROGRAM, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def killed(self, words: list[str]) -> tuple[int, str, str]:
        """The same of the second process; the first is killed after two tiles."""
        command = [*PROGRAM, *words, "--progress", "json"]
        first = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert first.stderr is not None
        for line in first.stderr:
            done, total = (re.search(rf'"{name}": (\d+)', line) for name in ("done", "total"))
            if done and total and 2 <= int(done[1]) < int(total[1]):
                first.send_signal(signal.SIGKILL)
                break
        first.stderr.read()
        if first.wait() != -signal.SIGKILL:
            raise RuntimeError(f"the first process ended with {first.returncode} before the kill")
        return self.process(words)

    def command(self, name: str, line: str) -> Items:
        """One line of the command line."""
        how, _, name = name.rpartition(":")
        out = self.calls / name
        out.mkdir(parents=True)
        run = {"": self.main, "process": self.process, "kill": self.killed}[how]
        code, text, err = run(self.words(line, out))
        items: Items = {"exit": code}
        try:
            fields = self.normal.record(json.loads(text))
        except ValueError:
            fields = self.normal.record({"text": text})
        items |= {f"stdout {kind}": value for kind, value in fields.items()}
        items["stderr record"] = self.normal.flat({"text": err})
        return items | of_folder(out, self.normal)

    def python(self, name: str, call: Callable[[], Any]) -> Items:
        """One call of Python."""
        out = self.calls / name
        out.mkdir(parents=True)
        value = call()
        items: Items = {}
        if hasattr(value, "record"):
            items["pixels"] = of_array(np.asarray(value))
            value = value.record
        items |= self.normal.record(value)
        return items | of_folder(out, self.normal)

    def all_calls(self) -> Iterator[tuple[str, Callable[[], Items]]]:
        import napari_restore as nr

        print(f"of {nr.__file__}", flush=True)
        yield "inputs", lambda: of_folder(self.work / "inputs", self.normal)
        for line in filter(None, calls.CALLS.splitlines()):
            name, words = line.split(None, 1)
            yield name, lambda name=name, words=words: self.command(name, words)
        for name, call in calls.python_calls(Spelled(nr), self.paths, self.calls).items():
            yield name, lambda name=name, call=call: self.python(name, call)
        # First, all in one window.
        yield "window", self.window
        for name in calls.WINDOW:
            yield name, lambda name=name: of_folder(self.calls / name, self.normal)

    def window(self) -> Items:
        """Export everything of `calls.WINDOW` from napari, in a process of its own."""
        script = str(Path(__file__).with_name("outputs") / "window.py")
        shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        virtual = shutil.which("xvfb-run")
        if not shown and not virtual:
            print("window: skipped, there is no display and no xvfb-run")
            return {"exit": "skipped"}
        screen = [] if shown else [virtual, "-a", "-s", "-screen 0 1600x1000x24"]
        command = [
            *screen,
            sys.executable,
            script,
            str(self.paths["rgb8"]),
            str(self.calls),
            json.dumps(calls.WINDOW),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr[-3000:])
        return {"exit": done.returncode}


class Spelled:
    """The package, whose functions take options as `calls.FLAGS` spells them."""

    def __init__(self, package: Any) -> None:
        self._package = package

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._package, name)
        if isinstance(function, type):
            return function
        known = inspect.signature(function).parameters

        def called(*arguments: Any, **options: Any) -> Any:
            for option, spellings in calls.FLAGS.items():
                old = option[2:].replace("-", "_")
                for spelling, values in spellings if old in options else ():
                    new = spelling[2:].replace("-", "_")
                    if new in known:
                        value = options.pop(old)
                        options[new] = values.get(value, value)
                        break
            return function(*arguments, **options)

        return called


def run(data: Path, output: Path, work: Path | None, only: str) -> None:
    """Make the table of the calls whose names `only` finds."""
    warnings.simplefilter("ignore")
    # One core: plans take as many workers as there are, and their sums depend on threads.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    table: dict[str, Items] = {}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as made:
        place = Path(made if work is None else work).resolve()
        os.environ.update(
            NAPARI_RESTORE_CACHE=str(place / "cache"), OMP_NUM_THREADS="1", MKL_NUM_THREADS="1",
            HOME=str(place / "home"), XDG_CONFIG_HOME=str(place / "config"), COLUMNS="100",
        )  # fmt: skip
        for name in ("calls", "cache", "home", "config"):
            shutil.rmtree(place / name, ignore_errors=True)
            (place / name).mkdir(parents=True)
        for name, call in Runner(data, place).all_calls():
            if name != "inputs" and not re.search(only, name):
                continue
            started = time.perf_counter()
            try:
                table[name] = call()
            except Exception as error:
                traceback.print_exc()
                table[name] = {"exit": f"{type(error).__name__}: {error}"}
            code = table[name].get("exit", "")
            print(f"{time.perf_counter() - started:6.1f} s  {name} {code}", flush=True)
    output.write_text(json.dumps(table, indent=1, sort_keys=True))
    print(f"{len(table)} calls in {time.perf_counter() - began:.0f} s: {output}")


# -- comparing -------------------------------------------------------------------


def renamed(fields: dict[str, Any], renames: dict[str, str | None]) -> dict[str, Any]:
    """`fields` by their new names."""
    found = {}
    for path, leaf in fields.items():
        path = f".{path}."
        for old, new in renames.items():
            if old.startswith("~"):
                leaf = leaf.replace(old[1:], str(new)[1:]) if isinstance(leaf, str) else leaf
            elif "=" in old:
                field, _, value = old.partition("=")
                if leaf == value and (not field or f".{field}." in path):
                    leaf = str(new).partition("=")[2]
            elif f".{old}." in path:
                path = "" if new is None else path.replace(f".{old}.", f".{new}.")
        if path and not any(map(DROPPED.search, path.split("."))):
            found[path.strip(".")] = leaf
    return found


def compare(before: Path, after: Path, renames: dict[str, str | None], without: list[str]) -> int:
    """Print what differs; how many items do."""
    one, two = (
        # As text, for a NaN differs from itself.
        json.loads(path.read_text(), parse_constant=str)
        for path in (before, after)
    )
    different = same = 0
    for call in sorted({*one, *two}):
        if call not in one or call not in two:
            print(f"{call}: only in {before if call in one else after}")
            different += 1
            continue
        for item in sorted({*one[call], *two[call]}):
            kind = item.split()[-1]
            a, b = one[call].get(item), two[call].get(item)
            if isinstance(a, dict) and isinstance(b, dict):
                a, b = renamed(a, renames), renamed(b, renames)
                fields = [name for name in sorted({*a, *b}) if a.get(name, ...) != b.get(name, ...)]
                if kind == "record":
                    fields = [name for name in fields if kind_of(name) not in without]
                lines = [f"{n}: {a.get(n, 'missing')!r} | {b.get(n, 'missing')!r}" for n in fields]
            else:
                a, b = ("fields" if isinstance(each, dict) else each for each in (a, b))
                lines = [] if a == b else [f"{a} | {b}"]
            if not lines or kind in without:
                same += 1
                continue
            different += 1
            print("\n    ".join([f"{call}: {item}", *lines]))
    print(f"{different} differ, {same} are equal")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("run", help="make a table")
    make.add_argument("data", type=Path, help="the folder of images that inputs are made of")
    make.add_argument("-o", "--output", type=Path, required=True)
    make.add_argument("--work", type=Path, help="keep inputs and outputs here")
    make.add_argument("--only", default="", help="a pattern of names of calls")
    against = commands.add_parser("compare", help="compare two tables")
    against.add_argument("before", type=Path)
    against.add_argument("after", type=Path)
    against.add_argument("--renames", type=Path, help="JSON: old names and values to new ones")
    against.add_argument("--without", nargs="+", default=[], choices=KINDS, help="leave these out")
    options = parser.parse_args()
    if options.command == "run":
        run(options.data, options.output, options.work, options.only)
        return 0
    renames = json.loads(options.renames.read_text()) if options.renames else {}
    return bool(compare(options.before, options.after, renames, options.without))


if __name__ == "__main__":
    sys.exit(main())
