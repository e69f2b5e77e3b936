"""`fuse`: frames in, one picture out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from tests.models.test_mertens import frames

import napari_restore as nr
from napari_restore.errors import BadParameter, SourceChanged


@pytest.fixture
def bracket(tmp_path: Path) -> Path:
    """A folder with the three frames of a scene, not in the order of exposure."""
    folder = tmp_path / "bracket"
    folder.mkdir()
    for name, frame in zip(("b", "c", "a"), frames(150, 170), strict=True):
        Pillow.fromarray((frame * 255).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.mark.slow
def test_a_folder_is_fused_and_its_record_repeats_it(
    cli: Any, bracket: Path, tmp_path: Path
) -> None:
    out, record = tmp_path / "fused.png", tmp_path / "fused.json"
    run = cli("fuse", bracket, "-o", out, "--record", record)
    assert run.code == 0, run.err
    written = json.loads(record.read_text())
    assert [Path(each["path"]).name for each in written["frames"]] == ["b.png", "c.png", "a.png"]
    assert written["reference"] == 1
    assert Path(written["input"]["path"]).name == "c.png"
    again = tmp_path / "again.png"
    assert cli("rerun", record, "-o", again).code == 0
    assert again.read_bytes() == out.read_bytes()
    same = np.asarray(nr.fuse(sorted(bracket.iterdir()), progress=False))
    assert np.array_equal(same, np.asarray(Pillow.open(out)))
    Pillow.new("RGB", (170, 150)).save(bracket / "a.png")
    with pytest.raises(SourceChanged, match="a is not the frame"):
        nr.rerun(record, tmp_path / "other.png")


@pytest.mark.slow
def test_the_copied_command_writes_the_same_bytes(cli: Any, bracket: Path, tmp_path: Path) -> None:
    from napari_restore import api

    image = nr.open_bracket(sorted(bracket.iterdir()), reference=0)
    command = api.command_of(nr.plan(image, "mertens"), tmp_path / "copied.png")
    assert cli(*command.split()[1:]).code == 0
    expected = np.asarray(nr.restore(image, "mertens", progress=False))
    assert np.array_equal(np.asarray(Pillow.open(tmp_path / "copied.png")), expected)


@pytest.mark.slow
def test_deghosting_is_an_option(cli: Any, bracket: Path, tmp_path: Path) -> None:
    spoilt = np.asarray(Pillow.open(bracket / "a.png")).copy()
    spoilt[40:90, 50:100] = (250, 20, 30)
    Pillow.fromarray(spoilt).save(bracket / "a.png")
    out, record = tmp_path / "fused.png", tmp_path / "fused.json"
    words = ("fuse", bracket, "--align", "off", "-o", out, "--record", record)
    assert cli(*words, "--deghost", "0.7").code == 0
    assert json.loads(record.read_text())["model"]["parameters"]["deghost"] == 0.7
    paths = sorted(bracket.iterdir())
    same = nr.fuse(paths, align="off", deghost=0.7, progress=False)
    assert np.array_equal(np.asarray(same), np.asarray(Pillow.open(out)))
    run = cli(*words[:-2], "--overwrite", "--deghost", "2")
    assert run.code == 2 and "deghost" in run.err
    with pytest.raises(BadParameter, match="loaded already"):
        nr.fuse(paths, nr.load_model("mertens"), align="off", deghost=1.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bracket/a.png"], "one frame"),
        (["bracket", "--reference", "x.png"], "none of the frames"),
        (["bracket", "--model", "dcp"], "single image"),
        (["bracket", "--ev", "1", "2"], "2 exposures for 3 frames"),
        (["bracket", "other.png"], "12 × 9 pixels"),
        (["bracket", "missing.png"], "missing.png"),
    ],
)
def test_bad_input_is_said(
    cli: Any, bracket: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    Pillow.new("RGB", (12, 9)).save(tmp_path / "other.png")
    paths = [str(tmp_path / word) if "." in word or word == "bracket" else word for word in words]
    if "--reference" in words:
        paths[-1] = words[-1]
    run = cli("fuse", *paths, "-o", tmp_path / "out.tif")
    assert run.code == 2
    assert said in run.err
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.slow
def test_a_network_takes_three_frames(cli: Any, bracket: Path, tmp_path: Path) -> None:
    out, network = tmp_path / "out.png", ["--model", "ipl-small", "--weights", "random:0"]
    run = cli("fuse", bracket, "-o", out, *network, "--memory", "2GiB", "--align", "off")
    assert run.code == 0, run.err
    order = [np.asarray(Pillow.open(bracket / f"{name}.png")) for name in "bca"]
    x = torch.from_numpy(np.concatenate(order, 2)).permute(2, 0, 1)[None].float() / 255
    expected = 255 * nr.load_model("ipl-small", weights="random:0")(x)[0].permute(1, 2, 0).numpy()
    got = np.asarray(Pillow.open(out)).astype(np.float32)
    assert np.abs(got - expected.clip(0, 255)).max() <= 0.51
    assert np.abs(got - order[1]).max() >= 2
    Pillow.new("RGB", (170, 150)).save(bracket / "d.png")
    run = cli("fuse", bracket, "-o", tmp_path / "four.png", *network, "--align", "off")
    assert (run.code, "takes 3 frames, not 4. Give 3 of them, such as d, c, a" in run.err) == (
        2,
        True,
    )


def test_a_frame_that_was_left_out_is_named_where_too_few_remain(
    cli: Any, bracket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = nr.open_bracket([bracket / "a.png", bracket / "b.png"], align="off")
    opened.notes = ["c does not fit a and is left out."]
    monkeypatch.setattr("napari_restore.api.open_bracket", lambda *a, **b: opened)
    run = cli("fuse", bracket, "-o", tmp_path / "out.png", "--model", "ipl-small")
    assert run.code == 2
    assert "c does not fit a and is left out." in run.err
    assert "takes 3 frames, not 2" in run.err


def test_an_address_is_no_output(cli: Any, bracket: Path) -> None:
    run = cli("fuse", bracket, "-o", "s3://bucket/folder/")
    assert run.code == 2
    assert "s3://bucket/folder/ is an address, and outputs are files" in run.err


def test_an_output_is_no_frame(cli: Any, bracket: Path) -> None:
    before = (bracket / "a.png").read_bytes()
    run = cli("fuse", bracket, "-o", bracket / "a.png", "--overwrite")
    assert run.code == 2
    assert (bracket / "a.png").read_bytes() == before


@pytest.mark.nightly
def test_a_fused_picture_is_attributed_to_its_frames(
    cli: Any, bracket: Path, tmp_path: Path
) -> None:
    out, record = tmp_path / "map.tif", tmp_path / "map.json"
    frames = sorted(bracket.iterdir())
    call = ("attribute", *frames, "--model", "mertens", "--box", 20, 30, 16, 16, "--steps", 3)
    run = cli(*call, "--bracket", "-o", out, "--record", record)
    assert run.code == 0, run.err
    assert "shares of the frames: b.png" in run.out
    assert nr.open_image(out).bands == 4
    written = json.loads(record.read_text())
    shares = written["attribution"]["frames"]
    assert [Path(each["path"]).name for each in shares] == ["b.png", "c.png", "a.png"]
    total = written["attribution"]["completeness"]["sum"]
    assert sum(each["sum"] for each in shares) == pytest.approx(total, rel=1e-6)
    again = tmp_path / "again.tif"
    assert cli("rerun", record, "-o", again).code == 0
    assert again.read_bytes() == out.read_bytes()
    table = tmp_path / "table.csv"
    assert cli(*call, "--bracket", "--model", "mertens:contrast=0", "-o", table).code == 0
    assert len(table.read_text().splitlines()) == 3
    alone = cli(*call, "--ev", 0, 1, 2, "-o", tmp_path / "other.csv")
    assert alone.code == 2 and "Add --bracket" in alone.err
    Pillow.new("RGB", (170, 150)).save(bracket / "a.png")
    assert cli("rerun", record, "-o", tmp_path / "third.tif").code == 2
