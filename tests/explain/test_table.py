"""Tables of many boxes and models: their rows, their means, and what stops them."""

from __future__ import annotations

import csv
import json
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.explain._models import Pointwise, Small, scene, wrapped

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.errors import BadOutput, BadRegion, Cancelled, InputError
from napari_restore.explain.tables import rows as _rows
from napari_restore.explain.tables.table import MEASURES, mean_of, summary_of

BOXES = [Region(40, 60, 56, 84), Region(10, 20, 26, 36), Region(80, 30, 88, 60)]
OPTIONS: dict[str, Any] = {"device": "cpu", "method": "ig", "baseline": "zero", "steps": 3}


def two_models() -> list[Any]:
    return [wrapped(Small(0), id="one"), wrapped(Small(1), id="other")]


def test_a_mean_is_of_what_is_known() -> None:
    assert mean_of([]) == mean_of([None]) == {"n": 0, "mean": None}
    assert mean_of([2.0, None, 5.0]) == {"n": 2, "mean": 3.5}


@pytest.mark.slow
def test_rows_are_what_single_maps_tell() -> None:
    models = two_models()
    table = nr.attribute_table(scene(), models, BOXES[:2], **OPTIONS)
    assert table.status == "done" and not table.failures
    assert [(row["number"], row["model"]) for row in table.rows] == [
        (number, label) for number in (1, 2) for label in ("one", "other")
    ]
    for row in table.rows:
        model = models[("one", "other").index(row["model"])]
        found = nr.attribute(scene(), model, BOXES[row["number"] - 1], **OPTIONS)
        told = found.record["attribution"]
        assert row["diffusion_index"] == told["diffusion_index"]
        assert row["area_95"] == told["area_95"]
        assert row["relative_gap"] == told["completeness"]["relative_gap"]
        assert row["reached"] is told["completeness"]["reached"]
        assert row["difference"] == told["completeness"]["difference"]
        assert row["identity_share"] == told["identity_share"]
        assert row["nodes"] == 3
        assert row["ring_0_8"] == told["rings"]["0-8"]
        assert row["fingerprint"] == found.record["input"]["fingerprint"]
        assert row["weights_sha256"] == found.record["model"]["weights_sha256"]
        rings = [value for name, value in row.items() if name.startswith("ring_")]
        assert row["in_box"] + sum(rings) == pytest.approx(1)
        assert row["seconds"] > 0 and row["error"] is None
        y0, x0, y1, x1 = BOXES[row["number"] - 1]
        box = [row[side] for side in ("x", "y", "width", "height")]
        assert box == [x0, y0, x1 - x0, y1 - y0]


def test_what_lies_far_is_counted_from_128_pixels() -> None:
    """A model that takes each pixel from 150 to the left, and half of it from where it is."""
    import torch

    far = Pointwise(lambda x: 0.5 * torch.roll(x, 150, 3) + 0.5 * x)
    flat = np.full((96, 400, 3), 0.5, np.float32)
    table = nr.attribute_table(
        flat, [wrapped(far, halo=160)], [nr.Region(40, 300, 48, 308)], objective="mean", **OPTIONS
    )
    (row,) = table.rows
    assert row["beyond_128"] == pytest.approx(0.5)
    assert row["ring_128_256"] == pytest.approx(0.5)
    assert row["in_box"] == pytest.approx(0.5)


def row_of(number: int, model: str, **values: float | None) -> dict[str, Any]:
    known = dict.fromkeys(MEASURES) | values
    error = "It failed. Try again." if not values else None
    return {
        "number": number,
        "model": model,
        "method": "ig",
        "reached": True,
        "in_box": None if error else 1.0,
        "error": error,
        **known,
    }


def test_differences_are_of_the_boxes_that_both_have() -> None:
    rows = [
        row_of(1, "a", diffusion_index=10.0),
        row_of(1, "b", diffusion_index=13.0),
        row_of(2, "a", diffusion_index=20.0),
        row_of(2, "b", diffusion_index=24.0),
        row_of(3, "a", diffusion_index=900.0),
        row_of(3, "b"),
    ]
    summary = summary_of(rows, ["a", "b"])
    first, other = summary["models"]
    assert first["means"]["diffusion_index"]["mean"] == pytest.approx(310)
    assert (other["boxes"], other["failed"]) == (3, 1)
    assert other["means"]["diffusion_index"]["n"] == 2
    assert other["means"]["area_95"]["mean"] is None
    (apart,) = summary["differences"]
    assert (apart["model"], apart["to"]) == ("b", "a")
    found = apart["means"]["diffusion_index"]
    assert found == {"n": 2, "mean": 3.5}


