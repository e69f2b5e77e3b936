"""Print the test files that import what differs from main, nearest first; `make near` runs them.

    python scripts/near.py [--most 12] [PATH ...]

With paths, the tests of these files instead. A test is near by how many imports lie between it and a
file that differs: one that it names itself, then one that those import, and so on.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
MOST = 12
"""Test files that are printed if nobody says how many."""

sys.path.insert(0, str(TESTS))
from test_imports import arrows, file_of  # noqa: E402 - the graph has one place


def _imported(tree: ast.AST, path: Path) -> Iterator[Path]:
    """Yield what a file in tests imports: modules of ours, those it uses names of, those beside it."""
    modules: dict[str, str] = {}
    used: set[str] = set()
    places = (path.parent, TESTS / "support")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            base = f"{node.module}." if node.module else ""
            modules.update({a.asname or a.name: f"{base}{a.name}" for a in node.names})
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{node.value.id}.{node.attr}")
    for each in used:
        owner, _, name = each.partition(".")
        if owner in modules:
            modules[each] = f"{modules[owner]}.{name}"
    for name in set(modules.values()):
        first, *others = name.split(".")
        if first == "napari_restore":
            yield file_of(name)
        for beside in {first, *others[:1]}:
            yield from (p for place in places if (p := place / f"{beside}.py").is_file())


@cache
def imports_of_tests() -> Mapping[Path, frozenset[Path]]:
    """Every file in tests → the files of ours and of tests that it imports."""
    return {
        path: frozenset(set(_imported(ast.parse(path.read_text("utf-8")), path)) - {path})
        for path in sorted(TESTS.rglob("*.py"))
    }


def _far(test: Path, changed: Path, steps: int) -> tuple[int, int]:
    """Return how far a test is from a file: imports between, less what the names and folders share."""
    test, changed = test.relative_to(ROOT), changed.relative_to(ROOT)
    named, of = ({word.rstrip("s") for word in p.stem.split("_")} for p in (test, changed))
    return steps - 2 * len((named & of) - {"", "test"}), -len({*test.parts} & {*changed.parts})


def tests_near(paths: Iterable[Path]) -> list[Path]:
    """Return the test files that import `paths`, directly or through modules of ours, nearest first.

    Those among `paths` come first.
    """
    importers: dict[Path, set[Path]] = {}
    for graph in (arrows(at_start=False), imports_of_tests()):
        for path, others in graph.items():
            for other in others:
                importers.setdefault(other, set()).add(path)
    far: dict[Path, tuple[int, int]] = {}
    for changed in {path.resolve() for path in paths}:
        seen, now, steps = {changed}, {changed}, 0
        while now:
            for test in now:
                if test.name.startswith("test_") and TESTS in test.parents:
                    own = (-99, 0) if test == changed else _far(test, changed, steps)
                    far[test] = min(own, far.get(test, own))
            now = {path for each in now for path in importers.get(each, ())} - seen
            seen |= now
            steps += 1
    return sorted(far, key=lambda test: (far[test], test))


def differing() -> list[Path]:
    """Return the files that differ from main, also those not committed or not yet known to git."""
    words = ["git", "-C", str(ROOT)]
    merged = subprocess.run([*words, "merge-base", "main", "HEAD"], capture_output=True, text=True)
    diff = [*words, "diff", "--name-only", merged.stdout.strip() or "main"]
    new = [*words, "ls-files", "--others", "--exclude-standard"]
    names = [
        subprocess.run(each, capture_output=True, text=True, check=True) for each in (diff, new)
    ]
    return [ROOT / name for each in names for name in each.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--most", type=int, default=MOST)
    asked = parser.parse_args()
    for path in tests_near(asked.paths or differing())[: asked.most]:
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
