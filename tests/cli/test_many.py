"""Many images with one command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio

from napari_restore.records import problems

from ._scenes import hazy, read, write_tiff


def test_a_folder_goes_on_after_an_error_and_skips_what_is_done(cli, tmp_path):
    good = [write_tiff(tmp_path / f"{n}.tif", hazy(seed=n)) for n in (1, 2)]
    bad = tmp_path / "bad.tif"
    bad.write_text("no image")
    out = tmp_path / "out"
    words = ["restore", good[0], bad, good[1], "-o", out, "--model", "dcp", "--json"]
    first = cli(*words)
    assert first.code == 2
    assert [entry["status"] for entry in first.json["images"]] == ["done", "failed", "done"]
    assert "bad.tif" in first.err
    assert sorted(p.name for p in out.glob("*.tif")) == ["1_clear.tif", "2_clear.tif"]
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("*.tif")}
    write_tiff(bad, hazy(seed=3))
    second = cli(*words)
    assert second.code == 0
    assert [entry["status"] for entry in second.json["images"]] == ["skipped", "done", "skipped"]
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    # With other settings the old outputs are not what is asked for.
    other = cli(*words, "--set", "omega=0.5")
    assert other.code == 2 and "--overwrite" in other.err
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


@pytest.mark.slow
def test_files_that_join_are_one_image(cli, tmp_path):
    """Also for `plan`, for the copied command and for `rerun`."""
    mosaic = hazy(height=300, width=512)
    mosaic[:, :, 200:] = np.minimum(mosaic[:, :, 200:] + 25, 255)
    whole = write_tiff(tmp_path / "mosaic.tif", mosaic)
    with rasterio.open(whole) as file:
        right_place = file.transform * rasterio.Affine.translation(200, 0)
    left = write_tiff(tmp_path / "left.tif", mosaic[:, :, :200])
    right = write_tiff(tmp_path / "right.tif", mosaic[:, :, 200:], transform=right_place)
    assert cli("restore", whole, "-o", tmp_path / "m.tif", "--model", "dcp").code == 0
    record = tmp_path / "r.json"
    words = ["restore", left, right, "-o", tmp_path / "joined.tif", "--model", "dcp"]
    assert cli("plan", left, right, "--model", "dcp").code == 0
    run = cli(*words, "--record", record)
    assert run.code == 0, run.err
    with rasterio.open(tmp_path / "m.tif") as one, rasterio.open(tmp_path / "joined.tif") as other:
        assert np.array_equal(one.read(), other.read())
        assert one.transform == other.transform and one.crs == other.crs
    assert cli("rerun", record, "-o", tmp_path / "again.tif").code == 0
    assert np.array_equal(read(tmp_path / "again.tif"), read(tmp_path / "joined.tif"))
    # Of files that do not join it says why.
    far = rasterio.transform.from_origin(500_000.7, 4_100_000, 3, 3)
    write_tiff(right, mosaic[:, :, 200:], transform=far)
    run = cli(*words, "--overwrite")
    assert run.code == 2 and "right has another pixel size" in run.err


def test_the_context_of_the_first_is_that_of_the_first_that_can_be_read(cli, tmp_path):
    missing, broken = tmp_path / "missing.tif", tmp_path / "broken.tif"
    broken.write_text("no image")
    good = [write_tiff(tmp_path / f"{n}.tif", hazy(200 + n, 220, seed=n)) for n in (1, 2)]
    words = ["restore", missing, good[0], broken, good[1], "-o", tmp_path / "out"]
    run = cli(*words, "--model", "dcp", "--context", "first", "--json")
    assert run.code == 2
    assert [e["status"] for e in run.json["images"]] == ["failed", "done", "failed", "done"]
    assert "missing.tif" in run.err and "broken.tif" in run.err
    airlights = [e["record"]["context"]["airlight"] for e in run.json["images"] if "record" in e]
    assert airlights[0] == airlights[1]


@pytest.mark.slow
def test_maps_and_records_asked_for_later_are_made(cli, tmp_path):
    paths = [write_tiff(tmp_path / f"{n}.tif", hazy(seed=n)) for n in (1, 2)]
    words = ["restore", *paths, "-o", tmp_path / "out", "--model", "dcp", "--json"]
    assert cli(*words).code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "out").glob("*.tif")}
    assert len(before) == 2
    more = [*words, "--maps", tmp_path / "maps", "--record", tmp_path / "{stem}.json"]
    run = cli(*more)
    assert run.code == 0, run.err
    assert [entry["status"] for entry in run.json["images"]] == ["done", "done"]
    for name in ("1", "2"):
        assert (tmp_path / "maps" / name / "transmission.tif").is_file()
        assert problems(json.loads((tmp_path / f"{name}.json").read_text("utf-8"))) == []
    assert {p: p.read_bytes() for p in before} == before
    assert [entry["status"] for entry in cli(*more).json["images"]] == ["skipped", "skipped"]
    # A record alone needs no second run.
    (tmp_path / "1.json").unlink()
    assert [entry["status"] for entry in cli(*more).json["images"]] == ["skipped", "skipped"]
    assert (tmp_path / "1.json").is_file()
    # What the user has changed since is not replaced.
    (tmp_path / "maps" / "1" / "change.tif").unlink()
    changed = tmp_path / "out" / "1_clear.tif"
    changed.write_bytes(changed.read_bytes()[:-4] + b"mine")
    run = cli(*more)
    assert run.code == 2 and [e["status"] for e in run.json["images"]] == ["failed", "skipped"]
    assert changed.read_bytes().endswith(b"mine")
