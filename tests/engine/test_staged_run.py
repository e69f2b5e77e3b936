"""Staged runs: streamed equals one-shot, whatever the batch, the tier, or an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch

import napari_restore as nr
from napari_restore.api import Region
from napari_restore.engine import Phase, Progress, TileDone
from napari_restore.errors import BadModel, BadParameter, BudgetTooSmall, Cancelled

from ._staged_model import ToyStaged

TIERS = ("auto", "ram", "disk", "recompute-first", "recompute")
TOLERANCE = 1e-5


@pytest.fixture
def image() -> np.ndarray[Any, Any]:
    """Sides that are no whole number of tiles; float pixels are taken as they are."""
    return np.random.default_rng(0).random((333, 515, 3), np.float32)


MODEL = ToyStaged()
"""One for all: a module handed over in Python has a name of its own, by which runs resume."""


def one_shot(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.inference_mode():
        return MODEL(x)[0].permute(1, 2, 0).numpy()


def restored(image: Any, scratch: Path, **options: Any) -> np.ndarray[Any, Any]:
    return np.asarray(nr.restore(image, MODEL, scratch=scratch, **options).array)


@pytest.mark.parametrize(
    ("tier", "batch"), [*((tier, 4) for tier in TIERS), (TIERS[0], 1), (TIERS[-1], 16)]
)
def test_streamed_equals_one_shot(image: Any, tmp_path: Path, tier: str, batch: int) -> None:
    got = restored(image, tmp_path, residuals=tier, tile_batch=batch)
    assert np.abs(got - one_shot(image)).max() <= TOLERANCE


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (128, 128), (129, 257)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).random((*size, 3), np.float32)
    assert np.abs(restored(image, tmp_path) - one_shot(image)).max() <= TOLERANCE


def test_tiers_mixed_in_one_run(image: Any, tmp_path: Path) -> None:
    """A budget for the residuals of a few tiles: the rest goes to the disk or is made again."""
    plain = nr.plan(image, MODEL, scratch=tmp_path, residuals="recompute")
    maps = nr.plan(image, MODEL, scratch=tmp_path, residuals="disk").staged.maps
    record = sum(each.record_bytes for each in maps)
    memory = plain.prediction.added_ram_bytes + 5 * record + record // 2
    result = nr.restore(image, MODEL, scratch=tmp_path, memory=memory, workers=plain.layout.workers)
    staged = result.record["plan"]["staged"]
    kept = staged["residual_bytes"]
    assert 0 < kept["ram"] <= 5 * record
    assert np.abs(np.asarray(result.array) - one_shot(image)).max() <= TOLERANCE


@pytest.mark.slow
def test_a_region_knows_the_whole_image(image: Any, tmp_path: Path) -> None:
    """Only the target is decoded, yet it is what the whole image's run makes of it."""
    box = Region(140, 260, 240, 400)
    # The last bit follows the batch and the threads, which follow how fast they were when measured.
    alike = {"workers": 1, "tile_batch": 1}
    part = restored(image, tmp_path, region=box, **alike)
    assert np.array_equal(part, restored(image, tmp_path / "whole", **alike)[140:240, 260:400])
    draft = nr.restore(image, MODEL, region=box, extent="region", scratch=tmp_path)
    assert np.abs(np.asarray(draft.array) - part).max() > 100 * TOLERANCE
    assert any("draft" in note for note in draft.record["plan"]["notes"])


@pytest.mark.slow
def test_residual_bytes_are_as_predicted(image: Any, tmp_path: Path) -> None:
    for tier in ("ram", "disk"):
        record = nr.restore(image, MODEL, scratch=tmp_path / tier, residuals=tier).record
        predicted, measured = record["plan"], record["measured"]
        assert predicted["residual_tier"] == tier
        assert sum(measured["residual_bytes"].values()) == predicted["residual_bytes"]
        values = 15 * (4 * 32 * 32 + 6 * 16 * 16)
        assert predicted["residual_bytes"] == 4 * values
    nothing = nr.restore(image, MODEL, scratch=tmp_path / "n", residuals="recompute").record
    assert sum(nothing["measured"]["residual_bytes"].values()) == 0
    assert nothing["plan"]["residual_tier"] == "recompute"


@pytest.mark.slow
def test_half_precision_residuals_report_their_error(image: Any, tmp_path: Path) -> None:
    """The same pixels whether they were kept or made again; the rounding is told."""
    runs = {
        tier: nr.restore(
            image, MODEL, scratch=tmp_path / tier, residuals=tier, residual_dtype="float16"
        )
        for tier in ("ram", "disk", "recompute-first", "recompute")
    }
    kept = np.asarray(runs["ram"].array)
    for result in runs.values():
        assert np.array_equal(np.asarray(result.array), kept)
    exact = one_shot(image)
    assert 0 < np.abs(kept - exact).max() < 1e-3
    for result in runs.values():
        assert 0 < result.record["measured"]["residual_rounding"] <= 2**-11
    assert runs["disk"].record["plan"]["residual_bytes"] == 15 * 2 * (4 * 32**2 + 6 * 16**2)


