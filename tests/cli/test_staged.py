"""Staged runs through the real program: killed in every phase, short of disk, short of memory."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from points import patience

from napari_restore import api
from napari_restore.commands import build_parser, load_model, main, open_image, plan_arguments

from ._scenes import Run, hazy, read, write_tiff

MODEL = ("--model", "inf-dehaze-small", "--weights", "random:0")
PHASES = {
    "Encoding": "tile swept",
    "Global bottleneck": "bottleneck step",
    "Decoding": "tile stored",
}
"""Phases of a run, and the point that each passes again and again."""
SIZE = 500, 700
TILES = 6
RECORD_BYTES = 4 * (32 * 64 * 64 + 64 * 32 * 32 + 96 * 16 * 16)
"""Residuals of one tile of `inf-dehaze-small` in float32."""

posix = pytest.mark.skipif(os.name == "nt", reason="another way to stop a program")


@dataclass(frozen=True)
class Undisturbed:
    """A run over the whole scene that nothing happened to."""

    source: Path
    pixels: np.ndarray
    record: Path

    @property
    def told(self) -> dict[str, Any]:
        return json.loads(self.record.read_text("utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("whole")
    source = write_tiff(folder / "scene.tif", hazy(*SIZE), tiled=True)
    out, record = folder / "out.tif", folder / "record.json"
    words = ["restore", source, "-o", out, *MODEL, "--tile-batch", 1, "--record", record]
    words += ["--scratch", folder / "scratch", "--progress", "off"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_RESTORE_CACHE", str(folder / "cache"))
        assert main([str(word) for word in words]) == 0
    return Undisturbed(source, read(out), record)


def line(*words: object) -> list[str]:
    return [sys.executable, "-m", "napari_restore", *map(str, words)]


def program(*words: object) -> Run:
    """The command in a process of its own."""
    done = subprocess.run(line(*words), capture_output=True, text=True, encoding="utf-8")
    return Run(done.returncode, done.stdout, done.stderr)


def stopped_in(phase: str, words: list[object], number: int, points: Any) -> Run:
    """The command, sent a signal when something of `phase` was done."""
    point = PHASES[phase]
    points.hold("cancel requested")
    # The first step of the bottleneck reports that nothing of it is done.
    points.hold(point, after=int(phase == "Global bottleneck"))
    with subprocess.Popen(
        line(*words, "--fresh", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as child:
        assert points.wait(point) == child.pid
        child.send_signal(number)
        if number == signal.SIGINT:
            points.wait("cancel requested")
        points.go(point, "cancel requested")
        printed, said = child.communicate(timeout=patience())
    return Run(child.returncode, printed, said)


def alike(got: np.ndarray, expected: np.ndarray) -> bool:
    """Equal but for rounding, which batches of another size may do otherwise."""
    difference = np.abs(got.astype(int) - expected)
    return bool(difference.max() <= 1 and (difference == 0).mean() > 0.999)


def check_resumed(cli, words: list[object], phase: str, whole: Undisturbed, scratch: Path) -> None:
    """The same command goes on after `phase` was cut short, and leaves nothing behind."""
    assert list(scratch.iterdir())
    run = cli(*words, "--json")
    assert run.code == 0, run.err
    measured = run.json["measured"]
    if phase == "Encoding":
        assert 0 < measured["tiles_encoded"] < TILES
    else:
        assert measured["tiles_encoded"] == 0
    assert (measured["tiles_resumed"] > 0) == (phase == "Decoding")
    assert measured["tiles_resumed"] + measured["tiles_done"] == TILES
    assert alike(read(Path(str(words[3]))), whole.pixels)
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
@posix
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.ids("nightly", "Encoding", "Decoding")
def test_killed_in_any_phase_it_goes_on(cli, tmp_path, whole, phase, points):
    out, scratch = tmp_path / "out.tif", tmp_path / "scratch"
    words = ["restore", whole.source, "-o", out, *MODEL, "--tile-batch", 1, "--scratch", scratch]
    assert stopped_in(phase, words, signal.SIGKILL, points).code == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == ["scratch"]
    check_resumed(cli, words, phase, whole, scratch)
    assert {p.name for p in tmp_path.iterdir()} == {"scratch", "out.tif"}


@posix
@pytest.mark.nightly
@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_in_any_phase_ends_with_3(cli, tmp_path, whole, phase, points):
    out, scratch = tmp_path / "out.tif", tmp_path / "scratch"
    words = ["restore", whole.source, "-o", out, *MODEL, "--tile-batch", 1, "--scratch", scratch]
    run = stopped_in(phase, words, signal.SIGINT, points)
    assert run.code == 3, run.err
    assert run.json["error"]["type"] == "Cancelled"
    assert "Traceback" not in run.err
    assert [p.name for p in tmp_path.iterdir()] == ["scratch"]
    check_resumed(cli, words, phase, whole, scratch)


@posix
@pytest.mark.nightly
def test_residuals_on_disk_outlive_a_kill(tmp_path, whole, points):
    """What was parked on disk is read again, not made again."""
    out, scratch = tmp_path / "out.tif", tmp_path / "scratch"
    words = ["restore", whole.source, "-o", out, *MODEL, "--tile-batch", 1, "--scratch", scratch]
    words += ["--residuals", "disk"]
    run = stopped_in("Global bottleneck", words, signal.SIGKILL, points)
    assert run.code == -signal.SIGKILL
    slab = next(scratch.rglob("residuals.slab"))
    assert slab.stat().st_size >= TILES * RECORD_BYTES
    run = program(*words, "--json")
    assert run.code == 0, run.err
    assert run.json["measured"]["residual_bytes"]["disk"] == TILES * RECORD_BYTES
    assert alike(read(out), whole.pixels)
    assert list(scratch.iterdir()) == []


# -- too little disk ---------------------------------------------------------------


class Disk:
    """A small disk of its own; `grow` gives it more room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def grow(self, size: str) -> None:
        options = f"remount,size={size}"
        subprocess.run(["mount", "-o", options, str(self.folder)], check=True)

    def files(self) -> list[Path]:
        return list(self.folder.iterdir())


