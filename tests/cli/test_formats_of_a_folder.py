"""What formats cannot have is said, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow, PngImagePlugin

CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        seen = self.one(x)
        return x + 0.1 * seen * seen.mean((2, 3), keepdim=True)

def make():
    return Net()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a JPEG, a TIFF and a PNG."""
    rng = np.random.default_rng(2)
    made = tmp_path / "in"
    made.mkdir()
    for name in ("a.jpg", "b.tif", "c.png"):
        Pillow.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(made / name)
    return made


def test_quality_is_for_those_files_that_have_it(cli: Any, folder: Path, tmp_path: Path):
    words = ["restore", folder, "--model", "identity", "--record", tmp_path / "{stem}.json"]
    words += ["--name", "{stem}{suffix}"]
    low, high = tmp_path / "low", tmp_path / "high"
    run = cli(*words, "-o", low, "--quality", "10")
    assert run.code == 0, run.err
    note = "--quality 10 is not for .png and .tif: these files are written without it."
    assert run.err.count(note) == 1
    records = [json.loads((tmp_path / f"{n}.json").read_text("utf-8")) for n in "abc"]
    given = [record["output"]["options"] for record in records]
    assert given == [{"quality": 10}, {}, {}]
    assert cli(*words, "-o", high, "--overwrite").code == 0
    assert 3 * (low / "a.jpg").stat().st_size < (high / "a.jpg").stat().st_size
    for name in ("b.tif", "c.png"):
        assert np.array_equal(Pillow.open(low / name), Pillow.open(folder / name))


@pytest.mark.parametrize(("size", "noted"), [(60_000, False), (70_000, True)])
def test_a_comment_that_jpeg_has_no_room_for_is_noted(
    cli: Any, tmp_path: Path, size: int, noted: bool
):
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * size)
    Pillow.new("RGB", (30, 20)).save(tmp_path / "a.png", pnginfo=text)
    words = ("restore", tmp_path / "a.png", "--model", "identity", "-o")
    run = cli(*words, tmp_path / "b.jpg")
    assert run.code == 0, run.err
    assert ("The comment of a is left out: JPEG has 64 kB for it." in run.err) == noted
    assert (b"x" * size in (tmp_path / "b.jpg").read_bytes()) != noted
    assert "left out" not in cli(*words, tmp_path / "b.png").err


@pytest.mark.nightly
def test_sweeps_that_were_found_are_noted(cli: Any, folder: Path, tmp_path: Path):
    (tmp_path / "mean.py").write_text(CODE, "utf-8")
    words = ["--model", f"{tmp_path / 'mean.py'}:make", "--yes", "--tile", "64"]
    note = "mean depends on the whole image: it is run in 2 sweeps"
    assert note in cli("plan", folder / "c.png", *words).out
    record = tmp_path / "r.json"
    run = cli("restore", folder / "c.png", "-o", tmp_path / "o.png", *words, "--record", record)
    assert run.code == 0, run.err
    assert run.err.count(note) == 1
    assert note in record.read_text("utf-8")
