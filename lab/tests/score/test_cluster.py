"""Evaluations on a cluster: the same scores, whatever is lost on the way."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import napari_restore as nr
import napari_restore_lab
from napari_restore.api import cluster_worker
from napari_restore.engine import Cluster, Progress
from napari_restore.errors import BadOutput, BadParameter, Cancelled, InputError, SourceChanged
from napari_restore.models import load
from napari_restore_lab.score import ScoreJournal

SETTINGS: dict[str, Any] = {
    "baselines": False,
    "strips": 1,
    "options": {"device": "cpu", "memory": "1GiB"},
}
METRICS = ("psnr", "ssim")
TIMES = {"seconds", "output"}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four pairs and one whose clear image is no image."""
    folder = tmp_path / "pairs"
    for kind in ("clear", "hazy"):
        (folder / kind).mkdir(parents=True)
    for number in range(5):
        clear = np.random.default_rng(number).integers(5, 160, (60, 80, 3)).astype(np.uint8)
        Image.fromarray(clear).save(folder / "clear" / f"{number}.png")
        hazy = (0.6 * clear + 90).astype(np.uint8)
        Image.fromarray(hazy).save(folder / "hazy" / f"{number}.png")
    (folder / "clear" / "3.png").write_text("no image")
    return folder


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(each) for name, each in value.items() if name not in TIMES}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def told(summary: dict[str, Any]) -> str:
    return json.dumps(without_times(summary), default=str)


def pictures(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".jpg", ".png")
    }


@pytest.mark.slow
def test_scores_and_files_equal_those_of_one_machine(
    pairs: Path, tmp_path: Path, cluster: Cluster
) -> None:
    events: list[Any] = []
    alone, spread = (
        napari_restore_lab.evaluate(
            ["dcp", "hot"],
            pairs,
            output=tmp_path / name,
            metrics=METRICS,
            clear=True,
            cluster=where,
            emit=events.append,
            **SETTINGS,
        )
        for name, where in (("alone", None), ("spread", cluster))
    )
    assert told(alone) == told(spread)
    assert [failure["image"] for failure in spread["evaluation"]["failed"]] == ["3"]
    assert pictures(tmp_path / "alone") == pictures(tmp_path / "spread")
    assert len(pictures(tmp_path / "spread")) > 3
    assert not (tmp_path / "spread" / "work").exists()
    shown = [event.done for event in events if isinstance(event, Progress) and event.total == 5]
    assert shown[-6:] == [0, 1, 2, 3, 4, 5]


def test_degraded_scenes_are_kept_by_the_workers(tmp_path: Path, cluster: Cluster) -> None:
    data = tmp_path / "clear scenes"
    data.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 10, 3)).astype(np.uint8)
        Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(data / f"{number}.png")
    alone, spread = (
        napari_restore_lab.evaluate(
            ["identity"],
            data=data,
            split="train",
            degradation="lowlight",
            level=5.0,
            keep=True,
            output=tmp_path / name,
            metrics=("psnr",),
            cluster=where,
            **SETTINGS,
        )
        for name, where in (("alone", None), ("spread", cluster))
    )
    assert told(alone) == told(spread)
    kept = pictures(tmp_path / "spread")
    assert kept == pictures(tmp_path / "alone")
    assert sum(name.startswith("hazy") for name in kept) == 2


@pytest.mark.slow
def test_an_evaluation_without_a_folder(pairs: Path, cluster: Cluster) -> None:
    alone, spread = (
        napari_restore_lab.evaluate(["dcp"], pairs, metrics=METRICS, cluster=where, **SETTINGS)
        for where in (None, cluster)
    )
    assert told(alone) == told(spread)


