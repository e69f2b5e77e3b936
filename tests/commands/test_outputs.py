from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from napari_restore._commands._outputs import (
    SUMMARY,
    Item,
    Summary,
    file_size,
    is_folder,
    refuse_existing,
    work_items,
)
from napari_restore.errors import BadOutput


def items(*sources, output, stack=False, name="{stem}_clear{suffix}", record=None, maps=None):
    return work_items(sources, output, stack=stack, name=name, record=record, maps=maps)


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
    (item,) = items("b4.tif", "b3.tif", output="out.tif", stack=True)
    assert item.sources == ("b4.tif", "b3.tif")
    assert item.output == Path("out.tif")


def test_what_counts_as_a_folder(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "old.zarr").mkdir()
    assert is_folder(str(tmp_path / "dir"), ["a.tif"], stack=False)
    assert is_folder("new/", ["a.tif"], stack=False)
    assert is_folder("new", ["a.tif", "b.tif"], stack=False)
    assert not is_folder("new", ["a.tif", "b.tif"], stack=True)
    assert not is_folder(str(tmp_path / "old.zarr"), ["a.tif"], stack=False)


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
            items("a.tif", output=output)
    with pytest.raises(BadOutput, match="is an input"):
        items("a.tif", "b.tif", output=".", name="{stem}{suffix}")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_to_an_input_is_not_an_output_either(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"data")
    (tmp_path / "link.tif").symlink_to(tmp_path / "a.tif")
    with pytest.raises(BadOutput, match="is an input"):
        items(str(tmp_path / "a.tif"), output=str(tmp_path / "link.tif"))


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
    assert [p.name for p in tmp_path.iterdir() if p != output] == [SUMMARY]


@pytest.mark.parametrize("text", ["", "[]", '{"images": 3}', '{"images": {"a": 3}}'])
def test_a_damaged_account_counts_for_nothing(tmp_path, text):
    (tmp_path / SUMMARY).write_text(text)
    assert Summary(tmp_path).entries == {}
    Summary(tmp_path).add(tmp_path / "a.tif", {"status": "done"})
    assert json.loads((tmp_path / SUMMARY).read_text()) == {"images": {"a.tif": {"status": "done"}}}


def test_size_of_a_folder_is_that_of_its_files(tmp_path):
    (tmp_path / "x.zarr" / "c").mkdir(parents=True)
    (tmp_path / "x.zarr" / "zarr.json").write_bytes(b"12")
    (tmp_path / "x.zarr" / "c" / "0").write_bytes(b"345")
    assert file_size(tmp_path / "x.zarr") == 5
