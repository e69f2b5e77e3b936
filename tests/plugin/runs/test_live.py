"""The live result and the drafts, in the real panel and its real child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from PIL import Image

from napari_restore import Region
from napari_restore.engine import TileDone
from napari_restore.errors import BudgetTooSmall
from napari_restore.plugin.runs import draft as _draft
from napari_restore.plugin.runs.layer_run import drafts_in
from napari_restore.plugin.state.request import NamedBands, TargetChoice
from napari_restore.plugin.state.state import NAMED_AS
from napari_restore.questions import Adjustment

pytestmark = pytest.mark.viewer


def choose(panel: Any, model: str) -> None:
    panel.models.combo.setCurrentIndex(panel.models.combo.findData(model))


def rested(panel: Any, qtbot: Any, change: Any) -> None:
    """Make a change and wait until the live result has caught up."""
    with qtbot.waitSignal(panel.runs.live.updated):
        change()


def edges(layer: Any) -> np.ndarray:
    """Where the first pixel of a layer begins and the last ends, half a pixel from their middles."""
    data = layer.data[0] if layer.multiscale else layer.data
    return np.array(
        [layer.data_to_world(at) for at in ((-0.5, -0.5), np.array(data.shape[:2]) - 0.5)]
    )


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """2600 × 3000 pixels on a map, tiled, without overviews."""
    import rasterio
    from rasterio.transform import from_origin

    path = tmp_path / "scene.tif"
    y, x = np.mgrid[:2600, :3000]
    pixels = np.stack([y % 251, x % 241, (y + x) % 239]).astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5000000, 0.5, 0.5)}
    size = {"height": 2600, "width": 3000, "count": 3, "dtype": "uint8"}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "photometric": "rgb"}
    with rasterio.open(path, "w", driver="GTiff", **size, **tiles, **place) as file:
        file.write(pixels)
    return path


def opened(panel: Any, qtbot: Any, scene: Path) -> Any:
    """The scene's layer with all its levels."""
    panel.viewer.open(scene, plugin="napari-restore")
    layer = panel.viewer.layers[0]
    image = layer.metadata["napari_restore"]
    last = len(image.level_shapes) - 1
    qtbot.waitUntil(lambda: image.is_built(last))
    return layer


@pytest.mark.slow
@pytest.mark.ids("nightly", "sync", "async")
def test_live_follows_the_view_in_one_layer(panel: Any, slicing: bool, qtbot: Any, sample: Path):
    viewer = panel.viewer
    viewer.open(sample, plugin="napari-restore")
    choose(panel, "identity")
    viewer.scene.camera.zoom *= 8
    rested(panel, qtbot, panel.bar.live.click)
    (variant,) = panel.state.variants
    assert variant.layer.name == "Live: Unchanged – hazy_town_synthetic"
    assert panel.state.current is variant
    first = variant.result.region
    centre = np.array(viewer.scene.camera.center)
    step = np.array(viewer.layers[0].extent.step)[-2:] * (60, 60)
    rested(
        panel, qtbot, lambda: setattr(viewer.scene.camera, "center", centre + np.array([0, *step]))
    )
    assert panel.state.variants == (variant,)
    assert variant.result.region != first
    image = viewer.layers[0].metadata["napari_restore"]
    for region in (first, variant.result.region):
        assert variant.shown.covers(region)
        shown = np.asarray(variant.layer.data[0])[region.slices]
        assert (shown[..., 3] == 255).all()
        np.testing.assert_array_equal(shown[..., :3], image.read(region))


@pytest.mark.nightly
def test_finished_tiles_are_not_computed_again(panel: Any, qtbot: Any, sample: Path):
    viewer = panel.viewer
    viewer.open(sample, plugin="napari-restore")
    choose(panel, "dcp")
    # Otherwise the free memory of the moment chooses the size, and with it the number of tiles.
    panel.advanced.tile.setValue(256)
    viewer.scene.camera.zoom *= 8
    rested(panel, qtbot, panel.bar.live.click)
    live = panel.runs.live
    first = live.variant.result.record["measured"]
    assert first["tiles_done"] >= 1
    assert first["tiles_resumed"] == 0
    rested(panel, qtbot, live.update)
    again = live.variant.result.record["measured"]
    assert again["tiles_done"] == 0
    assert again["tiles_resumed"] == first["tiles_done"]