@pytest.mark.slow
def test_a_map_of_zeros_counts_for_no_mean() -> None:
    import torch

    constant = wrapped(Pointwise(lambda x: torch.full_like(x, 0.3)), id="constant")
    table = nr.attribute_table(
        scene(), [constant, wrapped(Small())], BOXES, objective="mean", **OPTIONS
    )
    for name in ("diffusion_index", "area_95", "in_box", "ring_0_8", "beyond_128"):
        assert [row[name] is None for row in table.rows] == [True, False] * 3
    assert table.summary["models"][0]["empty"] == 3
    assert table.summary["models"][1]["empty"] == 0
    assert table.summary["models"][0]["means"]["area_95"]["n"] == 0
    assert table.summary["differences"][0]["means"]["beyond_128"]["n"] == 0
    assert "in 3 nothing has a share" in str(table)
    assert "in 3 nothing has a share" in table._repr_html_()


@pytest.mark.slow
def test_a_box_that_fails_is_told_in_its_row() -> None:
    boxes = [BOXES[0], Region(900, 900, 910, 910), BOXES[1]]
    table = nr.attribute_table(scene(), two_models(), boxes, **OPTIONS)
    failed = [row for row in table.rows if row["error"] is not None]
    assert [row["number"] for row in failed] == [2, 2]
    assert all("outside of" in row["error"] for row in failed)
    assert failed[0]["diffusion_index"] is None
    assert [type(error) for error in table.failures] == [BadRegion, BadRegion]
    assert table.summary["models"][0]["means"]["diffusion_index"]["n"] == 2
    assert "one: 2 of 3 boxes" in str(table)
    with pytest.raises(BadRegion, match="outside of"):
        nr.attribute_table(scene(), two_models(), [boxes[1]], **OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("stopped_by", ["stop", "ctrl-c"])
def test_a_stop_keeps_what_is_done(stopped_by: str, tmp_path: Path) -> None:
    stop = threading.Event()

    def emit(event: Any) -> None:
        if getattr(event, "name", "").startswith("other, box 2"):
            if stopped_by == "ctrl-c":
                raise KeyboardInterrupt
            stop.set()

    table = nr.attribute_table(scene(), two_models(), BOXES, emit=emit, stop=stop, **OPTIONS)
    assert table.status == "cancelled" and table.planned == 6
    done = [(row["number"], row["model"]) for row in table.rows]
    assert done == [(1, "one"), (1, "other"), (2, "one"), (3, "one")]
    assert table.summary["differences"][0]["means"]["diffusion_index"]["n"] == 1
    assert len(table.save(tmp_path / "t.csv").read_text().splitlines()) == 5
    stop.set()
    with pytest.raises(Cancelled, match="before the first"):
        nr.attribute_table(scene(), two_models(), BOXES, stop=stop, **OPTIONS)


@pytest.mark.slow
def test_no_map_outlives_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    maps: list[Any] = []
    alive: list[int] = []
    measured = _rows.measured

    def watch(found: Any) -> Any:
        alive.append(sum(known() is not None for known in maps))
        maps.append(weakref.ref(found.total))
        return measured(found)

    monkeypatch.setattr(_rows, "measured", watch)
    nr.attribute_table(scene(), two_models(), BOXES, **OPTIONS)
    assert alive == [0] * 6


@pytest.mark.slow
@pytest.mark.nightly
def test_a_model_is_loaded_and_looks_at_an_image_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from napari_restore.engine.running import prepared
    from napari_restore.models import _named

    loads: list[str] = []
    looks: list[str] = []
    load, statistics = _named.load, prepared._statistics

    def loading(name: str, **options: Any) -> Any:
        loads.append(name)
        return load(name, **options)

    def looking(plan: Any, *given: Any) -> Any:
        looks.append(plan.model.card.id)
        return statistics(plan, *given)

    monkeypatch.setattr(_named, "load", loading)
    monkeypatch.setattr(prepared, "_statistics", looking)
    path = tmp_path / "scene.png"
    Image.fromarray(np.round(255 * scene(256, 256)).astype(np.uint8)).save(path)
    table = nr.attribute_table(path, ["atmosphere", "dcp"], BOXES, device="cpu", steps=1)
    assert loads == looks == ["atmosphere", "dcp"]
    assert len(table.rows) == 6


def test_tables_of_boxes_name_their_images(tmp_path: Path) -> None:
    for name, seed in (("a.png", 1), ("b.png", 2)):
        Image.fromarray(np.round(255 * scene(seed=seed)).astype(np.uint8)).save(tmp_path / name)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(
        "name;X;y;width;height;image\nroof;5;6;20;30;b.png\n;1;2;9;9;a.png\n;3;4;9;9;b.png\n"
    )
    table = nr.attribute_table(None, [wrapped(Small())], boxes, **OPTIONS)
    told = [(Path(row["image"]).name, row["name"], row["x"]) for row in table.rows]
    assert told == [("b.png", "roof", 5), ("b.png", "3", 3), ("a.png", "2", 1)]
    assert len({row["fingerprint"] for row in table.rows}) == 2
    with pytest.raises(InputError, match="names images"):
        nr.attribute_table(scene(), [wrapped(Small())], boxes, **OPTIONS)


def test_an_image_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    Image.fromarray(np.round(255 * scene()).astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    table = nr.attribute_table(paths, [wrapped(Small())], BOXES[:1], **OPTIONS)
    assert [row["error"] is None for row in table.rows] == [True, False]
    assert table.rows[1]["image"] == str(paths[1])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column x"),
        ("x,y,width,height\n", "no rows"),
        ("x,y,width\n1,2,3\n", "no column height"),
        ("x,y,width,height\n1,2,3,4\n1,2,many,4\n", "Line 3 of"),
        ("x,y,width,height,image\n1,2,3,4,no.png\n", "does not exist"),
        ("x,y,width,height,image\n1,2,3,4,\n", "does not exist"),
    ],
)
def test_what_is_no_table_of_boxes_is_said(tmp_path: Path, text: str, told: str) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(text)
    with pytest.raises(InputError, match=told):
        api.boxes_of(boxes)


