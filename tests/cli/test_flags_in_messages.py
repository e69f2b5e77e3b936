"""What the package says of options, with the flags of the command line."""

from __future__ import annotations

import json
import re

from ._scenes import hazy, write_tiff

TOO_SMALL = r"Use --memory \d+MiB or more, or a smaller --tile\."


def test_an_error_names_flags(cli, scene):
    words = ("plan", scene, "--model", "identity", "--memory", "1KiB", "--device", "cpu")
    assert re.search(TOO_SMALL, cli(*words).err)
    error = cli(*words, "--json").json["error"]
    assert error["type"] == "BudgetTooSmall" and re.fullmatch(TOO_SMALL, error["hint"])


def test_a_failed_image_of_a_folder_names_flags(cli, scene, tmp_path):
    words = ("--model", "identity", "--memory", "1KiB", "--device", "cpu")
    run = cli("restore", scene.parent, "-o", tmp_path / "out", *words, "--json")
    assert re.search(TOO_SMALL, run.err)
    assert re.fullmatch(TOO_SMALL, run.json["images"][0]["error"]["hint"])


def test_a_note_names_flags(cli, tmp_path):
    landsat = tmp_path / "LC08_193024_20200101.tif"
    write_tiff(landsat, hazy(bands=5, dtype="uint16"))
    note = "Its name or tags name Landsat 8 OLI/TIRS: --sensor landsat8 sets zero and bands."
    assert f"note: {note}" in cli("info", landsat).out
    assert note in cli("info", landsat, "--json").json["notes"]
    words = ("restore", landsat, "-o", tmp_path / "out.tif", "--model", "identity")
    run = cli(*words, "--record", tmp_path / "record.json")
    assert f"note: {note}" in run.err
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert note in record["notes"]
