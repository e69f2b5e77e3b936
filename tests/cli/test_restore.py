"""One image: files in, files out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image as Pillow
from range_server import RangeServer
from rasterio.transform import from_origin

import napari_restore
from napari_restore import engine
from napari_restore.errors import BadOutput, SourceChanged
from napari_restore.records import problems

from ._scenes import hazy, read, write_tiff


def test_restore_writes_a_clear_image_in_the_same_place(cli, scene, tmp_path):
    out = tmp_path / "out.tif"
    run = cli("restore", scene, "-o", out, "--model", "dcp")
    assert run.code == 0, run.err
    assert run.out.startswith(f"wrote {out}")
    with rasterio.open(scene) as source, rasterio.open(out) as clear:
        assert clear.crs == source.crs
        assert clear.transform == source.transform
        assert clear.dtypes == source.dtypes
        assert clear.read().std() > 1.1 * source.read().std()


def test_identity_is_bit_exact(cli, scene, tmp_path):
    out = tmp_path / "out.tif"
    assert cli("restore", scene, "-o", out, "--model", "identity").code == 0
    assert np.array_equal(read(out), read(scene))


def test_a_store_that_the_same_command_elsewhere_removes_is_made_again(
    cli, scene, tmp_path, monkeypatch
):
    result, removed = engine.Job.result, []

    def after_the_other(job):
        if not removed:
            removed.append(job.plan.store)
            shutil.rmtree(job.plan.store)
        return result(job)

    monkeypatch.setattr(engine.Job, "result", after_the_other)
    out = tmp_path / "out.tif"
    run = cli("restore", scene, "-o", out, "--model", "identity")
    assert run.code == 0 and removed, run.err
    assert np.array_equal(read(out), read(scene))


def test_json_is_the_record_and_nothing_else(cli, scene, tmp_path):
    out, record = tmp_path / "out.tif", tmp_path / "record.json"
    words = ["restore", scene, "-o", out, "--model", "dcp", "--set", "omega=0.8", "--json"]
    run = cli(*words, "--record", record, "--progress", "off")
    assert run.code == 0 and run.err == ""
    assert problems(run.json) == []
    assert json.loads(record.read_text(encoding="utf-8")) == run.json
    assert run.json["status"] == "done"
    assert run.json["model"]["parameters"]["omega"] == 0.8
    assert run.json["output"]["path"] == str(out)
    assert "größe a.tif" in run.json["command"]


def test_progress_json_is_one_event_per_line(cli, scene, tmp_path):
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--progress", "json")
    events = [json.loads(line)["event"] for line in run.err.splitlines()]
    assert "TileDone" in events and "Progress" in events and "Finished" in events


@pytest.mark.slow
def test_a_region_is_the_cut_of_the_whole(cli, scene, tmp_path):
    whole, part, again = tmp_path / "whole.tif", tmp_path / "part.tif", tmp_path / "again.tif"
    assert cli("restore", scene, "-o", whole, "--model", "dcp").code == 0
    words = ["restore", scene, "--model", "dcp"]
    assert cli(*words, "-o", part, "--srcwin", 30, 20, 90, 50).code == 0
    assert np.array_equal(read(part), read(whole)[:, 20:70, 30:120])
    # The same box on the map: pixels of 2 m, origin at 500000, 40000.
    assert cli(*words, "-o", again, "--projwin", 500_060, 39_960, 500_240, 39_860).code == 0
    assert np.array_equal(read(again), read(part))
    with rasterio.open(again) as dataset:
        assert dataset.transform == from_origin(500_060, 39_960, 2, 2)


def test_plan_tells_and_writes_nothing(cli, scene, tmp_path):
    before = sorted(tmp_path.iterdir())
    run = cli("plan", scene, "--model", "dcp", "--tile", "128", "--json")
    assert run.code == 0 and run.json["tile"] == 128 and run.json["tiles"] > 1
    assert sorted(tmp_path.iterdir()) == before
    assert "tile" in cli("plan", scene, "--model", "dcp").out


def test_plan_tells_the_time_of_the_command_that_it_names(cli, scene, tmp_path):
    words = ("plan", scene, "--model", "dcp", "--json")
    told = [cli(*words, *more).json for more in ([], ["-o", tmp_path / "a.tif", "--cog"])]
    for each in told:
        assert list(each["predicted_stages"]) == ["start", "read", "restore", "write"]
        assert each["predicted_seconds"] == sum(each["predicted_stages"].values())
        assert each["predicted_stages"]["start"] > 0 and each["predicted_stages"]["write"] > 0
    in_place = cli(*words, "-o", tmp_path / "a.zarr").json["predicted_stages"]
    assert in_place["write"] == 0
    assert "write ≈" in cli("plan", scene, "--model", "dcp").out
    run = cli(*words[:-1], "-o", tmp_path / "a.xyz")
    assert run.code == 2 and "no suffix of a format" in run.err
    assert run.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [scene]


def test_what_a_server_takes_is_not_counted_and_said(cli, scene, tmp_path):
    scene.rename(tmp_path / "a.tif")
    with RangeServer(tmp_path) as server:
        run = cli("plan", f"{server.address}/a.tif", "--model", "dcp")
    assert run.code == 0 and "not counted: what the server takes" in run.out
    assert "--extent region takes those of the region" in run.out


def test_a_record_has_the_time_that_was_told_and_that_was_taken(cli, scene, tmp_path):
    record = cli("restore", scene, "-o", tmp_path / "a.tif", "--model", "dcp", "--json").json
    told, taken = record["plan"]["predicted_stages"], record["measured"]["stages"]
    assert set(told) == {"start", *taken} and set(taken) == {"read", "restore", "write"}
    assert sum(taken.values()) <= record["measured"]["seconds"]


def test_info_tells_what_is_known(cli, scene):
    run = cli("info", scene, "--json")
    assert run.code == 0
    assert "160" in run.out and "200" in run.out and "red" in run.out
    assert "red" in cli("info", scene).out


def test_models_lists_cards_and_shows_one(cli):
    run = cli("models", "--json")
    assert run.code == 0
    assert {"dcp", "hot", "htm", "identity"} <= {card["id"] for card in run.json}
    table, legend = cli("models").out.split("\n\n")
    assert "dcp" in table
    headings = table.splitlines()[0].split()[2:]
    assert [line.split()[0] for line in legend.splitlines() if line[:1].isalpha()] == headings
    one = cli("models", "dcp", "--json")
    assert {p["name"] for p in one.json["parameters"]} >= {"omega", "patch_radius", "t0"}
    text = cli("models", "dcp").out
    assert "omega 0.85 0.0 to 1.0 share of the haze that is removed" in " ".join(text.split())
    # As in most cards.
    assert "min_size" in one.json and "min size" not in text
    assert one.json["tile_invariance"] == "any tiles, any threads"
    assert "tile_invariance" not in cli("models", "inf-dehaze-lite", "--json").json


def test_rerun_writes_the_same_bytes(cli, scene, tmp_path):
    out, again, record = tmp_path / "o.tif", tmp_path / "again.tif", tmp_path / "r.json"
    words = ["restore", scene, "-o", out, "--model", "dcp", "--set", "omega=0.7"]
    assert cli(*words, "--srcwin", 5, 5, 60, 60, "--compress", "lzw", "--record", record).code == 0
    run = cli("rerun", record, "-o", again)
    assert run.code == 0, run.err
    assert again.read_bytes() == out.read_bytes()
    refused = cli("rerun", record)
    assert refused.code == 2 and "--overwrite" in refused.err


def test_rerun_in_another_format_leaves_out_what_that_has_not(cli, tmp_path):
    source, record = tmp_path / "a.png", tmp_path / "r.json"
    Pillow.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(source)
    more = ("--model", "identity", "--quality", "80", "--resize", "15", "--record", record)
    assert cli("restore", source, "-o", tmp_path / "b.jpg", *more).code == 0
    run = cli("rerun", record, "-o", tmp_path / "b.png")
    assert run.code == 0, run.err
    with Pillow.open(tmp_path / "b.png") as picture:
        assert picture.size == (15, 10)


def test_rerun_refuses_another_image_under_the_old_name(cli, scene, tmp_path):
    record = tmp_path / "r.json"
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp"]
    assert cli(*words, "--record", record).code == 0
    write_tiff(scene, hazy(seed=8))
    run = cli("rerun", record, "-o", tmp_path / "again.tif")
    assert run.code == 2 and not (tmp_path / "again.tif").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("restore",), ("attribute", "--box", 50, 40, 12, 8, "--method", "ig", "--steps", 1)]
)
def test_rerun_reads_its_record_once_and_refuses_other_weights(
    cli, scene, tmp_path, monkeypatch, words
):
    from napari_restore import records

    record = tmp_path / "r.json"
    out = ("-o", tmp_path / "o.tif", "--model", "haze-unet", "--device", "cpu")
    assert cli(words[0], scene, *words[1:], *out, "--record", record).code == 0
    told = json.loads(record.read_text(encoding="utf-8"))
    told["model"]["weights_sha256"] = "0" * 64
    record.write_text(json.dumps(told))
    reads, read = [], records._read_json
    monkeypatch.setattr(records, "_read_json", lambda path: reads.append(path) or read(path))
    run = cli("rerun", record, "-o", tmp_path / "again.tif")
    assert run.code == 2 and "weights of haze-unet are not those" in run.err
    assert list(map(Path, reads)) == [record] and not (tmp_path / "again.tif").exists()


def test_rerun_is_the_same_from_python(cli, scene, tmp_path):
    out, again, record = tmp_path / "o.tif", tmp_path / "again.tif", tmp_path / "r.json"
    words = ["restore", scene, "-o", out, "--model", "dcp", "--srcwin", 5, 5, 60, 60]
    assert cli(*words, "--compress", "lzw", "--record", record).code == 0
    napari_restore.rerun(record, again)
    assert again.read_bytes() == out.read_bytes()
    with pytest.raises(BadOutput):
        napari_restore.rerun(record)
    write_tiff(scene, hazy(seed=8))
    with pytest.raises(SourceChanged):
        napari_restore.rerun(record, tmp_path / "third.tif")
    assert not (tmp_path / "third.tif").exists()


def test_a_rerun_never_replaces_what_it_reads(cli, scene, tmp_path):
    record = tmp_path / "r.json"
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--record", record]
    assert cli(*words).code == 0
    told, content = record.read_bytes(), scene.read_bytes()
    for path in (record, scene):
        run = cli("rerun", record, "-o", path, "--overwrite")
        assert run.code == 2 and "input" in run.err
    assert (record.read_bytes(), scene.read_bytes()) == (told, content)


def test_maps_are_written_beside(cli, scene, tmp_path):
    maps = tmp_path / "maps"
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--maps", maps]
    assert cli(*words).code == 0
    assert (maps / "transmission.tif").is_file()
    run = cli(*words, "-o", tmp_path / "o2.tif")
    assert run.code == 2 and "exists" in run.err


def test_cache_is_shown_and_cleared(cli, scene, tmp_path):
    assert cli("cache", "--json").json == {"bytes": 0, "entries": []}
    assert cli("cache").out == "the cache is empty\n"
    # Its statistics about the whole image stay for the next model.
    assert cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp").code == 0
    shown = cli("cache", "--json").json
    assert shown["bytes"] > 0 and shown["entries"]
    assert shown["bytes"] == sum(entry["bytes"] for entry in shown["entries"])
    assert all(Path(entry["path"]).exists() for entry in shown["entries"])
    assert cli("cache", "--clear", "--json").json["freed_bytes"] > 0
    assert cli("cache", "--json").json["entries"] == []


def test_one_image_into_a_new_folder_with_its_record(cli, scene, tmp_path):
    out = tmp_path / "out"
    words = ["restore", scene, "-o", f"{out}/", "--model", "identity"]
    assert cli(*words, "--record", out / "{stem}.json", "--maps", out / "maps").code == 0
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {
        "größe a_clear.tif",
        "größe a.json",
        "maps/change.tif",
        "maps/quality.tif",
    }


def test_nothing_unfinished_stays_in_the_scratch_folder(cli, scene, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--scratch", scratch]
    assert cli(*words).code == 0
    assert list(scratch.iterdir()) == []
