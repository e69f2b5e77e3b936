from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path

import pytest

from napari_restore.commands import (
    SUMMARY,
    Item,
    Summary,
    check_files,
    check_maps,
    identities,
    is_folder,
    items_of,
    refuse_existing,
    refuse_old_record,
)
from napari_restore.errors import BadOutput
from napari_restore.records import write_record

RECORD = {
    "command": "",
    "version": "1",
    "status": "done",
    "input": {
        "path": None,
        "fingerprint": "ab",
        "size": [1, 1],
        "bands": 1,
        "dtype": "uint8",
        "crs": None,
        "black": None,
        "white": None,
    },
    "output": None,
    "model": {"id": "dcp", "weights_sha256": None, "parameters": {}},
    "targets": [],
    "extent": "image",
    "context": None,
    "plan": {
        **dict.fromkeys(("tile", "halo", "tile_batch", "tiles", "passes", "residual_bytes"), 1),
        **dict.fromkeys(("predicted_peak_ram_bytes", "predicted_peak_device_bytes"), 1),
        "scope": "local",
        "residual_tier": None,
        "predicted_disk_bytes": 1,
        "predicted_seconds": None,
    },
    "measured": {
        **dict.fromkeys(("seconds", "megapixels_per_second", "peak_ram_bytes"), 1),
        **dict.fromkeys(("peak_device_bytes", "tiles_done", "tiles_resumed", "backoffs"), 0),
        "unchanged_share": None,
    },
    "device": "cpu",
    "versions": {},
}


def items(*sources, output, joined=False, name="{stem}_clear{suffix}", record=None, maps=None):
    named = {"output": str(output), "name": name, "record": record and str(record), "maps": maps}
    groups = [sources] if joined else [(source,) for source in sources]
    into_folder = is_folder(str(output), sources, joined=joined)
    return items_of(groups, Namespace(**named), into_folder=into_folder)


def checked(*sources, given=(), made=None, **options):
    """The items, after all that can be known about their files."""
    found = items(*sources, **options)
    check_files(found, identities([*sources, *given]), made)
    return found


def test_one_image_goes_into_the_named_file():
    (item,) = items("größe a.tif", output="out.png", record="r.json", maps="m")
    assert item == Item(("größe a.tif",), Path("out.png"), Path("r.json"), Path("m"))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("in/a.tif", "a_clear.tif"),
        ("in/a.TIF", "a_clear.TIF"),
        ("in/a.b.jpg", "a.b_clear.jpg"),
        ("in/a.nef", "a_clear.tif"),
        ("in/a.jp2", "a_clear.tif"),
        ("in/a.zarr", "a_clear.zarr"),
        ("in/a", "a_clear.tif"),
    ],
)
def test_names_in_a_folder_keep_the_suffix_that_can_be_written(source, name):
    assert items(source, "in/other.tif", output="out")[0].output == Path("out") / name


def test_several_images_get_a_record_and_a_map_folder_each():
    first, second = items("a.tif", "b.tif", output="out", record="r/{stem}.json", maps="m")
    assert (first.record, second.record) == (Path("r/a.json"), Path("r/b.json"))
    assert (first.maps, second.maps) == (Path("m/a"), Path("m/b"))


def test_a_stack_is_one_image():
    (item,) = items("b4.tif", "b3.tif", output="out.tif", joined=True)
    assert item.sources == ("b4.tif", "b3.tif")
    assert item.output == Path("out.tif")


