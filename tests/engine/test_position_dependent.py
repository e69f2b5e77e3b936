"""Models whose statistics are maps of the whole image: the same pixels however they are cut."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_restore as nr
from napari_restore.engine import (
    Phase,
    Region,
    Run,
    choose_device,
    compute_context,
    probe,
    save_context,
)
from napari_restore.engine.planning.costs import prepare_cost
from napari_restore.engine.running import prepared
from napari_restore.engine.running.run import PREPARING
from napari_restore.engine.statistics import context_blocks, kept
from napari_restore.errors import BadModel, BadParameter, Cancelled
from napari_restore.models import correct_band

from ._position_dependent_model import CARD, Placed, placed, restore, scene


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    """The scene restored in one call, its statistics from itself."""
    x = torch.from_numpy(scene()).permute(2, 0, 1)[None]
    return Placed()(x)[0].permute(1, 2, 0).numpy()


def pixels_of(result: Any) -> np.ndarray:
    return np.asarray(result.array)


@pytest.mark.parametrize("options", [{"tile": 64}, {"tile": 128, "tile_batch": 3, "workers": 1}])
def test_tiled_equals_whole(whole: np.ndarray, tmp_path: Path, options: dict[str, Any]):
    result = restore(scene(), placed(), tmp_path, **options)
    assert result.record["plan"]["tiles"] > 6
    np.testing.assert_array_equal(pixels_of(result), whole)


def test_a_region_is_cut_from_the_whole(whole: np.ndarray, tmp_path: Path):
    box = Region(70, 130, 201, 333)
    result = restore(scene(), placed(), tmp_path, region=box, tile=64)
    np.testing.assert_array_equal(pixels_of(result), whole[box.slices])


def test_statistics_of_a_region_are_counted_from_its_corner(tmp_path: Path):
    box = Region(64, 128, 256, 384)
    result = restore(scene(), placed(), tmp_path, region=box, tile=64, extent="region")
    x = torch.from_numpy(scene()[box.slices].copy()).permute(2, 0, 1)[None]
    expected = Placed()(x)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels_of(result), expected)


@pytest.mark.measured
@pytest.mark.parametrize("extent", ["image", "region"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "region")
def test_a_draft_on_a_level_resembles_the_reduced_result(tmp_path: Path, extent: str):
    full = scene(256, 384)
    half = full.reshape(128, 2, 192, 2, 3).mean(axis=(1, 3), dtype=np.float64).astype(np.float32)
    image = nr.open_image([full, half])
    box = None if extent == "image" else Region(64, 32, 192, 256)
    options = {"extent": extent, "tile": 64}
    true = pixels_of(restore(image, placed(), tmp_path / "true", region=box, **options))
    model = Placed()
    small = None if box is None else Region(*(edge // 2 for edge in box))
    draft = restore(image.level_view(1), model, tmp_path / "draft", region=small, **options)
    # At 1.0 it is tried out, where that is not known from the run before.
    assert {scale for _, scale in model.seen.calls} - {1.0} == {2.0}
    height, width = pixels_of(draft).shape[:2]
    reduced = true.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(pixels_of(draft), reduced, atol=1e-5)


def test_the_probe_finds_the_cards_halo():
    found = probe(Placed())
    assert (found.halo, found.note) == (0, "")


def test_other_models_see_the_statistics_they_made(tmp_path: Path):
    seen: list[set[str]] = []

    class Unplaced(Placed):
        def forward_with_maps(self, x: Any, statistics: Any = None, valid: Any = None) -> Any:
            seen.append(set(statistics))
            return x, {}

    restore(scene(), Unplaced(replace(CARD, placed=False)), tmp_path, tile=128)
    assert seen and not any({"origin", "scale"} & names for names in seen)


def image_with_levels(small: bool) -> Any:
    """An image of 2.25 Mpx: too much to look at in a moment, without a level or with one."""
    full = scene(1500, 1500)
    half = full.reshape(750, 2, 750, 2, 3).mean(axis=(1, 3), dtype=np.float64).astype(np.float32)
    return nr.open_image([full, half] if small else full)


@pytest.mark.slow
def test_a_draft_takes_a_small_level_or_all_of_the_image(monkeypatch: pytest.MonkeyPatch):
    image = image_with_levels(small=True)
    assert nr.plan(image, placed(), extent="draft").reading.extent == "overview"
    image = image_with_levels(small=False)
    assert nr.plan(image, "dcp", extent="draft").reading.extent == "sample"
    for extent in ("draft", "sample"):
        plan = nr.plan(image, placed(), extent=extent)
        assert (plan.reading.extent, plan.needs_context_pass) == ("image", True)
        assert any("read first" in note for note in plan.notes)
    # Also where the level the plan counted on is gone, and blocks were looked at before.
    monkeypatch.setattr(context_blocks, "SAMPLE_CHUNKS", 1)
    sampled = compute_context(image, extent="overview")
    assert np.isnan(sampled.overview).any()
    whole = compute_context(image, extent="overview", sampled=False)
    assert not np.isnan(whole.overview).any()


def test_statistics_of_other_images_are_refused(tmp_path: Path):
    path = tmp_path / "context.npz"
    save_context(path, compute_context(nr.open_image(scene())))
    with pytest.raises(BadParameter, match="Leave context= out"):
        nr.plan(scene(), placed(), context=path)


def test_a_placed_model_is_local():
    class Global(Placed):
        pass

    with pytest.raises(BadModel, match="scope 'swept'"):
        nr.plan(scene(), Global(replace(CARD, scope="swept")))


def carry_out(plan: Any, **options: Any) -> list[Any]:
    """The events of a run that keeps what its model finds."""
    events: list[Any] = []
    stop = options.pop("stop", threading.Event())
    Run(plan, events.append, stop, keep=True).run()
    return events


def test_panning_maps_the_image_once(tmp_path: Path):
    model, image = Placed(), nr.open_image(scene())
    boxes = [Region(0, 0, 100, 100), Region(50, 200, 250, 400)]
    plans = [nr.plan(image, model, region=box, scratch=tmp_path, device="cpu") for box in boxes]
    before = model.seen.prepared
    first, second = (carry_out(plan) for plan in plans)
    assert model.seen.prepared == before + 1
    assert Phase(PREPARING) in first and Phase(PREPARING) not in second


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_cancel_stops_before_the_first_tile(tmp_path: Path, when: str):
    stop = threading.Event()

    class Slow(Placed):
        def prepare(self, *arguments: Any) -> Any:
            if armed and when == "while":
                stop.set()
            return super().prepare(*arguments)

    armed: list[bool] = []
    plan = nr.plan(scene(), Slow(), scratch=tmp_path, device="cpu")
    armed.append(True)
    before = plan.model.seen.prepared

    class Stopping(Run):
        def context(self, *arguments: Any) -> Any:
            found = super().context(*arguments)
            if when == "before":
                stop.set()
            return found

    with pytest.raises(Cancelled):
        Stopping(plan, lambda event: None, stop).run()
    assert plan.model.seen.prepared == before + (when == "while")
    assert not plan.store.exists()


def test_maps_kept_in_memory_are_few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    models = [Placed(), Placed()]
    plans = [nr.plan(scene(), model, scratch=tmp_path, device="cpu") for model in models]
    carry_out(plans[0])
    size = sum(p.bytes for p in prepared._KNOWN[models[0]].values())
    assert size > 0
    monkeypatch.setattr(prepared, "KEPT_BYTES", size)
    carry_out(plans[1])
    assert [len(prepared._KNOWN[model]) for model in models] == [0, 1]


class Heavy(Placed):
    """Leaves large maps."""

    def prepare(self, context: Any, *arguments: Any) -> Any:
        height, width = context.overview.shape[:2]
        return {**super().prepare(context, *arguments), "more": torch.zeros(64, height, width)}


def test_the_plan_counts_the_maps(tmp_path: Path):
    light, heavy = (
        nr.plan(scene(), model, scratch=tmp_path, device="cpu", tile=64, workers=1)
        for model in (placed(), Heavy())
    )
    more = heavy.prediction.peak_ram_bytes - light.prediction.peak_ram_bytes
    pixels = scene().shape[0] * scene().shape[1]
    assert more > 64 * 4 * pixels
    assert heavy.prediction.prepare_seconds > 0
    assert nr.plan(scene(), "dcp").prediction.prepare_seconds == 0


@pytest.mark.measured
@pytest.mark.slow
def test_maps_that_are_kept_take_no_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # No overview of noise is packed in so few bytes; its maps are kept in its stead.
    monkeypatch.setattr(kept, "ENTRY_BYTES", 1_000_000)
    monkeypatch.setattr(kept, "HEADERS", 1_000_000)

    def planned() -> Any:
        return nr.plan(scene(), Placed(), scratch=tmp_path, device="cpu")

    first = planned()
    assert first.needs_context_pass and first.prediction.prepare_seconds > 0
    carry_out(first)
    second = planned()
    assert not second.needs_context_pass
    assert second.prediction.prepare_seconds == second.prediction.stages["read"] == 0
    assert (second.key, second.layout.tile) == (first.key, first.layout.tile)


@pytest.mark.measured
def test_the_cost_of_maps_is_measured_on_an_overview_like_the_real_one():
    seen: list[tuple[int, ...]] = []

    class Watched(Placed):
        def prepare(self, context: Any, *arguments: Any) -> Any:
            seen.append(context.overview.shape[:2])
            return super().prepare(context, *arguments)

    model, device = Watched(), choose_device("cpu")
    image = nr.open_image(np.zeros((2100, 700, 3), np.float32))
    prepare_cost(model, image, device)
    assert seen[-1] == (1280, 512)  # half as large, rounded up
    prepare_cost(model, image, device, extent="region", region=Region(0, 0, 1300, 700))
    assert seen[-1] == (1536, 768)
    calls = len(seen)
    prepare_cost(model, nr.open_image(np.zeros((2080, 690, 3), np.float32)), device)
    assert len(seen) == calls


@pytest.mark.slow
def test_other_bands_follow_the_models_exponent(tmp_path: Path):
    image = nr.open_image(scene(bands=4), sensor="naip")
    card = replace(CARD, bands=3, roles=("red", "green", "blue"))
    options = {"maps": True, "tile": 128, "other_bands": "correct", "white": 1.0}
    result = restore(image, Placed(card), tmp_path, **options)
    t = np.asarray(result.read_map("transmission", Region(0, 0, *scene().shape[:2])))[..., 0]
    wavelength = image.wavelengths[3]
    nir = scene(bands=4)[..., 3]
    expected = correct_band(nir, t, 0.75, 550.0, wavelength, exponent=2.0)
    np.testing.assert_allclose(pixels_of(result)[..., 3], expected, atol=1e-5)
    wrong = correct_band(nir, t, 0.75, 550.0, wavelength)
    assert np.abs(wrong - expected).max() > 0.01


@pytest.mark.slow
def test_other_bands_stay_where_the_threshold_spares_the_model_its_own(tmp_path: Path):
    image = nr.open_image(scene(bands=4), sensor="naip")
    options = {"maps": True, "other_bands": "correct", "white": 1.0}
    changed = {}
    for deadband in (0.03, 0.5):
        model = nr.load_model("dcp", parameters={"deadband": deadband})
        result = restore(image, model, tmp_path / str(deadband), **options)
        t = np.asarray(result.read_map("transmission", Region(0, 0, *scene().shape[:2])))[..., 0]
        changed[deadband] = pixels_of(result)[..., 3] != scene(bands=4)[..., 3]
        assert not changed[deadband][1 - t <= deadband].any()
    assert changed[0.03].sum() > changed[0.5].sum()


@pytest.mark.slow
def test_maps_are_kept_as_the_model_gives_them(whole: np.ndarray, tmp_path: Path):
    result = restore(scene(), placed(), tmp_path, maps=True, tile=64)
    everywhere = Region(0, 0, *scene().shape[:2])
    x = torch.from_numpy(scene()).permute(2, 0, 1)[None]
    expected = Placed().forward_with_maps(x)[1]["transmission"][0, 0].numpy()
    found = np.asarray(result.read_map("transmission", everywhere))[..., 0]
    np.testing.assert_array_equal(found, expected)
    airlight = np.asarray(result.read_map("airlight", everywhere))
    assert airlight.shape == scene().shape and (airlight == 0.75).all()
