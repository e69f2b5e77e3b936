"""Ctrl-C and SIGTERM end a command wherever it is, with one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Picture
from points import patience

from ._scenes import hazy, write_tiff
from .test_process import command_of, stopped_after_a_tile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="another way to send Ctrl-C"),
]
RESTORE = ("restore", "s.tif", "-o", "o.tif", "--model", "dcp", "--tile", 128)
TABLE = (
    "attribute",
    "s.tif",
    "--boxes",
    "b.csv",
    "--model",
    "dcp",
    "--method",
    "ig",
    "-o",
    "t.csv",
)


FUSE = ("fuse", "folder", "-o", "f.jpg", "--model", "mertens", "--align", "off")
MAP = ("attribute", "s.tif", "--box", 50, 40, 12, 8, *TABLE[4:-1], "m.tif")
ATTEND = ("attend", "s.tif", "--query", 50, 40, "--model", "hint-small-denoise", "-o", "a.npz")


@pytest.fixture(autouse=True)
def scene(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiff(tmp_path / "s.tif", hazy(500, 500), tiled=True)
    (tmp_path / "folder").mkdir()
    for number, gain in enumerate((0.3, 1.0)):
        frame = Picture.fromarray((hazy(300, 300).transpose(1, 2, 0) * gain).astype("uint8"))
        frame.save(tmp_path / "folder" / f"{number}.png")
    (tmp_path / "b.csv").write_text("x,y,width,height\n50,40,12,8\n10,20,9,7\n")


@pytest.mark.parametrize(
    ("words", "point"),
    [
        (("info", "s.tif"), "command begins"),
        (("info", "s.tif"), "image opens"),
        (("plan", "s.tif", "--model", "dcp"), "plan begins"),
        (RESTORE, "command begins"),
        (RESTORE, "image opens"),
        (RESTORE, "plan begins"),
        (RESTORE, "tile stored"),
        (RESTORE, "o.tif written"),
        (("restore", "folder", "-o", "out", "--model", "dcp"), "plan begins"),
        (FUSE, "image opens"),
        (FUSE, "plan begins"),
        (FUSE, "tile stored"),
        (FUSE, "f.jpg written"),
        (MAP, "plan begins"),
        (MAP, "m.tif written"),
        (TABLE, "image opens"),
        (TABLE, "rows.jsonl appended"),
        (TABLE, "t.csv written"),
        (ATTEND, "image opens"),
        (ATTEND, "a.npz written"),
    ],
)
@pytest.mark.ids(
    "nightly",
    "words1-image opens",
    "words5-plan begins",
    "words10-plan begins",
    "words11-tile stored",
    "words12-f.jpg written",
    "words14-m.tif written",
    "words15-image opens",
    "words16-rows.jsonl appended",
    "words17-t.csv written",
    "words19-a.npz written",
    "words8-plan begins",
)
def test_ctrl_c_ends_with_one_sentence(words: tuple[Any, ...], point: str, points: Any) -> None:
    points.hold(point)
    with subprocess.Popen(command_of(*words), stderr=subprocess.PIPE, text=True) as child:
        try:
            points.wait(point)
            child.send_signal(signal.SIGINT)
            # Its thread is held still: nobody waits for it.
            _, said = child.communicate(timeout=patience())
        finally:
            points.go(point)
    assert child.returncode == 3, said
    assert "Traceback" not in said and said.count("napari-restore:") == 1


@pytest.mark.parametrize(
    ("part", "words"), [("_result", []), ("_options", ["info", "a.tif"])], ids=["main", "command"]
)
def test_ctrl_c_while_the_command_line_is_loaded_ends_with_one_sentence(
    part: str, words: list[str]
) -> None:
    code = f"""
import runpy, sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "napari_restore.commands.{part}":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
runpy.run_module("napari_restore", run_name="__main__")
"""
    words = [sys.executable, "-c", code, *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "napari-restore: Stopped.\n")


@pytest.mark.nightly
def test_sigterm_says_what_is_kept_as_ctrl_c_does(tmp_path: Path, points: Any) -> None:
    found = []
    for number in (signal.SIGINT, signal.SIGTERM):
        code, _, said = stopped_after_a_tile(command_of(*RESTORE, "--fresh"), points, number)
        assert code == 3, said
        found.append(said.splitlines()[-1])
    assert all("The same command goes on from there." in line for line in found), found
    assert not (tmp_path / "o.tif").exists()
    assert subprocess.run(command_of(*RESTORE), check=False).returncode == 0
