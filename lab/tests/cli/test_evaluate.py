"""`evaluate`: what it scores, writes, goes on with and refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from points import patience
from tests.cli._scenes import hazy, read, write_tiff

from napari_restore.errors import Cancelled
from napari_restore.images import lock_file
from napari_restore.metrics import psnr, ssim
from napari_restore_lab.commands import _evaluate

QUICK = ("--no-baselines", "--model", "hot", "--metrics", "psnr,ssim", "--strips", "0")


def clear_and_hazy(seed: int, height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) bytes."""
    rng = np.random.default_rng(seed)
    clear = rng.integers(5, 160, (height // 10, width // 10, 3)).repeat(10, 0).repeat(10, 1)
    clear = clear + rng.integers(-5, 6, clear.shape)
    return clear.astype(np.uint8), (0.6 * clear + 0.4 * 230).round().astype(np.uint8)


@pytest.fixture
def pairs(tmp_path) -> Path:
    folder = tmp_path / "pairs"
    for kind in ("clear", "hazy"):
        (folder / kind).mkdir(parents=True)
    for number, name in enumerate(["a, b", "c_d"]):
        for kind, pixels in zip(("clear", "hazy"), clear_and_hazy(number), strict=True):
            Image.fromarray(pixels).save(folder / kind / f"{name}.png")
    return folder


@pytest.fixture
def no_runs(monkeypatch):
    """From now on whatever would run a model is a bug."""

    def forbid() -> None:
        monkeypatch.setattr(_evaluate, "start", lambda plan: pytest.fail("a model was run"))

    return forbid


def table(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        return {(row["image"], row["method"]): row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_scores_are_those_of_what_restore_writes(cli, pairs, tmp_path, no_runs):
    out = tmp_path / "out"
    run = cli("evaluate", "--model", "htm", "--pairs", pairs, "-o", out, "--json")
    assert run.code == 0, run.err
    told = run.json["evaluation"]
    labels = ["input", "dcp:omega=0.95", "dcp:omega=0.85", "hot", "htm"]
    assert [method["label"] for method in told["methods"]] == labels
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == run.json
    assert run.json["command"].startswith("napari-restore evaluate --model htm")
    rows = table(out)
    assert len(rows) == 10
    clear, foggy = (np.asarray(Image.open(pairs / k / "a, b.png")) for k in ("clear", "hazy"))
    assert float(rows["a, b", "input"]["psnr"]) == pytest.approx(psnr(foggy, clear, 255), abs=1e-5)
    for words, label in (
        (["htm"], "htm"),
        (["dcp", "--set", "omega=0.85"], "dcp:omega=0.85"),
    ):
        target = tmp_path / f"{words[0]}.png"
        assert cli("restore", pairs / "hazy/a, b.png", "-o", target, "--model", *words).code == 0
        restored = np.moveaxis(read(target), 0, 2)
        row = rows["a, b", label]
        assert float(row["psnr"]) == pytest.approx(psnr(restored, clear, 255), abs=1e-5)
        assert float(row["ssim"]) == pytest.approx(ssim(restored, clear, 255), abs=1e-6)
        assert row["valid_share"] == "1.0"
    mean = told["mean"]
    assert mean["psnr"] == pytest.approx(np.mean([float(rows[i, "htm"]["psnr"]) for i, _ in rows]))
    assert mean["input_psnr"] < mean["classical_psnr"]

    strips = sorted((out / "strips").glob("*.jpg"))
    assert [strip.name for strip in strips] == sorted(run.json["strips"]) and len(strips) == 2
    with Image.open(strips[0]) as strip:
        assert strip.width > 4 * 80 and strip.height > 60  # hazy, classical, htm, clear
    assert not (out / "work").exists()

    no_runs()
    again = cli("evaluate", "--model", "htm", "--pairs", pairs, "-o", out)
    assert again.code == 0 and "htm against" in again.out
    assert table(out) == rows


@pytest.mark.slow
def test_a_model_may_be_added_and_only_it_is_run(cli, pairs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert cli("evaluate", "--pairs", pairs, "-o", out, *QUICK).code == 0
    ran = []
    start = _evaluate.start
    monkeypatch.setattr(
        _evaluate, "start", lambda plan: ran.append(plan.model.card.id) or start(plan)
    )
    assert cli("evaluate", "--pairs", pairs, "-o", out, *QUICK, "--model", "htm").code == 0
    assert ran == ["htm", "htm"]
    # A clear picture that changed counts anew.
    Image.fromarray(clear_and_hazy(9)[0]).save(pairs / "clear" / "c_d.png")
    ran.clear()
    assert cli("evaluate", "--pairs", pairs, "-o", out, *QUICK, "--model", "htm").code == 0
    assert ran == ["identity", "hot", "htm"]


@pytest.mark.slow
def test_strips_are_made_when_they_are_asked_for(cli, pairs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ("evaluate", "--pairs", pairs, "-o", out, "--no-baselines", "--metrics", "psnr")
    words += ("--model", "hot", "--model", "htm")
    assert cli(*words, "--strips", "0").code == 0
    assert not list(out.glob("strips/*"))
    first = cli(*words, "--strips", "1", "--json")
    names = {path.name for path in (out / "strips").iterdir()}
    assert set(first.json["strips"]) == names and len(names) == 2
    (out / "strips" / "mine.jpg").write_bytes(b"mine")
    shutil.rmtree(out / "previews")
    with Image.open(out / "strips" / min(names)) as strip:
        size = strip.size
    again = cli(*words, "--strips", "all", "--json").json["strips"]
    assert {path.name for path in (out / "strips").iterdir()} == {*again, "mine.jpg"}
    with Image.open(out / "strips" / again[0]) as strip:
        assert strip.size == size  # hazy, hot, htm, clear: no column is missing
    monkeypatch.setattr(_evaluate, "start", lambda plan: pytest.fail("a model was run"))
    assert cli(*words, "--strips", "all").code == 0


@pytest.mark.slow
def test_values_stay_when_another_metric_is_asked_for(cli, pairs, tmp_path, no_runs):
    words = ("evaluate", "--pairs", pairs, "-o", tmp_path / "out", *QUICK[:3], "--strips", "0")
    for metrics in ("psnr", "ssim"):
        run = cli(*words, "--metrics", metrics, "--json")
        assert run.code == 0, run.err
        values = run.json["evaluation"]["images"][0]["methods"]["hot"]
        assert set(values) == {metrics, "seconds"}
    no_runs()
    run = cli(*words, "--metrics", "ssim,psnr", "--json")
    assert run.code == 0, run.err
    assert run.json["evaluation"]["scenes"] == 2


def test_a_broken_picture_is_told_and_the_rest_goes_on(cli, pairs, tmp_path):
    (pairs / "hazy" / "b.png").write_bytes(b"no picture")
    (pairs / "hazy" / "small.png").write_bytes((pairs / "hazy" / "c_d.png").read_bytes())
    for name in ("b", "small"):
        Image.fromarray(clear_and_hazy(3, 70, 80)[0]).save(pairs / "clear" / f"{name}.png")
    run = cli("evaluate", "--pairs", pairs, "-o", tmp_path / "out", *QUICK, "--json")
    assert run.code == 2
    failed = run.json["evaluation"]["failed"]
    assert [told["image"] for told in failed] == ["b", "small"]
    assert "80 × 60" in failed[1]["message"] and "80 × 70" in failed[1]["message"]
    assert run.err.count("small: small.png has") == 2  # as it happens, and in the end
    assert run.json["status"] == "done" and run.json["evaluation"]["n"] == 2
    assert {image for image, _ in table(tmp_path / "out")} == {"a, b", "c_d"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--pairs", "{none}"], "There is no"),
        (["--pairs", "{empty}"], "no pairs of a hazy and a clear picture"),
        ([], "Give --pairs FOLDER or --data INDEX"),
        (["--pairs", "{pairs}", "--model", "no-such"], "no model 'no-such'"),
        (["--pairs", "{pairs}", "--model", "dcp:omega=7"], "omega"),
        (["--pairs", "{pairs}", "--model", "inf-dehaze-fast"], "without weights"),
        (["--pairs", "{pairs}", "--model", "hot", "--model", "htm", "--weights", "w"], "2 models"),
        (["--pairs", "{pairs}", "--metrics", "psnrr"], "no metric 'psnrr'"),
        (["--pairs", "{pairs}", "--no-baselines"], "no method to evaluate"),
        (["--pairs", "{pairs}", "--keep"], "--keep with --data"),
        (["--pairs", "{pairs}", "--model", "{empty}/m.py:f"], "was not run"),
    ],
)
def test_what_is_refused_writes_nothing(cli, pairs, tmp_path, words, says):
    (tmp_path / "empty").mkdir()
    names = {"none": tmp_path / "none", "empty": tmp_path / "empty", "pairs": pairs}
    out = tmp_path / "out"
    run = cli("evaluate", "-o", out, *(word.format(**names) for word in words))
    assert run.code == 2 and says in run.err, run.err
    assert run.err.count("\n") == 1 and not out.exists()


def test_files_of_others_are_not_replaced(cli, pairs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "scores.csv").write_text("mine")
    run = cli("evaluate", "--pairs", pairs, "-o", out, *QUICK)
    assert run.code == 2 and "not from an evaluation" in run.err
    assert (out / "scores.csv").read_text() == "mine"
    assert cli("evaluate", "--pairs", pairs, "-o", out, *QUICK, "--overwrite").code == 0


def test_nodata_of_16_bit_maps_does_not_count(cli, tmp_path):
    clear = hazy(80, 100, dtype="uint16", seed=1)
    foggy = (0.6 * clear + 4000).astype("uint16")
    spoilt = clear.copy()
    for pixels in (clear, foggy, spoilt):
        pixels[:, 20:30, 30:60] = 0
    # A pixel that only one of both calls valid.
    spoilt[:, 0, 0] = 0
    table_of = tmp_path / "t.csv"
    for name, pixels in (("clear", spoilt), ("hazy", foggy)):
        write_tiff(tmp_path / f"{name}.tif", pixels, nodata=0)
    table_of.write_text("hazy,clear,group\nhazy.tif,clear.tif,L2\n")
    words = ("evaluate", "--pairs", table_of, "--white", "12000", *QUICK, "--json")
    run = cli(*words)
    assert run.code == 0, run.err
    (image,) = run.json["evaluation"]["images"]
    valid = (spoilt > 0).all(axis=0)
    assert image["group"] == "L2" and image["valid_share"] == pytest.approx(valid.mean(), abs=1e-6)
    expected = psnr(np.moveaxis(foggy, 0, 2), np.moveaxis(clear, 0, 2), 12000, valid)
    assert image["methods"]["input"]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert run.json["evaluation"]["groups"] == ["L2"]
    assert not list(tmp_path.glob("*scores*"))


@pytest.mark.slow
def test_how_far_clear_pictures_are_changed(cli, pairs, tmp_path):
    table_of = tmp_path / "t.csv"
    lines = [f"pairs/hazy/c_d.png,pairs/clear/c_d.png,L{level}" for level in (1, 2)]
    lines += ["pairs/clear/c_d.png,pairs/clear/c_d.png,L3"]
    table_of.write_text("hazy,clear,group\n" + "\n".join(lines) + "\n")
    out = tmp_path / "out"
    words = ("evaluate", "--pairs", table_of, "-o", out, *QUICK, "--model", "identity")
    assert cli(*words).code == 0
    run = cli(*words, "--clear", "--json")
    assert run.code == 0, run.err
    told = {method["label"]: method.get("clear") for method in run.json["evaluation"]["methods"]}
    same = {"clear_psnr": 100, "clear_change": 0, "clear_unchanged": 1}
    assert told["identity"] == same and told["input"] is None
    target = tmp_path / "c.png"
    assert cli("restore", pairs / "clear/c_d.png", "-o", target, "--model", "hot").code == 0
    before, after = read(pairs / "clear/c_d.png"), read(target)
    unchanged = (before == after).all(axis=0).mean()
    assert told["hot"]["clear_unchanged"] == pytest.approx(unchanged)
    change = np.median(np.abs(before.astype(int) - after))
    assert told["hot"]["clear_change"] == pytest.approx(change, abs=1e-3)
    assert "clear pictures:" in cli(*words, "--clear").out


def test_scenes_are_hazed_on_the_fly_as_they_are_kept(cli, pairs, tmp_path):
    index = tmp_path / "INDEX.csv"
    index.write_text(
        "file,kind,split\npairs/clear/c_d.png,aerial,dev\npairs/clear/a, b.png,aerial,train\n"
        "pairs/hazy/c_d.png,natural,dev\n".replace("a, b", "gone")
    )
    words = ("evaluate", "--data", index, "--seed", "3", "--scene", "aerial", *QUICK, "--json")
    run = cli(*words, "-o", tmp_path / "kept", "--keep")
    assert run.code == 0, run.err
    told = run.json["evaluation"]["images"]
    assert [image["image"] for image in told] == ["c_d"] and told[0]["group"] == "aerial"
    assert told[0]["methods"]["input"]["psnr"] < 40
    fly = cli(*words).json["evaluation"]["images"][0]["methods"]
    files = cli("evaluate", "--pairs", tmp_path / "kept", *QUICK, "--json")
    (kept,) = files.json["evaluation"]["images"]
    for label in ("input", "hot"):
        assert kept["methods"][label]["psnr"] == pytest.approx(fly[label]["psnr"])
        assert told[0]["methods"][label]["psnr"] == fly[label]["psnr"]


@pytest.mark.slow
def test_brackets_are_made_scored_and_kept(cli, pairs, tmp_path):
    out = tmp_path / "out"
    words = ("--degradation", "bracket", "--metrics", "psnr_matched,psnr_clipped,mef_ssim")
    run = cli("evaluate", "--data", pairs / "clear", *words, "-o", out, "--keep", "--json")
    assert run.code == 0, run.err
    scored = run.json["evaluation"]
    assert [method["label"] for method in scored["methods"]] == ["input", "mertens"]
    assert scored["groups"] == ["bracket 2"] and not scored["failed"]
    methods = scored["images"][0]["methods"]
    # Fusion shows more structure of all frames than the middle one.
    assert methods["mertens"]["mef_ssim"] > methods["input"]["mef_ssim"] > 0
    matched, clipped = (methods["input"][name] for name in ("psnr_matched", "psnr_clipped"))
    assert 10 < clipped < 60 and clipped != matched
    frames = [read(out / "hazy" / "c_d_2" / f"{number}.png") for number in (1, 2, 3)]
    assert [frame.mean() for frame in frames] == sorted(frame.mean() for frame in frames)
    assert read(out / "clear" / "c_d_2.png").shape == frames[1].shape
    run = cli("evaluate", "--pairs", pairs, "--degradation", "bracket")
    assert run.code == 2 and "not a bracket" in run.err


def test_a_stop_keeps_what_is_done(cli, pairs, tmp_path, monkeypatch, no_runs):
    out = tmp_path / "out"
    start, ran = _evaluate.start, []

    def stopping(plan):
        if len(ran) == 3:
            raise Cancelled("Stopped.", "The same command goes on.")
        ran.append(plan)
        return start(plan)

    monkeypatch.setattr(_evaluate, "start", stopping)
    run = cli("evaluate", "--pairs", pairs, "-o", out, *QUICK)
    assert run.code == 3 and not (out / "scores.csv").exists()
    assert len((out / "scores.jsonl").read_text().splitlines()) == 3
    ran.clear()
    assert cli("evaluate", "--pairs", pairs, "-o", out, *QUICK).code == 0
    assert [plan.model.card.id for plan in ran] == ["hot"]
    assert len(table(out)) == 4


def test_one_process_writes_to_a_folder(cli, pairs, tmp_path):
    work = tmp_path / "out" / "work"
    work.mkdir(parents=True)
    locked = lock_file(work / "writer")
    run = cli("evaluate", "--pairs", pairs, "-o", work.parent, *QUICK)
    assert run.code == 4 and f"Another evaluation (process {os.getpid()})" in run.err
    locked.release()
    assert cli("evaluate", "--pairs", pairs, "-o", work.parent, *QUICK).code == 0
    assert not work.exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="another way to send Ctrl-C")
def test_ctrl_c_in_a_process_of_its_own_ends_with_3(pairs, tmp_path, points):
    out = tmp_path / "out"
    words = ["evaluate", "--pairs", str(pairs), "-o", str(out), "--progress", "json"]
    points.hold("scores.jsonl appended")
    with subprocess.Popen(
        [sys.executable, "-m", "napari_restore", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as child:
        points.wait("scores.jsonl appended")
        # It ends the wait, too: the program is held in its main thread.
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=patience())
    assert child.returncode == 3, said
    assert "Traceback" not in said
    assert "Stopped" in said or "cancelled" in said
    assert len((out / "scores.jsonl").read_text().splitlines()) >= 1


@pytest.mark.slow
def test_noise_and_low_light_are_made_of_clear_scenes(cli, tmp_path):
    pytest.importorskip("skimage")
    for number in range(2):
        clear, _ = clear_and_hazy(number)
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        Image.fromarray(clear).save(folder / f"{number}.png")
    words = ("evaluate", "--data", tmp_path / "in", "--split", "dev", "--metrics", "psnr")
    words = (*words, "--model", "identity", "--strips", "0")
    run = cli(
        *(*words, "--degradation", "noise", "--level", "25", "--no-baselines", "--json"),
        *("-o", tmp_path / "out", "--keep"),
    )
    assert run.code == 0, run.err
    rows = table(tmp_path / "out")
    assert len(rows) == 4
    assert all(float(row["psnr"]) == pytest.approx(20.6, abs=0.8) for row in rows.values())
    assert sorted(p.name for p in (tmp_path / "out" / "hazy").iterdir()) == ["0_25.png", "1_25.png"]
    assert run.json["source"]["degradation"] == "noise"
    # The classical rows know how dark it is, and beat what they are given.
    run = cli(*words, "--degradation", "lowlight", "--json")
    assert run.code == 0, run.err
    means = {m["label"]: m["metrics"]["psnr"]["mean"] for m in run.json["evaluation"]["methods"]}
    assert set(means) == {"input", "gamma", "clahe", "retinex", "identity"}
    assert means["gamma"] > means["input"] + 2


@pytest.mark.parametrize(
    "words, told",
    [
        (("--data", "in", "--level", "5"), "Haze has no level"),
        (("--pairs", "in", "--degradation", "noise"), "need to know how strong"),
        (("--data", "in", "--degradation", "rain"), "rain"),
    ],
)
def test_levels_that_do_not_fit_are_refused(cli, tmp_path, words, told):
    (tmp_path / "in").mkdir()
    run = cli("evaluate", "--model", "identity", *words)
    assert run.code == 2
    assert told in run.err
