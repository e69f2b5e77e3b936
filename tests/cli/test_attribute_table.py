"""`attribute` of many boxes, models or images, and of polygons, through the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

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
    out, whole = tmp_path / "t.csv", tmp_path / "t.json"
    words = ("attribute", scene, "--boxes", boxes, *TWO, *QUICK, "--method", "ig")
    run = cli(*words, "-o", out, "-o", whole)
    assert run.code == 2  # one box lies outside of the image
    rows = rows_of(out)
    assert [(row["name"], row["model"]) for row in rows] == [
        (name, model) for name in ("roof", "away", "3") for model in ("dcp:omega=0.9", "hot")
    ]
    assert [bool(row["error"]) for row in rows] == [False, False, True, True, False, False]
    assert run.err.count("outside of") == 2 and "box away, hot" in run.err
    assert "hot - dcp:omega=0.9" in run.out and f"wrote {whole}" in run.out
    run = cli("rerun", whole, "-o", tmp_path / "again.csv")
    assert run.code == 2 and "made again by its command" in run.err and "--boxes" in run.err
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
    # Before torch is imported, which takes seconds.
    assert phases[0] == "Loading torch and the network"


def test_ctrl_c_keeps_the_rows(
    cli: Any, scene: Path, boxes: Path, tmp_path: Path, ctrl_c_at: Callable[[str], None]
) -> None:
    ctrl_c_at('"hot, box 1')
    out = tmp_path / "t.csv"
    run = cli("attribute", scene, "--boxes", boxes, *TWO, *QUICK, "-o", out, "--progress", "json")
    assert run.code == 3
    assert "Stopped after" in run.err and "--overwrite goes on" in run.err
    rows = rows_of(out)
    assert {row["model"] for row in rows if not row["error"]} == {"dcp:omega=0.9"}
    assert [row["name"] for row in rows if not row["error"]] == ["roof", "3"]
    again = cli("attribute", scene, "--boxes", boxes, *TWO, *QUICK, "-o", out)
    assert again.code == 2 and f"exists, with {len(rows)} of 6 rows" in again.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*TWO, *BOX, "-o", "t.tif"), "not a table"),
        ((*TWO, *BOX, "-o", "t.csv", "--figure", "f.gif"), "is no figure"),
        ((*TWO, *BOX, "-o", "t.csv", "--figure", "f.png", "--width", "8"), "outside 30"),
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
    run = cli("attribute", *paths, *words, "--context", "first")
    assert run.code == 2 and "restore_context.npz" in run.err
    # One image shares with nobody, as in `restore`.
    run = cli("attribute", paths[0], *words, "--model", "hot", "--context", "first")
    assert run.code == 0, run.err


def test_a_table_is_drawn_in_one_figure(cli: Any, scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    boxes, figure = tmp_path / "boxes.csv", tmp_path / "f.svg"
    boxes.write_text("x,y,width,height,name\n50,40,12,8,roof\n10,20,9,7,\n")
    words = ("attribute", scene, "--boxes", boxes, *TWO, *QUICK, "--method", "ig")
    words = (*words, "-o", tmp_path / "t.csv", "--figure", figure, "--overwrite")
    run = cli(*words, "--width", "85mm", "--limits", "-1e-3", "1e-3", "--no-caption")
    assert run.code == 0, run.err
    drawn = figure.read_text(encoding="utf-8")
    for word in ("roof", "2", "dcp:omega=0.9", "hot"):
        assert f">{word}<" in drawn
    assert "-0.001 … 0.001 in all maps" in run.out and "roof, hot:" in run.out
    assert f"wrote {figure}" in run.out
    run = cli(*words, "--panels", "map")
    assert run.code == 2 and "Leave --cluster and --panels out." in run.err