@pytest.mark.slow
def test_a_cancelled_evaluation_goes_on(
    pairs: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()

    def cancel(event: Any) -> None:
        if isinstance(event, Progress) and event.done == 2:
            stop.set()

    words: dict[str, Any] = {"output": tmp_path / "out", "metrics": METRICS, **SETTINGS}
    with pytest.raises(Cancelled):
        napari_restore_lab.evaluate(
            ["dcp"], pairs, cluster=cluster, emit=cancel, stop=stop, **words
        )
    kept = len((tmp_path / "out" / "scores.jsonl").read_text().splitlines())
    assert 2 <= kept < 8
    added: list[str] = []
    add = ScoreJournal.add
    monkeypatch.setattr(
        ScoreJournal, "add", lambda self, row: added.append(row["key"]) or add(self, row)
    )
    whole = napari_restore_lab.evaluate(["dcp"], pairs, **words)
    assert len(added) == 8 - kept
    assert told(whole) == told(
        napari_restore_lab.evaluate(["dcp"], pairs, **{**words, "output": tmp_path / "again"})
    )


@pytest.mark.slow
def test_known_scores_are_not_computed_again(
    pairs: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, Any] = {"output": tmp_path / "out", "metrics": METRICS, **SETTINGS}
    first = napari_restore_lab.evaluate(["dcp"], pairs, clear=True, **words)
    monkeypatch.setattr(
        "napari_restore_lab.score._case_task.Run",
        lambda *given, **more: pytest.fail("a model was run"),
    )
    again = napari_restore_lab.evaluate(["dcp"], pairs, clear=True, cluster=cluster, **words)
    assert told(first) == told(again)


# -- bad input -----------------------------------------------------------------------


def test_a_model_in_memory_is_refused(pairs: Path, cluster: Cluster) -> None:
    model = load("dcp")
    model.spec = None
    with pytest.raises(BadParameter, match="must be files"):
        napari_restore_lab.evaluate([model], pairs, cluster=cluster, **SETTINGS)


def test_a_folder_that_a_worker_cannot_see_is_named(
    pairs: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_there(name: str) -> None:
        raise InputError(f"{name} is not there.", "Share it.")

    monkeypatch.setattr(cluster_worker, "check_seen", not_there)
    with pytest.raises(InputError, match=r"png is not there \(on tcp://127"):
        napari_restore_lab.evaluate(
            ["dcp"], pairs, output=tmp_path / "out", cluster=cluster, **SETTINGS
        )


def test_an_image_that_is_another_one_there(
    pairs: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = cluster_worker.check_seen

    def grows(name: str) -> None:
        with open(name, "ab") as file:
            file.write(b"more")
        check(name)

    monkeypatch.setattr(cluster_worker, "check_seen", grows)
    with pytest.raises(SourceChanged, match=r"png is another file there \(on tcp://127"):
        napari_restore_lab.evaluate(["dcp"], pairs, cluster=cluster, **SETTINGS)


def test_a_folder_that_a_worker_cannot_write(
    pairs: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(**options: Any) -> Any:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        (tmp_path / "out").mkdir()
        # What the client itself checks is the same folder.
        patch.setattr("napari_restore_lab.score._session.check_folder", lambda *given, **more: None)
        patch.setattr(tempfile, "TemporaryFile", read_only)
        with pytest.raises(BadOutput, match=r"Read-only file system"):
            napari_restore_lab.evaluate(
                ["dcp"], pairs, output=tmp_path / "out", cluster=cluster, **SETTINGS
            )


@pytest.mark.slow
def test_photos_are_scored_as_the_model_returns_them(tmp_path: Path, cluster: Cluster) -> None:
    """Without the exposure that they are restored with."""
    rng = np.random.default_rng(7)
    clear = np.kron(rng.integers(5, 190, (12, 16, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    hazy = (0.5 * clear + 100).astype(np.uint8)
    for kind, picture in (("clear", clear), ("hazy", hazy)):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "pairs" / kind / "a.png")
    source, options = tmp_path / "pairs" / "hazy" / "a.png", {"device": "cpu", "progress": False}
    assert nr.restore(source, "atmosphere", **options).adjustment.ev > 0
    plain = np.asarray(nr.restore(source, "atmosphere", exposure=0, **options))
    error = np.mean((plain.astype(float) - clear) ** 2)
    for where in (None, cluster):
        scores = napari_restore_lab.evaluate(
            ["atmosphere"], tmp_path / "pairs", metrics=["psnr"], cluster=where, **SETTINGS
        )
        found = scores["evaluation"]["mean"]["psnr"]
        assert found == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
