"""`fuse` of one picture of linear light: tone mapping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import napari_restore as nr
from napari_restore import api
from napari_restore.images import srgb_of_light


@pytest.fixture
def light(tmp_path: Path) -> Path:
    """A float TIFF of a scene whose right half has a thousand times the light of the left one."""
    rng = np.random.default_rng(2)
    pixels = rng.uniform(0.01, 0.02, (150, 170, 3)).astype(np.float32)
    pixels[:, 85:] *= 1000
    tifffile.imwrite(tmp_path / "light.tif", pixels, photometric="rgb")
    return tmp_path / "light.tif"


@pytest.mark.slow
def test_exposures_of_a_picture_are_fused(cli: Any, light: Path, tmp_path: Path) -> None:
    out, record = tmp_path / "out.tif", tmp_path / "out.json"
    words = ["fuse", light, "-o", out, "--record", record, "--ev", "-4", "0", "5", "--tile", "64"]
    run = cli(*words)
    assert run.code == 0, run.err
    assert "exposed at −4, +0, +5 EV" in run.err
    fused = tifffile.imread(out)
    assert fused.dtype == np.uint16
    pixels = tifffile.imread(light)
    frames = [srgb_of_light(np.clip(pixels * 2.0**ev, 0, 1)) for ev in (-4, 0, 5)]
    quantised = [np.rint(frame * 65535).astype(np.uint16) for frame in frames]
    expected = np.asarray(nr.fuse(quantised, exposures=[-4, 0, 5], align="off", progress=False))
    assert np.abs(fused.astype(int) - expected).max() <= 2
    written = json.loads(record.read_text())
    assert [each["exposed"] for each in written["frames"]] == [-4, 0, 5]
    assert [each["ev"] for each in written["frames"]] == [-4, 0, 5]
    assert any("−4, +0, +5 EV" in note for note in written["notes"])
    again = tmp_path / "again.tif"
    assert cli("rerun", record, "-o", again).code == 0
    assert again.read_bytes() == out.read_bytes()
    same = nr.fuse(light, exposures=[-4, 0, 5], progress=False)
    assert np.array_equal(np.asarray(same), fused)


@pytest.mark.slow
def test_without_ev_the_range_decides_and_both_halves_are_seen(
    cli: Any, light: Path, tmp_path: Path
) -> None:
    run = cli("fuse", light, "-o", tmp_path / "out.jpg", "--quality", "95")
    assert run.code == 0 and "by its own range; --ev gives others" in run.err
    with Pillow.open(tmp_path / "out.jpg") as shown:
        values = np.asarray(shown).astype(float)
    dark, bright = values[:, :70], values[:, 100:]
    assert 60 < dark.mean() < 130 < bright.mean() < 253
    assert min(dark.std(), bright.std()) > 3


def test_the_copied_command_writes_the_same_bytes(cli: Any, light: Path, tmp_path: Path) -> None:
    image = nr.open_bracket(light, exposures=[1 / 3, -5.5, 4], reference=1)
    plan = nr.plan(image, "mertens")
    command = api.command_of(plan, tmp_path / "copied.tif")
    assert "--ev -5.5 0.3333333333333333 4 --reference=-5.5" in command
    assert cli(*command.split()[1:]).code == 0
    nr.restore(image, "mertens", progress=False).save(tmp_path / "saved.tif")
    assert (tmp_path / "copied.tif").read_bytes() == (tmp_path / "saved.tif").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ev", "1"], "light exposed once has nothing to fuse. Give --ev -2 0 2"),
        (["--ev", "-2", "nan"], "no exposure of nan EV"),
        (["--ev", "-2", "2", "--reference", "0"], "0 is none of the exposures"),
        (["--reference", "x.tif"], "none of the frames"),
    ],
)
def test_bad_input_is_said(
    cli: Any, light: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    run = cli("fuse", light, "-o", tmp_path / "out.tif", *words)
    assert run.code == 2
    assert said in run.err
    assert not (tmp_path / "out.tif").exists()


def test_an_integer_picture_alone_is_no_bracket(cli: Any, tmp_path: Path) -> None:
    Pillow.new("RGB", (30, 20)).save(tmp_path / "a.png")
    run = cli("fuse", tmp_path / "a.png", "-o", tmp_path / "out.tif", "--ev", "-2", "0", "2")
    assert run.code == 2 and "A bracket of one frame has nothing to fuse." in run.err
