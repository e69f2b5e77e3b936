"""What people install: the wheel that is built from the source archive."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from napari_restore.models import card_of, model_ids, ships

ROOT = Path(__file__).resolve().parent.parent

LOOK = """
import pathlib, sys
import napari_restore
from napari_restore.sample import SAMPLE
folder = pathlib.Path(napari_restore.__file__).parent
assert folder.is_relative_to(sys.argv[1]), folder
assert (folder / "py.typed").is_file()
image = napari_restore.open_image(SAMPLE)
assert image.shape == (2048, 3072, 3), image.shape
assert image.read((0, 0, 8, 8)).std() > 0
print("opened", SAMPLE)
from napari_restore.models import load, model_ids, ships
for name in filter(ships, model_ids()):
    print("filled", name, load(name).card.weights_sha256)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel made from it."""
    folder = tmp_path_factory.mktemp("dist")
    # `build` makes the archive first and the wheel from its content.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_the_wheel_from_the_sdist_works_in_an_empty_folder(built: Path, tmp_path: Path):
    (wheel,) = built.glob("*.whl")
    site = tmp_path / "größer site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*install, str(site), str(wheel)], check=True)
    # Ahead of the development install, away from the source tree.
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(site)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "opened" in done.stdout
    for name in filter(ships, model_ids()):
        assert f"filled {name} {card_of(name).weights_sha256}" in done.stdout


@pytest.mark.slow
def test_the_wheel_holds_all_data_and_nothing_else(built: Path):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        manifest = archive.read("napari_restore/napari.yaml").decode()
    package = ROOT / "src" / "napari_restore"
    expected = {
        f"napari_restore/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("napari_restore/")} == expected
    assert manifest == (package / "napari.yaml").read_text(encoding="utf-8")
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"napari_restore"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["", "[napari]"])
def test_an_environment_with_napari_keeps_its_versions(built: Path, tmp_path: Path, extra: str):
    (wheel,) = built.glob("*.whl")
    report = tmp_path / "report.json"
    # Without an index pip can only take what is installed, and fails if that is not enough.
    install = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--quiet"]
    frozen = {name.lower().replace("_", "-") for name in _frozen()}
    assert {"numpy", "torch", "napari"} <= frozen
    done = subprocess.run(
        [*install, "--report", str(report), f"{wheel}{extra}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    changed = {
        each["metadata"]["name"] for each in json.loads(report.read_text("utf-8"))["install"]
    }
    assert changed <= {"napari-restore"}


def _frozen() -> list[str]:
    """Names of the distributions of this environment."""
    return [each.metadata["Name"] for each in importlib.metadata.distributions()]


@pytest.mark.slow
def test_the_wheel_is_no_larger_than_20_megabytes(built: Path):
    (wheel,) = built.glob("*.whl")
    assert wheel.stat().st_size <= 20_000_000


@pytest.mark.slow
def test_the_sdist_holds_what_its_tests_need(built: Path):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {"pyproject.toml", "LICENSE", "README.md", "Makefile", "constraints.txt"}
    assert wanted | {"tests/conftest.py", "scripts/install-torch"} <= names
    assert not any(name.startswith((".venv", ".git/", "demo/")) for name in names)


def test_the_sample_is_small_enough_to_ship():
    (sample,) = (ROOT / "src/napari_restore/sample").glob("*.tif")
    assert "synthetic" in sample.name
    assert sample.stat().st_size < 3_000_000


def test_ignored_paths_are_anchored():
    # An unanchored pattern such as *.tif would silently drop the sample from the wheel.
    lines = (ROOT / ".gitignore").read_text().split()
    assert lines
    assert all(line.startswith("/") for line in lines)


def test_the_manifest_at_the_root_is_the_one_in_the_package():
    inside = ROOT / "src/napari_restore/napari.yaml"
    at_root = ROOT / "napari.yaml"
    if not at_root.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert at_root.resolve() == inside.resolve()


def test_constraints_pin_every_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = {
        canonicalize_name(name): version
        for name, _, version in (
            line.partition("==")
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if line and not line.startswith("#")
        )
    }
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["all"], *extras["napari"], *extras["dev"]]
    for text in [*declared, *extras["test"]]:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) == "napari-restore":
            continue
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text
    # Any build of that torch must do, the CPU one as well as a CUDA one.
    assert "+" not in pins["torch"]
