"""`attribute` with what `restore` takes of other files: pixels to leave out, context_gradient to share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from napari_restore import api
from napari_restore.records import read_record

from ._scenes import hazy, write_tiff

BOX = ("--box", "50", "40", "24", "16")
QUICK = ("--model", "dcp", "--device", "cpu", "--steps", "2", "--method", "ig")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A mask of columns 60 to 67, and the context_gradient of a brighter image."""
    mask = np.zeros((1, 160, 200), np.uint8)
    mask[:, :, 60:68] = 1
    bright = np.minimum(hazy(seed=1).astype(int) + 40, 255).astype(np.uint8)
    context = tmp_path / "context.npz"
    api.save_context([np.moveaxis(bright, 0, 2)], context)
    return {"exclude": write_tiff(tmp_path / "mask.tif", mask), "context": context}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exclude", "context"])
def test_a_file_changes_the_map_and_is_asked_with_again(
    cli: Any,
    scene: Path,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    plain, out, record = (tmp_path / file for file in ("plain.tif", "a.tif", "a.json"))
    assert cli("attribute", scene, *BOX, *QUICK, "-o", plain).code == 0
    monkeypatch.chdir(tmp_path)
    words = ("attribute", scene, *BOX, *QUICK, f"--{name}", files[name].name)
    run = cli(*words, "-o", out, "--record", record)
    assert run.code == 0, run.err
    with rasterio.open(plain) as one, rasterio.open(out) as other:
        assert not np.array_equal(one.read(), other.read())
        if name == "exclude":
            x0 = read_record(record)["attribution"]["region"][1]  # type: ignore[typeddict-item]
            assert not other.read()[:, :, 60 - x0 : 68 - x0].any()
            assert one.read()[:, :, 60 - x0 : 68 - x0].any()
    # From another folder.
    monkeypatch.chdir(tmp_path.parent)
    again = tmp_path / "again.tif"
    run = cli("rerun", record, "-o", again)
    assert run.code == 0, run.err
    with rasterio.open(out) as one, rasterio.open(again) as other:
        assert np.array_equal(one.read(), other.read())


def test_one_image_shares_with_nobody(
    cli: Any, scene: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    words = ("attribute", scene, *BOX, *QUICK, "--json")
    run = cli(*words, "-o", tmp_path / "first.tif", "--context", "first")
    assert run.code == 0, run.err
    assert "context" not in run.json["task"]["options"]
    # `plan` reads the words as `restore` does.
    assert cli("plan", scene, "--model", "dcp", "--context", "first").code == 0
    run = cli(*words, "-o", tmp_path / "no.tif", "--context", "missing.npz")
    assert run.code == 2 and "no context file missing.npz" in run.err


@pytest.mark.parametrize("name", ["exclude", "context"])
def test_a_file_that_is_read_is_not_replaced(
    cli: Any, scene: Path, files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    before, record = files[name].read_bytes(), tmp_path / "a.json"
    words = ("attribute", scene, *BOX, *QUICK, f"--{name}", files[name])
    run = cli(*words, "-o", files[name], "--overwrite")
    assert run.code == 2 and "is an input" in run.err
    assert cli(*words, "-o", tmp_path / "a.tif", "--record", record).code == 0
    run = cli("rerun", record, "-o", files[name], "--overwrite")
    assert run.code == 2 and "is an input" in run.err
    assert files[name].read_bytes() == before


@pytest.mark.slow
def test_the_gradient_goes_through_the_context_by_default_and_says_so(
    cli: Any, scene: Path, tmp_path: Path
) -> None:
    words = ("attribute", scene, *BOX, "--model", "atmosphere", "--device", "cpu", "--steps", "2")
    words += ("--bands", "red=1,green=2,blue=3")
    out, record, again = tmp_path / "a.tif", tmp_path / "a.json", tmp_path / "again.tif"
    run = cli(*words, "-o", out, "--record", record)
    assert run.code == 0, run.err
    assert (
        "gradient through the context (predicted to take " in run.out
        and "came through it" in run.out
    )
    saved = read_record(record)
    assert saved["attribution"]["context"]["requested"] == "auto"  # type: ignore[typeddict-item]
    assert saved["task"]["question"]["context_gradient"] == "through"  # type: ignore[typeddict-item]
    # What was chosen is asked again, and lies in the same two files.
    assert cli("rerun", record, "-o", again).code == 0
    for suffix in ("", "_overview"):
        one, other = (rasterio.open(tmp_path / f"{name}{suffix}.tif") for name in ("a", "again"))
        with one, other:
            assert np.array_equal(one.read(), other.read())
    # The file of the shares is looked for before anything is computed.
    assert cli(*words, "-o", tmp_path / "b.tif", "--context-gradient", "stop").code == 0
    (tmp_path / "c_overview.tif").write_text("mine")
    assert cli(*words, "-o", tmp_path / "c.tif").code == 2


@pytest.mark.slow
def test_what_a_constant_context_leaves_out_is_reported(
    cli: Any, scene: Path, tmp_path: Path
) -> None:
    words = (
        "attribute",
        scene,
        *BOX,
        "--device",
        "cpu",
        "--steps",
        "2",
        "--context-gradient",
        "stop",
    )
    words += ("--bands", "red=1,green=2,blue=3")
    run = cli(*words, "--model", "atmosphere", "-o", tmp_path / "a.tif")
    assert run.code == 0, run.err
    assert (
        "of the change came through it and is not in this map; --context-gradient through"
        in run.out
    )
    run = cli(*words, "--model", "dcp", "-o", tmp_path / "b.tif")
    assert "context constant (the context of dcp has no gradients)" in run.out
    assert "is unknown" in run.out
