"""What people install: the wheel that is built from the source archive."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from PIL import Image, ImageSequence

from napari_restore.models import card_of, entry_of, model_ids

ROOT = Path(__file__).resolve().parent.parent
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = DECLARED["project"]
REPOSITORY = PROJECT["urls"]["Repository"]

LINK = re.compile(r"\]\(([^)\s]+)\)|<(?:img|a)\s[^>]*(?:src|href)=[\"']([^\"']+)")
"""The target of a link or picture in Markdown, or in HTML within it."""

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
from napari_restore.models import entry_of, load, model_ids
for name in model_ids():
    if not entry_of(name).shipped:
        continue
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


@pytest.mark.nightly
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
    for name in model_ids():
        if not entry_of(name).shipped:
            continue
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
def test_an_environment_with_napari_keeps_its_versions(built: Path, tmp_path: Path):
    (wheel,) = built.glob("*.whl")
    report = tmp_path / "report.json"
    # Without an index pip can only take what is installed, and fails if that is not enough.
    install = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--quiet"]
    frozen = {name.lower().replace("_", "-") for name in _frozen()}
    assert {"numpy", "torch", "napari"} <= frozen
    done = subprocess.run(
        [*install, "--report", str(report), f"{wheel}[napari]"], capture_output=True, text=True
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
    assert wanted | {"tests/conftest.py", "scripts/install-torch", "conda/recipe.yaml"} <= names
    assert not any(name.startswith((".venv", ".git/", "demo/")) for name in names)


def test_the_sample_is_small_enough_to_ship():
    (sample,) = (ROOT / "src/napari_restore/sample").glob("*.tif")
    assert "synthetic" in sample.name
    assert sample.stat().st_size < 3_000_000


def test_the_moving_picture_is_small_and_short():
    path = ROOT / "docs/images/demo.gif"
    assert path.stat().st_size <= 3_000_000
    with Image.open(path) as picture:
        seconds = sum(frame.info["duration"] for frame in ImageSequence.Iterator(picture)) / 1000
    assert 15 < seconds < 25


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


def pins() -> dict[str, str]:
    """The version of each package in constraints.txt, by its normalised name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, _, version in pairs}


def declared(*groups: str) -> list[Requirement]:
    """What the package, its extras and these groups need from elsewhere."""
    listed = chain(*(DECLARED["dependency-groups"][group] for group in groups))
    texts = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    found = map(Requirement, [*texts, *(text for text in listed if isinstance(text, str))])
    return [r for r in found if canonicalize_name(r.name) != PROJECT["name"]]


def test_constraints_pin_every_declared_dependency():
    pinned = pins()
    for requirement in declared("test", "dev", "docs"):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement
    # Any build of that torch must do, the CPU one as well as a CUDA one.
    assert "+" not in pinned["torch"]


def test_the_lock_holds_the_pins_and_public_addresses():
    """`make lock` writes it again."""
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    hosts = set(re.findall(r"https?://([^/\"]+)", text))
    assert hosts == {"files.pythonhosted.org", "pypi.org"}
    locked: dict[str, set[str]] = {}
    for package in tomllib.loads(text)["package"]:
        locked.setdefault(package["name"], set()).add(package.get("version", ""))
    names = {canonicalize_name(r.name) for r in declared(*DECLARED["dependency-groups"])}
    assert names - set(locked) == set()
    differing = {name for name, version in pins().items() if version not in locked.get(name, ())}
    assert differing == set()


