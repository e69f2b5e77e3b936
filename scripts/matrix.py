"""Runs the quick tests at the lowest versions that are declared and at the newest; writes the page.

Each run has its environment in FOLDER. The page is made of all reports in FOLDER, so that runs can
be made one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "versions.md"
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = DECLARED["project"]
EXTRAS = list(PROJECT["optional-dependencies"])
TESTS = DECLARED["dependency-groups"]["test"]
"""With the extras, all that tests run with; versions of linters and builders change no result."""

INTRODUCTION = """\
# Versions

`make matrix` wrote this page. In an environment of its own for each run it installs all extras and
runs the quick tests (`make test`): once with the lowest version of every package that
`pyproject.toml` declares, exactly these, and once with the newest ones that can be installed.
Packages that come with those are the newest in both. Skipped tests need a GPU, or what the system lacks.
"""


def declared() -> dict[str, Requirement]:
    """Every package that is declared, by its normalised name; those of the project are left out."""
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][e] for e in EXTRAS), TESTS]
    found = [Requirement(text) for texts in lists for text in texts]
    return {
        name: requirement
        for requirement in sorted(found, key=lambda r: r.name.lower())
        if (name := canonicalize_name(requirement.name)) != PROJECT["name"]
    }


def lowest(requirement: Requirement) -> str:
    """The version from which on a package will do."""
    (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
    return bound


def run(end: str, python: str, folder: Path, options: argparse.Namespace) -> None:
    """Install and test; write FOLDER/END-VERSION.json."""
    version = output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    name = f"{end}-{version}"
    environment = folder / name
    own = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not options.keep:
        install(end, python, environment, own, options.index)
    results = folder / f"{name}.xml"
    results.unlink(missing_ok=True)
    command = [
        own,
        "-m",
        "pytest",
        "-m",
        "not slow and not static and not nightly",
        "-q",
        f"--junitxml={results}",
    ]
    command += ["-n", options.workers, "--dist", "loadfile", "--max-worker-restart=0"]
    command += options.tests
    subprocess.run([str(part) for part in command], cwd=ROOT)
    if not results.is_file():
        raise SystemExit(f"{name}: pytest ended without results, see above.")
    listed = json.loads(output([str(own), "-m", "pip", "list", "--format=json"]))
    report = {
        "date": date.today().isoformat(),
        "python": output([str(own), "-c", "import platform; print(platform.python_version())"]),
        "system": f"{platform.system()} {platform.machine()}",
        "tests": " ".join(options.tests) or "all",
        "versions": {canonicalize_name(p["name"]): p["version"] for p in listed},
        **counts(results),
    }
    (folder / f"{name}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def install(end: str, python: str, environment: Path, own: Path, index: str) -> None:
    """Make an environment with the versions of one end."""
    subprocess.run([python, "-m", "venv", "--clear", str(environment)], check=True)
    pins = [f"{name}=={lowest(r)}" for name, r in declared().items()] if end == "lowest" else []
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(pins), encoding="utf-8")
    # First, so that the rest takes the build of its index.
    torch = next((pin for pin in pins if pin.startswith("torch==")), "torch")
    subprocess.run(["scripts/install-torch", str(own), index, torch], cwd=ROOT, check=True)
    # Dependency groups came with pip 25.1.
    subprocess.run(
        [str(own), "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1"], check=True
    )
    command = [own, "-m", "pip", "install", "--quiet", "--constraint", constraints]
    command += ["--pre"] if end == "pre" else []
    command += ["--editable", f".[{','.join(EXTRAS)}]", "--group", "test"]
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True)


def output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def counts(results: Path) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and which failed."""
    cases = list(ElementTree.parse(results).iter("testcase"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    return {"passed": passed, "failed": failed, "skipped": skipped}


def page(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of `reports`, by the name of their run."""
    runs = [["run", "date", "system", "Python", "tests", "passed", "failed", "skipped"]]
    for name, report in reports.items():
        told = [report[key] for key in ("date", "system", "python", "tests", "passed")]
        runs.append([name, *map(str, told), str(len(report["failed"])), str(report["skipped"])])
    versions = [["package", "declared", *reports]]
    for name, requirement in declared().items():
        found = [report["versions"].get(name, "–") for report in reports.values()]
        versions.append([requirement.name, f"`{requirement.specifier}`", *found])
    failures = [
        f"- {name}: `{test}`" for name, report in reports.items() for test in report["failed"]
    ]
    parts = [INTRODUCTION, table(runs), table(versions)]
    if failures:
        parts.append("Failed:\n\n" + "\n".join(failures) + "\n")
    return "\n".join(parts)


def table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="END:PYTHON", help="lowest:…, newest:… or pre:…")
    parser.add_argument("--folder", type=Path, default=ROOT / ".matrix")
    parser.add_argument("--index", required=True, help="PyTorch's index")
    parser.add_argument("--tests", nargs="*", default=[], help="files and folders; else all")
    parser.add_argument("--workers", default="2", help="processes that share the tests")
    parser.add_argument("--keep", action="store_true", help="test the environments as they are")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for text in options.runs:
        end, _, python = text.partition(":")
        if end not in ("lowest", "newest", "pre"):
            parser.error(f"{end} is none of lowest, newest and pre")
        run(end, python or sys.executable, options.folder.resolve(), options)
    found = sorted(options.folder.glob("*.json"))
    reports = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in found}
    PAGE.write_text(page(reports), encoding="utf-8")
    print(f"{os.path.relpath(PAGE)}: {', '.join(reports)}")
    return 1 if any(report["failed"] for report in reports.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