def test_integers_and_nodata(tmp_path: Path) -> None:
    """Invalid pixels stay; what they hold does not reach their neighbours."""
    rng = np.random.default_rng(2)
    image = rng.integers(20, 200, (200, 300, 3)).astype(np.uint8)
    opened = nr.open_image(image)
    plain = np.asarray(nr.restore(opened, MODEL, scratch=tmp_path).array)
    assert plain.dtype == np.uint8
    assert (plain != image).any()


def test_phases_and_progress(image: Any, tmp_path: Path) -> None:
    job = nr.start(nr.plan(image, MODEL, scratch=tmp_path))
    phases: dict[str, list[Progress]] = {}
    tiles = []
    for event in job:
        if isinstance(event, Phase):
            phases[event.name] = []
        elif isinstance(event, Progress):
            phases[list(phases)[-1]].append(event)
        elif isinstance(event, TileDone):
            tiles.append(event.region)
    names = [name for name in phases if "of 3" in name]
    assert len(names) == 3
    for name in names:
        steps = phases[name]
        assert steps[0].done < steps[-1].done <= steps[-1].total
    assert sum(tile.pixels for tile in tiles) == 333 * 515
    measured = job.result().record["measured"]
    assert set(measured["phase_seconds"]) == {"encode", "bottleneck", "decode"}
    assert measured["tiles_encoded"] == 15


@pytest.mark.parametrize("phase", ["Encoding", "Global bottleneck", "Decoding"])
@pytest.mark.parametrize("tier", ["ram", "disk"])
def test_cancelled_in_any_phase_goes_on(image: Any, tmp_path: Path, phase: str, tier: str) -> None:
    options = {"scratch": tmp_path, "residuals": tier, "workers": 1, "tile_batch": 1}
    job = nr.start(nr.plan(image, MODEL, **options))
    now = ""
    for event in job:
        if isinstance(event, Phase):
            now = event.name
        if isinstance(event, Progress) and now.startswith(phase) and event.done > 0:
            job.cancel()
    with pytest.raises(Cancelled):
        job.result()
    result = nr.restore(image, MODEL, **options)
    assert np.abs(np.asarray(result.array) - one_shot(image)).max() <= TOLERANCE
    assert result.record["measured"]["tiles_encoded"] < 15


def test_another_target_is_only_decoded(image: Any, tmp_path: Path) -> None:
    nr.restore(image, MODEL, region=Region(0, 0, 100, 100), scratch=tmp_path)
    box = Region(130, 130, 250, 380)
    plan = nr.plan(image, MODEL, region=box, scratch=tmp_path)
    *before, _ = plan.to_dict()["staged"]["predicted_seconds"].values()
    assert set(before) == {0}
    result = nr.start(plan).result()
    assert result.record["measured"]["tiles_encoded"] == 0
    difference = np.asarray(result.array) - one_shot(image)[130:250, 130:380]
    assert np.abs(difference).max() <= TOLERANCE


def test_another_target_needs_no_room_for_residuals(image: Any, tmp_path: Path) -> None:
    first = nr.plan(image, MODEL, region=Region(0, 0, 100, 100), scratch=tmp_path)
    nr.start(first).result()
    box = Region(130, 130, 250, 380)
    plan = nr.plan(image, MODEL, region=box, scratch=tmp_path, residuals="ram")
    assert plan.staged.residual_bytes == {"device": 0, "ram": 0, "disk": 0}
    fresh = nr.plan(image, MODEL, region=box, scratch=tmp_path / "other", residuals="ram")
    assert plan.prediction.added_ram_bytes < fresh.prediction.added_ram_bytes


