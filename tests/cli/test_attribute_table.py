"""`attribute` of many boxes, models or images, and of polygons, through the command line."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from napari_restore.commands import main
from napari_restore.records import read_record

from ._scenes import hazy, write_tiff

QUICK = ("--device", "cpu", "--steps", "2", "--progress", "off")
BOX = ("--box", "50", "40", "12", "8")
TWO = ("--model", "dcp:omega=0.9", "--model", "hot")


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    path = tmp_path / "boxes.csv"
    path.write_text("x,y,width,height,name\n50,40,12,8,roof\n900,900,5,5,away\n10,20,9,7,\n")
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_table_is_written_and_told(cli: Any, scene: Path, boxes: Path, tmp_path: Path) -> None:
    out, whole, tex = (tmp_path / f"t.{suffix}" for suffix in ("csv", "json", "tex"))
    words = ("attribute", scene, "--boxes", boxes, *TWO, *QUICK, "--method", "ig")
    run = cli(*words, "-o", out, "-o", whole, "-o", tex)
    assert run.code == 2  # one box lies outside of the image
    rows = rows_of(out)
    assert [(row["name"], row["model"]) for row in rows] == [
        (name, model) for name in ("roof", "away", "3") for model in ("dcp:omega=0.9", "hot")
    ]
    assert [bool(row["error"]) for row in rows] == [False, False, True, True, False, False]
    assert run.err.count("outside of") == 2 and "box away, hot" in run.err
    assert "hot - dcp:omega=0.9" in run.out and f"wrote {tex}" in run.out
    told = json.loads(whole.read_text(encoding="utf-8"))
    assert told["command"].startswith("napari-restore attribute")
    assert told["question"]["method"] == "ig" and "device" not in told["question"]
    single = tmp_path / "map.json"
    words = ("attribute", scene, *BOX, "--model", "dcp:omega=0.9", *QUICK, "--method", "ig")
    assert cli(*words, "-o", tmp_path / "map.tif", "--record", single).code == 0
    index = read_record(single)["attribution"]["diffusion_index"]  # type: ignore[typeddict-item]
    assert float(rows[0]["diffusion_index"]) == pytest.approx(index, rel=1e-7)


def test_json_is_the_whole(cli: Any, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    run = cli("attribute", scene, *BOX, *TWO, *QUICK, "-o", out, "--json")
    assert run.code == 0, run.err
    assert run.json == json.loads(out.read_text(encoding="utf-8"))
    assert run.json["status"] == "done" and len(run.json["rows"]) == 2
    assert run.json["summary"]["differences"][0]["model"] == "hot"


def test_images_stand_in_the_table_or_on_the_line(cli: Any, tmp_path: Path) -> None:
    for number in (1, 2):
        write_tiff(tmp_path / f"{number}.tif", hazy(seed=number))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x,y,width,height\n1.tif,50,40,12,8\n2.tif,50,40,12,8\n")
    named, given = tmp_path / "named.csv", tmp_path / "given.csv"
    run = cli("attribute", "--boxes", boxes, "--model", "dcp", *QUICK, "-o", named)
    assert run.code == 0, run.err
    paths = [tmp_path / "1.tif", tmp_path / "2.tif"]
    assert cli("attribute", *paths, *BOX, "--model", "dcp", *QUICK, "-o", given).code == 0
    one, other = ([row["difference"] for row in rows_of(path)] for path in (named, given))
    assert one == other and len(set(one)) == 2
    run = cli("attribute", *paths, "--boxes", boxes, "--model", "dcp", *QUICK, "-o", given)
    assert run.code == 2
    run = cli("attribute", "--boxes", boxes, "--model", "dcp", "-o", paths[0], "--overwrite")
    assert run.code == 2 and "is an input" in run.err


def test_progress_tells_which_box(cli: Any, scene: Path, boxes: Path, tmp_path: Path) -> None:
    words = ("--device", "cpu", "--steps", "2", "--model", "dcp", "--boxes", boxes)
    run = cli("attribute", scene, *words, "-o", tmp_path / "t.csv", "--progress", "json")
    events = [json.loads(line) for line in run.err.splitlines() if line.startswith("{")]
    phases = [event["name"] for event in events if event["event"] == "Phase"]
    assert "dcp, box 3 of 3: Following the path" in phases


def test_ctrl_c_keeps_the_rows(
    cli: Any, scene: Path, boxes: Path, tmp_path: Path, ctrl_c_at: Callable[[str], None]
) -> None:
    ctrl_c_at('"hot, box 1')
    out = tmp_path / "t.csv"
    run = cli("attribute", scene, "--boxes", boxes, *TWO, *QUICK, "-o", out, "--progress", "json")
    assert run.code == 3
    assert "Stopped after" in run.err
    rows = rows_of(out)
    assert {row["model"] for row in rows if not row["error"]} == {"dcp:omega=0.9"}
    assert [row["name"] for row in rows if not row["error"]] == ["roof", "3"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*TWO, *BOX, "-o", "t.tif"), "not a table"),
        ((*TWO, *BOX, "-o", "t.csv", "--figure", "f.png"), "--figure is for one map"),
        ((*TWO, *BOX, "-o", "t.csv", "--record", "r.json"), "--record is for one map"),
        ((*TWO, *BOX, "-o", "no/t.csv"), "cannot be written"),
        ((*TWO, *BOX, "-o", "taken.csv"), "exists"),
        (("--model", "dcp", *BOX, "-o", "a.tif", "-o", "b.tif"), "one file"),
        (
            ("--model", "dcp", "-o", "a.tif", "--polygon", "1", "2", "3"),
            "odd number of coordinates",
        ),
        (("--model", "dcp", "-o", "a.tif", "--polygon", "1", "2", "3", "4"), "at least three"),
        (("--model", "dcp", "-o", "a.tif"), "--box"),
        (("--model", "dcp", "-o", "a.csv", *BOX, "--boxes", "boxes.csv"), "not allowed with"),
        ((*TWO, *BOX, "-o", "t.csv", "--weights", "random:0"), "2 models"),
    ],
)
def test_what_cannot_be_asked_is_said_before_any_work(
    cli: Any,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.csv").write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    run = cli("attribute", scene, *words)
    assert run.code == 2 and told in run.err and "Traceback" not in run.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert Path("taken.csv").read_text() == "mine"


def test_no_image_is_said(cli: Any, tmp_path: Path) -> None:
    run = cli("attribute", "--model", "dcp", *BOX, "-o", tmp_path / "a.tif")
    assert run.code == 2 and "No image is given" in run.err


@pytest.mark.slow
def test_a_polygon_is_asked_drawn_and_asked_again(cli: Any, scene: Path, tmp_path: Path) -> None:
    out, record, again = (tmp_path / name for name in ("a.tif", "a.json", "b.tif"))
    vertices = ("50", "40", "62", "40", "62", "48.5")
    words = ("attribute", scene, "--model", "dcp", *QUICK, "--polygon", *vertices)
    run = cli(*words, "-o", out, "--record", record)
    assert run.code == 0, run.err
    told = read_record(record)["attribution"]  # type: ignore[typeddict-item]
    assert told["polygon"] == [[40.0, 50.0], [40.0, 62.0], [48.5, 62.0]]
    assert told["box"] == [40, 50, 49, 62]
    assert cli("rerun", record, "-o", again).code == 0
    with rasterio.open(out) as one, rasterio.open(again) as other:
        assert np.array_equal(one.read(), other.read())
    table = tmp_path / "t.csv"
    run = cli("attribute", scene, *TWO, *QUICK, "--polygon", *vertices, "-o", table)
    assert run.code == 0, run.err
    assert json.loads(rows_of(table)[0]["polygon"]) == told["polygon"]


def test_what_many_images_share_is_a_file(cli: Any, tmp_path: Path) -> None:
    paths = [write_tiff(tmp_path / f"{n}.tif", hazy(seed=n)) for n in (1, 2)]
    words = ("--model", "dcp", *BOX, *QUICK, "-o", tmp_path / "t.csv")
    run = cli("attribute", *paths, *words, "--context", "joint")
    assert run.code == 2 and "restore_context.npz" in run.err
    # One image shares with nobody, as in `restore`.
    run = cli("attribute", paths[0], *words, "--model", "hot", "--context", "joint")
    assert run.code == 0, run.err


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the record of a table, of two images beside each other and two models."""
    folder = tmp_path_factory.mktemp("table")
    write_tiff(folder / "größe a.tif", hazy())
    write_tiff(folder / "other.tif", hazy(seed=3))
    (folder / "broken.tif").write_text("no image")
    (folder / "boxes.csv").write_text(
        "image,x,y,width,height,name\n"
        "größe a.tif,50,40,12,8,roof\nother.tif,900,900,5,5,away\nother.tif,10,20,9,7,\n"
        "broken.tif,1,1,9,9,\n",
        encoding="utf-8",
    )
    mask = np.zeros((1, 160, 200), np.uint8)
    mask[:, :, 54:60] = 1
    write_tiff(folder / "mask.tif", mask)
    words = ("attribute", "--boxes", "boxes.csv", *TWO, *QUICK, "--method", "ig")
    words += ("--exclude", "mask.tif", "--check", "insertion-deletion", "-o", "t.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(folder)
        assert main(words) == 2
    return folder


@pytest.fixture
def told(table: Path, tmp_path: Path) -> Path:
    """The record of a table, in a folder with its images that may be changed."""
    shutil.copytree(table, tmp_path, dirs_exist_ok=True)
    record = tmp_path / "t.json"
    record.write_text(record.read_text("utf-8").replace(str(table), str(tmp_path)), "utf-8")
    return record


@pytest.mark.slow
def test_a_table_is_asked_again_and_compared(cli: Any, told: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.json"
    run = cli("rerun", told, "-o", out)
    assert run.code == 2  # as it was: one box lies outside, one image is none
    assert f"8 of 8 rows are as in {told}" in run.out
    one, other = (json.loads(path.read_text(encoding="utf-8")) for path in (told, out))
    assert other["repeats"] == {"record": str(told), "rows": 8, "same": 8, "apart": []}
    for key in ("question", "task", "summary"):
        assert other[key] == one[key], key
    for row, before in zip(other["rows"], one["rows"], strict=True):
        assert {**row, "seconds": 0} == {**before, "seconds": 0}
    # One more time from the repetition.
    assert cli("rerun", out, "-o", tmp_path / "third.csv").code == 2


@pytest.mark.slow
def test_rows_that_came_out_otherwise_are_told(cli: Any, told: Path, tmp_path: Path) -> None:
    record = json.loads(told.read_text(encoding="utf-8"))
    record["rows"][0]["diffusion_index"] *= 1.01
    record["rows"][1]["reached"] = None
    told.write_text(json.dumps(record))
    run = cli("rerun", told, "-o", tmp_path / "again.csv", "--json")
    assert (run.json["repeats"]["rows"], run.json["repeats"]["same"]) == (8, 6)
    apart = [(each["name"], each["column"]) for each in run.json["repeats"]["apart"]]
    assert apart == [("roof", "diffusion_index"), ("roof", "reached")]
    assert "box roof, hot: reached is" in run.err


@pytest.mark.parametrize("changed", ["image", "mask", "weights", "task", "rows"])
def test_what_a_table_cannot_be_made_of_again_is_said(
    cli: Any, told: Path, tmp_path: Path, changed: str
) -> None:
    record = json.loads(told.read_text(encoding="utf-8"))
    if changed == "image":
        write_tiff(tmp_path / "other.tif", hazy(seed=9))
    elif changed == "mask":
        write_tiff(tmp_path / "mask.tif", np.ones((1, 160, 200), np.uint8))
    elif changed == "weights":
        record["task"]["models"][1]["weights_sha256"] = "0" * 64
    elif changed == "task":
        record["task"] = None
    else:
        record["rows"] = 3
    told.write_text(json.dumps(record))
    out = tmp_path / "again.csv"
    run = cli("rerun", told, "-o", out)
    said = {
        "image": "other is not the image",
        "mask": "mask.tif is not the file",
        "weights": "weights of hot are not those",
        "task": "does not contain enough",
        "rows": "not a record of a run: record.rows is 3, but it should be a valid array",
    }
    assert run.code == 2 and said[changed] in run.err and "Traceback" not in run.err
    assert not out.exists()


def test_the_record_of_a_table_replaces_nothing(cli: Any, told: Path, tmp_path: Path) -> None:
    run = cli("rerun", told)
    assert run.code == 2 and "Name one with -o" in run.err
    for path in (told, tmp_path / "mask.tif", tmp_path / "other.tif"):
        before = path.read_bytes()
        run = cli("rerun", told, "-o", path, "--overwrite")
        assert run.code == 2 and "is an input" in run.err
        assert path.read_bytes() == before
