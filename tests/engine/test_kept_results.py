"""Notes of results in their stores: found again, torn, refused, removed."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from points import patience

from napari_restore import Region, api
from napari_restore.engine import kept_results
from napari_restore.engine.results import _kept_results
from napari_restore.errors import ResourceError


def made(sample: Path, region: Region, **options: Any) -> Any:
    planned = api.plan(sample, "identity", region=region, device="cpu", pyramid=True, **options)
    return api.start(planned).result()


def note_of(result: Any, title: str = "a", record: Any = None) -> str:
    task = api.task_of(result.plan)
    return api.keep_result(result.store.path, task, title, "Unchanged", record)


@pytest.fixture
def result(sample: Path) -> Any:
    return made(sample, Region(0, 0, 200, 300))


def test_a_note_makes_the_same_result_again(result: Any, sample: Path):
    name = note_of(result, "größer", result.record)
    (kept,) = api.kept_results(sample)
    assert (kept.title, kept.method, kept.name) == ("größer", "Unchanged", name)
    assert kept.complete and kept.finished == 1
    assert kept.name == api.kept_name(result.plan)
    again = api.result_of_kept(kept, sample)
    box = result.region
    assert again.read(box).tobytes() == result.read(box).tobytes()
    assert again.region == box and again.record == json.loads(json.dumps(result.record))


def test_an_image_that_was_moved_finds_its_results(result: Any, sample: Path, tmp_path: Path):
    note_of(result, record=result.record)
    moved = tmp_path / "elsewhere.tif"
    moved.write_bytes(sample.read_bytes())
    (kept,) = api.kept_results(moved)
    again = api.result_of_kept(kept, moved)
    assert again.image.path == moved
    assert again.read(result.region).tobytes() == result.read(result.region).tobytes()


def test_areas_of_one_store_have_notes_of_their_own(result: Any, sample: Path):
    other = made(sample, Region(0, 0, 100, 100))
    assert other.store.path == result.store.path
    names = {note_of(result), note_of(other)}
    assert {kept.name for kept in api.kept_results(sample)} == names
    assert note_of(other, "again") in names
    assert len(api.kept_results(sample)) == 2


def test_the_store_goes_with_its_last_note_and_only_unused(result: Any, sample: Path):
    other = made(sample, Region(0, 0, 100, 100))
    first, second = note_of(result), note_of(other)
    store = result.store.path
    assert api.forget_result(store, first) is False
    assert store.is_dir()
    with pytest.raises(ResourceError, match="still in use"):
        api.forget_result(store, second)
    assert store.is_dir() and len(api.kept_results(sample)) == 1
    result.store.close()
    other.store.close()
    assert api.forget_result(store, second) is True
    assert not store.exists()


def test_a_store_can_be_removed_while_the_cache_is_searched(
    result: Any, sample: Path, monkeypatch: pytest.MonkeyPatch
):
    name, store = note_of(result), result.store.path
    result.store.close()
    reading, go_on = threading.Event(), threading.Event()
    read = _kept_results.read_json

    def read_slowly(path: Path) -> Any:
        if path.name.startswith("result-"):
            reading.set()
            go_on.wait(patience())
        return read(path)

    monkeypatch.setattr(_kept_results, "read_json", read_slowly)
    with ThreadPoolExecutor(2) as pool:
        searched = pool.submit(api.kept_results, sample)
        reading.wait(patience())
        removed = pool.submit(api.forget_result, store, name)
        # It waits for the search; an error would come at once.
        wait([removed], timeout=0.2)
        go_on.set()
        assert removed.result() is True
        assert len(searched.result()) == 1
    assert not store.exists()


def test_an_unfinished_result_tells_how_much_is_done(sample: Path):
    job = api.start(api.plan(sample, "identity", device="cpu", tile=256, workers=1, pyramid=True))
    events = iter(job)
    done = 0
    while done < 2:
        done += type(next(events)).__name__ == "TileDone"
    job.cancel()
    record = [event.record for event in events if hasattr(event, "record")][-1]
    api.keep_result(job.plan.store, api.task_of(job.plan), "a", "Unchanged", record)
    (kept,) = api.kept_results(sample)
    assert not kept.complete
    assert 0 < kept.finished < 1
    assert kept.finished * 2048 * 3072 >= 2 * 256 * 256


@pytest.mark.parametrize("text", ["", "{", "[]", '{"title": "a"}'])
def test_what_is_no_note_is_passed_over(result: Any, sample: Path, text: str):
    note_of(result)
    (result.store.path / "result-torn.json").write_text(text)
    assert len(api.kept_results(sample)) == 1


def test_stores_of_other_images_formats_and_none_are_passed_over(
    result: Any, sample: Path, own_cache: Path
):
    note_of(result)
    assert kept_results("another") == []
    (own_cache / "results" / "x.zarr").mkdir()
    header = result.store.path / "header.json"
    content = json.loads(header.read_text())
    header.write_text(json.dumps({**content, "format": -1}))
    assert api.kept_results(sample) == []


def test_a_note_for_a_store_that_is_gone_is_left_out(result: Any, sample: Path, tmp_path: Path):
    api.keep_result(tmp_path / "no.zarr", api.task_of(result.plan), "a", "Unchanged")
    assert list(tmp_path.iterdir()) == []