def test_nothing_to_ask_is_said(tmp_path: Path) -> None:
    for options, told in (
        ({"images": None}, "No image is given"),
        ({"models": []}, "No model is given"),
        ({"boxes": []}, "No box is given"),
        ({"boxes": None}, "boxes or a polygon"),
        ({"boxes": tmp_path / "none.csv"}, "cannot be read"),
    ):
        given = {"images": scene(), "models": [wrapped(Small())], "boxes": BOXES, **options}
        with pytest.raises(InputError, match=told):
            nr.attribute_table(**given, **OPTIONS)


@pytest.mark.slow
def test_files_hold_rows_summary_and_question(tmp_path: Path) -> None:
    models = [wrapped(Small(0), id="my_model"), wrapped(Small(1), id="other")]
    polygon = [(40, 60), (56, 60), (56, 84)]
    table = nr.attribute_table(
        scene(), models, polygon=polygon, extra={"command": "mine"}, **OPTIONS
    )
    with table.save(tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["my_model", "other"]
    assert float(rows[0]["diffusion_index"]) == pytest.approx(
        table.rows[0]["diffusion_index"], rel=1e-7
    )
    assert json.loads(rows[0]["polygon"]) == [list(map(float, vertex)) for vertex in polygon]
    assert rows[0]["reached"] in ("true", "false") and rows[0]["error"] == ""
    told = json.loads(table.save(tmp_path / "t.json").read_text(encoding="utf-8"))
    assert told["rows"] == table.rows and told["summary"] == table.summary
    assert told["question"] == {"method": "ig", "baseline": "zero", "steps": 3}
    assert told["command"] == "mine" and told["versions"]["torch"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "t.json"]


def test_files_that_exist_are_kept(tmp_path: Path) -> None:
    table = nr.attribute_table(scene(), [wrapped(Small())], BOXES[:1], **OPTIONS)
    taken = tmp_path / "t.csv"
    taken.write_text("mine")
    with pytest.raises(BadOutput, match="exists"):
        table.save(taken)
    assert taken.read_text() == "mine"
    assert table.save(taken, overwrite=True).read_text().startswith("number,image,")
    with pytest.raises(BadOutput, match="not a table"):
        table.save(tmp_path / "map.tif")
    with pytest.raises(BadOutput, match="cannot be written"):
        table.save(tmp_path / "no" / "t.csv")


def test_a_table_of_arrays_names_no_task(tmp_path: Path) -> None:
    table = nr.attribute_table(scene(), [wrapped(Small())], BOXES[:1], **OPTIONS)
    assert table.to_dict()["task"] is None


@pytest.mark.slow
def test_an_image_given_twice_stays_two(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.round(255 * scene()).astype(np.uint8)).save(path)
    table = nr.attribute_table([path, path], ["dcp"], BOXES[:2], **OPTIONS)
    assert [row["number"] for row in table.rows] == [1, 2, 3, 4]
    # It is made again by its command, and is no record of a restoration.
    with pytest.raises(InputError, match="another kind of run: table"):
        nr.rerun(table.save(tmp_path / "t.json"))
