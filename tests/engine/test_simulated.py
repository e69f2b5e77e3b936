"""A simulated device: plans for small cards, spilling and backing off, without a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_restore as nr
from napari_restore.api import Note
from napari_restore.engine import choose_device
from napari_restore.engine.machine.device_memory import DeviceMemory, TensorCount
from napari_restore.errors import BadParameter, BudgetTooSmall, OutOfMemory

from ._staged_model import ToyStaged
from ._whole import model as local_model

pytestmark = pytest.mark.measured

MODEL = ToyStaged()
KIB = 1 << 10


def image_of(height: int, width: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(height + width).random((height, width, 3), np.float32)


def test_counts_tensors_while_they_live() -> None:
    count = TensorCount()
    with count.mode():
        first = torch.zeros(1000)
        view = first[10:]
        second = first + 1
        assert count.alive == 8000
        del first
        assert count.alive == 8000  # the view holds it
        del view, second
    assert (count.alive, count.peak) == (0, 8000)


def test_says_no_where_a_card_would() -> None:
    memory = DeviceMemory(choose_device("simulated:8KiB"), initial=4096)
    with memory.watched():
        kept = torch.zeros(1024 - 8)
        with pytest.raises(torch.OutOfMemoryError):
            torch.zeros(16)
    assert memory.peak == 4096 + kept.nbytes


def test_size_must_be_a_size() -> None:
    with pytest.raises(BadParameter, match="no size"):
        choose_device("simulated:big")


@pytest.mark.slow
def test_result_is_that_of_the_processor(tmp_path: Path) -> None:
    image = image_of(300, 500)
    plain = np.asarray(nr.restore(image, MODEL, scratch=tmp_path / "cpu").array)
    result = nr.restore(image, MODEL, scratch=tmp_path / "card", device="simulated:1GiB")
    assert np.abs(np.asarray(result.array) - plain).max() <= 1e-5
    measured, plan = result.record["measured"], result.record["plan"]
    assert 0 < measured["peak_device_bytes"] <= plan["predicted_peak_device_bytes"]
    assert plan["residual_tier"] == "device"


@pytest.mark.slow
def test_a_small_card_spills_to_ram(tmp_path: Path) -> None:
    """What the device has no room for goes to RAM, and the grid to the processor."""
    image = image_of(512, 1024)
    options: dict[str, Any] = {"device": "simulated:64MiB", "tile_batch": 1}
    plan = nr.plan(image, MODEL, scratch=tmp_path, **options)
    whole = plan.sweeps
    assert whole.residual_bytes["device"] > 0 == whole.residual_bytes["ram"]
    needed = plan.prediction.peak_device_bytes - whole.residual_bytes["device"]
    record = sum(each.record_bytes for each in whole.maps)
    options["device_memory"] = needed + 3 * record
    result = nr.restore(image, MODEL, scratch=tmp_path, **options)
    kept = result.record["measured"]["residual_bytes"]
    assert kept["device"] == 3 * record
    assert kept["ram"] == 29 * record
    assert result.record["measured"]["backoffs"] == 0
    assert result.record["measured"]["peak_device_bytes"] <= options["device_memory"]


@pytest.mark.slow
@pytest.mark.nightly
def test_a_grid_larger_than_the_card_is_related_by_the_processor(tmp_path: Path) -> None:
    image = image_of(1280, 1280)
    grid = MODEL.bottleneck_bytes(40, 40)
    options = {"device": "simulated:1GiB", "device_memory": grid // 2, "tile_batch": 1}
    result = nr.restore(image, MODEL, scratch=tmp_path, **options)
    assert result.record["plan"]["staged"]["bottleneck_on_host"]
    assert result.record["measured"]["peak_device_bytes"] <= grid // 2
    plain = nr.restore(image, MODEL, scratch=tmp_path / "cpu")
    assert np.abs(np.asarray(result.array) - np.asarray(plain.array)).max() <= 1e-5


@pytest.mark.slow
def test_backs_off_where_the_plan_was_wrong(tmp_path: Path, monkeypatch: Any) -> None:
    """A card that has less than it said: batches shrink, the bottleneck moves, pixels stay."""
    image = image_of(640, 640)
    options: dict[str, Any] = {"device": "simulated:1GiB", "tile_batch": 8, "workers": 1}
    plan = nr.plan(image, MODEL, scratch=tmp_path, residuals="ram", **options)
    # Enough for one tile, but neither for eight nor for the grid.
    monkeypatch.setattr("napari_restore.engine.machine.device.Device.capacity", 1250 * KIB)
    job = nr.start(plan)
    notes = [event.text for event in job if isinstance(event, Note)]
    assert any("processor" in note for note in notes)
    result = job.result()
    assert result.record["measured"]["backoffs"] > 0
    plain = nr.restore(image, MODEL, scratch=tmp_path / "cpu")
    assert np.abs(np.asarray(result.array) - np.asarray(plain.array)).max() <= 1e-5


@pytest.mark.slow
def test_a_local_model_backs_off_too(tmp_path: Path, monkeypatch: Any) -> None:
    image = image_of(600, 600)
    plan = nr.plan(image, local_model(), scratch=tmp_path, device="simulated:1GiB", tile=512)
    monkeypatch.setattr("napari_restore.engine.machine.device.Device.capacity", 3 << 20)
    with pytest.raises(OutOfMemory, match="smallest tile"):
        nr.start(plan).result()


def fuzz(cases: int, longest: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    ran = 0
    for case in range(cases):
        height, width = (int(v) for v in rng.integers(1, longest, 2))
        image = image_of(height, width)
        budget = int(2 ** rng.uniform(18, 25))
        memory = int(2 ** rng.uniform(25, 28))
        options: dict[str, Any] = {
            "device": "simulated:64MiB",
            "device_memory": budget,
            "memory": memory,
            "scratch": tmp_path / str(case),
        }
        if rng.random() < 0.3:
            options["residual_dtype"] = "float16"
        try:
            plan = nr.plan(image, MODEL, **options)
        except BudgetTooSmall:
            continue
        assert plan.prediction.peak_device_bytes <= budget
        assert plan.prediction.added_ram_bytes <= memory
        measured = nr.start(plan).result().record["measured"]
        assert measured["backoffs"] == 0, (height, width, options)
        assert measured["peak_device_bytes"] <= plan.prediction.peak_device_bytes, options
        kept = measured["residual_bytes"]
        assert kept == plan.staged.residual_bytes
        ran += 1
    assert ran > cases // 3


@pytest.mark.slow
def test_no_plan_overruns(tmp_path: Path) -> None:
    fuzz(20, 500, tmp_path)


@pytest.mark.slow
@pytest.mark.nightly
def test_no_plan_overruns_at_length(tmp_path: Path) -> None:
    fuzz(200, 900, tmp_path)