def test_stopped_while_decoding_the_disk_still_has_its_residuals(
    image: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """And nothing of them is left when all is done, also where nothing was left to do."""
    # From the start, as its code is part of what a run is of; a queue has no content.
    calls: SimpleQueue[int] = SimpleQueue()
    encode = ToyStaged.encode
    monkeypatch.setattr(ToyStaged, "encode", lambda self, x: calls.put(1) or encode(self, x))
    options = {"scratch": tmp_path, "residuals": "disk", "workers": 1, "tile_batch": 1}
    plan = nr.plan(image, MODEL, **options)
    job, done = nr.start(plan), 0
    for event in job:
        done += isinstance(event, TileDone)
        if done == 3:
            job.cancel()
    slab = plan.store / "staged" / "residuals.slab"
    assert slab.exists()
    before = calls.qsize()
    result = nr.start(nr.plan(image, MODEL, scratch=tmp_path, residuals="disk", workers=1)).result()
    assert result.record["measured"]["residual_bytes"]["disk"] > 0
    # Calibration and probe are known by now: whatever is encoded is encoded for the run.
    assert calls.qsize() == before
    assert np.abs(np.asarray(result.array) - one_shot(image)).max() <= TOLERANCE
    assert not slab.exists()
    slab.write_bytes(b"left behind by a run that was killed at its very end")
    nr.start(nr.plan(image, MODEL, scratch=tmp_path)).result()
    assert not slab.exists()


def test_a_mask_takes_room_for_its_own_tiles_only(image: Any, tmp_path: Path) -> None:
    weight = np.zeros(image.shape[:2], np.uint8)
    weight[10:30, 10:30] = weight[300:320, 480:500] = 255
    from PIL import Image

    mask = tmp_path / "mask.png"
    Image.fromarray(weight).save(mask)
    result = nr.restore(image, MODEL, mask=mask, scratch=tmp_path, residuals="ram")
    record = result.record["plan"]["staged"]
    assert record["recompute"] == "none"
    assert result.record["measured"]["residual_bytes"]["ram"] == 2 * 4 * (4 * 32**2 + 6 * 16**2)
    restored_part = np.asarray(result.array)[10:30, 10:30]
    assert np.abs(restored_part - one_shot(image)[10:30, 10:30]).max() <= TOLERANCE


def test_results_are_trimmed_after_the_store_is_held(
    image: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """A run that goes on must not lose what it goes on from to the limit of the cache."""
    monkeypatch.setattr("napari_restore.engine.running.run.KEPT_RESULTS", 1)
    monkeypatch.setattr("napari_restore.engine.running.run.TRIM_SECONDS", 0.0)
    job, now = nr.start(nr.plan(image, MODEL)), ""
    for event in job:
        now = event.name if isinstance(event, Phase) else now
        if isinstance(event, Progress) and now.startswith("Encoding") and event.done > 0:
            job.cancel()
    result = nr.restore(image, MODEL)
    assert result.record["measured"]["tiles_encoded"] < 15


def test_a_checkpoint_is_gone_on_from_unless_it_is_torn(
    image: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("napari_restore.engine.running.tokens.CHECKPOINT_SECONDS", 0.0)
    layers: list[int] = []
    run_layer = ToyStaged.bottleneck_layer

    def stops(self: Any, index: int, grid: Any, tick: Any = None) -> Any:
        layers.append(index)
        if index == 1 and tick is not None and len(layers) < 4:
            raise RuntimeError("switched off")
        return run_layer(self, index, grid, tick)

    plan = nr.plan(image, MODEL, scratch=tmp_path)
    monkeypatch.setattr(ToyStaged, "bottleneck_layer", stops)
    with pytest.raises(BadModel, match="switched off"):
        nr.start(plan).result()
    layers.clear()
    with pytest.raises(BadModel, match="switched off"):
        nr.start(plan).result()
    assert layers == [1]
    kept = plan.store / "staged" / "layer.1"
    content = bytearray(kept.read_bytes())
    content[100] ^= 1
    kept.write_bytes(content)
    layers[:] = [9, 9, 9]
    result = nr.start(plan).result()
    assert layers[3:] == [0, 1]
    assert np.abs(np.asarray(result.array) - one_shot(image)).max() <= TOLERANCE


@pytest.mark.slow
def test_damaged_tokens_are_named_and_the_next_run_mends_them(image: Any, tmp_path: Path) -> None:
    box = Region(0, 0, 100, 100)
    plan = nr.plan(image, MODEL, region=box, scratch=tmp_path)
    nr.start(plan).result()
    tokens = plan.store / "staged" / "tokens"
    content = bytearray(tokens.read_bytes())
    content[: len(content)] = b"\x07" * len(content)
    tokens.write_bytes(content)
    with pytest.raises(nr.errors.ResourceError, match="damaged"):
        restored(image, tmp_path)
    assert np.abs(restored(image, tmp_path) - one_shot(image)).max() <= TOLERANCE


def test_a_plan_of_counted_sweeps_survives_json(image: Any, tmp_path: Path) -> None:
    from napari_restore.engine import deserialise_plan, serialise_plan

    plan = nr.plan(image, MODEL, scratch=tmp_path)
    serialised = json.loads(json.dumps(serialise_plan(plan)))
    assert deserialise_plan(serialised, plan.image, plan.model) == plan


def test_bad_wishes_are_named(image: Any, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="128 pixels"):
        nr.plan(image, MODEL, tile=512)
    with pytest.raises(BadParameter, match="tier"):
        nr.plan(image, MODEL, residuals="attic")
    with pytest.raises(BadParameter, match="precision"):
        nr.plan(image, MODEL, precision="float8")
    with pytest.raises(BudgetTooSmall, match="memory="):
        nr.plan(image, MODEL, memory="1MiB")
    with pytest.raises(BadParameter, match="processor has no memory"):
        nr.plan(image, MODEL, residuals="device", device="cpu")
    alone = {"workers": 1, "tile_batch": 1}
    least = nr.plan(image, MODEL, residuals="recompute", **alone).prediction.added_ram_bytes
    with pytest.raises(BudgetTooSmall, match="residuals"):
        nr.plan(image, MODEL, residuals="ram", memory=least + 1000, **alone)


def test_a_global_card_needs_stages(image: Any) -> None:
    model = nr.load_model(torch.nn.Identity(), card={"scope": "swept", "bands": 3})
    with pytest.raises(BadModel, match="sweeps"):
        nr.plan(image, model)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_computes_about_the_same(image: Any, tmp_path: Path, precision: str) -> None:
    got = restored(image, tmp_path, precision=precision)
    assert 0 < np.abs(got - one_shot(image)).max() < 0.02