def test_what_counts_as_a_folder(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "old.zarr").mkdir()
    assert is_folder(str(tmp_path / "dir"), ["a.tif"], joined=False)
    assert is_folder("new/", ["a.tif"], joined=False)
    assert is_folder("new", ["a.tif", "b.tif"], joined=False)
    assert not is_folder("new", ["a.tif", "b.tif"], joined=True)
    assert not is_folder(str(tmp_path / "old.zarr"), ["a.tif"], joined=False)


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        (["x/a.tif", "y/a.tif"], {}, "Two images would be written"),
        (["x/a.tif", "y/A.tif"], {}, "Two images would be written"),
        (["a.tif", "b.tif"], {"name": "same.tif"}, "Two images would be written"),
        (["a.tif", "b.tif"], {"name": "{nme}.tif"}, "gives no file name"),
        (["a.tif", "b.tif"], {"name": "../{stem}.tif"}, "gives no file name"),
        (["a.tif", "b.tif"], {"name": "{"}, "gives no file name"),
        (["a.tif", "b.tif"], {"name": ""}, "gives no file name"),
        (["a.tif", "b.tif"], {"record": "r.json"}, "cannot share the record"),
    ],
)
def test_names_that_would_meet_are_refused(sources, options, said):
    with pytest.raises(BadOutput, match=said):
        items(*sources, output="out", **options)


def test_an_input_is_never_an_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.tif").write_bytes(b"data")
    for output in ("a.tif", "./a.tif", str(tmp_path / "a.tif")):
        with pytest.raises(BadOutput, match="is an input"):
            checked("a.tif", output=output)
    with pytest.raises(BadOutput, match="is an input"):
        checked("a.tif", "b.tif", output=".", name="{stem}{suffix}")
    with pytest.raises(BadOutput, match="is an input"):
        checked("a.tif", output="o.tif", record="a.tif")
    Path("mask.tif").write_bytes(b"data")
    for names in ({"output": "mask.tif"}, {"output": "o.tif", "record": "mask.tif"}):
        with pytest.raises(BadOutput, match="is an input"):
            checked("a.tif", given=["mask.tif"], **names)
    Path("m").mkdir()
    Path("m/change.tif").write_bytes(b"data")
    (item,) = items("a.tif", output="o.tif", maps="m")
    with pytest.raises(BadOutput, match="is an input"):
        check_maps(item, ["change"], identities(["m/change.tif"]), overwrite=True)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_to_an_input_is_not_an_output_either(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"data")
    (tmp_path / "link.tif").symlink_to(tmp_path / "a.tif")
    with pytest.raises(BadOutput, match="is an input"):
        checked(str(tmp_path / "a.tif"), output=str(tmp_path / "link.tif"))


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(BadOutput, match="need a folder"):
        items("a.tif", "b.tif", output=str(tmp_path / "out"))


def test_existing_files_are_kept_unless_told(tmp_path):
    path = tmp_path / "a.tif"
    refuse_existing(path, overwrite=False)
    path.write_bytes(b"data")
    refuse_existing(path, overwrite=True)
    with pytest.raises(BadOutput, match="exists"):
        refuse_existing(path, overwrite=False)
    assert path.read_bytes() == b"data"


def test_what_is_written_must_not_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadOutput, match="twice"):
        checked("a.tif", output="o.tif", record="O.tif")
    (item,) = items("a.tif", output="m/change.tif", maps="m")
    with pytest.raises(BadOutput, match="twice"):
        check_maps(item, ["change"], frozenset(), overwrite=True)
    (item,) = items("a.tif", output="o.tif", maps="m")
    check_maps(item, ["change"], frozenset(), overwrite=False)
    Path("m").mkdir()
    Path("m/change.tif").write_bytes(b"")
    with pytest.raises(BadOutput, match="exists"):
        check_maps(item, ["change"], frozenset(), overwrite=False)


