"""What a result is of: code, cards, masks and options that change between two commands."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.images.brackets.photos import two_brackets

import napari_restore as nr
from napari_restore.engine import ResultStore
from napari_restore.errors import SourceChanged
from napari_restore.images.values.working_space import named_profile

from ._scenes import hazy, read, write_tiff

MODEL = """
import helper
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x):
        return helper.darker(x) * self.weight


def make():
    return Net()
"""
HELPER = "GAIN = 0.5\n\n\ndef darker(x):\n    return x * GAIN\n"
CARD = {"id": "mine", "title": "Mine", "summary": "", "bands": 3}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model's file, the helper that it imports, its card, and weights."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "mine.py").write_text(MODEL)
    (folder / "helper.py").write_text(HELPER)
    (folder / "mine.json").write_text(json.dumps(CARD))
    save_file({"weight": torch.ones(3, 1, 1)}, folder / "w.safetensors")
    monkeypatch.syspath_prepend(folder)
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def stopped_after(cli: Any, words: list[object], tiles: int, monkeypatch: Any) -> None:
    """Run a command that ends for lack of space after so many tiles."""
    put, calls = ResultStore._put, []

    def fails(self: ResultStore, *given: Any) -> None:
        calls.append(given)
        if len(calls) > tiles:
            raise OSError(28, "No space left on device")
        put(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(ResultStore, "_put", fails)
        assert cli(*words).code == 4


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("helper.py", "GAIN = 0.5", "GAIN = 0.75"),
        ("helper.py", "x * GAIN", "x * GAIN * 1.5"),
        ("mine.py", "* self.weight", "* self.weight * 1.5"),
        ("w.safetensors", None, 1.5),
    ],
)
def test_a_model_edited_after_a_stop_makes_all_tiles_anew(
    file: str,
    old: str | None,
    new: Any,
    cli: Any,
    code: Path,
    scene: Path,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    out = tmp_path / "out.tif"
    words = ["restore", scene, "-o", out, "--model", f"{code / 'mine.py'}:make", "--yes"]
    words += ["--weights", code / "w.safetensors", "--tile", 128, "--json"]
    stopped_after(cli, words, 2, monkeypatch)
    if old is None:
        save_file({"weight": torch.full((3, 1, 1), new)}, code / file)
    else:
        edit(code / file, old, new)
    run = cli(*words)
    assert run.code == 0, run.err
    assert run.json["measured"]["tiles_resumed"] == 0
    assert "changed since an unfinished run" in run.err
    source = read(scene).astype(float)
    np.testing.assert_allclose(read(out), source * 0.75, atol=0.51)


def test_a_comment_added_after_a_stop_lets_it_go_on(
    cli: Any, code: Path, scene: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", f"{code / 'mine.py'}:make"]
    words += ["--yes", "--tile", 128, "--json"]
    stopped_after(cli, words, 2, monkeypatch)
    edit(code / "helper.py", "    return", "    # Half of it.\n    return")
    assert cli(*words).json["measured"]["tiles_resumed"] == 2


# -- reruns --------------------------------------------------------------------------


@pytest.fixture
def recorded(cli: Any, code: Path, scene: Path, tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A record of a run with a mask and excluded pixels, and its output."""
    for name, box in (("mask", np.s_[:, 20:150, 20:200]), ("exclude", np.s_[:, 90:, 90:])):
        pixels = np.zeros((1, *read(scene).shape[1:]), np.uint8)
        pixels[box] = 255
        write_tiff(tmp_path / f"{name}.tif", pixels)
    record, out = tmp_path / "r.json", tmp_path / "out.tif"
    words = ["restore", scene, "-o", out, "--model", f"{code / 'mine.py'}:make", "--yes"]
    words += ["--mask", tmp_path / "mask.tif", "--exclude", tmp_path / "exclude.tif"]
    run = cli(*words, "--record", record)
    assert run.code == 0, run.err
    return record, read(out)


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        ("code/helper.py", "0.5", "0.75", "code and card of mine"),
        ("code/mine.py", "* self.weight", "* self.weight * 1.5", "code and card of mine"),
        ("code/mine.json", '"bands": 3', '"bands": 3, "multiple_of": 8', "code and card of mine"),
        ("mask.tif", None, None, "mask"),
        ("exclude.tif", None, None, "exclude"),
    ],
)
def test_a_rerun_with_another_file_is_refused(
    file: str, old: str, new: str, what: str, cli: Any, recorded: Any, tmp_path: Path
) -> None:
    record, _ = recorded
    path = tmp_path / file
    if old is None:
        write_tiff(path, 255 - read(path))
    else:
        edit(path, old, new)
    run = cli("rerun", record, "-o", tmp_path / "again.tif", "--yes", "--json")
    assert run.code == 2 and run.json["error"]["type"] == "SourceChanged"
    assert f"The {what}" in run.err and "Restore it as a new image" in run.err
    assert not (tmp_path / "again.tif").exists()
    with pytest.raises(SourceChanged, match=what):
        nr.rerun(record, tmp_path / "again.tif", trust=True)