@pytest.fixture
def small_disk(mount_disk):
    return Disk(mount_disk("4m"))


def check_refused(run: Run, *named: str) -> None:
    """Exit 4, one sentence with a next step, nothing of Python."""
    assert run.code == 4, run.err
    told = run.err.strip()
    assert "Traceback" not in told and told.startswith("napari-restore: ")
    assert len(told.splitlines()) == 1
    for word in named:
        assert word in told


@pytest.mark.slow
def test_a_disk_too_small_for_residuals(cli, tmp_path, whole, small_disk):
    out = tmp_path / "out.tif"
    words = ["restore", whole.source, "-o", out, *MODEL, "--progress", "off"]
    words += ["--scratch", small_disk.folder, "--residuals"]
    check_refused(cli(*words, "disk"), "5.1 MiB", "disk", "--scratch")
    assert not out.exists() and small_disk.files() == []
    run = cli(*words, "auto")
    assert run.code == 0, run.err
    assert alike(read(out), whole.pixels)
    assert small_disk.files() == []


@pytest.mark.slow
@posix
def test_a_disk_that_fills_up(cli, tmp_path, whole, small_disk):
    """Tokens fit, the result does not; with more room the same command goes on."""
    out = tmp_path / "out.tif"
    words = ["restore", whole.source, "-o", out, *MODEL, "--scratch", small_disk.folder]
    words += ["--residuals", "recompute"]
    small_disk.grow("640k")
    check_refused(cli(*words, "--progress", "off"), "disk", "pace")
    assert list(tmp_path.iterdir()) == [small_disk.folder]
    small_disk.grow("16m")
    run = cli(*words, "--json")
    assert run.code == 0, run.err
    assert run.json["measured"]["tiles_encoded"] < TILES
    assert alike(read(out), whole.pixels)
    assert small_disk.files() == []


# -- too little memory -------------------------------------------------------------


def named_budget(run: Run) -> int:
    """MiB that the refusal of a budget of 64 MiB says would do."""
    check_refused(run, "budget", "tokens", "--memory")
    named = int(re.search(r"--memory (\d+)MiB", run.err)[1])
    assert 64 < named < 1024
    return named


@pytest.mark.slow
def test_a_budget_too_small_names_one_that_will_do(cli, tmp_path, whole):
    words = ["plan", whole.source, *MODEL, "--memory"]
    named = named_budget(cli(*words, "64MiB"))
    assert cli(*words, f"{named}MiB").code == 0
    # It is no guess far off: a good tenth less does not do.
    assert cli(*words, f"{int(0.88 * named)}MiB").code == 4


@pytest.mark.slow
def test_the_budget_that_is_named_is_kept(tmp_path, whole):
    out = tmp_path / "out.tif"
    words = ["restore", whole.source, "-o", out, *MODEL, "--progress", "off"]
    words += ["--scratch", tmp_path / "scratch"]
    named = named_budget(program(*words, "--memory", "64MiB"))
    assert not out.exists()
    run = program(*words, "--memory", f"{named}MiB", "--json")
    assert run.code == 0, run.err
    told = run.json
    measured, planned = told["measured"], told["plan"]
    assert measured["peak_ram_bytes"] - measured["idle_ram_bytes"] <= named << 20
    assert planned["memory_bytes"] == named << 20
    assert alike(read(out), whole.pixels)


# -- what is told ------------------------------------------------------------------


@pytest.mark.nightly
def test_the_plan_knows_its_scope(cli, whole):
    told = cli("plan", whole.source, *MODEL, "--residuals", "ram", "--json").json
    assert told["scope"] == "swept" and told["passes"] == 3
    assert told["residual_tier"] == "ram" and told["residual_bytes"] == TILES * RECORD_BYTES
    assert (told["tile"], told["tiles"], told["halo"]) == (256, TILES, 0)
    assert told["predicted_disk_bytes"] > 0 and told["predicted_seconds"] > 0
    staged = told["staged"]
    assert staged["tokens"] == TILES * 8 * 8
    assert staged["residual_bytes"] == {"device": 0, "ram": TILES * RECORD_BYTES, "disk": 0}
    assert set(staged["predicted_seconds"]) == {"encode", "bottleneck", "decode"}
    first = cli("plan", whole.source, *MODEL, "--residuals", "recompute-first", "--json").json
    assert first["residual_bytes"] == TILES * (RECORD_BYTES - 4 * 32 * 64 * 64)
    assert first["residual_tier"] == "ram+recompute"


