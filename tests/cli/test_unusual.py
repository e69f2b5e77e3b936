"""Unusual images that are restored all the same, with a note."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ._scenes import Run, hazy, picture, read, write_tiff


def notes_of(run: Run, record: Path) -> list[str]:
    """The notes in the record, which must be those on stderr."""
    said = [line[6:] for line in run.err.splitlines() if line.startswith("note: ")]
    told = json.loads(record.read_text(encoding="utf-8"))["notes"]
    assert told == said
    return said


def test_a_region_partly_outside_is_clipped_and_said(cli, scene, tmp_path):
    out = tmp_path / "o.tif"
    words = ["restore", scene, "-o", out, "--model", "dcp"]
    record = tmp_path / "r.json"
    run = cli(*words, "--srcwin", 150, 100, 500, 500, "--record", record)
    assert run.code == 0
    assert notes_of(run, record) == ["The region reached beyond the image and was clipped to it."]
    assert read(out).shape == (3, 60, 50)


def test_nothing_unusual_nothing_said(cli, scene, tmp_path):
    record = tmp_path / "r.json"
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp"]
    assert notes_of(cli(*words, "--record", record), record) == []


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 13])
def test_any_number_of_bands(cli, tmp_path, bands):
    source = write_tiff(tmp_path / "s.tif", hazy(bands=bands, dtype="uint16"))
    out, record = tmp_path / "o.tif", tmp_path / "r.json"
    run = cli("restore", source, "-o", out, "--model", "dcp", "--record", record)
    assert run.code == 0, run.err
    assert read(out).shape == (bands, 160, 200)
    notes = notes_of(run, record)
    assert any("13 bands" in note for note in notes) == (bands == 13)


def test_one_pixel(cli, tmp_path):
    source = write_tiff(tmp_path / "s.tif", hazy()[:, :1, :1])
    out, record = tmp_path / "o.tif", tmp_path / "r.json"
    run = cli("restore", source, "-o", out, "--model", "dcp", "--record", record)
    assert run.code == 0, run.err
    assert read(out).shape == (3, 1, 1)
    assert any("single pixel" in note for note in notes_of(run, record))


def test_nothing_valid_is_copied(cli, tmp_path):
    source = write_tiff(tmp_path / "s.tif", np.zeros((3, 64, 64), "uint8"), nodata=0)
    out, record = tmp_path / "o.tif", tmp_path / "r.json"
    run = cli("restore", source, "-o", out, "--model", "dcp", "--record", record)
    assert run.code == 0, run.err
    assert not read(out).any()
    assert notes_of(run, record) == ["No pixel is valid: nothing was restored."]


def test_nan_stays_and_never_spreads(cli, tmp_path):
    pixels = hazy().astype("float32") / 255
    pixels[:, 40:50, 60:70] = np.nan
    pixels[0, 100, 100] = np.inf
    source = write_tiff(tmp_path / "s.tif", pixels)
    out, record = tmp_path / "o.tif", tmp_path / "r.json"
    run = cli("restore", source, "-o", out, "--model", "dcp", "--record", record)
    assert run.code == 0, run.err
    after = read(out)
    assert np.array_equal(np.isnan(after), np.isnan(pixels))
    assert np.array_equal(np.isinf(after), np.isinf(pixels))
    assert notes_of(run, record) == ["Pixels with NaN or infinity are kept as they are."]


def test_transparent_floats_are_not_told_as_nan(cli, tmp_path):
    alpha = np.ones((1, 160, 200), "float32")
    alpha[:, 40:50, 60:70] = 0
    pixels = np.concatenate([hazy().astype("float32") / 255, alpha])
    source = write_tiff(tmp_path / "s.tif", pixels, photometric="RGB", alpha="YES")
    record = tmp_path / "r.json"
    run = cli("restore", source, "-o", tmp_path / "o.tif", "--model", "dcp", "--record", record)
    assert run.code == 0, run.err
    assert not [note for note in notes_of(run, record) if "NaN" in note]


def test_nan_as_nodata_is_told_in_strict_json(cli, tmp_path):
    pixels = hazy().astype("float32") / 255
    source = write_tiff(tmp_path / "s.tif", pixels, nodata=np.nan)
    assert cli("info", source, "--json").json["nodata"] == "nan"
    plain = write_tiff(tmp_path / "p.tif", pixels)
    assert cli("info", plain, "--json").json["nodata"] is None
    words = ["restore", source, "-o", tmp_path / "o.tif", "--model", "dcp", "--json"]
    assert cli(*words).json["status"] == "done"


@pytest.mark.parametrize(
    ("mode", "kind", "said"),
    [("RGBA", "PNG", "alpha"), ("P", "PNG", "palette"), ("CMYK", "JPEG", "CMYK")],
)
def test_alpha_palette_and_cmyk(cli, tmp_path, mode, kind, said):
    source = tmp_path / f"s.{kind.lower()}"
    source.write_bytes(picture(mode, kind))
    out, record = tmp_path / "o.tif", tmp_path / "r.json"
    run = cli("restore", source, "-o", out, "--model", "dcp", "--record", record)
    assert run.code == 0, run.err
    assert read(out).shape == (4 if mode == "RGBA" else 3, 48, 64)
    assert any(said in note for note in notes_of(run, record))