def test_the_lock_was_made_from_these_requirements():
    """`make lock` writes it again."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    (own,) = (package for package in packages if package["name"] == PROJECT["name"])

    def listed(texts: list[str | dict[str, str]]) -> set[tuple[str, SpecifierSet]]:
        found = [Requirement(text) for text in texts if isinstance(text, str)]
        return {(canonicalize_name(r.name), r.specifier) for r in found if not r.extras}

    def locked(entries: list[dict[str, str]]) -> set[tuple[str, SpecifierSet]]:
        found = [e for e in entries if not e.get("extras")]
        return {(e["name"], SpecifierSet(e.get("specifier", ""))) for e in found}

    extras = list(chain(*PROJECT["optional-dependencies"].values()))
    assert locked(own["metadata"]["requires-dist"]) == listed([*PROJECT["dependencies"], *extras])
    groups = own["metadata"]["requires-dev"]
    assert groups.keys() == DECLARED["dependency-groups"].keys()
    for name, texts in DECLARED["dependency-groups"].items():
        assert listed(texts) <= locked(groups[name]), name


def targets(text: str) -> list[str]:
    return [markdown or html for markdown, html in LINK.findall(text)]


def in_repository(address: str) -> str | None:
    """The path in the repository that an address on its host shows, None for other addresses."""
    places = (
        f"{REPOSITORY}/blob/main/",
        f"{REPOSITORY}/tree/main/",
        REPOSITORY.replace("github.com", "raw.githubusercontent.com") + "/main/",
    )
    for place in places:
        if address.startswith(place):
            return address.removeprefix(place).partition("#")[0]
    return None


@pytest.mark.slow
def test_an_index_page_has_no_link_that_leads_nowhere(built: Path):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    found = targets(metadata.get_payload())
    assert [link for link in found if not link.startswith(("https://", "#"))] == []
    paths = [path for link in found if (path := in_repository(link))]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert urls == PROJECT["urls"]


def test_the_search_for_links_finds_all_kinds():
    text = "[a](b.md) ![p](c.gif) [![q](d.svg)](e) <img src='f.png'> <a href=\"g\">"
    assert targets(text) == ["b.md", "c.gif", "d.svg", "e", "f.png", "g"]
    assert in_repository(f"{REPOSITORY}/blob/main/docs/x.md#y") == "docs/x.md"
    assert in_repository("https://example.com/docs") is None


def test_the_conda_recipe_needs_what_the_wheel_needs():
    recipe = yaml.safe_load((ROOT / "conda/recipe.yaml").read_text(encoding="utf-8"))
    names = {"dask": "dask-core", "torch": "pytorch"}  # as conda-forge calls them
    for wanted, listed in (
        (PROJECT["dependencies"], recipe["requirements"]["run"]),
        (DECLARED["build-system"]["requires"], recipe["requirements"]["host"]),
    ):
        ours = {names.get(r.name, r.name): str(r.specifier) for r in map(Requirement, wanted)}
        theirs = dict(line.split() for line in listed if " " in line and "python_min" not in line)
        assert theirs == ours
    assert recipe["about"]["summary"] == PROJECT["description"]
    assert recipe["about"]["license"] == PROJECT["license"]


def test_workflows_call_targets_of_the_makefile():
    made = set(
        re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    called = {
        target
        for path in workflows
        for target in re.findall(r"run: make ([\w-]+)", path.read_text(encoding="utf-8"))
    }
    assert called >= {"test", "check", "lint", "docs", "coverage", "matrix", "release-check"}
    assert called <= made


def test_hooks_take_the_ruff_of_the_environment():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (hook,) = (repo["rev"] for repo in config["repos"] if repo["repo"].endswith("/ruff-pre-commit"))
    assert f"ruff=={hook.removeprefix('v')}" in (ROOT / "constraints.txt").read_text().split()


def test_one_address_of_the_repository_is_used_everywhere():
    owner = re.compile(r"git(?:hub|hubusercontent)\.com/([\w.-]+/napari-restore)\b")
    (named,) = owner.findall(REPOSITORY)
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*.cff"), *(ROOT / ".github").rglob("*.y*ml")]
    pages += [ROOT / "pyproject.toml", ROOT / "conda" / "recipe.yaml"]
    found = {name for page in pages for name in owner.findall(page.read_text(encoding="utf-8"))}
    assert found == {named}


def version_of(folder: Path) -> str:
    """The version that a build in `folder` would have."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "hatchling", "version"]
    # A repository around the folder is none of its own.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_the_version_is_that_of_the_tag(tmp_path: Path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    (tmp_path / "file").touch()
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", "v3.2.1"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    # Untracked files make no other version; a commit after the tag does.
    assert version_of(tmp_path) == "3.2.1"
    subprocess.run([*git, "add", "."], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-qm", "y"], cwd=tmp_path, check=True)
    assert version_of(tmp_path).startswith("3.2.2.dev1+g")


@pytest.mark.slow
def test_an_archive_of_the_files_has_a_version(tmp_path: Path):
    bare = tmp_path / "bare"
    bare.mkdir()
    assert version_of(bare) == DECLARED["tool"]["hatch"]["version"]["fallback-version"]
    # What git writes into it where the archive is made of a tag.
    assert "$Format:%(describe:tags=true" in (ROOT / ".git_archival.txt").read_text()
    assert ".git_archival.txt export-subst" in (ROOT / ".gitattributes").read_text()
    (bare / ".git_archival.txt").write_text(
        f"node: {'0a' * 20}\nnode-date: 2026-01-01T00:00:00+00:00\ndescribe-name: v4.5.6\n"
    )
    assert version_of(bare) == "4.5.6"


@pytest.mark.slow
def test_wheel_and_archive_carry_one_version(built: Path):
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    assert wheel.name.split("-")[1] == archive.name.removesuffix(".tar.gz").split("-")[1]