@pytest.mark.parametrize("known", [{}, {"omega": 0.123}], ids=["one more", "another default"])
def test_a_rerun_with_other_defaults_is_refused(
    known: dict[str, float], cli: Any, scene: Path, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    words = ["restore", scene, "-o", tmp_path / "out.tif", "--model", "dcp", "--record", record]
    assert cli(*words).code == 0
    content = json.loads(record.read_text("utf-8"))
    # As a version wrote it whose method had them.
    content["model"]["parameters"] = known
    record.write_text(json.dumps(content), "utf-8")
    run = cli("rerun", record, "-o", tmp_path / "again.tif")
    assert run.code == 2 and "The parameters of dcp are not those of the record" in run.err


def test_a_rerun_with_the_same_code_is_the_same_picture(
    cli: Any, recorded: Any, code: Path, tmp_path: Path
) -> None:
    record, pixels = recorded
    edit(code / "helper.py", "    return", '    """Words."""\n    return')
    edit(code / "mine.json", '"title": "Mine"', '"title": "My own"')
    assert cli("rerun", record, "-o", tmp_path / "again.tif", "--yes").code == 0
    np.testing.assert_array_equal(read(tmp_path / "again.tif"), pixels)


@pytest.mark.slow
def test_a_rerun_of_an_attribution_with_other_code_is_refused(
    cli: Any, code: Path, scene: Path, tmp_path: Path
) -> None:
    record = tmp_path / "map.json"
    words = ["attribute", scene, "-o", tmp_path / "map.tif", "--box", 0, 0, 16, 16, "--steps", 2]
    words += ["--model", f"{code / 'mine.py'}:make", "--yes", "--record", record]
    assert cli(*words).code == 0
    again = ["rerun", record, "-o", tmp_path / "again.tif", "--yes"]
    assert cli(*again).code == 0
    edit(code / "helper.py", "0.5", "0.75")
    run = cli(*again, "--overwrite", "--json")
    assert run.code == 2 and "The code and card of mine are not those of the record" in run.err


# -- folders -------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2):
        write_tiff(folder / f"{number}.tif", hazy(180, 200, seed=number))
    return folder


def statuses(run: Any) -> list[str]:
    return [entry["status"] for entry in run.json["images"]]


BOX = ("--srcwin", 0, 0, 100, 120)


def test_a_folder_skips_no_file_in_other_colours(cli: Any, tmp_path: Path) -> None:
    pictures, icc = tmp_path / "in", tmp_path / "own.icc"
    pictures.mkdir()
    for name in ("1.png", "2.png"):
        Image.fromarray(hazy(60, 70).transpose(1, 2, 0)).save(pictures / name)
    words = ["restore", pictures, "-o", tmp_path / "out", "--model", "identity", "--json"]
    words += ["--profile", icc]
    icc.write_bytes(named_profile("display-p3"))
    assert statuses(cli(*words)) == ["done", "done"]
    assert statuses(cli(*words)) == ["skipped", "skipped"]
    icc.write_bytes(named_profile("adobe-rgb"))
    assert "with other settings" in cli(*words).err


@pytest.mark.parametrize(
    ("model", "before", "after"),
    [
        ("dcp", BOX, (*BOX, "--extent", "region")),
        pytest.param("haze-unet", (), ("--precision", "bfloat16"), marks=pytest.mark.slow),
        ("dcp", (), ("--set", "omega=0.5")),
        ("dcp", (), ("--white", 200)),
        ("dcp", BOX, ("--srcwin", 0, 0, 100, 110)),
        ("haze-unet", ("--weights", "random:0"), ("--weights", "random:1")),
    ],
)
@pytest.mark.slow
@pytest.mark.ids(
    "nightly", "haze-unet-before5-after5", "haze-unet-before1-after1", "dcp-before3-after3"
)
def test_a_folder_skips_no_file_of_other_options(
    model: str, before: Any, after: Any, cli: Any, pictures: Path, tmp_path: Path
) -> None:
    words = ["restore", pictures, "-o", tmp_path / "out", "--model", model, "--json"]
    assert statuses(cli(*words, *before)) == ["done", "done"]
    assert statuses(cli(*words, *before, "--memory", "2GiB", "--tile", 128)) == ["skipped"] * 2
    run = cli(*words, *after)
    assert run.code == 2 and statuses(run) == ["failed", "failed"]
    assert "with other settings" in run.err and "--overwrite" in run.err
    run = cli(*words, *after, "--overwrite")
    assert run.code == 0 and statuses(run) == ["done", "done"]
    clean = tmp_path / "clean.tif"
    assert cli("restore", pictures / "2.tif", "-o", clean, "--model", model, *after).code == 0
    np.testing.assert_array_equal(read(tmp_path / "out" / "2_clear.tif"), read(clean))
    assert statuses(cli(*words, *after)) == ["skipped", "skipped"]


@pytest.mark.slow
def test_a_folder_skips_no_file_of_other_code(
    cli: Any, code: Path, pictures: Path, tmp_path: Path
) -> None:
    words = ["restore", pictures, "-o", tmp_path / "out", "--model", f"{code / 'mine.py'}:make"]
    words += ["--yes", "--json"]
    assert statuses(cli(*words)) == ["done", "done"]
    edit(code / "helper.py", "    return", "    # Half of it.\n    return")
    assert statuses(cli(*words)) == ["skipped", "skipped"]
    edit(code / "helper.py", "0.5", "0.75")
    assert statuses(cli(*words)) == ["failed", "failed"]
    assert statuses(cli(*words, "--overwrite")) == ["done", "done"]
    source = read(pictures / "1.tif").astype(float)
    np.testing.assert_allclose(read(tmp_path / "out" / "1_clear.tif"), source * 0.75, atol=0.51)


@pytest.mark.slow
def test_a_folder_run_in_one_pass_is_another(
    cli: Any, code: Path, pictures: Path, tmp_path: Path
) -> None:
    for model, then in ((f"{code / 'mine.py'}:make", "failed"), ("dcp", "skipped")):
        words = ["restore", pictures, "-o", tmp_path / then, "--model", model, "--yes", "--json"]
        assert statuses(cli(*words)) == ["done", "done"]
        # What comes with a card of ours needs no more than its tiles.
        assert statuses(cli(*words, "--tile", "whole")) == [then, then]


@pytest.mark.slow
def test_a_folder_of_brackets_skips_none_of_other_options(cli: Any, tmp_path: Path) -> None:
    words = ["fuse", two_brackets(tmp_path), "-o", tmp_path / "fused", "--json"]
    assert statuses(cli(*words, "--align", "off")) == ["done", "done"]
    assert statuses(cli(*words, "--align", "off")) == ["skipped", "skipped"]
    for more in (("--adjust", "exposure=0.5"), ("--precision", "auto"), ("--srcwin", 0, 0, 64, 64)):
        assert statuses(cli(*words, "--align", "off", *more)) == ["failed", "failed"]


@pytest.mark.slow
def test_rows_of_a_table_follow_the_code(code: Path, scene: Path, tmp_path: Path) -> None:
    boxes = [nr.Region(0, 0, 16, 16), nr.Region(32, 32, 48, 48)]
    model = f"{code / 'mine.py'}:make"

    def table(**options: Any) -> Any:
        return nr.attribute_table(
            str(scene),
            [model],
            boxes,
            trust=True,
            steps=3,
            progress=False,
            **{"scratch": tmp_path, **options},
        )

    class Stops(threading.Event):
        """Set once a row is written."""

        def is_set(self) -> bool:
            return bool(list(tmp_path.glob("attributions-*/rows.jsonl")))

    assert len(table(stop=Stops()).rows) == 1
    edit(code / "helper.py", "0.5", "0.75")
    rows, fresh = table().rows, table(scratch=tmp_path / "other").rows
    assert [row["difference"] for row in rows] == [row["difference"] for row in fresh]