@pytest.mark.slow
@pytest.mark.nightly
def test_other_settings_take_the_same_place(panel: Any, qtbot: Any, sample: Path):
    viewer = panel.viewer
    viewer.open(sample, plugin="napari-restore")
    choose(panel, "dcp")
    viewer.scene.camera.zoom *= 8
    rested(panel, qtbot, panel.bar.live.click)
    (before,) = panel.state.variants
    omega = panel.parameters.rows["omega"]
    rested(panel, qtbot, lambda: setattr(omega, "value", 0.5))
    (after,) = panel.state.variants
    assert after is not before
    assert before.layer not in viewer.layers
    assert after.request.parameters == (("omega", 0.5),)
    assert after.result.record["model"]["parameters"]["omega"] == 0.5
    child = panel.runs.worker.process.pid
    rested(panel, qtbot, lambda: setattr(omega, "value", 0.6))
    assert panel.runs.worker.process.pid == child


@pytest.mark.slow
@pytest.mark.nightly
def test_switched_off_the_last_result_stays_as_an_ordinary_one(
    panel: Any, qtbot: Any, sample: Path
):
    viewer = panel.viewer
    viewer.open(sample, plugin="napari-restore")
    choose(panel, "identity")
    rested(panel, qtbot, panel.bar.live.click)
    (variant,) = panel.state.variants
    panel.bar.live.click()
    assert panel.state.variants == (variant,)
    assert variant.layer.name == "Unchanged – hazy_town_synthetic"
    assert variant.result is not None
    # It has all of the view.
    rested(panel, qtbot, panel.bar.live.click)
    assert panel.state.variants == (variant,)


@pytest.mark.slow
def test_removing_the_live_layer_switches_live_off(panel: Any, qtbot: Any, sample: Path):
    panel.viewer.open(sample, plugin="napari-restore")
    choose(panel, "identity")
    rested(panel, qtbot, panel.bar.live.click)
    panel.viewer.layers.remove(panel.state.variants[0].layer)
    assert not panel.bar.live.isChecked()
    assert not panel.runs.live.is_on
    assert panel.state.variants == ()


@pytest.mark.slow
@pytest.mark.nightly
def test_photos_that_are_flipped_through_keep_one_live_result(
    panel: Any, qtbot: Any, colours: np.ndarray, tmp_path: Path
):
    viewer = panel.viewer
    for at, name in enumerate("ab"):
        path = tmp_path / f"{name}.png"
        Image.fromarray(colours[60 * at :][:60, :80]).save(path)
        viewer.open(path, plugin="napari-restore")
    choose(panel, "identity")
    rested(panel, qtbot, panel.bar.live.click)

    def flip(name: str) -> list[str]:
        rested(
            panel, qtbot, lambda: setattr(viewer.layers.selection, "active", viewer.layers[name])
        )
        return [layer.name for layer in viewer.layers]

    assert flip("a") == ["a", "Live: Unchanged – a", "b"]
    panel.state.current.adjust(Adjustment(exposure=0.5))
    assert flip("b") == ["a", "b", "Live: Unchanged – b"]
    assert flip("a") == ["a", "Live: Unchanged – a", "b"]
    assert panel.state.current.adjustment == Adjustment(exposure=0.5)
    assert len(panel.state.variants) == 1
    # In the grid both are in view: each keeps its own.
    viewer.canvas.grid.enabled = True
    assert flip("b") == ["a", "Unchanged – a", "b", "Live: Unchanged – b"]
    assert flip("a") == ["a", "Live: Unchanged – a", "b", "Unchanged – b"]
    viewer.canvas.grid.enabled = False
    rested(panel, qtbot, lambda: viewer.layers.remove(viewer.layers["a"]))
    assert [layer.name for layer in viewer.layers] == ["b", "Live: Unchanged – b"]
    assert panel.bar.live.isChecked() and len(panel.state.variants) == 1


