"""Names come from anybody: control characters in them are shown, not obeyed."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine

from napari_restore.commands import main
from napari_restore.errors import InputError, escape_controls
from napari_restore.records import strict_json

Tiff = Callable[..., Path]

ESCAPE = "\x1b[31mred\x07"
TURNED = "\u202egnp"
LINE = "\nnote: all is well"
EVIL = f"a{ESCAPE}{LINE}{TURNED}\x9b2J.tif"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

posix = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")


def safe(text: str) -> None:
    """Nothing that a terminal obeys, and no line that a name made up."""
    assert not UNSAFE.search(text), ascii(text)
    assert "\nnote: all is well" not in text


@pytest.fixture
def evil(tiff: Tiff) -> Path:
    """An image whose name, tags, coordinate system and bands hold control characters."""

    def describe(new: object) -> None:
        new.update_tags(TIFFTAG_SOFTWARE=ESCAPE + LINE)  # type: ignore[attr-defined]
        new.set_band_description(1, ESCAPE + LINE + TURNED)  # type: ignore[attr-defined]

    crs = f'LOCAL_CS["{ESCAPE}",UNIT["metre",1]]'
    place = Affine(10, 0, 5e5, 0, -10, 5e6)
    return tiff("scene.tif", setup=describe, crs=crs, transform=place)


@posix
@pytest.mark.parametrize("json_", [False, True])
def test_info(evil: Path, json_: bool, capsys: pytest.CaptureFixture[str]) -> None:
    path = evil.rename(evil.with_name(EVIL))
    assert main(["info", str(path), *(["--json"] if json_ else [])]) == 0
    out = capsys.readouterr().out
    safe(out)
    if json_:
        # Escaped, not changed.
        told = json.loads(out)
        assert told["path"] == str(path)
        assert told["bands"][0]["description"].endswith(LINE + TURNED)
    else:
        assert "\\x1b[31mred" in out and "\\u202e" in out


@posix
def test_what_a_run_tells(evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = evil.rename(evil.with_name(EVIL))
    (tmp_path / f"b{EVIL}").write_bytes(b"no image")
    record = tmp_path / "record.json"
    words = ["restore", str(path), "-o", str(tmp_path / f"o{EVIL}"), "--model", "identity"]
    assert main([*words, "--record", str(record)]) == 0
    assert main(words) == 2
    assert main(["restore", str(tmp_path), "-o", str(tmp_path / "out"), "--model", "identity"]) == 2
    assert main(["info", str(path), "--no-" + ESCAPE]) == 2
    told = capsys.readouterr()
    safe(told.out)
    safe(told.err)
    safe(record.read_text())
    assert json.loads(record.read_text())["input"]["path"] == str(path)


@posix
def test_layers_of_the_window(evil: Path) -> None:
    pytest.importorskip("napari")
    from napari_restore.plugin.layers.reader import read

    path = evil.rename(evil.with_name(EVIL))
    ((_, arguments, _),) = read(path)
    safe(arguments["name"])
    assert "\n" not in arguments["name"] and arguments["name"].startswith("a\\x1b[31mred")


def test_errors() -> None:
    error = InputError(f"{EVIL} is bad.", f"Look at {EVIL}.")
    safe(str(error))
    assert "\n" not in str(error)


def test_letters_stay() -> None:
    text = "größe – 画像 नमस्ते می‌خواهم 👩‍🚀 ok\u00a0x"
    assert escape_controls(text) == text
    assert json.loads(strict_json({"a": text + EVIL})) == {"a": text + EVIL}
    assert text in strict_json([text])


@posix
def test_outputs_that_are_not_utf_8(
    tmp_path: Path, tiff: Tiff, capsys: pytest.CaptureFixture[str]
) -> None:
    source, record = str(tiff()), os.fsdecode(os.fsencode(tmp_path) + b"/r\xe8.json")
    words = ["restore", source, "--model", "identity", "-o"]
    assert main([*words, os.fsdecode(os.fsencode(tmp_path) + b"/out\xe8.tif")]) == 2
    assert "out\\xe8.tif is not UTF-8" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "out.tif"), "--record", record]) == 0
    assert json.loads(Path(record).read_text())["status"] == "done"


@pytest.mark.parametrize(
    "pattern", ["{stem:>99999999999}.tif", "{stem:>9999999}", "{stem.__class__}.tif", "{stem!r}"]
)
def test_patterns_of_names(
    pattern: str, tmp_path: Path, tiff: Tiff, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["restore", str(tiff()), "-o", f"{out}/", "--model", "identity", "--name", pattern]
    assert main(words) == 2
    assert "--name" in capsys.readouterr().err
    assert not out.exists()


def test_pixels_of_an_evil_image_are_those_of_a_plain_one(evil: Path, tmp_path: Path) -> None:
    from napari_restore.images import open_image

    np.testing.assert_array_equal(
        open_image(evil).read((0, 0, 64, 64))[..., 0],
        np.random.default_rng(0).integers(1, 255, (1, 64, 64), np.uint8)[0],
    )