def test_records_and_maps_need_a_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checked("a.tif", output="o.tif", record="r.json", maps="new/maps")
    with pytest.raises(BadOutput, match="cannot be written"):
        checked("a.tif", output="o.tif", record="missing/r.json")
    # The folder of the outputs is made by the run itself.
    checked("a.tif", "b.tif", output="out", record="out/{stem}.json", made=Path("out"))
    with pytest.raises(BadOutput, match="cannot be written"):
        checked("a.tif", "b.tif", output="out", record="new/{stem}.json", made=Path("out"))
    Path("file").write_bytes(b"")
    for maps in ("file", "file/maps"):
        with pytest.raises(BadOutput, match="not a folder"):
            checked("a.tif", output="o.tif", maps=maps)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_the_record_of_an_unfinished_run_may_be_replaced(tmp_path):
    record = tmp_path / "r.json"
    (item,) = items("a.tif", output="o.tif", record=record)
    refuse_old_record(item, overwrite=False)
    told = {**RECORD, "input": {**RECORD["input"], "path": "a.tif"}}
    write_record(record, {**told, "status": "cancelled"})
    refuse_old_record(item, overwrite=False)
    (other,) = items("b.tif", output="o.tif", record=record)
    for each, status in ((other, "cancelled"), (item, "done")):
        write_record(record, {**told, "status": status})
        with pytest.raises(BadOutput, match="exists"):
            refuse_old_record(each, overwrite=False)
        refuse_old_record(each, overwrite=True)
    record.write_text("precious")
    with pytest.raises(BadOutput, match="exists"):
        refuse_old_record(item, overwrite=False)


def test_only_what_the_same_command_wrote_is_done(tmp_path):
    output = tmp_path / "a.tif"
    output.write_bytes(b"1234")
    Summary(tmp_path).add(output, {"status": "done", "key": "k", "bytes": 4})
    assert Summary(tmp_path).is_done(output, "k")
    assert not Summary(tmp_path).is_done(output, "other settings")
    assert not Summary(tmp_path).is_done(tmp_path / "b.tif", "k")
    output.write_bytes(b"changed")
    assert not Summary(tmp_path).is_done(output, "k")
    output.unlink()
    assert not Summary(tmp_path).is_done(output, "k")


def test_a_failed_image_is_not_done_and_a_done_one_stays_done(tmp_path):
    output = tmp_path / "a.tif"
    output.write_bytes(b"1234")
    summary = Summary(tmp_path)
    summary.add(output, {"status": "failed", "key": "k", "bytes": 4})
    assert not summary.is_done(output, "k")
    summary.add(output, {"status": "done", "key": "k", "bytes": 4})
    summary.add(output, {"status": "skipped", "key": "k", "bytes": 4})
    summary.add(output, {"status": "failed", "key": "other", "bytes": 4})
    assert Summary(tmp_path).is_done(output, "k")
    summary.close()
    assert Summary(tmp_path).is_done(output, "k")
    assert [p.name for p in tmp_path.iterdir() if p != output] == [SUMMARY]


def test_a_killed_command_leaves_what_it_had_done(tmp_path):
    (tmp_path / SUMMARY).write_text('{"images": {"a.tif": {"status": "done"}}}')
    for number in range(3):
        killed = Summary(tmp_path)
        entry = {"status": "done", "input": "https://x.org/b.tif?secret=1"}
        killed.add(tmp_path / f"{number}.tif", entry)
        # Each line by itself: a folder of thousands is not written anew for every image.
        assert list(json.loads((tmp_path / SUMMARY).read_text())["images"]) == ["a.tif"]
    journal = tmp_path / f"{SUMMARY}l"
    assert "secret" not in journal.read_text()
    journal.write_bytes(journal.read_bytes()[:-3])
    summary, other = Summary(tmp_path), Summary(tmp_path)
    assert list(summary.entries) == ["a.tif", "0.tif", "1.tif"]
    other.add(tmp_path / "c.tif", {"status": "done"})
    summary.close()
    written = json.loads((tmp_path / SUMMARY).read_text())["images"]
    assert list(written) == ["a.tif", "0.tif", "1.tif", "c.tif"]
    assert not journal.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"images": 3}', '{"images": {"a": 3}}'])
def test_a_damaged_account_counts_for_nothing(tmp_path, text):
    (tmp_path / SUMMARY).write_text(text)
    assert Summary(tmp_path).entries == {}
    summary = Summary(tmp_path)
    summary.add(tmp_path / "a.tif", {"status": "done"})
    summary.close()
    assert json.loads((tmp_path / SUMMARY).read_text()) == {"images": {"a.tif": {"status": "done"}}}
