"""Folders as inputs of `restore`."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image as Pillow
from tests.images.brackets.photos import two_brackets

from napari_restore import api

from ._scenes import hazy, read, write_tiff


def folder_of(tmp_path, *names):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(names):
        write_tiff(folder / name, hazy(seed=number))
    return folder


def test_a_folder_is_all_images_in_it(cli, tmp_path):
    folder = folder_of(tmp_path, "b.tif", "a.TIF", ".hidden.tif")
    (folder / "notes.txt").write_text("no image")
    (folder / "below").mkdir()
    out = tmp_path / "out"
    run = cli("restore", folder, "-o", out, "--model", "dcp", "--json", "--progress", "json")
    assert run.code == 0, run.err
    assert [entry["status"] for entry in run.json["images"]] == ["done", "done"]
    assert sorted(p.name for p in out.glob("*.[tT]*")) == ["a_clear.TIF", "b_clear.tif"]
    started = [e for e in map(json.loads, run.err.splitlines()) if e["event"] == "ImageStarted"]
    told = [(e["name"], e["number"], e["images"]) for e in started]
    assert told == [("a.TIF", 1, 2), ("b.tif", 2, 2)]
    alone = tmp_path / "alone.tif"
    assert cli("restore", folder / "b.tif", "-o", alone, "--model", "dcp").code == 0
    assert np.array_equal(read(alone), read(out / "b_clear.tif"))
    assert "image 1 of 2: a.TIF" in cli("restore", folder, "-o", out, "--model", "dcp").err


def test_a_folder_with_one_image_needs_a_folder_too(cli, tmp_path):
    folder = folder_of(tmp_path, "a.tif")
    assert cli("restore", folder, "-o", tmp_path / "out", "--model", "identity").code == 0
    assert (tmp_path / "out" / "a_clear.tif").is_file()


@pytest.mark.parametrize("name", ["out.tif", "out.zarr", "out.JPG"])
def test_several_images_need_a_folder_by_its_name(cli, tmp_path, name):
    folder = folder_of(tmp_path, "a.tif", "b.tif")
    paths = [folder / "a.tif", folder / "b.tif"]
    # Both show the same place.
    why = {True: f"{name} is the name of a file", False: "restore them into a folder one by one"}
    for each in ([folder], paths):
        run = cli("restore", *each, "-o", tmp_path / name, "--model", "identity")
        assert run.code == 2 and why[each == [folder]] in run.err
        assert [path.name for path in tmp_path.iterdir()] == ["in"]
    run = cli("restore", *paths, "-o", folder / "a.tif", "--model", "identity")
    assert run.code == 2 and "a.tif is an input" in run.err
    assert cli("restore", *paths, "-o", f"{tmp_path / name}/", "--model", "identity").code == 0
    # It goes on in the folder.
    assert "2 skipped" in cli("restore", *paths, "-o", tmp_path / name, "--model", "identity").out


def test_several_images_are_not_written_into_an_image(cli, tmp_path):
    folder = folder_of(tmp_path, "a.tif", "b.tif")
    image = tmp_path / "one.zarr"
    assert cli("restore", folder / "a.tif", "-o", image, "--model", "identity").code == 0
    before = sorted(image.rglob("*"))
    for slash in ("", "/"):
        run = cli("restore", folder, "-o", f"{image}{slash}", "--model", "identity")
        assert run.code == 2 and "one.zarr" in run.err and "is an OME-Zarr image" in run.err
    assert sorted(image.rglob("*")) == before


def test_a_folder_is_not_written_over_by_its_own_names(cli, tmp_path):
    folder = folder_of(tmp_path, "a.tif", "b.tif")
    before = read(folder / "a.tif")
    words = ["restore", folder, "-o", folder, "--model", "dcp", "--name", "{stem}{suffix}"]
    for more in ([], ["--overwrite"]):
        run = cli(*words, *more)
        assert run.code == 2 and "a.tif is an input, and would be replaced." in run.err
    assert np.array_equal(read(folder / "a.tif"), before)
    assert sorted(path.name for path in folder.iterdir()) == ["a.tif", "b.tif"]


def test_a_folder_is_not_written_over_through_a_link(cli, tmp_path):
    folder = folder_of(tmp_path, "a.tif", "b.tif")
    before = read(folder / "a.tif")
    try:
        (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    words = ["restore", tmp_path / "link", "-o", folder, "--model", "dcp", "--overwrite"]
    run = cli(*words, "--name", "{stem}{suffix}")
    assert run.code == 2 and "a.tif is an input, and would be replaced." in run.err
    assert np.array_equal(read(folder / "a.tif"), before)
    # Outputs of an earlier run are none of the images, by whatever name.
    for _ in range(2):
        run = cli("restore", tmp_path / "link", "-o", folder, "--model", "identity", "--json")
        assert run.code == 0, run.err
    assert run.json["skipped"] == 2
    assert len(list(folder.glob("*.tif"))) == 4


def test_a_folder_restored_into_itself_skips_its_outputs(cli, tmp_path):
    folder = folder_of(tmp_path, "a.tif", "b.tif")
    for _ in range(2):
        run = cli("restore", folder, "-o", folder, "--model", "identity", "--json")
        assert run.code == 0, run.err
    assert run.json["skipped"] == 2
    assert len(list(folder.glob("*.tif"))) == 4


def test_a_broken_file_does_not_stop_the_others(cli, tmp_path):
    folder = folder_of(tmp_path, "a.tif", "c.tif")
    (folder / "b.tif").write_bytes(b"II*\0")
    run = cli("restore", folder, "-o", tmp_path / "out", "--model", "identity", "--json")
    assert run.code == 2
    assert [entry["status"] for entry in run.json["images"]] == ["done", "failed", "done"]
    assert run.json["images"][1]["error"]["message"]


def table_in(folder):
    with (folder / "restore_summary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_has_a_line_for_each_image(cli, tmp_path):
    folder, out = folder_of(tmp_path, "a.tif", "c.tif"), tmp_path / "out"
    (folder / "b.tif").write_bytes(b"II*\0")
    run = cli("restore", folder, "-o", out, "--model", "identity", "--json")
    rows = table_in(out)
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    error = run.json["images"][1]["error"]
    assert rows[1]["error"] == f"{error['message']} {error['hint']}"
    assert rows[0]["bytes"] == str((out / "a_clear.tif").stat().st_size)
    assert rows[2]["output"] == str(out / "c_clear.tif")


def test_fail_fast_stops_at_the_first_error(cli, tmp_path):
    folder, out = folder_of(tmp_path, "a.tif", "c.tif"), tmp_path / "out"
    (folder / "b.tif").write_bytes(b"II*\0")
    run = cli("restore", folder, "-o", out, "--model", "identity", "--fail-fast")
    assert run.code == 2 and "b.tif" in run.err
    assert [row["status"] for row in table_in(out)] == ["done", "failed", "waiting"]
    (folder / "b.tif").unlink()
    assert cli("restore", folder, "-o", out, "--model", "identity", "--fail-fast").code == 0
    assert [row["status"] for row in table_in(out)] == ["skipped", "done"]


def test_a_folder_without_images_is_refused(cli, tmp_path):
    run = cli("restore", folder_of(tmp_path), "-o", tmp_path / "out", "--model", "identity")
    assert run.code == 2 and "no image in" in run.err
    assert not (tmp_path / "out").exists()


def test_the_words_of_a_folder_are_a_command(cli, tmp_path):
    folder = folder_of(tmp_path, "a.tif")
    words = api.folder_command(
        folder,
        tmp_path / "out",
        {"model": "dcp", "parameters": {"omega": 0.7}},
        strength=0.5,
        memory="1GiB",
        exclude=None,
    )
    run = cli(*words, "--json")
    assert run.code == 0, run.err
    record = run.json["images"][0]["record"]
    assert record["model"]["parameters"]["omega"] == 0.7
    assert "--strength 0.5" in record["command"] and "--memory 1GiB" in record["command"]


def test_the_words_of_a_folder_of_brackets_fuse_it(cli, tmp_path):
    folder = two_brackets(tmp_path)
    words = api.folder_command(
        folder,
        tmp_path / "out",
        {"model": "mertens", "parameters": {"contrast": 0.5}},
        brackets=True,
    )
    run = cli(*words, "--json")
    assert run.code == 0, run.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jpg")) == [
        "a1_fused.jpg",
        "b1_fused.jpg",
    ]
    assert run.json["images"][0]["record"]["model"]["parameters"]["contrast"] == 0.5


def test_a_bit_depth_is_for_the_formats_that_have_it(cli, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("a.jpg", "b.png"):
        Pillow.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(folder / name)
    out = tmp_path / "out"
    run = cli("restore", folder, "-o", out, "--model", "identity", "--bit-depth", "16")
    assert run.code == 0 and "--bit-depth 16 is not for .jpg" in run.err
    kinds = {name: str(api.open_image(out / name).dtype) for name in ("b_clear.png", "a_clear.jpg")}
    assert kinds == {"b_clear.png": "uint16", "a_clear.jpg": "uint8"}


def test_an_option_that_no_output_can_have_ends_a_folder_first(cli, tmp_path):
    folder = folder_of(tmp_path, "a.tif")
    for name in ("b.png", "c.png"):
        Pillow.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(folder / name)
    out = tmp_path / "out"
    arguments = ("restore", folder, "-o", out, "--model", "identity", "--quality", "80")
    run = cli(*arguments)
    assert run.code == 2 and "--quality 80 is for JPEG compression" in run.err
    assert not out.exists()
    assert cli(*arguments, "--name", "{stem}.jpg").code == 0
    assert len(list(out.glob("*.jpg"))) == 3
