"""The command line from end to end: files in, files out, exit codes."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image as Picture
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

import napari_restore
from napari_restore import api
from napari_restore.cli import main
from napari_restore.engine._store import ResultStore
from napari_restore.errors import BadOutput, SourceChanged
from napari_restore.records import problems, read_record


class Run:
    """The answer of one call of the command line."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out, parse_constant=pytest.fail)


@pytest.fixture
def cli(capsys):
    """Calls the command line in this process."""

    def call(*words: object) -> Run:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return call


def hazy(height=160, width=200, bands=3, dtype="uint8", seed=7) -> np.ndarray:
    """A small scene with texture under haze, (bands, height, width)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(10, 200, (bands, height // 20 + 1, width // 20 + 1))
    scene = coarse.repeat(20, axis=1).repeat(20, axis=2)[:, :height, :width]
    scene = 0.5 * scene + 110 + rng.integers(-6, 7, scene.shape)
    scale = 1 if dtype == "uint8" else 40
    return (scene * scale).astype(dtype)


def write_tiff(path: Path, pixels: np.ndarray, **profile) -> Path:
    bands, height, width = pixels.shape
    settings = {
        "driver": "GTiff",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": pixels.dtype,
        "crs": "EPSG:32636",
        "transform": from_origin(500_000, 40_000, 2, 2),
    }
    if bands in (3, 4) and "photometric" not in profile:
        settings["photometric"] = "RGB"
    with rasterio.open(path, "w", **(settings | profile)) as dataset:
        dataset.write(pixels)
    return path


@pytest.fixture
def scene(tmp_path) -> Path:
    return write_tiff(tmp_path / "größe a.tif", hazy())


def read(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        # Photos lie nowhere on a map.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            return dataset.read()


# -- what works -----------------------------------------------------------------------


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


def test_info_tells_what_is_known(cli, scene):
    run = cli("info", scene, "--json")
    assert run.code == 0
    assert "160" in run.out and "200" in run.out and "red" in run.out
    assert "red" in cli("info", scene).out


def test_models_lists_cards_and_shows_one(cli):
    run = cli("models", "--json")
    assert run.code == 0
    assert {"dcp", "hot", "htm", "identity"} <= {card["id"] for card in run.json}
    assert "dcp" in cli("models").out
    one = cli("models", "dcp", "--json")
    assert {p["name"] for p in one.json["parameters"]} >= {"omega", "patch_radius", "t0"}
    assert "omega" in cli("models", "dcp").out


def test_rerun_writes_the_same_bytes(cli, scene, tmp_path):
    out, again, record = tmp_path / "o.tif", tmp_path / "again.tif", tmp_path / "r.json"
    words = ["restore", scene, "-o", out, "--model", "dcp", "--set", "omega=0.7"]
    assert cli(*words, "--srcwin", 5, 5, 60, 60, "--compress", "lzw", "--record", record).code == 0
    run = cli("rerun", record, "-o", again)
    assert run.code == 0, run.err
    assert again.read_bytes() == out.read_bytes()
    refused = cli("rerun", record)
    assert refused.code == 2 and "--overwrite" in refused.err


def test_rerun_refuses_another_image_under_the_old_name(cli, scene, tmp_path):
    record = tmp_path / "r.json"
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp"]
    assert cli(*words, "--record", record).code == 0
    write_tiff(scene, hazy(seed=8))
    run = cli("rerun", record, "-o", tmp_path / "again.tif")
    assert run.code == 2 and not (tmp_path / "again.tif").exists()


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
    # Its facts about the whole image stay for the next model.
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


# -- many images ----------------------------------------------------------------------


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


def test_neighbours_with_a_joint_context_equal_the_cut_of_their_mosaic(cli, tmp_path):
    mosaic = hazy(height=300, width=512)
    mosaic[:, :, 200:] = np.minimum(mosaic[:, :, 200:] + 25, 255)
    whole = write_tiff(tmp_path / "mosaic.tif", mosaic)
    with rasterio.open(whole) as file:
        right_place = file.transform * rasterio.Affine.translation(200, 0)
    left = write_tiff(tmp_path / "left.tif", mosaic[:, :, :200])
    right = write_tiff(tmp_path / "right.tif", mosaic[:, :, 200:], transform=right_place)
    out = tmp_path / "out"
    assert cli("restore", whole, "-o", tmp_path / "m.tif", "--model", "dcp").code == 0
    run = cli("restore", left, right, "-o", out, "--model", "dcp", "--context", "joint")
    assert run.code == 0, run.err
    expected = read(tmp_path / "m.tif")
    np.testing.assert_array_equal(read(out / "left_clear.tif"), expected[:, :, :200])
    np.testing.assert_array_equal(read(out / "right_clear.tif"), expected[:, :, 200:])


def test_unrelated_images_share_the_facts_of_a_joint_context(cli, tmp_path):
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.png")
        pixels = np.minimum(hazy(height=200, width=220, seed=number) + 30 * number, 255)
        Picture.fromarray(np.moveaxis(pixels, 0, 2).astype(np.uint8)).save(paths[-1])
    out = tmp_path / "out"
    words = ["restore", *paths, "-o", f"{out}/", "--model", "dcp", "--context", "joint", "--json"]
    run = cli(*words)
    assert run.code == 0, run.err
    records = [entry["record"] for entry in json.loads(run.out)["images"]]
    airlights = [record["context"]["airlight"] for record in records]
    assert len(airlights) == 2
    assert airlights[0] == airlights[1]


@pytest.mark.parametrize("how", ["first", "joint"])
def test_a_shared_context_goes_on_without_what_cannot_be_read(cli, tmp_path, how):
    missing, broken = tmp_path / "missing.tif", tmp_path / "broken.tif"
    broken.write_text("no image")
    good = [write_tiff(tmp_path / f"{n}.tif", hazy(200 + n, 220, seed=n)) for n in (1, 2)]
    words = ["restore", missing, good[0], broken, good[1], "-o", tmp_path / "out"]
    run = cli(*words, "--model", "dcp", "--context", how, "--json")
    assert run.code == 2
    assert [e["status"] for e in run.json["images"]] == ["failed", "done", "failed", "done"]
    assert "missing.tif" in run.err and "broken.tif" in run.err
    airlights = [e["record"]["context"]["airlight"] for e in run.json["images"] if "record" in e]
    assert airlights[0] == airlights[1]


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


# -- bad input: exit 2, one sentence, nothing written ------------------------------------


def picture(mode: str, kind: str) -> bytes:
    data = io.BytesIO()
    size = (64, 48)
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    Picture.fromarray(noise).resize(size).convert(mode).save(data, kind)
    return data.getvalue()


def bad_files(folder: Path) -> dict[str, Path]:
    paths = {
        "missing": folder / "missing.tif",
        "empty": folder / "empty.tif",
        "text": folder / "text.tif",
        "folder": folder / "folder",
        "truncated.tif": folder / "truncated.tif",
        "truncated.jpg": folder / "truncated.jpg",
        "truncated.png": folder / "truncated.png",
    }
    paths["empty"].write_bytes(b"")
    paths["text"].write_text("this is no image\n" * 100)
    paths["folder"].mkdir()
    whole = write_tiff(folder / "whole.tif", hazy())
    paths["truncated.tif"].write_bytes(whole.read_bytes()[:9000])
    whole.unlink()
    paths["truncated.jpg"].write_bytes(picture("RGB", "JPEG")[:700])
    paths["truncated.png"].write_bytes(picture("RGB", "PNG")[:3000])
    return paths


@pytest.mark.parametrize(
    "kind",
    ["missing", "empty", "text", "folder", "truncated.tif", "truncated.jpg", "truncated.png"],
)
def test_unreadable_images(cli, tmp_path, kind):
    path = bad_files(tmp_path)[kind]
    run = cli("restore", path, "-o", tmp_path / "out.tif", "--model", "dcp")
    assert run.code == 2, run.err
    assert path.name in run.err
    assert "Traceback" not in run.err
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--srcwin", "0", "0", "0", "10"], "region"),
        (["--srcwin", "5000", "0", "10", "10"], "outside"),
        (["--model", "dpc"], "dcp"),
        (["--set", "omga=1"], "omega"),
        (["--set", "omega=7"], "omega"),
        (["--set", "omega=much"], "omega"),
        (["--model", "haze-unet"], "weights"),
        (["--memory", "lots"], "lots"),
        (["--device", "abacus"], "abacus"),
        (["--mask", "missing.tif"], "missing.tif"),
        (["--context", "missing.npz"], "missing.npz"),
    ],
)
def test_wrong_options(cli, scene, tmp_path, words, said):
    out = tmp_path / "out.tif"
    words = words if "--model" in words else ["--model", "dcp", *words]
    run = cli("restore", scene, "-o", out, *words)
    assert run.code == 2, run.err
    assert said in run.err
    assert run.err.startswith("napari-restore: ") and "Traceback" not in run.err
    assert not out.exists()


def test_errors_are_json_too(cli, tmp_path):
    run = cli("info", tmp_path / "missing.tif", "--json")
    assert run.code == 2
    assert run.json["error"]["type"] == "UnreadableImage"
    assert run.json["error"]["exit_code"] == 2


def test_missing_roles_are_asked_for(cli, tmp_path):
    source = write_tiff(tmp_path / "s.tif", hazy(bands=4), photometric="MINISBLACK")
    run = cli("restore", source, "-o", tmp_path / "out.tif", "--model", "hot")
    assert run.code == 2
    assert "--bands blue=1,red=2" in run.err
    assert not (tmp_path / "out.tif").exists()


def test_too_few_bands_for_the_model(cli, tmp_path):
    gray = write_tiff(tmp_path / "gray.tif", hazy(bands=1))
    run = cli("restore", gray, "-o", tmp_path / "out.tif", "--model", "hot")
    assert run.code == 2
    assert "has only 1 band" in run.err
    assert not (tmp_path / "out.tif").exists()


def test_roles_can_be_told(cli, tmp_path):
    source = write_tiff(tmp_path / "s.tif", hazy(bands=4, dtype="uint16"), photometric="MINISBLACK")
    words = ["restore", source, "-o", tmp_path / "out.tif", "--model", "hot"]
    assert cli(*words).code == 2
    run = cli(*words, "--bands", "blue=1,green=2,red=3,nir=4")
    assert run.code == 0, run.err
    wrong = cli(*words, "--bands", "blue=9", "--overwrite")
    assert wrong.code == 2 and "9" in wrong.err


def test_a_mask_of_another_size_without_a_place(cli, scene, tmp_path):
    Picture.new("L", (10, 10), 255).save(tmp_path / "mask.png")
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp"]
    run = cli(*words, "--mask", tmp_path / "mask.png")
    assert run.code == 2 and "mask" in run.err


def test_outputs_that_may_not_be(cli, scene, tmp_path):
    content = scene.read_bytes()
    existing = tmp_path / "existing.tif"
    existing.write_bytes(b"precious")
    for out in (scene, existing, tmp_path / "out.xyz", tmp_path / "no" / "folder.tif"):
        run = cli("restore", scene, "-o", out, "--model", "dcp")
        assert run.code == 2, (out, run.err)
    assert cli("restore", scene, "-o", scene, "--model", "dcp", "--overwrite").code == 2
    assert scene.read_bytes() == content
    assert existing.read_bytes() == b"precious"
    assert cli("restore", scene, "-o", existing, "--model", "dcp", "--overwrite").code == 0
    assert read(existing).shape == (3, 160, 200)


@pytest.fixture
def no_run(monkeypatch):
    """Running anything fails the test."""

    def start(*_: object, **__: object) -> None:
        pytest.fail("the run was started")

    monkeypatch.setattr(api, "start", start)


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize(
    ("kind", "name", "words", "said"),
    [
        ("uint8", "o.tif", ["--compress", "brotli"], "brotli"),
        ("uint16", "o.tif", ["--compress", "jpeg"], "JPEG"),
        ("uint8", "o.tif", ["--bit-depth", "32"], "bit-depth"),
        ("uint8", "o.tif", ["--bit-depth", "16"], "bit depth"),
        ("uint8", "o.jpg", ["--quality", "900"], "900"),
        ("uint16", "o.jpg", [], "uint16"),
        ("bands", "o.jpg", [], "4 bands"),
        ("uint8", "o.xyz", [], "suffix"),
        ("uint8", "o.tif", ["--maps", "file"], "no folder"),
        ("uint8", "o.tif", ["--record", "missing/r.json"], "missing"),
        ("uint8", "o.tif", ["--record", "file"], "exists"),
        ("uint8", "o.tif", ["--record", "{source}", "--overwrite"], "input"),
        ("uint8", "o.tif", ["--record", "o.tif"], "twice"),
        ("uint8", "o.tif", ["--feather", "5"], "--mask"),
        ("uint8", "mask.tif", ["--mask", "mask.tif", "--overwrite"], "input"),
        ("uint8", "o.tif", ["--mask", "mask.tif", "--record", "mask.tif", "--overwrite"], "input"),
        ("uint8", "change.tif", ["--maps", "."], "twice"),
    ],
)
def test_outputs_that_cannot_be_are_known_before_the_run(
    cli, tmp_path, monkeypatch, kind, name, words, said
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"precious")
    write_tiff(Path("mask.tif"), np.full((1, 160, 200), 255, "uint8"))
    dtype, bands = ("uint8", 4) if kind == "bands" else (kind, 3)
    source = write_tiff(Path("source.tif"), hazy(bands=bands, dtype=dtype))
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    words = [word.format(source=source) for word in words]
    run = cli("restore", source, "-o", name, "--model", "identity", *words)
    assert run.code == 2 and said in run.err
    assert "Traceback" not in run.err
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.skipif(
    os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write anywhere"
)
def test_a_folder_that_may_not_be_written(cli, scene, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert cli("restore", scene, "-o", locked / "o.tif", "--model", "dcp").code == 2


def test_view_checks_its_paths(cli, tmp_path):
    assert cli("view", tmp_path / "missing.tif").code == 2


# -- exit 4 -------------------------------------------------------------------------------


def test_a_budget_too_small_for_a_tile(cli, scene, tmp_path):
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--memory", "1KiB")
    assert run.code == 4 and "--memory" in run.err
    assert not (tmp_path / "o.tif").exists()


def full_disk(self, *_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_what_is_finished(cli, scene, tmp_path, monkeypatch):
    out = tmp_path / "o.tif"
    words = ["restore", scene, "-o", out, "--model", "dcp", "--tile", 128, "--json"]
    with monkeypatch.context() as patch:
        put, calls = ResultStore._put, []

        def second_fails(self, *given: object) -> None:
            calls.append(given)
            (full_disk if len(calls) > 1 else put)(self, *given)

        patch.setattr(ResultStore, "_put", second_fails)
        run = cli(*words)
    assert run.code == 4 and "space" in run.err.lower() and "Traceback" not in run.err
    assert run.json["error"]["type"] == "DiskFull"
    assert list(tmp_path.glob("*o*")) == []
    assert cli(*words).json["measured"]["tiles_resumed"] == 1


def test_a_source_that_changed_since_is_refused_unless_fresh(cli, scene, tmp_path, monkeypatch):
    out, clean = tmp_path / "o.tif", tmp_path / "clean.tif"
    words = ["restore", scene, "-o", out, "--model", "dcp", "--tile", 128, "--json"]
    with monkeypatch.context() as patch:
        patch.setattr("napari_restore.images._export_geotiff.write", full_disk)
        assert cli(*words).code == 4
    write_tiff(scene, hazy(seed=8))
    run = cli(*words)
    assert run.code == 2 and run.json["error"]["type"] == "SourceChanged"
    assert "--fresh" in run.err and not out.exists()
    again = cli(*words, "--fresh")
    assert again.code == 0 and again.json["measured"]["tiles_resumed"] == 0
    assert cli("restore", scene, "-o", clean, "--model", "dcp").code == 0
    assert np.array_equal(read(out), read(clean))


def test_a_record_that_cannot_be_written_does_not_hide_the_error(cli, scene, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_restore.images._export_geotiff.write", full_disk)
    monkeypatch.setattr("napari_restore.records.write_record", full_disk)
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--json"]
    run = cli(*words, "--record", tmp_path / "r.json", "--maps", tmp_path / "maps")
    assert run.code == 4 and run.json["error"]["type"] == "DiskFull"
    assert "no record was written" in run.err
    # The same command must be able to go on.
    assert not list((tmp_path / "maps").iterdir())


def test_a_failed_run_has_a_record_that_the_next_replaces(cli, scene, tmp_path, monkeypatch):
    record = tmp_path / "r.json"
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--record", record]
    with monkeypatch.context() as patch:
        patch.setattr("napari_restore.images._export_geotiff.write", full_disk)
        assert cli(*words).code == 4
    told = read_record(record)
    assert told["status"] == "failed" and told["output"] is None
    assert cli(*words).code == 0
    assert read_record(record)["status"] == "done"


# -- unusual, yet done: exit 0 ---------------------------------------------------------


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
    assert notes_of(run, record) == ["No pixel is valid: everything was copied unchanged."]


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


# -- in a process of its own ----------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="another way to send Ctrl-C")
def test_ctrl_c_ends_with_3_and_the_same_command_goes_on(tmp_path, own_cache):
    source = write_tiff(tmp_path / "s.tif", hazy(1200, 1200), tiled=True)
    out = tmp_path / "out.tif"
    words = ["restore", source, "-o", out, "--model", "dcp", "--tile", "128", "--memory", "400MiB"]
    command = [sys.executable, "-m", "napari_restore.cli", *map(str, words), "--json"]
    with subprocess.Popen(
        [*command, "--progress", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NAPARI_RESTORE_CACHE": str(own_cache)},
    ) as child:
        for line in child.stderr:
            if json.loads(line)["event"] == "TileDone":
                child.send_signal(signal.SIGINT)
                break
        rest, said = child.communicate(timeout=60)
    assert child.returncode == 3, said
    assert json.loads(rest)["error"]["type"] == "Cancelled"
    assert "Traceback" not in said
    assert not out.exists()
    assert not list(tmp_path.glob(".*out*")) and not list(tmp_path.glob("out*"))

    done = subprocess.run(command, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    assert record["measured"]["tiles_resumed"] >= 1
    whole = tmp_path / "whole.tif"
    assert main(["restore", str(source), "-o", str(whole), "--model", "dcp", "--fresh"]) == 0
    assert np.array_equal(read(out), read(whole))


def command_of(*words: object) -> list[str]:
    return [sys.executable, "-m", "napari_restore.cli", *map(str, words)]


def stop_after_a_tile(command: list[str], cache: Path, number: int) -> int:
    """Run, send the signal once a tile is done, and wait for the end; the exit code."""
    with subprocess.Popen(
        [*command, "--progress", "json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "NAPARI_RESTORE_CACHE": str(cache)},
    ) as child:
        for line in child.stderr:
            if json.loads(line)["event"] == "TileDone":
                child.send_signal(number)
                break
        child.communicate(timeout=60)
    return child.returncode


@pytest.mark.skipif(os.name == "nt", reason="another way to kill")
@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path, own_cache, name, capsys):
    source = write_tiff(tmp_path / "s.tif", hazy(900, 1000), tiled=True)
    out, whole = tmp_path / name, tmp_path / f"whole{Path(name).suffix}"
    words = ["restore", source, "-o", out, "--model", "dcp", "--tile", 128, "--memory", "400MiB"]
    assert stop_after_a_tile(command_of(*words), own_cache, signal.SIGKILL) == -signal.SIGKILL
    assert not out.exists()
    assert main([*map(str, words), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["measured"]
    assert measured["tiles_resumed"] >= 1 and measured["tiles_done"] >= 1
    words = ["restore", source, "-o", whole, "--model", "dcp", "--tile", 128, "--fresh"]
    assert main([str(word) for word in words]) == 0
    assert contents(out) == contents(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["s.tif", name, whole.name])


def contents(path: Path) -> dict[str, bytes]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files if p.is_file()}


def test_the_environment_is_set_before_the_libraries_load():
    # Tells, at the moment torch is looked for, what it will find.
    code = """
import os, sys
os.environ.pop("OMP_WAIT_POLICY", None)
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch", os.environ.get("OMP_WAIT_POLICY"), file=sys.stderr)
sys.meta_path.insert(0, Watch())
from napari_restore.cli import main
assert "torch" not in sys.modules
main(["models", "no-such-model"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if line.startswith("torch")] == [
        "torch PASSIVE"
    ]


def test_a_bug_says_so_and_ends_with_1(cli, monkeypatch):
    from napari_restore import api

    def broken() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(api, "models", broken)
    run = cli("models", "--json")
    assert run.code == 1
    assert "bug" in run.err and "ZeroDivisionError" in run.err
    assert run.json["error"]["type"] == "ZeroDivisionError"
