"""The changes shown in docs/extending apply to this version, and their tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    page for page in (ROOT / "docs" / "extending").glob("*.md") if page.name != "index.md"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_change_applies(page: Path) -> None:
    subprocess.run(
        ["git", "apply", "--check"], input=change_in(page), text=True, cwd=ROOT, check=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.ids("nightly", "model", "reader", "executor", "option", "tab", "explainer")
def test_the_change_works(page: Path, tmp_path: Path) -> None:
    diff = change_in(page)
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    # Without a repository of its own, git would look for one above.
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "apply"], input=diff, text=True, cwd=tmp_path, check=True)
    (tested,) = re.findall(r"^\+\+\+ b/(tests/\S+)", diff, re.MULTILINE)
    command = [sys.executable, "-m", "pytest", tested, "-q", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    loaded = f"import napari_restore; assert {str(tmp_path)!r} in napari_restore.__file__"
    subprocess.run([sys.executable, "-c", loaded], cwd=tmp_path, env=environment, check=True)


def change_in(page: Path) -> str:
    (diff,) = re.findall(r"```diff\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return str(diff)
