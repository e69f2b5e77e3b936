"""Finished rows of a table that was interrupted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.explain._models import scene

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import Note, StoreBusy
from napari_restore.errors import ResourceError
from napari_restore.explain import RowJournal

BOXES = [Region(40, 60, 56, 84), Region(10, 20, 26, 36), Region(80, 30, 88, 60)]
OPTIONS: dict[str, Any] = {"device": "cpu", "steps": 1}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(np.round(255 * scene(128, 160)).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def computed(before_a_row: Callable[[Callable[[Any], object]], None]) -> list[Any]:
    """Boxes of the rows that are computed."""
    boxes: list[Any] = []
    before_a_row(boxes.append)
    return boxes


def interrupted(picture: Path, scratch: Path, rows: int, computed: list[Any]) -> None:
    """Compute rows as a process that is killed in the one of this number."""
    count = len(computed) + rows

    class Killed(threading.Event):
        def is_set(self) -> bool:
            if len(computed) >= count:
                raise SystemExit
            return False

    with pytest.raises(SystemExit):
        nr.attribute_table(picture, ["dcp"], BOXES, stop=Killed(), scratch=scratch, **OPTIONS)


def folders(scratch: Path) -> list[Path]:
    return list(scratch.glob("attributions-*"))


def test_finished_rows_are_not_computed_again(
    picture: Path, tmp_path: Path, computed: list[Any]
) -> None:
    scratch = tmp_path / "scratch"
    interrupted(picture, scratch, 2, computed)
    events: list[Any] = []
    computed.clear()
    table = nr.attribute_table(
        picture, ["dcp"], BOXES, scratch=scratch, emit=events.append, **OPTIONS
    )
    assert computed == BOXES[1:]
    assert [row["number"] for row in table.rows] == [1, 2, 3]
    assert any("ontinues after" in event.text for event in events if isinstance(event, Note))
    # A table that is complete is computed anew.
    assert not folders(scratch)
    computed.clear()
    again = nr.attribute_table(picture, ["dcp"], BOXES, scratch=scratch, **OPTIONS)
    assert computed == BOXES
    assert [{**row, "seconds": 0} for row in again.rows] == [
        {**row, "seconds": 0} for row in table.rows
    ]


def test_a_line_that_was_cut_off_is_computed_again(
    picture: Path, tmp_path: Path, computed: list[Any]
) -> None:
    scratch = tmp_path / "scratch"
    interrupted(picture, scratch, 3, computed)
    (path,) = scratch.glob("attributions-*/rows.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines)[:-30])
    kept = sum(bool(line) for line in lines) - 1
    computed.clear()
    nr.attribute_table(picture, ["dcp"], BOXES, scratch=scratch, **OPTIONS)
    assert len(computed) == len(BOXES) - kept


@pytest.mark.parametrize("change", ["image", "question", "model"])
@pytest.mark.ids("slow", "model")
def test_rows_of_another_table_do_not_count(
    picture: Path, tmp_path: Path, computed: list[Any], change: str
) -> None:
    scratch, models, options = tmp_path / "scratch", ["dcp"], dict(OPTIONS)
    interrupted(picture, scratch, 2, computed)
    if change == "image":
        Image.fromarray(np.round(255 * scene(128, 160, seed=5)).astype(np.uint8)).save(picture)
    elif change == "question":
        options["steps"] = 2
    else:
        models = ["dcp:omega=0.5"]
    computed.clear()
    nr.attribute_table(picture, models, BOXES, scratch=scratch, **options)
    assert computed == BOXES


def test_rows_with_an_error_are_tried_again(
    picture: Path,
    tmp_path: Path,
    computed: list[Any],
    before_a_row: Callable[[Callable[[Any], object]], None],
) -> None:
    scratch = tmp_path / "scratch"

    def fails(box: Any) -> None:
        computed.append(box)
        if box == BOXES[0]:
            raise ResourceError("No memory.", "")

    before_a_row(fails)
    interrupted(picture, scratch, 3, computed)
    before_a_row(computed.append)
    computed.clear()
    nr.attribute_table(picture, ["dcp"], BOXES, scratch=scratch, **OPTIONS)
    assert computed == [BOXES[0], BOXES[2]]


def test_one_process_computes_a_table(tmp_path: Path) -> None:
    with RowJournal({"of": "test"}, tmp_path), pytest.raises(StoreBusy, match="same table"):
        RowJournal({"of": "test"}, tmp_path).__enter__()


def test_a_table_in_memory_keeps_nothing(tmp_path: Path) -> None:
    with RowJournal(None, tmp_path) as journal:
        assert len(journal) == 0
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with RowJournal({"of": "test"}, tmp_path / "file") as journal:
        assert len(journal) == 0


def test_lines_are_plain_json(picture: Path, tmp_path: Path, computed: list[Any]) -> None:
    interrupted(picture, tmp_path / "scratch", 2, computed)
    (path,) = (tmp_path / "scratch").glob("attributions-*/rows.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    assert all(set(line) == {"order", "row", "run", "digest"} for line in rows)
