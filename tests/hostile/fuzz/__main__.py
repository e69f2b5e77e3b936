"""Feeds damaged and hostile files to everything that reads one: `make fuzz`.

A case follows from the series and its number alone: `--series 0 --case 4711` repeats
it. What fails is kept with its files in the folder of the report.
"""

from __future__ import annotations

import argparse
import collections
import gc
import importlib
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path

# Set before anything numerical is loaded: a fork takes one thread along.
os.environ |= {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
# Products are made as for other tests.
sys.path.append(str(Path(__file__).parents[2] / "support"))

from cases import Case, good_cases, make_case, run_case
from confine import Outcome
from corpus import Seed, make_corpus
from listener import Listener

KINDS = ("traceback", "crash", "hang", "peak", "changed", "connection", "program")


def main() -> int:
    """Run the cases that are asked for; 0 where none failed."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20000, help="how many (default 20000)")
    parser.add_argument("--series", type=int, default=0, help="another number, other cases")
    parser.add_argument("--case", type=int, help="only this one, with all it prints")
    parser.add_argument("--only", default="", metavar="TEXT", help="seeds with it in their names")
    parser.add_argument("--report", type=Path, help="a folder; a report that is there goes on")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        return _run(options, Path(name))


def _run(options: argparse.Namespace, folder: Path) -> int:
    seeds = corpus_of(folder / "corpus")
    if options.case is not None:
        case = make_case(_chosen(seeds, options.only), options.case, options.series)
        with Listener(folder) as listener:
            outcome = run_case(case, folder / "case", listener.url)
        print(f"{case.title}\n{outcome.output}\n{outcome.problem or 'no problem'}")
        return int(bool(outcome.problem))
    report = Report(options.report or Path(tempfile.mkdtemp(prefix="fuzz-report-")), options.series)
    chosen = _chosen(seeds, options.only)

    def work(first: int) -> None:
        """Every so many-th case from `first` on."""
        cases = good_cases(chosen) if first == 0 else []
        todo = (n for n in range(first, options.cases, options.jobs) if n not in report.done)
        with Listener(folder) as listener:
            for case in chain(cases, (make_case(chosen, n, options.series) for n in todo)):
                report.hear(case, run_case(case, folder / f"case-{first}", listener.url), listener)

    children = [_forked(work, number) for number in range(1, options.jobs)]
    work(0)
    for child in children:
        os.waitpid(child, 0)
    return report.finish()


def _forked(work: Callable[[int], None], number: int) -> int:
    """The id of a process that does a share of the work."""
    child = os.fork()
    if child == 0:
        try:
            work(number)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    return child


def corpus_of(folder: Path) -> list[Seed]:
    """Make the corpus in a process of its own, so that this one keeps to one thread."""
    import pickle

    folder.mkdir()
    child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("ignore")
            os.dup2(os.open(folder / "log", os.O_WRONLY | os.O_CREAT), 1)
            os.dup2(1, 2)
            (folder / "files").mkdir()
            seeds = make_corpus(folder / "files")
            (folder / "seeds").write_bytes(pickle.dumps((seeds, sorted(sys.modules))))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(0)
    os.waitpid(child, 0)
    if not (folder / "seeds").exists():
        sys.exit((folder / "log").read_text())
    seeds, modules = pickle.loads((folder / "seeds").read_bytes())
    for module in modules:
        # Whatever the doors load later is loaded once, here.
        try:
            importlib.import_module(module)
        except Exception:
            continue
    # What stays as it is need not be copied into every fork.
    gc.freeze()
    return list(seeds)


def _chosen(seeds: list[Seed], text: str) -> list[Seed]:
    return [seed for seed in seeds if text in seed.name]


class Report:
    """What came of the cases, in a folder: a line for each, and the files of those that failed."""

    def __init__(self, folder: Path, series: int) -> None:
        self.folder, self.series = folder, series
        self._start, self._heard = time.monotonic(), 0
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = folder / f"cases-{series}.jsonl"
        self.done = {line["case"] for line in self._read()}

    def _read(self) -> list[dict[str, object]]:
        if not self._lines.exists():
            return []
        return [json.loads(line) for line in self._lines.read_text("utf-8").splitlines()]

    def hear(self, case: Case, outcome: Outcome, listener: Listener) -> None:
        """Keep the outcome of a case."""
        problem = outcome.problem
        if listener.connections() and not problem:
            problem = "connection: to the listening server"
        if case.number < 0 and not problem and "napari-restore: " in outcome.output:
            problem = f"good file refused: {outcome.output.strip().splitlines()[-1]}"
        line = {
            "case": case.number, "title": case.title, "problem": problem,
            "seconds": round(outcome.seconds, 3), "peak": outcome.peak,
        }  # fmt: skip
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._heard += 1
        if problem:
            print(f"{case.title}\n    {problem}", flush=True)
            kept = self.folder / f"case-{self.series}-{case.number}-{case.seed.name}"
            for name, data in case.files.items():
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                (kept / name).write_bytes(data)
            (kept / "output.txt").write_text(
                f"{case.title}\n{problem}\n\n{outcome.output}", "utf-8"
            )
        if self._heard % 500 == 0:
            rate = self._heard / (time.monotonic() - self._start)
            print(f"{self._heard} cases, {rate:.1f} a second", flush=True)

    def finish(self) -> int:
        """Print the figures; how many failed as the exit code."""
        lines = self._read()
        failed = [line for line in lines if line["problem"]]
        counts = collections.Counter(str(line["problem"]).partition(":")[0] for line in failed)
        told = {
            "cases": len(lines),
            "series": self.series,
            "cases_per_second": round(self._heard / (time.monotonic() - self._start), 1),
            "problems": {kind: counts.pop(kind, 0) for kind in KINDS} | dict(counts),
            "longest_seconds": max((line["seconds"] for line in lines), default=0),  # type: ignore[type-var]
            "highest_peak_bytes": max((line["peak"] for line in lines), default=0),  # type: ignore[type-var]
            "distinct": collections.Counter(str(line["problem"]) for line in failed).most_common(
                100
            ),
        }
        (self.folder / f"report-{self.series}.json").write_text(json.dumps(told, indent=2))
        print(json.dumps(told, indent=2))
        print(f"report and files: {self.folder}")
        return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