@pytest.mark.slow
@pytest.mark.nightly
def test_live_waits_while_a_run_has_the_worker(panel: Any, qtbot: Any, sample: Path):
    panel.viewer.open(sample, plugin="napari-restore")
    choose(panel, "identity")
    rested(panel, qtbot, panel.bar.live.click)
    child = panel.runs.worker.process
    outcome: list[Any] = []
    panel.ended.connect(lambda *message: outcome.append(message))
    with qtbot.waitSignal(panel.runs.live.updated):
        panel.bar.button.click()
        assert panel.runs.live._attempt is None
    assert outcome[0][0] == "done"
    assert panel.runs.worker.process is child
    assert len(panel.state.variants) == 1


@pytest.mark.slow
def test_an_error_is_shown_once_and_live_continues(panel: Any, qtbot: Any):
    infrared = {NAMED_AS: NamedBands("nir=1")}
    panel.viewer.add_image(np.ones((300, 300), np.uint8), name="infrared", metadata=infrared)
    choose(panel, "hot")
    with qtbot.waitSignal(panel.runs.live.failed) as message:
        panel.bar.live.click()
    assert str(message.args[0]) in panel.bar.message.text()
    rested(panel, qtbot, lambda: choose(panel, "identity"))
    assert panel.state.variants


@pytest.mark.slow
@pytest.mark.nightly
def test_live_reports_that_a_method_is_loaded(panel: Any, qtbot: Any, sample: Path):
    panel.viewer.open(sample, plugin="napari-restore")
    choose(panel, "identity")
    panel.viewer.scene.camera.zoom *= 8
    message: list[str] = []
    panel.runs.live.message.connect(message.append)
    rested(panel, qtbot, panel.bar.live.click)
    assert message[0] == "Loading the method …" and message[-1] == ""
    message.clear()
    rested(panel, qtbot, panel.runs.live.update)
    assert "Loading the method …" not in message
    rested(panel, qtbot, lambda: choose(panel, "dcp"))
    assert message.count("Loading the method …") == 1


@pytest.mark.slow
def test_a_slow_method_shows_a_draft_only(
    panel: Any, qtbot: Any, scene: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_draft, "TRUE_SECONDS", 0.0)
    layer = opened(panel, qtbot, scene)
    choose(panel, "identity")
    both: list[tuple[str, str]] = []

    def note() -> None:
        lines = [
            line.text() for line in (panel.bar.message, panel.bar.draft) if line.isVisibleTo(panel)
        ]
        both.append(tuple(line for line in lines if line.startswith("Draft")))

    panel.runs.live.message.connect(note)
    rested(panel, qtbot, panel.bar.live.click)
    rested(panel, qtbot, panel.runs.live.update)
    # One line says that it is a draft, not two.
    assert both and max(map(len, both)) == 1
    assert panel.state.variants == ()
    (draft,) = drafts_in(panel.viewer)
    assert draft.name.startswith("Draft: ")
    assert not panel.bar.draft.isHidden()
    # The draft lies where its part of the image does.
    np.testing.assert_allclose(edges(draft), edges(layer), atol=1e-6)
    panel.bar.live.click()
    assert drafts_in(panel.viewer) == []
    assert panel.bar.draft.isHidden()


@pytest.mark.slow
@pytest.mark.binding
def test_no_draft_lies_over_true_pixels(
    panel: Any, qtbot: Any, scene: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_draft, "TRUE_SECONDS", 0.0)
    viewer = panel.viewer
    opened(panel, qtbot, scene)
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    rested(panel, qtbot, panel.bar.live.click)
    (draft,) = drafts_in(viewer)
    assert panel.bar.draft.text() == "Draft: Run makes the true pixels"
    draft.visible = False
    assert panel.bar.draft.isHidden()
    draft.visible = True
    assert not panel.bar.draft.isHidden()
    rested(panel, qtbot, panel.bar.button.click)
    assert [layer.name for layer in viewer.layers] == ["scene", "Unchanged (whole image) – scene"]
    assert panel.bar.draft.isHidden()
    assert panel.bar.message.text().startswith("Done in ")


