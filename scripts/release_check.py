"""Checks what is published: metadata, archives in dist/, workflows, spelling. Needs no network.

`make release-check` builds dist/ and has an environment with the checkers.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHECKS = (
    ("pyroma", "--min", "10", "."),
    ("twine", "--no-color", "check", "--strict", "dist/*"),
    ("check-wheel-contents", "dist"),
    ("validate-pyproject", "pyproject.toml"),
    ("cffconvert", "--validate"),
    ("npe2", "validate", "src/napari_restore/napari.yaml"),
    ("sp-repo-review", "--show", "err", "."),
    ("deptry", "src/napari_restore"),
    ("vulture",),
    ("typos",),
    ("zizmor", "--offline", "--no-progress", ".github"),
    ("actionlint",),
)
"""Commands, each of which fails when it finds something."""

OPTIONAL = {"actionlint"}
"""Comes with no package of an index, so a machine may lack it; pre-commit runs it, too."""


def run(command: tuple[str, ...]) -> bool:
    """Run one check, print its last line, or all lines if it fails; return whether it passed."""
    name = command[0]
    program = shutil.which(name)
    if program is None:
        print(f"{name}: not installed" + (", skipped" if name in OPTIONAL else ""))
        return name in OPTIONAL
    arguments = [
        str(path)
        for part in command[1:]
        for path in (sorted(ROOT.glob(part)) if "*" in part else [part])
    ]
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(f"{name}: failed\n{done.stdout}{done.stderr}")
    else:
        lines = [line.strip() for line in done.stdout.splitlines() if re.search(r"\w", line)]
        print(f"{name}: {lines[-1] if lines else 'nothing found'}")
    return done.returncode == 0


def main() -> int:
    failed = [command[0] for command in CHECKS if not run(command)]
    print(f"failed: {', '.join(failed)}" if failed else "all checks that are installed passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
