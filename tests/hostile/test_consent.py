"""What an image may open beyond its folder is said by the user at that moment, never by a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import napari_restore as nr
from napari_restore import api
from napari_restore.commands import main
from napari_restore.errors import BadOutput, RestoreError

from .conftest import vrt

Tiff = Callable[..., Path]


@pytest.fixture
def outer(tmp_path: Path, tiff: Tiff) -> Path:
    """A VRT that takes its pixels from another folder."""
    tiff("elsewhere/pixels.tif")
    path = tmp_path / "images" / "scene.vrt"
    path.parent.mkdir()
    path.write_text(vrt("../elsewhere/pixels.tif", relative=1))
    return path


def saying(record: Path, **changes: Any) -> Path:
    """A copy of a record that says on every level what would give consent."""

    def said(value: Any) -> Any:
        if isinstance(value, dict):
            found = {key: said(each) for key, each in value.items()}
            return found | changes if "source" in value else found
        return [said(each) for each in value] if isinstance(value, list) else value

    copy = record.with_name(f"said-{record.name}")
    told = json.loads(record.read_text())
    told["task"] = said(told["task"])
    copy.write_text(json.dumps(told))
    return copy


def run(*words: object) -> int:
    return main([*map(str, words), "--progress", "off"])


def test_a_restoration(outer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, out = tmp_path / "record.json", tmp_path / "out.tif"
    words = ["restore", outer, "-o", out, "--model", "identity", "--record", record]
    assert run(*words) == 2
    assert run(*words, "--allow-outside") == 0
    again = tmp_path / "again.tif"
    for copy in (record, saying(record, allow_outside=True)):
        capsys.readouterr()
        assert run("rerun", copy, "-o", again) == 2
        assert "--allow-outside" in capsys.readouterr().err
        assert not again.exists()
        with pytest.raises(RestoreError, match="outside"):
            nr.rerun(copy, again)
    assert run("rerun", record, "-o", again, "--allow-outside") == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.slow
def test_attributions_and_tables(outer: Path, tmp_path: Path) -> None:
    words = ["attribute", outer, "--model", "dcp", "--box", 20, 20, 8, 8]
    words += ["--method", "ig", "--steps", 2, "--baseline", "zero", "--allow-outside"]
    record, table = tmp_path / "record.json", tmp_path / "table.json"
    assert run(*words, "-o", tmp_path / "map.tif", "--record", record) == 0
    assert run(*words, "--model", "identity", "-o", table) == 0
    again = tmp_path / "again.tif"
    assert run("rerun", saying(record, allow_outside=True), "-o", again) == 2
    assert not again.exists()
    assert run("rerun", record, "-o", again, "--allow-outside") == 0
    assert run("rerun", table, "-o", tmp_path / "again.json", "--allow-outside") == 2


def test_a_record_does_not_say_that_files_are_replaced(tmp_path: Path, tiff: Tiff) -> None:
    record, out = tmp_path / "record.json", tmp_path / "out.tif"
    assert run("restore", tiff(), "-o", out, "--model", "identity", "--record", record) == 0
    before = out.read_bytes()
    out.write_bytes(b"mine")
    told = json.loads(record.read_text())
    told["output"]["options"]["overwrite"] = True
    copy = tmp_path / "said.json"
    copy.write_text(json.dumps(told))
    assert run("rerun", copy) == 2
    with pytest.raises(BadOutput):
        nr.rerun(copy)
    assert out.read_bytes() == b"mine"
    assert run("rerun", record, "--overwrite") == 0
    assert out.read_bytes() == before


def test_notes_in_the_cache(outer: Path) -> None:
    from napari_restore.engine import KeptResult

    image = api.open_image(outer, allow_outside=True)
    planned = api.plan(image, "identity")
    task = api.task_of(planned)
    assert task is not None and task["image"]["allow_outside"]
    # A copy of the image in one folder, found by its fingerprint or name.
    whole = outer.parent.parent / "elsewhere" / "pixels.tif"
    kept = KeptResult(planned.store, "a", "a", "a", task, None, False, 0.0, 0.0)
    made = api.plan_of_kept(kept, api.open_image(whole))
    assert "allow_outside" not in made.image.spec