@pytest.mark.slow
@pytest.mark.nightly
def test_a_first_run_shows_a_draft_until_true_pixels_cover_it(panel: Any, qtbot: Any, scene: Path):
    opened(panel, qtbot, scene)
    choose(panel, "dcp")
    seen: list[Any] = []
    panel.viewer.layers.events.inserted.connect(lambda event: seen.append(event.value))
    ended: list[Any] = []
    panel.ended.connect(lambda *message: ended.append(message))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(ended))
    assert ended[0][0] == "done"
    assert [layer.name.startswith("Draft: ") for layer in seen] == [True, False]
    assert drafts_in(panel.viewer) == []
    assert ended[0][1]["extent"] == "image"
    # Now that the statistics are known there is nothing to bridge.
    seen.clear()
    panel.parameters.rows["omega"].value = 0.5
    panel.bar.button.click()
    qtbot.waitUntil(lambda: len(ended) == 2)
    assert len(seen) == 1


@pytest.mark.slow
def test_without_levels_one_tile_is_shown_first(
    panel: Any, qtbot: Any, scene: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("napari_restore.plugin.layers.growth.Growth.start", lambda growth: None)
    panel.viewer.open(scene, plugin="napari-restore")
    choose(panel, "dcp")
    panel.target.choose(TargetChoice.WHOLE)
    first: list[Any] = []
    panel.bar.button.click()
    run = panel.runs.running
    run.happened.connect(
        lambda step, event: first.append(step) if isinstance(event, TileDone) else None
    )
    qtbot.waitUntil(lambda: bool(first))
    assert first[0].is_draft
    assert first[0].scale == 1
    assert first[0].plan.reading.extent == "sample"
    assert 0 < first[0].plan.region.pixels <= 512**2
    panel.runs.cancel()
    qtbot.waitUntil(lambda: panel.runs.running is None)
    assert drafts_in(panel.viewer) == []


@pytest.mark.slow
def test_a_run_goes_on_without_its_first_tile(
    panel: Any, qtbot: Any, scene: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any) -> None:
        raise BudgetTooSmall("The first tile does not fit.", "Raise the memory.")

    monkeypatch.setattr(_draft, "draft_of", fail)
    panel.viewer.open(scene, plugin="napari-restore")
    choose(panel, "dcp")
    ended: list[Any] = []
    panel.ended.connect(lambda *message: ended.append(message))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(ended))
    assert ended[0][0] == "done", ended


def test_lengths_shrink_with_the_level():
    from napari_restore.api import models

    card = next(card for card in models() if card.id == "dcp")
    radius = next(p for p in card.parameters if p.unit == "px")
    scaled = dict(_draft.scaled_parameters(card, {"omega": 0.5}, 4))
    assert scaled["omega"] == 0.5
    assert scaled[radius.name] == max(radius.minimum or 1, round(radius.default / 4))
    smallest = dict(_draft.scaled_parameters(card, {}, 4096))
    assert smallest[radius.name] >= 1


def test_a_region_on_a_level_covers_all_of_it():
    assert _draft.smaller(Region(5, 8, 17, 33), 8, (3, 9)) == Region(0, 1, 3, 5)


@pytest.mark.slow
def test_live_and_runs_tell_the_notes_on_each_image_once(
    panel: Any, qtbot: Any, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    note = "It has no colour profile and is taken as sRGB."
    told = notification_manager.records
    known = len(told)

    def times() -> int:
        return sum(record.message.endswith(note) for record in told[known:])

    choose(panel, "identity")
    for number, name in enumerate("ab", start=1):
        panel.viewer.open(tmp_path / f"{name}.png", plugin="napari-restore")
        if number == 1:
            rested(panel, qtbot, panel.bar.live.click)
        qtbot.waitUntil(lambda expected=number: times() == expected)
    ended: list[Any] = []
    panel.ended.connect(lambda *outcome: ended.append(outcome[0]))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(ended))
    assert ended == ["done"] and times() == 2
