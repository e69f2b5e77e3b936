"""Runs of sweeps: swept equals one-shot, whatever tile, order and tier, or an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_restore as nr
from napari_restore.api import Region
from napari_restore.engine import Phase, Progress
from napari_restore.engine.planning.identity import all_counted
from napari_restore.engine.planning.tiles import TileQueue
from napari_restore.engine.running.counts import CountStore
from napari_restore.errors import BadModel, BudgetTooSmall, Cancelled, SourceChanged
from napari_restore.models import RESTORED, Map, Sweep

from ._swept_model import Chain, ToySwept

TOLERANCE = 1e-5
SWEEPS = ("Fine features", "Coarse features", "Attention", "Restoring")
MODEL = ToySwept()
DOUBLE = ToySwept("float64")
"""One of each for all: a module handed over in Python has a name of its own, by which runs resume."""


@pytest.fixture
def image() -> np.ndarray[Any, Any]:
    """Sides that are no whole number of tiles, nor of cells; float pixels are taken as they are."""
    return np.random.default_rng(0).random((205, 331, 3), np.float32)


def planes(image: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def one_shot(image: Any, model: ToySwept = MODEL, valid: Any = None) -> np.ndarray[Any, Any]:
    mask = None if valid is None else torch.from_numpy(valid)[None, None]
    with torch.inference_mode():
        return model(planes(image), None, mask)[0].permute(1, 2, 0).numpy()


def restored(image: Any, scratch: Path, **options: Any) -> np.ndarray[Any, Any]:
    options = {"tile": 128, "workers": 1, **options}
    return np.asarray(nr.restore(image, MODEL, scratch=scratch, **options).array)


@pytest.mark.parametrize(
    ("tier", "tile", "batch"),
    [
        ("auto", None, None),
        ("ram", 128, 1),
        ("disk", 128, 3),
        ("recompute", 128, 1),
        ("recompute-first", 256, 2),
        ("disk", 384, 1),
    ],
)
def test_swept_equals_one_shot(
    image: Any, tmp_path: Path, tier: str, tile: int | None, batch: int | None
) -> None:
    got = restored(image, tmp_path, residuals=tier, tile=tile, tile_batch=batch)
    assert np.abs(got - image).max() > 0.1
    assert np.abs(got - one_shot(image)).max() <= TOLERANCE


def test_what_is_counted_matters(image: Any) -> None:
    """Each half by itself has other Gram matrices: what the engine must not do shows."""
    halves = np.concatenate([one_shot(image[:, :164]), one_shot(image[:, 164:])], axis=1)
    assert np.abs(halves - one_shot(image))[:, :100].max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (128, 128), (129, 257)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).random((*size, 3), np.float32)
    assert np.abs(restored(image, tmp_path) - one_shot(image)).max() <= TOLERANCE


def test_a_constant_image_stays_finite(tmp_path: Path) -> None:
    image = np.zeros((140, 150, 3), np.float32)
    assert np.abs(restored(image, tmp_path) - one_shot(image)).max() <= TOLERANCE


@pytest.mark.parametrize("tier", ["ram", "disk", "recompute"])
def test_in_double_floats_nothing_but_rounding_differs(
    image: Any, tmp_path: Path, tier: str, monkeypatch: Any
) -> None:
    plan = nr.plan(image, DOUBLE, scratch=tmp_path, tile=128, residuals=tier, workers=1)
    outputs: list[torch.Tensor] = []
    restore = ToySwept._restore

    def noted(self: ToySwept, given: Any) -> Any:
        made = restore(self, given)
        outputs.append(made[RESTORED])
        return made

    monkeypatch.setattr(ToySwept, "_restore", noted)
    nr.start(plan).result()
    swept = outputs[-6:]
    with torch.inference_mode():
        whole = DOUBLE(planes(image))[0]
    assert whole.dtype == torch.float64
    # Decoded from the last tile to the first.
    corner = swept[-1][0, :, :128, :128]
    assert float((corner - whole[:, :128, :128]).abs().max()) <= 1e-10
    last = swept[0][0, :, 8:, 8:][:, :77, :75]
    assert float((last - whole[:, 128:, 256:]).abs().max()) <= 1e-10


def counted_of(plan: Any) -> dict[str, torch.Tensor]:
    assert plan.counted is not None
    return dict(all_counted(plan.model, plan.counted))


def test_counts_are_merged_in_the_order_of_tiles(
    image: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """So that not even the last bit depends on which tile was first."""
    plan = nr.plan(image, MODEL, scratch=tmp_path / "a", tile=128, workers=1)
    nr.start(plan).result()
    expected = counted_of(plan)

    class Backwards(TileQueue):
        def __init__(self, tiles: Any, *rest: Any, backwards: bool = False) -> None:
            super().__init__(tiles, *rest, backwards=not backwards)

    for path in plan.counted.glob("*.npz"):
        path.unlink()
    monkeypatch.setattr("napari_restore.engine.running.threads.TileQueue", Backwards)
    again = nr.plan(image, MODEL, scratch=tmp_path / "b", tile=128, workers=1)
    assert again.staged is not None
    nr.start(again).result()
    assert again.counted == plan.counted
    for name, value in counted_of(again).items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("tier", ["ram", "disk"])
@pytest.mark.ids("slow", "disk-Attention", "ram-Attention", "ram-Coarse features")
@pytest.mark.ids("nightly", "disk-Attention", "ram-Coarse features")
def test_cancelled_in_any_sweep_goes_on(
    image: Any, tmp_path: Path, tier: str, sweep: str, monkeypatch: Any
) -> None:
    """The same bits as without the interruption; what lay on disk is not made again."""
    options = {"residuals": tier, "tile": 128, "workers": 1, "tile_batch": 1}
    plan = nr.plan(image, MODEL, scratch=tmp_path / "a", **options)
    expected = np.asarray(nr.start(plan).result().array)
    for path in plan.counted.glob("*.npz"):
        path.unlink()
    options["scratch"] = tmp_path / "b"
    job, now = nr.start(nr.plan(image, MODEL, **options)), ""
    for event in job:
        now = event.name if isinstance(event, Phase) else now
        if isinstance(event, Progress) and now.startswith(sweep) and event.done >= 2:
            job.cancel()
    with pytest.raises(Cancelled):
        job.result()
    result = nr.restore(image, MODEL, **options)
    assert np.array_equal(np.asarray(result.array), expected)
    if tier == "disk":
        # Three sweeps of six tiles each, of which at least two were there.
        assert result.record["measured"]["tiles_encoded"] <= 18 - 6 * SWEEPS.index(sweep) - (
            2 if sweep != "Restoring" else 0
        )
    assert not list(Path(options["scratch"]).glob("*.zarr/staged/*"))


def test_another_area_is_restored_by_tiles_with_the_halo_of_all_sweeps(
    image: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """What is counted is kept by image and weights: then the model is local, with a halo."""
    whole = restored(image, tmp_path)

    def refuse(*arguments: Any) -> Any:
        raise BudgetTooSmall("Sweeps do not fit.", "")

    with monkeypatch.context() as patch:
        # Which way is quicker is up to the machine.
        patch.setattr("napari_restore.engine.planning._planning.lay_out_sweeps", refuse)
        plan = nr.plan(image, MODEL, region=Region(60, 90, 170, 300), scratch=tmp_path / "b")
    assert plan.staged is None and plan.layout.halo == MODEL.reach == 24
    part = np.asarray(nr.start(plan).result().array)
    assert np.abs(part - whole[60:170, 90:300]).max() <= TOLERANCE
    other = nr.plan(image + np.float32(0.01), MODEL, scratch=tmp_path / "b")
    assert other.staged is not None


def test_a_region_knows_the_whole_image(image: Any, tmp_path: Path) -> None:
    box = Region(140, 260, 200, 320)
    part = restored(image, tmp_path, region=box)
    assert np.abs(part - one_shot(image)[140:200, 260:320]).max() <= TOLERANCE
    draft = restored(image, tmp_path, region=box, extent="region")
    assert np.abs(draft - part).max() > 100 * TOLERANCE


@pytest.mark.parametrize("tile", [128, 256, None])
def test_a_region_alone_is_whole_tiles(image: Any, tmp_path: Path, tile: int | None) -> None:
    area = Region(140, 260, 200, 320)
    result = nr.restore(image, MODEL, region=area, extent="region", tile=tile, scratch=tmp_path)
    y0, x0, y1, x1 = result.record["plan"]["staged"]["box"]
    assert (y0, x0) == ((0, 256) if tile == 256 else (128, 256))
    expected = one_shot(image[y0:y1, x0:x1])[140 - y0 : 200 - y0, 260 - x0 : 320 - x0]
    assert np.abs(np.asarray(result.array) - expected).max() <= TOLERANCE


def test_damaged_statistics_are_counted_again(image: Any, tmp_path: Path) -> None:
    plan = nr.plan(image, MODEL, scratch=tmp_path, tile=128)
    nr.start(plan).result()
    file = next(iter(plan.counted.glob("*.npz")))
    file.write_bytes(file.read_bytes()[:-20])
    again = nr.plan(image, MODEL, scratch=tmp_path / "b", tile=128)
    assert again.staged is not None
    got = np.asarray(nr.start(again).result().array)
    assert np.abs(got - one_shot(image)).max() <= TOLERANCE


def test_invalid_pixels_weigh_nothing(image: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """NaN and what the model is given in its place are counted nowhere; they stay as they are."""
    valid = np.ones(image.shape[:2], bool)
    valid[30:150, 100:260] = valid[3] = False
    image[~valid] = np.nan
    views: list[torch.Tensor] = []
    restore = ToySwept._restore
    monkeypatch.setattr(
        ToySwept, "_restore", lambda self, given: views.append(given.view) or restore(self, given)
    )
    got = restored(nr.open_image(image), tmp_path)
    assert np.isnan(got[~valid]).all()
    # What the model was given there, in the tile at the corner.
    fill = views[-1][0, :, 3, 3].numpy()
    filled = np.where(valid[..., None], image, fill)
    expected = one_shot(filled, valid=valid)
    assert np.abs(got - expected)[valid].max() <= TOLERANCE
    assert np.abs(expected - one_shot(filled))[valid].max() > 100 * TOLERANCE


def test_an_image_without_a_valid_pixel_is_left_alone(tmp_path: Path) -> None:
    image = np.full((130, 140, 3), np.nan, np.float32)
    assert np.isnan(restored(image, tmp_path)).all()


def test_maps_take_the_bytes_that_were_planned(image: Any, tmp_path: Path) -> None:
    """Each map is freed after its last reader: what is the most at once was predicted."""
    for tier in ("ram", "disk"):
        plan = nr.plan(image, MODEL, scratch=tmp_path / tier, residuals=tier, tile=128)
        one = {"fine": 4 * 4 * 128**2, "coarse": 4 * 8 * 32**2, "related": 4 * 8 * 32**2}
        # While the third sweep runs, all of them are there.
        assert plan.staged.residual_bytes[tier] == 6 * sum(one.values())
        record = nr.start(plan).result().record
        assert record["measured"]["residual_bytes"] == plan.staged.residual_bytes
        assert record["plan"]["residual_tier"] == tier
        assert set(record["measured"]["phase_seconds"]) == {"fine", "coarse", "block", "restore"}
        for path in plan.counted.glob("*.npz"):
            path.unlink()


@pytest.mark.measured
def test_a_small_budget_keeps_some_maps_and_makes_others_again(image: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"scratch": tmp_path, "tile": 128, "workers": 1}
    least = nr.plan(image, MODEL, residuals="recompute", **options).prediction.added_ram_bytes
    most = nr.plan(image, MODEL, residuals="ram", **options).staged
    memory = least + most.residual_bytes["ram"] // 2
    with pytest.raises(BudgetTooSmall):
        nr.plan(image, MODEL, residuals="ram", memory=memory, **options)
    # No room on the disk.
    result = nr.restore(image, MODEL, residuals="recompute-first", memory=memory, **options)
    kept = result.record["measured"]["residual_bytes"]
    assert 0 < kept["ram"] < most.residual_bytes["ram"]
    assert np.abs(np.asarray(result.array) - one_shot(image)).max() <= TOLERANCE


def test_what_finalizing_takes_of_a_large_image_is_planned(image: Any, tmp_path: Path) -> None:
    class Growing(ToySwept):
        """Settles with 10 000 bytes a pixel, of which half stay."""

        def steps(self) -> tuple[Sweep, ...]:
            def finalize_bytes(size: tuple[int, int]) -> tuple[int, int]:
                return 10_000 * size[0] * size[1], 5000 * size[0] * size[1]

            first, second, third, last = super().steps()
            assert second.counts is not None
            counts = replace(second.counts, finalize_bytes=finalize_bytes)
            return first, replace(second, counts=counts), third, last

    options: dict[str, Any] = {"scratch": tmp_path, "tile": 128, "workers": 1}
    plans = [nr.plan(image, model, **options) for model in (MODEL, Growing())]
    most, other = (plan.prediction.added_ram_bytes for plan in plans)
    size = 208 * 332  # in whole cells
    assert 14_000 * size < other < 15_000 * size + most
    with pytest.raises(BudgetTooSmall):
        nr.plan(image, Growing(), memory=14_000 * size, **options)


@pytest.mark.parametrize(("ram", "disk"), [(0, 0), (0, 4), (7, 0), (3, 11), (20, 0), (13, 5)])
def test_a_chain_of_maps_is_kept_in_part_and_made_again_in_part(
    tmp_path: Path, monkeypatch: Any, ram: int, disk: int
) -> None:
    """Room for so many tiles of maps: what finds none follows from what is kept before it."""
    image = np.random.default_rng(3).random((140, 270, 3), np.float32)
    model, tile = Chain(), 4 * 3 * 128**2
    options: dict[str, Any] = {"scratch": tmp_path, "tile": 128, "workers": 1}
    least = nr.plan(image, model, residuals="recompute", **options).prediction.added_ram_bytes
    planning = "napari_restore.engine.planning"
    monkeypatch.setattr(f"{planning}.sweeps._Tiling._disk_room", lambda *_: disk * tile)
    # Else maps as small as these might be made again sooner than they are written.
    for tier in ("RAM", "DISK"):
        monkeypatch.setattr(f"{planning}.map_layout.{tier}_BYTES_PER_SECOND", 1e15)
    plan = nr.plan(image, model, memory=least + ram * tile, **options)
    kept = plan.staged.residual_bytes
    assert plan.prediction.added_ram_bytes <= least + ram * tile and kept["disk"] <= disk * tile
    assert sum(kept.values()) >= min(18, ram + disk) * tile / 2
    # All at once are three maps of six tiles.
    assert ("recompute" in plan.staged.tier) == (sum(kept.values()) < 18 * tile)
    result = nr.start(plan).result()
    assert result.record["measured"]["residual_bytes"] == kept
    with torch.inference_mode():
        expected = model(planes(image))[0].permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(result.array) - expected).max() <= TOLERANCE


def test_a_damaged_map_is_made_again(image: Any, tmp_path: Path) -> None:
    options = {"residuals": "disk", "tile": 128, "workers": 1, "scratch": tmp_path}
    plan = nr.plan(image, MODEL, **options)
    job, now = nr.start(plan), ""
    for event in job:
        now = event.name if isinstance(event, Phase) else now
        if isinstance(event, Progress) and now.startswith("Restoring") and event.done:
            job.cancel()
    slabs = sorted((plan.store / "staged").glob("residuals*.slab"))
    assert len(slabs) == 2
    for slab in slabs:
        slab.write_bytes(b"\x07" * slab.stat().st_size)
    got = np.asarray(nr.restore(image, MODEL, **options).array)
    assert np.abs(got - one_shot(image)).max() <= TOLERANCE


def test_a_source_that_changes_between_sweeps_is_noticed(
    image: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from PIL import Image

    path = tmp_path / "scene.png"
    Image.fromarray((255 * image).astype(np.uint8)).save(path)
    block = ToySwept._block

    def changing(self: ToySwept, given: Any) -> Any:
        Image.fromarray((127 * image).astype(np.uint8)).save(path)
        return block(self, given)

    plan = nr.plan(nr.open_image(path), MODEL, scratch=tmp_path, tile=128, workers=1)
    monkeypatch.setattr(ToySwept, "_block", changing)
    with pytest.raises(SourceChanged, match="has changed while"):
        nr.start(plan).result()


def test_side_maps_of_the_last_sweep_are_kept(image: Any, tmp_path: Path) -> None:
    plan = nr.plan(image, MODEL, scratch=tmp_path, tile=128, workers=1, maps=True)
    result = nr.start(plan).result()
    with torch.inference_mode():
        _, expected = MODEL.forward_with_maps(planes(image))
    got = np.asarray(result.read_map("transmission", (0, 0, 205, 331)))
    assert np.abs(got[..., 0] - expected["transmission"][0, 0].numpy()).max() <= TOLERANCE


def test_counts_of_one_sweep_at_a_time_are_on_the_disk(
    image: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """As planned: they are counted, and removed, before the next sweep that counts."""
    put, seen = CountStore.put, []

    def watched(self: CountStore, tile: int, counts: Any) -> None:
        seen.append(sorted(path.name for path in tmp_path.rglob("counts.*.slab")))
        put(self, tile, counts)

    monkeypatch.setattr(CountStore, "put", watched)
    restored(image, tmp_path, residuals="disk")
    assert {len(names) for names in seen} == {1}
    assert len({names[0] for names in seen}) > 1


def test_an_error_between_maps_and_counts_loses_neither(
    image: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """A tile counts as done once its counts are on disk, which come last."""
    options = {"residuals": "disk", "tile": 128, "workers": 1, "scratch": tmp_path}
    put, calls = CountStore.put, 0

    def fails(self: CountStore, tile: int, counts: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise OSError("switched off")
        put(self, tile, counts)

    plan = nr.plan(image, MODEL, **options)
    monkeypatch.setattr(CountStore, "put", fails)
    with pytest.raises(OSError, match="switched off"):
        nr.start(plan).result()
    result = nr.start(nr.plan(image, MODEL, **options)).result()
    # Two of the third sweep's six tiles were done.
    assert result.record["measured"]["tiles_encoded"] == 4
    assert np.abs(np.asarray(result.array) - one_shot(image)).max() <= TOLERANCE


def test_the_model_of_the_docs_restores(image: Any, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "global-models.md"
    example = page.read_text(encoding="utf-8").split("```python")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(example, names)
    got = np.asarray(nr.restore(image, names["model"], tile=128, scratch=tmp_path).array)
    assert np.abs(got - 0.5 * image / image.mean(axis=(0, 1))).max() <= TOLERANCE


def test_the_plan_survives_json(image: Any, tmp_path: Path) -> None:
    from napari_restore.engine import deserialise_plan, serialise_plan

    plan = nr.plan(image, MODEL, scratch=tmp_path)
    serialised = json.loads(json.dumps(serialise_plan(plan)))
    assert deserialise_plan(serialised, plan.image, plan.model) == plan


def test_statistics_of_images_in_a_batch_are_their_own(image: Any) -> None:
    """As in training: what is counted has the images as its first axis."""
    other = image[::-1, ::-1].copy() ** 2
    with torch.inference_mode():
        both = MODEL(torch.cat([planes(image), planes(other)]))
        alone = torch.cat([MODEL(planes(image)), MODEL(planes(other))])
    assert float((both - alone).abs().max()) <= TOLERANCE


class Odd(ToySwept):
    """Its sweeps are those it is given."""

    given: tuple[Sweep, ...] = ()

    def steps(self) -> tuple[Sweep, ...]:
        return self.given or super().steps()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda steps: steps[:3], "restored"),
        (lambda steps: steps[1:], "'fine'"),
        (lambda steps: (steps[0], *steps), "same name"),
    ],
)
def test_sweeps_that_do_not_fit_are_named(image: Any, change: Any, problem: str) -> None:
    model = Odd()
    model.given = change(ToySwept.steps(model))
    with pytest.raises(BadModel, match=problem):
        nr.plan(image, model)


def test_a_halo_ends_at_a_cell(image: Any) -> None:
    model = Odd()
    first = Sweep("fine", "Fine", model._fine, writes=(Map("fine", 4, 1),), halo=2)
    steps = ToySwept.steps(model)
    second = Sweep("c", "C", model._coarse, ("fine",), (Map("coarse", 8, 4),), 2, sees_image=False)
    model.given = (first, second, *steps[2:])
    with pytest.raises(BadModel, match="within a cell"):
        nr.plan(image, model)
