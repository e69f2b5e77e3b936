"""Files that a user names are opened by one mechanism: what is no plain file ends in one sentence."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

import napari_restore as nr
from napari_restore import api
from napari_restore._plain_files import (
    MOST_DOTS,
    check_file,
    open_file,
    parse_toml,
    read_file,
    read_text,
)
from napari_restore.errors import RestoreError
from napari_restore.explain.attention.queries import queries_in
from napari_restore.explain.attribution.files import mapped_array
from napari_restore.explain.tables._targets import read_targets
from napari_restore.images.export._rendition import icc_of
from napari_restore.images.values.sensor_file import sensor_text

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = {"src": ROOT / "src" / "napari_restore", "lab": ROOT / "lab" / "src"}
READS = {"read_bytes", "read_text"}
LOADS = {("np", "load"), ("np", "fromfile"), ("np", "memmap"), ("np", "loadtxt"), ("Image", "open")}
OTHERS = {
    "src/_journal.py": 2,
    "src/_plain_files.py": 1,
    "src/_replacing.py": 2,
    "src/commands/_outputs.py": 1,
    "src/engine/executors/_child.py": 1,
    "src/engine/ledger/kept_layers.py": 2,
    "src/engine/ledger/slab.py": 2,
    "src/engine/ledger/store.py": 1,
    "src/engine/ledger/values.py": 3,
    "src/engine/machine/budget.py": 1,
    "src/engine/planning/measurements.py": 1,
    "src/engine/results/result.py": 1,
    "src/engine/statistics/kept.py": 1,
    "src/explain/attribution/files.py": 1,
    "src/explain/attribution/stored_accumulator.py": 4,
    "src/images/cache/lock.py": 1,
    "src/images/export/_photo.py": 1,
    "src/images/export/_planes.py": 5,
    "src/images/export/_tiff_levels.py": 3,
    "src/images/export/exif.py": 3,
    "src/images/files/buckets.py": 1,
    "src/images/files/exif.py": 1,
    "src/images/files/trees.py": 1,
    "src/images/levels/making.py": 1,
    "src/images/readers/_avif.py": 1,
    "src/images/readers/_jpeg.py": 1,
    "src/images/readers/_oriented.py": 1,
    "src/images/readers/_pfm.py": 1,
    "src/images/readers/_radiance.py": 1,
    "src/images/readers/_zarr_bounds.py": 1,
    "src/models/_code.py": 2,
    "src/models/_onnx.py": 3,
    "src/models/_weights.py": 1,
    "lab/napari_restore_lab/data/_distance.py": 2,
    "lab/napari_restore_lab/data/_pack.py": 4,
    "lab/napari_restore_lab/data/_pictures.py": 1,
    "lab/napari_restore_lab/degradation/_low_light.py": 1,
    "lab/napari_restore_lab/loop/_log.py": 1,
    "lab/napari_restore_lab/score/_strips.py": 1,
    "lab/napari_restore_lab/synthetic_haze/_sensor.py": 1,
}
"""Places of the program's own files, and of files that a door has opened before: may only shrink."""


def _opens(node: ast.Call) -> bool:
    """Return whether a call opens a file to be read, past the mechanism."""
    called, modes = node.func, [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
    mode = next(
        (a.value for a in modes if isinstance(a, ast.Constant) and isinstance(a.value, str)), None
    )
    if isinstance(called, ast.Name):
        return called.id == "open" and (mode is None or "w" not in mode)
    if not isinstance(called, ast.Attribute):
        return False
    owner = called.value.id if isinstance(called.value, ast.Name) else ""
    if called.attr in READS or (owner, called.attr) in LOADS:
        return True
    keywords = {k.arg for k in node.keywords}
    reads = mode in ("r", "rb", "r+b") or (not node.args and keywords & {"encoding", "newline"})
    return called.attr == "open" and bool(reads)


def _found() -> dict[str, int]:
    found: dict[str, int] = {}
    for name, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            count = sum(isinstance(node, ast.Call) and _opens(node) for node in ast.walk(tree))
            if count:
                found[f"{name}/{path.relative_to(folder).as_posix()}"] = count
    return found


def test_no_other_place_opens_files() -> None:
    found = _found()
    more = {name: count for name, count in found.items() if count > OTHERS.get(name, 0)}
    assert not more, f"by open_file, read_file or read_text of _plain_files instead: {more}"
    less = {name: count for name, count in OTHERS.items() if count > found.get(name, 0)}
    assert not less, f"lower the list: {less}"


def _context(path: Path) -> object:
    return nr.plan(np.zeros((64, 64, 3), "uint8"), "dcp", context=path)


DOORS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "image": ("x.tif", nr.open_image),
    "profile": ("x.icc", lambda path: icc_of(str(path))),
    "sensor": ("x.toml", lambda path: sensor_text(str(path))),
    "queries": ("x.csv", queries_in),
    "boxes": ("x.csv", read_targets),
    "segments": ("x.npy", mapped_array),
    "model": ("x.pt", lambda path: api.inspect_model(str(path))),
    "code": ("x.pt", lambda path: api.code_file(str(path))),
    "context": ("x.npz", _context),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_plain_file_is_refused(door: str, kind: str, tmp_path: Path) -> None:
    name, open_it = DOORS[door]
    path = tmp_path / name
    if kind == "folder":
        path.mkdir()
        if door in ("image", "code", "model"):
            pytest.skip("may be a folder, or is asked for when it is loaded")
    elif not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(RestoreError) as raised:
        open_it(path)
    message = str(raised.value)
    assert "\n" not in message and raised.value.hint
    assert not re.search("There is no (?!plain file)", message)


def test_one_wording(tmp_path: Path) -> None:
    folder, large = tmp_path / "folder", tmp_path / "large"
    folder.mkdir()
    large.write_bytes(bytes(3000))
    for path, why in (
        (Path("/dev/zero"), "no plain file"),
        (folder, "irectory|ermission"),
        (large, "larger than 2 KiB"),
        (Path("a\0b"), "NUL"),
    ):
        with pytest.raises(OSError, match=why):
            read_file(path, 2048)
    with pytest.raises(OSError, match="NUL"):
        open_file("a\0b")
    check_file(tmp_path / "nothing")
    (tmp_path / "text").write_bytes("\ufeffä".encode())
    assert read_text(tmp_path / "text") == "ä"


def test_toml_that_would_take_minutes() -> None:
    for text in (
        "[model]\nid = " + "[" * 50_000,
        "a" + ".a" * 30_000 + " = 1",
        "[a" + ".1" * 30_000,
    ):
        with pytest.raises(ValueError, match=r"nested|dots"):
            parse_toml(text)
    numbers = ", ".join(f"{n / 7:.4f}" for n in range(5 * MOST_DOTS))
    assert len(parse_toml(f"curve = [{numbers}]\na.b.c = 1")["curve"]) == 5 * MOST_DOTS


def test_a_pipe_among_frames(tmp_path: Path) -> None:
    """Its header is asked for to tell which files are two of one shot."""
    from napari_restore.images.brackets._groups import _header_of

    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "a.jpg")
    assert _header_of(tmp_path / "a.jpg") == (None, ())
    Picture.new("RGB", (9, 5)).save(tmp_path / "b.jpg")
    assert _header_of(tmp_path / "b.jpg")[1] == (5, 9)
