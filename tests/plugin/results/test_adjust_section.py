"""Changing the look of a result: at once, at every level, in the file, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image as ImageLayer

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import Finished, Result, TileDone
from napari_restore.plugin.layers.reader import layer_of
from napari_restore.plugin.layers.result_layer import ResultLayer
from napari_restore.plugin.results.adjust_section import AdjustSection
from napari_restore.plugin.runs.layer_run import LayerRun
from napari_restore.plugin.state.request import ChosenMethod, TargetChoice
from napari_restore.plugin.widgets.section import end_all
from napari_restore.questions import Adjustment

RGB = {"red": 1, "green": 2, "blue": 3}
SETTINGS = [
    Adjustment(strength=0.4),
    Adjustment(luminance_only=True),
    Adjustment(0.9, True, 0.6, 0.8),
    Adjustment(exposure=0.8),
]


@pytest.fixture
def haze() -> np.ndarray:
    """(1300, 1700, 3) uint8 from dark to bright, in blocks of colour."""
    rng = np.random.default_rng(4)
    blocks = np.kron(rng.random((65, 85, 3)), np.ones((20, 20, 1)))
    ramp = np.linspace(0, 1, 1700)[None, :, None]
    return np.rint(np.clip(blocks * 0.4 + ramp * 0.7 - 0.05, 0, 1) * 255).astype(np.uint8)


def shown(image: Any, region: Region | None = None, **options: Any) -> ResultLayer:
    """The layer of a whole run of dark channel prior, each of its tiles marked."""
    data, arguments, _ = layer_of(image)
    plan = nr.plan(image, "dcp", region=region, pyramid=True, device="cpu", **options)
    events = list(nr.start(plan))
    record = next(e.record for e in events if isinstance(e, Finished))
    made = ResultLayer(Result.of_run(plan, {}), ImageLayer(data, **arguments), "result")
    for event in events:
        if isinstance(event, TileDone):
            made.mark(event.region)
    made.finish(Result.of_run(plan, record))
    return made


def check_levels(made: ResultLayer) -> None:
    """Every level shows what `Result.read` gives there."""
    y, x = made.box.y0, made.box.x0
    levels = made.layer.data if made.layer.multiscale else [made.layer.data]
    for level, data in enumerate(levels):
        pixels = np.asarray(data)
        box = Region(0, 0, *pixels.shape[:2]).shift(y >> level, x >> level)
        opaque = pixels[..., 3] == 255
        assert opaque.mean() > 0.95
        # Beyond the region the layer is clear, and no run has made what it could show.
        read = made.result.read_landed(box, level)
        np.testing.assert_array_equal(pixels[opaque][:, :3], read[opaque])


# -- the layer -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("adjustment", SETTINGS, ids=str)
@pytest.mark.ids(
    "nightly",
    "Adjustment(strength=0.9, luminance_only=True, protect_shadows=0.6, protect_highlights=0.8, exposure=None, temperature=6500.0, tint=0.0, saturation=0.0, highlights=0.0, shadows=0.0, local_contrast=0.0, curve=None)",
    "Adjustment(strength=1.0, luminance_only=True, protect_shadows=0.0, protect_highlights=0.0, exposure=None, temperature=6500.0, tint=0.0, saturation=0.0, highlights=0.0, shadows=0.0, local_contrast=0.0, curve=None)",
    "Adjustment(strength=1.0, luminance_only=False, protect_shadows=0.0, protect_highlights=0.0, exposure=0.8, temperature=6500.0, tint=0.0, saturation=0.0, highlights=0.0, shadows=0.0, local_contrast=0.0, curve=None)",
)
def test_every_level_shows_what_is_read_and_written(
    haze: np.ndarray, adjustment: Adjustment, tmp_path: Path
):
    region = Region(101, 203, 1203, 1611)
    made = shown(nr.open_image(haze, bands=RGB), region)
    before = [np.array(level) for level in made.layer.data]
    made.adjust(adjustment)
    check_levels(made)
    assert all((np.asarray(b) != a).any() for a, b in zip(before, made.layer.data, strict=True))
    inside = region.shift(-made.box.y0, -made.box.x0)
    level0 = np.asarray(made.layer.data[0])[inside.slices][..., :3]
    np.testing.assert_array_equal(level0, made.result.read(region))
    result = made.layer.metadata["napari_restore_result"]
    written = nr.open_image(result.save(tmp_path / "out.tif"))
    np.testing.assert_array_equal(written.read((0, 0, *region.shape)), level0)
    assert result.record["adjustment"] == adjustment.to_dict()
    made.adjust(Adjustment())
    for a, b in zip(before, made.layer.data, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.nightly
def test_tiles_that_come_later_are_adjusted_and_so_is_the_end(haze: np.ndarray):
    image = nr.open_image(haze, bands=RGB)
    data, arguments, _ = layer_of(image)
    plan = nr.plan(image, "dcp", pyramid=True, device="cpu", tile=512)
    events = list(nr.start(plan))
    made = ResultLayer(Result.of_run(plan, {}), ImageLayer(data, **arguments), "result")
    tiles = [event.region for event in events if isinstance(event, TileDone)]
    made.mark(tiles[0])
    made.adjust(SETTINGS[-1])
    for tile in tiles[1:]:
        made.mark(tile)
    made.fill()
    check_levels(made)
    assert "napari_restore_result" not in made.layer.metadata
    record = next(e.record for e in events if isinstance(e, Finished))
    made.finish(Result.of_run(plan, record))
    assert made.layer.metadata["napari_restore_record"]["adjustment"] == SETTINGS[-1].to_dict()
    check_levels(made)


@pytest.mark.slow
def test_a_mask_is_shown_as_it_is_written(haze: np.ndarray, tmp_path: Path):
    mask = tmp_path / "mask.geojson"
    ring = [[300, 200], [1500, 200], [1500, 1100], [300, 1100], [300, 200]]
    mask.write_text(f'{{"type": "Polygon", "coordinates": [{ring}]}}', encoding="utf-8")
    made = shown(nr.open_image(haze, bands=RGB), mask=mask, feather=100)
    level0 = np.asarray(made.layer.data[0])
    opaque = level0[..., 3] == 255
    read = made.result.read((0, 0, 1300, 1700))
    np.testing.assert_array_equal(level0[opaque][:, :3], read[opaque])
    outside = np.ones(opaque.shape, bool)
    outside[200:1100, 300:1500] = False
    np.testing.assert_array_equal(level0[outside & opaque][:, :3], haze[outside & opaque])
    # Far from its edges the mask is 1: there the coarse levels are the model's own.
    stored = made.result.store.read((100, 120, 230, 330), "2")
    np.testing.assert_array_equal(np.asarray(made.layer.data[2])[100:230, 120:330, :3], stored)


@pytest.mark.nightly
def test_levels_the_source_lacks_are_made_beside_and_then_shown(qtbot: Any, own_cache: Path):
    rng = np.random.default_rng(5)
    pixels = np.kron(rng.integers(90, 250, (210, 230, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    image = nr.open_image(pixels, bands=RGB)
    plan = nr.plan(image, "dcp", pyramid=True, device="cpu")
    tiles = [event.region for event in nr.start(plan) if isinstance(event, TileDone)]
    made = ResultLayer(Result.of_run(plan, {}), ImageLayer(pixels, rgb=True), "result")
    for tile in tiles:
        made.mark(tile)
    made.fill()
    assert not image.is_built(1)
    before = np.array(made.layer.data[-1])
    made.adjust(Adjustment(0.2))
    qtbot.waitUntil(lambda: bool((made.layer.data[-1] != before).any()))
    assert image.is_built(1)
    check_levels(made)


# -- the panel -----------------------------------------------------------------------------


@pytest.fixture
def look(panel: Any) -> AdjustSection:
    """The section of a panel."""
    return next(section for section in panel.sections if isinstance(section, AdjustSection))


@pytest.fixture
def variant(panel: Any, haze: np.ndarray, finished_run: Any) -> Any:
    """A finished result in the panel, of dark channel prior on the whole of `haze`."""
    panel.viewer.add_image(haze, name="photo")
    panel.target.choose(TargetChoice.WHOLE)
    panel.state.method = ChosenMethod("dcp")
    return finished_run()


@pytest.mark.slow
@pytest.mark.viewer
@pytest.mark.nightly
def test_moving_a_slider_shows_it_and_runs_nothing(
    panel: Any, look: AdjustSection, variant: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model would run")

    monkeypatch.setattr(nr, "start", refuse)
    monkeypatch.setattr(nr, "plan", refuse)
    monkeypatch.setattr(LayerRun, "start", refuse)
    assert variant.shown.result.adjustment.is_neutral
    before = np.array(variant.layer.data[0])
    drawn = []
    variant.layer.events.set_data.connect(lambda event: drawn.append(variant.adjustment))
    for value in (90, 70, 40):
        look.sliders["strength"].setValue(value)
    look.keep_colours.setChecked(True)
    wanted = Adjustment(0.4, luminance_only=True)
    qtbot.waitUntil(lambda: variant.adjustment == wanted)
    assert drawn[-1] == wanted
    assert panel.runs.running is None
    assert (np.asarray(variant.layer.data[0]) != before).any()
    check_levels(variant.shown)
    assert variant.result is variant.layer.metadata["napari_restore_result"]
    assert variant.record["adjustment"] == wanted.to_dict()
    look.reset_button.click()
    np.testing.assert_array_equal(np.asarray(variant.layer.data[0]), before)
    assert look.sliders["strength"].value() == 100 and not look.keep_colours.isChecked()


@pytest.mark.slow
@pytest.mark.viewer
@pytest.mark.nightly
def test_the_file_contains_what_is_shown(
    panel: Any, look: AdjustSection, variant: Any, qtbot: Any, tmp_path: Path
):
    look.sliders["protect_highlights"].setValue(80)
    qtbot.waitUntil(lambda: variant.adjustment.protect_highlights == 0.8)
    path = tmp_path / "out.tif"
    panel.viewer.layers.selection = {variant.layer}
    assert panel.viewer.layers.save(str(path), selected=True, plugin="napari-restore")
    written = nr.open_image(path)
    np.testing.assert_array_equal(
        written.read((0, 0, 1300, 1700)), np.asarray(variant.layer.data[0])[..., :3]
    )


@pytest.mark.slow
@pytest.mark.viewer
def test_each_result_keeps_its_own_adjustment(
    panel: Any, look: AdjustSection, variant: Any, qtbot: Any, finished_run: Any
):
    look.sliders["protect_shadows"].setValue(30)
    qtbot.waitUntil(lambda: variant.adjustment.protect_shadows == 0.3)
    panel.state.method = ChosenMethod("identity")
    second = finished_run()
    assert second is not variant
    # It begins as the one before was left.
    assert look.sliders["protect_shadows"].value() == 30
    assert "Adjust has Undo" in panel.bar.message.text()
    look.undo_button.click()
    assert second.adjustment.is_neutral
    look.sliders["strength"].setValue(50)
    panel.state.current = variant
    assert panel.bar.message.text() == ""
    assert second.adjustment == Adjustment(0.5)
    assert look.chosen == variant.adjustment == Adjustment(protect_shadows=0.3)
    # Whoever else changes it is followed.
    variant.adjust(Adjustment(1.2))
    assert look.sliders["strength"].value() == 120


@pytest.mark.slow
@pytest.mark.viewer
def test_pixels_that_came_after_the_run_are_not_blended(
    look: AdjustSection, variant: Any, haze: np.ndarray, qtbot: Any, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr(
        "napari_restore.plugin.results._adjusting_section.show_problem",
        lambda error: said.append(error.message),
    )
    variant.adjust(Adjustment(0.9))
    before = np.array(variant.layer.data[0])
    haze[:] = 255 - haze
    look.sliders["protect_shadows"].setValue(50)
    qtbot.waitUntil(lambda: bool(said))
    look.undo_button.click()
    assert said == [f"{variant.result.image.name} has changed since it was restored."]
    assert variant.adjustment == Adjustment()
    haze[:] = 255 - haze
    look.sliders["strength"].setValue(90)
    qtbot.waitUntil(lambda: variant.adjustment == Adjustment(0.9))
    np.testing.assert_array_equal(np.asarray(variant.layer.data[0]), before)


@pytest.mark.slow
@pytest.mark.viewer
def test_undo_takes_one_step_back_and_the_heading_shows_it(
    panel: Any, look: AdjustSection, variant: Any
):
    headings = []
    look.heading_changed.connect(headings.append)
    assert not look.undo_button.isEnabled()
    for strength in (0.9, 0.6):
        variant.adjust(Adjustment(strength))
    variant.adjust(Adjustment(0.6, protect_shadows=0.5))
    assert headings[-1] == "Adjust · adjusted, with undo"
    look.undo_button.click()
    assert variant.adjustment == Adjustment(0.6)
    # A slider on its way is one step.
    look.undo_button.click()
    assert variant.adjustment.is_neutral
    assert headings[-1] == "Adjust"
    assert not look.undo_button.isEnabled()


@pytest.mark.slow
@pytest.mark.viewer
def test_auto_measures_the_exposure_and_the_slider_changes_it(
    look: AdjustSection, variant: Any, qtbot: Any
):
    assert look.auto_button.isEnabled()
    before = np.array(variant.layer.data[0])
    look.auto_button.click()
    assert not look.auto_button.isEnabled()
    qtbot.waitUntil(look.auto_button.isEnabled)
    ev = variant.result.with_adjustment(Adjustment(exposure="auto")).adjustment.exposure
    assert ev > 0
    qtbot.waitUntil(lambda: variant.adjustment == Adjustment(exposure=ev))
    brighter = np.asarray(variant.layer.data[0])
    assert brighter[..., :3].mean() > before[..., :3].mean()
    look.exposure.setValue(-0.5)
    qtbot.waitUntil(lambda: variant.adjustment.exposure == -0.5)
    assert variant.record["adjustment"]["exposure"] == -0.5
    look.undo_button.click()
    look.reset_button.click()
    assert look.exposure.value() == 0
    np.testing.assert_array_equal(np.asarray(variant.layer.data[0]), before)


@pytest.mark.slow
@pytest.mark.viewer
def test_it_needs_a_result_and_explains_why_colours_cannot_be_kept(
    panel: Any, look: AdjustSection, finished_run: Any
):
    assert "no result" in look.about.text()
    assert not look.reset_button.isEnabled()
    assert look.chosen.is_neutral
    pixels = np.random.default_rng(1).integers(1, 250, (60, 80), np.uint8)
    panel.viewer.add_image(pixels, name="grey")
    panel.target.choose(TargetChoice.WHOLE)
    panel.state.method = ChosenMethod("identity")
    variant = finished_run()
    assert look.sliders["strength"].isEnabled()
    assert not look.keep_colours.isEnabled()
    assert "red, green and blue" in look.keep_colours.toolTip()
    panel.viewer.layers.remove(variant.layer)
    assert panel.state.current is None
    assert not look.sliders["strength"].isEnabled()


@pytest.mark.nightly
@pytest.mark.viewer
def test_it_lets_go_when_the_panel_closes(panel: Any, look: AdjustSection, variant: Any):
    before = len(variant.adjusted)
    end_all(look)
    assert len(variant.adjusted) == before - 1
