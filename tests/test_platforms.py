"""What Windows lacks is needed nowhere: modules of POSIX, and files that are removed while they are open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

SUPPORT = Path(__file__).parent / "support"
EACH = """
import importlib, pkgutil
import napari_restore
names = [m.name for m in pkgutil.walk_packages(napari_restore.__path__, "napari_restore.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
COMMANDS = """
import json, re, sys
from napari_restore.commands import main
codes = [main(words) for words in json.loads(sys.argv[1])]
names = {re.search(r"([.]?[^./]*)[^/]*$", path)[1] for path in like_windows.refused}
print(json.dumps({"codes": codes, "refused": sorted(names)}))
"""


def like_windows(code: str, folder: Path, *arguments: str) -> str:
    """The last line that `code` prints in a process without what Windows lacks."""
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import like_windows\n" + code, *arguments],
        env={**environment, "NAPARI_RESTORE_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="other systems are tested as they are")
def test_every_module_is_imported_where_posix_is_missing(tmp_path: Path) -> None:
    assert int(like_windows(EACH, tmp_path)) > 500


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems are tested as they are")
@pytest.mark.nightly
def test_the_check_sees_a_module_and_a_file_that_windows_refuses(tmp_path: Path) -> None:
    code = """
import os, sys
try:
    import fcntl
except ImportError:
    print("no fcntl")
os.mkdir(sys.argv[1])
file = open(sys.argv[1] + "/b", "w+b")
file.write(b"content")
file.flush()
import numpy as np
mapped = np.memmap(sys.argv[1] + "/b", mode="r")
for what in ("open", "mapped"):
    for path in (sys.argv[1] + "/b", sys.argv[1]):
        try:
            os.replace(path, path + ".new")
        except PermissionError:
            print("refused", end=" ")
    file.close()
del mapped
os.replace(sys.argv[1], sys.argv[1] + ".new")
print(hasattr(os, "getuid"), sys.platform)
"""
    assert like_windows(code, tmp_path, str(tmp_path / "a")) == "refused " * 4 + "False win32"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems are tested as they are")
@pytest.mark.nightly
def test_commands_run_where_posix_is_missing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(90, 250, (80, 100, 3), np.uint8)
    source = tmp_path / "größe.tif"
    tifffile.imwrite(source, pixels, photometric="rgb")
    words = [["info", str(source)]]
    for output in ("a.tif", "a.tif", "a.png", "a.jpg", "a.zarr", "a.zarr"):
        target, record = str(tmp_path / output), str(tmp_path / "r.json")
        line = ["restore", str(source), "-o", target, "--model", "dcp", "--record", record]
        words.append([*line, "--overwrite"])
    words.append(["rerun", str(tmp_path / "r.json"), "-o", str(tmp_path / "b.zarr")])
    words.append(["cache", "--clear"])
    found = json.loads(like_windows(COMMANDS, tmp_path, json.dumps(words)))
    assert found["codes"] == [0] * len(words)
    # The marks of who uses a folder stay until the next one looks; nothing else was open, and no
    # folder of unfinished tiles is left beside an output.
    assert set(found["refused"]) <= {"in-use", "writer", ".napari-restore"}
    assert not list(tmp_path.glob(".*"))
    plain = subprocess.run(
        [
            sys.executable,
            "-m",
            "napari_restore",
            *words[2][:3],
            str(tmp_path / "c.tif"),
            *words[2][4:6],
        ],
        capture_output=True,
        text=True,
    )
    assert plain.returncode == 0, plain.stderr
    here = tifffile.imread(tmp_path / "c.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), here)
    for name in ("a", "b"):
        group = zarr.open_group(str(tmp_path / f"{name}.zarr"), mode="r")
        assert np.array_equal(np.moveaxis(group["0"][...], 0, 2), here)
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.size == (100, 80)
