"""Areas of an image whose statistics are known: swept with what is around them, as the whole is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.api import Region
from napari_restore.engine.planning.tiles import Grid, Surroundings
from napari_restore.errors import BudgetTooSmall
from napari_restore.models import Steps, SweptModel

from ._swept_model import Chain, ToySwept

TOLERANCE = 1e-5
MODEL = ToySwept()


@pytest.fixture
def no_halo_fits(monkeypatch: Any) -> None:
    """Leave a plan no way but sweeps."""

    def refuse(*arguments: Any) -> Any:
        raise BudgetTooSmall("No tile with the halo of all sweeps fits.", "")

    monkeypatch.setattr("napari_restore.engine.planning._planning.lay_out", refuse)


@pytest.mark.parametrize("model", [MODEL, Chain()], ids=["toy", "chain"])
@pytest.mark.parametrize("tier", ["auto", "disk", "recompute"])
@pytest.mark.slow
@pytest.mark.ids(
    "nightly", "auto-chain", "disk-chain", "disk-toy", "recompute-chain", "recompute-toy"
)
def test_an_area_is_swept_with_what_is_around_it(
    tmp_path: Path, model: SweptModel, tier: str, request: Any
) -> None:
    # Of cells of 128 pixels, whole tiles are counted.
    tile = 128 if tier == "disk" else 64
    scene = np.random.default_rng(2).random((1100 * tile // 128, 900 * tile // 128, 3), np.float32)
    options: dict[str, Any] = {"tile": tile, "workers": 1}
    whole = np.asarray(nr.restore(scene, model, scratch=tmp_path, **options).array)
    # Elsewhere, where nothing is restored yet.
    options["scratch"] = tmp_path / "areas"
    request.getfixturevalue("no_halo_fits")
    areas = (
        Region(3 * tile, 5 * tile, 4 * tile, 6 * tile),
        Region(8 * tile, tile, scene.shape[0], 2 * tile),
    )
    for area in areas:
        plan = nr.plan(scene, model, region=area, residuals=tier, **options)
        assert plan.staged is not None and plan.staged.known and not plan.sweeps_image
        assert plan.staged.box.pixels < 0.5 * scene[..., 0].size
        assert not any("draft" in str(note) for note in plan.notes)
        result = nr.start(plan).result()
        assert np.abs(np.asarray(result.array) - whole[area.slices]).max() <= TOLERANCE
        if tier == "disk":
            steps, grid = Steps(model.steps()), Grid(plan.staged.box, tile, model.padded_to)
            around = Surroundings(steps, grid, [area])
            counts = [around.tiles_of_step(number) for number in range(len(steps))]
            assert counts == sorted(counts, reverse=True) and counts[-1] == 1 < counts[0]
            assert result.record["measured"]["tiles_encoded"] == sum(counts[:-1])


@pytest.mark.nightly
def test_what_is_restored_around_an_area_is_that_of_the_whole(
    tmp_path: Path, no_halo_fits: None
) -> None:
    """Tiles are restored whole, and a later, larger area takes them as they are."""
    scene = np.random.default_rng(4).random((900, 1000, 3), np.float32)
    whole = np.asarray(nr.restore(scene, MODEL, scratch=tmp_path, tile=256).array)
    for tile in (256, 384):
        options: dict[str, Any] = {"scratch": tmp_path / str(tile), "tile": tile}
        nr.restore(scene, MODEL, region=Region(500, 500, 520, 530), **options)
        area = Region(tile, tile, 2 * tile, 2 * tile)
        result = nr.restore(scene, MODEL, region=area, **options)
        assert (
            result.record["measured"]["tiles_done"]
            == 0
            < result.record["measured"]["tiles_resumed"]
        )
        assert np.abs(np.asarray(result.array) - whole[area.slices]).max() <= TOLERANCE


@pytest.mark.slow
def test_two_areas_far_apart_leave_out_what_is_between(tmp_path: Path, no_halo_fits: None) -> None:
    scene = np.random.default_rng(3).random((350, 650, 3), np.float32)
    options: dict[str, Any] = {"tile": 64, "workers": 1}
    whole = np.asarray(nr.restore(scene, MODEL, scratch=tmp_path, **options).array)
    options["scratch"] = tmp_path / "areas"
    areas = [Region(0, 0, 64, 64), Region(256, 512, 320, 576)]
    result = nr.restore(scene, MODEL, region=areas, residuals="disk", **options)
    # Three sweeps before the last one; the grid has 66 tiles.
    assert 0 < result.record["measured"]["tiles_encoded"] < 3 * 66 / 2
    for area in areas:
        found = np.asarray(result.array)[area.slices]
        assert np.abs(found - whole[area.slices]).max() <= TOLERANCE


@pytest.mark.parametrize(
    "options",
    [{"extent": "region"}, {"residual_dtype": "float16"}, {"residual_dtype": "bfloat16"}],
    ids=lambda options: next(iter(options.values())),
)
def test_what_is_known_changes_no_pixel(tmp_path: Path, options: dict[str, Any]) -> None:
    """Tiles with a halo see beyond a region, and round no map: sweeps stay sweeps."""
    scene = np.random.default_rng(3).integers(1, 255, (230, 310, 3)).astype(np.uint8)
    options |= {"tile": 64, "workers": 1, "device": "cpu", "region": Region(40, 40, 140, 170)}
    results = []
    for scratch in ("first", "again"):
        plan = nr.plan(scene, MODEL, scratch=tmp_path / scratch, **options)
        results.append(np.asarray(nr.start(plan).result().array))
    np.testing.assert_array_equal(*results)
    assert plan.staged is not None and plan.staged.known