def test_the_plan_in_words_names_tokens_and_tier(cli, whole):
    run = cli("plan", whole.source, *MODEL, "--residuals", "ram")
    assert run.code == 0
    assert "384 tokens" in run.out and "5.1 MiB in memory" in run.out
    assert all(phase in run.out for phase in ("encode ≈", "bottleneck ≈", "decode ≈"))


def test_the_record_keeps_to_the_contract(whole):
    told = whole.told
    assert told["status"] == "done" and told["extent"] == "image"
    assert told["plan"]["scope"] == "swept" and told["plan"]["passes"] == 3
    measured = told["measured"]
    assert set(measured["phase_seconds"]) == {"encode", "bottleneck", "decode"}
    assert all(seconds > 0 for seconds in measured["phase_seconds"].values())
    assert measured["tiles_encoded"] == measured["tiles_done"] == TILES
    predicted = told["plan"]["residual_bytes"]
    assert sum(measured["residual_bytes"].values()) == predicted == TILES * RECORD_BYTES


# -- regions -----------------------------------------------------------------------


@pytest.mark.nightly
def test_a_region_is_the_crop_of_the_whole(cli, tmp_path, whole):
    out = tmp_path / "part.tif"
    words = ["restore", whole.source, *MODEL, "--srcwin", 300, 200, 400, 300]
    run = cli(*words, "-o", out)
    assert run.code == 0, run.err
    crop = whole.pixels[:, 200:500, 300:700]
    part = read(out)
    assert alike(part, crop)

    draft = tmp_path / "draft.tif"
    run = cli(*words, "-o", draft, "--extent", "region", "--json")
    assert run.code == 0, run.err
    assert run.json["extent"] == "region"
    assert any("draft" in note for note in run.json["notes"])
    assert "draft" in run.err
    # It knows less, so it is not the same.
    assert not np.array_equal(read(draft), part)


# -- maps --------------------------------------------------------------------------


MAPS = {"RGB.byte.tif": [], "landsat_4band_2010.tif": ["--bands", "red=3,green=2,blue=1"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.ids("nightly", "RGB.byte.tif")
def test_a_map_stays_where_it_lies(cli, tmp_path, data_dir, name):
    source, out = data_dir / "geotiff" / name, tmp_path / "clear.tif"
    run = cli("restore", source, "-o", out, *MODEL, *MAPS[name])
    assert run.code == 0, run.err
    with rasterio.open(source) as before, rasterio.open(out) as after:
        assert after.crs == before.crs and after.transform == before.transform
        assert after.nodata == before.nodata and after.dtypes == before.dtypes
        assert after.count == before.count and after.colorinterp == before.colorinterp
        valid = before.dataset_mask() > 0
        assert np.array_equal(after.dataset_mask() > 0, valid)
        old, new = before.read(), after.read()
    assert 0 < valid.mean() < 1
    assert np.array_equal(new[:, ~valid], old[:, ~valid])
    assert (new[:3, valid] != old[:3, valid]).mean() > 0.5
    # The band that the model does not see.
    assert np.array_equal(new[3:], old[3:])


# -- once more ---------------------------------------------------------------------


@pytest.mark.nightly
def test_a_rerun_makes_the_same_pixels(cli, tmp_path, whole):
    again = tmp_path / "again.tif"
    run = cli("rerun", whole.record, "-o", again)
    assert run.code == 0, run.err
    assert alike(read(again), whole.pixels)


@pytest.mark.slow
@pytest.mark.nightly
def test_the_line_of_a_staged_run_is_the_run_again(whole):
    assert plan_of_line(api.command_of(whole.told, "o.tif")).key == whole.told["plan"]["key"]
    model = api.load_model("inf-dehaze-small", weights="random:0")
    options = {"extent": "region", "residual_dtype": "float16", "device": "cpu"}
    made = api.plan(whole.source, model, region=[api.Region(200, 300, 500, 700)], **options)
    again = plan_of_line(api.command_of(made, "o.tif"))
    assert again.key == made.key and again.targets == made.targets
    assert again.reading.extent == "region" and again.staged.residual_dtype == "float16"


def test_the_line_holds_what_the_model_computes_in(whole):
    told = whole.told
    told["task"]["options"] |= {"precision": "bfloat16", "residual_dtype": "float16"}
    asked = parsed(api.command_of(told, "o.tif"))
    assert (asked.precision, asked.residual_dtype) == ("bfloat16", "float16")


def parsed(text: str):
    return build_parser().parse_args(shlex.split(text)[1:])


def plan_of_line(text: str):
    asked = parsed(text)
    image = open_image(asked, asked.paths)
    return api.plan(image, load_model(asked), **plan_arguments(asked, image))
