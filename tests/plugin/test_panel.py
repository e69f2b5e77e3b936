"""The real panel in a real window: what a user clicks, and what appears."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QApplication

import napari_restore as nr
from napari_restore import Region
from napari_restore.plugin.results.export_section import ExportSection
from napari_restore.plugin.runs import layer_run
from napari_restore.plugin.state.request import NamedBands, TargetChoice
from napari_restore.plugin.state.state import NAMED_AS
from napari_restore.plugin.widgets.folding import Folded
from napari_restore.questions import Adjustment

pytestmark = pytest.mark.viewer


def choose(panel: Any, model: str) -> None:
    panel.models.combo.setCurrentIndex(panel.models.combo.findData(model))


def results(panel: Any) -> list[Any]:
    return [x for x in panel.viewer.layers if "napari_restore_source" in x.metadata]


@pytest.mark.slow
@pytest.mark.ids("nightly", "sync")
def test_run_restores_the_visible_region_of_the_sample(
    panel: Any, slicing: bool, sample: Path, finished_run: Any
):
    viewer = panel.viewer
    viewer.open(sample, plugin="napari-restore")
    source = viewer.layers[0]
    choose(panel, "identity")
    viewer.scene.camera.zoom *= 4
    record = finished_run().record
    (layer,) = results(panel)
    region = Region(*record["targets"][0]["region"])
    assert 0 < region.pixels < source.metadata["napari_restore"].height * 3072 / 4
    assert viewer.layers.index(layer) == viewer.layers.index(source) + 1
    assert layer.name == "Unchanged (visible region) – hazy_town_synthetic"
    assert layer.metadata["napari_restore_record"] == record
    shown, of_source = (np.asarray(x.data[0]) for x in (layer, source))
    opaque = shown[..., 3] == 255
    assert opaque.sum() == region.pixels
    np.testing.assert_array_equal(shown[opaque][:, :3], of_source[region.slices].reshape(-1, 3))


@pytest.mark.nightly
def test_a_result_lies_on_its_source_to_the_pixel(panel: Any, sample: Path, finished_run: Any):
    """Also where pixels are small and far from the map's zero."""
    viewer = panel.viewer
    viewer.open(sample, plugin="napari-restore")
    viewer.reset_view()
    viewer.scene.camera.zoom *= 2.7
    choose(panel, "identity")
    finished_run()
    (layer,) = results(panel)
    restored = viewer.screenshot(canvas_only=True, flash=False)
    layer.visible = False
    source = viewer.screenshot(canvas_only=True, flash=False)
    assert source[..., :3].std() > 10
    np.testing.assert_array_equal(restored, source)


@pytest.mark.slow
def test_tiles_that_were_there_already_are_shown_too(
    panel: Any, colours: np.ndarray, monkeypatch: pytest.MonkeyPatch, finished_run: Any
):
    """Also while napari's bar runs Qt's events, the end of the run among them."""
    monkeypatch.setattr(layer_run, "DOCK_SECONDS", -1)
    panel.viewer.add_image(colours, name="photo")
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    panel.viewer.layers.remove(finished_run().layer)
    record = finished_run().record
    assert record["measured"]["tiles_done"] == 0
    assert "restored before" in panel.bar.message.text()
    np.testing.assert_array_equal(results(panel)[0].data[0][..., :3], colours)
    assert (np.asarray(results(panel)[0].data[0])[..., 3] == 255).all()


@pytest.mark.slow
def test_a_panel_opened_again_has_its_settings(
    make_napari_viewer: Any, qtbot: Any, colours: np.ndarray
):
    viewer = make_napari_viewer()
    viewer.add_image(colours, name="photo")
    dock, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    choose(panel, "htm")
    choose(panel, "dcp")
    panel.parameters.set_value("omega", 0.7)
    panel.target.choose(TargetChoice.WHOLE)
    viewer.window.remove_dock_widget(dock)
    _, again = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    assert again is not panel
    assert again.target.target() is TargetChoice.WHOLE
    assert again.models.card().id == "dcp"
    assert again.state.parameters == {"omega": 0.7}
    assert again.parameters.rows["omega"].value == 0.7


@pytest.mark.slow
def test_cancel_stops_and_is_reported(panel: Any, qtbot: Any, colours: np.ndarray, points: Any):
    points.hold("tile stored")
    panel.viewer.add_image(colours, name="photo")
    panel.target.choose(TargetChoice.WHOLE)
    panel.advanced.tile.setValue(128)
    outcome = []
    panel.ended.connect(lambda *arguments: outcome.append(arguments))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(points.held("tile stored")))
    panel.bar.button.click()
    points.go("tile stored")
    qtbot.waitUntil(lambda: bool(outcome))
    assert outcome[0][0] == "cancelled"
    assert panel.runs.running is None
    assert "Cancelled" in panel.bar.message.text()
    assert panel.bar.button.isEnabled()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["window", "dock"])
@pytest.mark.ids("nightly", "window")
def test_closing_ends_the_run_and_its_process(
    make_napari_viewer: Any, qtbot: Any, sample: Path, how: str, points: Any
):
    points.hold("tile stored")
    viewer = make_napari_viewer()
    dock, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    viewer.open(sample, plugin="napari-restore")
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(points.held("tile stored")))
    child = panel.runs.worker.process
    assert child.poll() is None
    if how == "window":
        viewer.close()
    else:
        viewer.window.remove_dock_widget(dock)
    points.go("tile stored")
    qtbot.waitUntil(lambda: child.poll() is not None)


@pytest.mark.slow
def test_a_child_that_dies_is_an_error_with_a_next_step(
    panel: Any, qtbot: Any, sample: Path, points: Any
):
    # Without its draft, the first run, a run goes on.
    points.hold("run begins", after=1)
    panel.viewer.open(sample, plugin="napari-restore")
    outcome = []
    panel.ended.connect(lambda *arguments: outcome.append(arguments))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(points.held("run begins")))
    panel.runs.worker.kill()
    points.go("run begins")
    qtbot.waitUntil(lambda: bool(outcome))
    assert outcome[0][0] == "failed"
    assert "ended unexpectedly" in panel.bar.message.text()
    assert outcome[0][1].hint


@pytest.mark.slow
def test_a_bug_does_not_pass_for_a_cancel(
    panel: Any, colours: np.ndarray, monkeypatch: pytest.MonkeyPatch, finished_run: Any
):
    panel.viewer.add_image(colours[:50, :50], name="photo")

    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("napari_restore.start", broken)
    error = finished_run("failed")
    assert "a bug" in str(error)


@pytest.mark.slow
def test_a_model_that_needs_other_bands_reports_the_next_step(panel: Any, finished_run: Any):
    infrared = {NAMED_AS: NamedBands("nir=1")}
    panel.viewer.add_image(np.ones((300, 300), np.uint8), name="infrared", metadata=infrared)
    choose(panel, "hot")
    error = finished_run("failed")
    assert error.hint
    assert str(error) in panel.bar.message.text()
    assert results(panel) == []


@pytest.mark.slow
def test_a_target_that_means_nothing_is_explained_and_not_run(panel: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    panel.target.choose(TargetChoice.DRAWN)
    shown = []
    notification_manager.notification_ready.connect(lambda reported: shown.append(reported.message))
    panel.bar.button.click()
    assert panel.runs.running is None
    (reported,) = shown
    assert reported.startswith("There is no area yet. Press Rectangle or Polygon")


@pytest.mark.slow
def test_the_plan_follows_the_settings(panel: Any, qtbot: Any, colours: np.ndarray):
    with qtbot.waitSignal(panel.plans.planned):
        panel.viewer.add_image(colours, name="photo")
        choose(panel, "dcp")
        panel.target.choose(TargetChoice.WHOLE)
    assert " tile" in panel.bar.plan_line.text()
    with qtbot.waitSignal(panel.plans.planned) as reported:
        panel.memory.setValue(0.01)
    assert "budget" in reported.args[0]
    with qtbot.waitSignal(panel.plans.planned) as reported:
        panel.memory.setValue(0)
    assert " tile" in reported.args[0]


@pytest.mark.slow
def test_no_plan_is_being_made_beside_the_end_of_a_run(
    panel: Any, qtbot: Any, colours: np.ndarray, finished_run: Any
):
    panel.viewer.add_image(colours[:60, :80], name="a")
    choose(panel, "identity")
    said: list[tuple[str, str]] = []
    bar = panel.bar
    panel.plans.line_changed.connect(
        lambda _: said.append((bar.plan_line.text(), bar.message.text()))
    )
    finished_run()
    with qtbot.waitSignal(panel.plans.planned):
        panel.viewer.scene.camera.zoom *= 1.5
    assert any(message.startswith("Done") for _, message in said)
    assert not [message for line, message in said if message and line == "Planning …"]


@pytest.mark.slow
def test_parameters_come_from_the_card_and_reach_the_record(
    panel: Any, colours: np.ndarray, finished_run: Any
):
    panel.viewer.add_image(colours[:300, :300], name="photo")
    choose(panel, "dcp")
    names = list(panel.parameters.rows)
    assert names[:3] == ["amount", "omega", "patch_radius"]
    assert panel.state.parameters == {}
    panel.parameters.rows["omega"].value = 0.5
    assert panel.state.parameters == {"omega": 0.5}
    choose(panel, "identity")
    assert panel.state.parameters == {}
    choose(panel, "dcp")
    panel.parameters.rows["patch_radius"].value = 7
    record = finished_run().record
    assert record["model"]["parameters"]["patch_radius"] == 7
    assert record["model"]["parameters"]["omega"] == 0.85


@pytest.mark.slow
def test_the_chooser_follows_the_layers(panel: Any, colours: np.ndarray):
    assert not panel.bar.button.isEnabled()
    first = panel.viewer.add_image(colours[:50, :50], name="one")
    second = panel.viewer.add_image(colours[:50, :50], name="two")
    assert [panel.image.itemText(i) for i in range(panel.image.count())] == ["one", "two"]
    panel.viewer.layers.selection.active = first
    assert panel.state.layer is first
    panel.viewer.layers.remove(first)
    assert panel.state.layer is second


@pytest.mark.slow
def test_a_closed_panel_listens_no_more(panel: Any, colours: np.ndarray):
    layer = panel.viewer.add_image(colours, name="photo")
    panel.close()
    before = panel.state.layer
    panel.viewer.layers.remove(layer)
    assert panel.state.layer is before
    assert not any(
        "RestorePanel" in repr(callback)
        for emitter in (
            panel.viewer.layers.events.removed,
            panel.viewer.scene.camera.events.zoom,
            panel.viewer.canvas.events.size,
        )
        for callback in emitter.callbacks
    )


@pytest.mark.slow
def test_napari_keeps_nothing_of_a_run_that_has_ended(
    panel: Any, colours: np.ndarray, qtbot: Any, monkeypatch: pytest.MonkeyPatch
):
    """Its window keeps every worker and every progress bar as long as it lives."""
    monkeypatch.setattr(layer_run, "DOCK_SECONDS", -1)
    panel.viewer.add_image(colours, name="photo")
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    reported: list[Any] = []
    panel.ended.connect(lambda *outcome: reported.append(outcome[0]))
    panel.bar.button.click()
    found = weakref.ref(panel.runs.running)
    qtbot.waitUntil(lambda: reported == ["done"])

    def is_gone() -> bool:
        gc.collect()
        return found() is None

    qtbot.waitUntil(is_gone)


@pytest.mark.slow
def test_a_message_ends_with_what_it_speaks_of(
    panel: Any, colours: np.ndarray, finished_run: Any, tmp_path: Path
):
    PIL.Image.fromarray(colours[:300, :300]).save(tmp_path / "photo.png")
    panel.viewer.open(tmp_path / "photo.png", plugin="napari-restore")
    choose(panel, "identity")
    variant = finished_run()
    assert panel.bar.message.text().startswith("Done in")
    # The bar is at the bottom of the panel, below what it speaks of.
    assert "below" not in panel.bar.message.text()
    export = next(section for section in panel.sections if isinstance(section, ExportSection))
    export.copy.click()
    assert export.message.text().startswith("Copied")
    variant.adjust(Adjustment(0.5))
    assert export.message.text() == ""
    export.copy.click()
    export.format.setCurrentIndex((export.format.currentIndex() + 1) % export.format.count())
    assert export.message.text() == ""
    export.copy.click()
    panel.viewer.layers.remove(variant.layer)
    assert export.message.text() == ""
    assert panel.bar.message.text() == ""
    finished_run()
    assert panel.bar.message.text()
    choose(panel, "dcp")
    assert panel.bar.message.text() == ""


@pytest.mark.binding
def test_only_what_applies_is_shown(panel: Any, colours: np.ndarray):
    def shown() -> list[bool]:
        parts = panel.models, panel.models.scene, panel.form.method_part, panel.bar
        return [each.isVisibleTo(panel) for each in parts]

    panel.viewer.add_image(colours[:300, :300], name="photo")
    assert all(shown())
    panel.tabs.choose("Fuse")
    # One picture has no exposures to fuse.
    assert not any(shown())
    frames = [nr.open_image(colours[:300, :300] // by) for by in (1, 2)]
    bracket = nr.open_bracket(frames, align="off")
    pixels, known = colours[:300, :300] // 2, {"napari_restore": bracket}
    panel.viewer.add_image(pixels, name="bracket", metadata=known)
    assert panel.bar.isVisibleTo(panel) and panel.models.isVisibleTo(panel)
    panel.tabs.choose("Attention")
    # Those that are named can be chosen.
    assert "has no attention" in panel.attention.hint.text()
    assert "HINT" not in panel.attention.hint.text()
    panel.tabs.choose("Restore")
    assert panel.bar.isVisibleTo(panel)


@pytest.mark.slow
def test_run_is_in_sight_whatever_is_unfolded(panel: Any, colours: np.ndarray, qtbot: Any):
    """A screen of 1600 × 1000 at 200 % leaves the window 500 points."""
    panel.viewer.add_image(colours[:50, :50], name="photo")
    window = panel.window()
    window.resize(800, 500)
    window.show()
    for part in panel.findChildren(Folded):
        part.open()
    button = panel.bar.button

    def is_in_sight() -> bool:
        is_whole = button.visibleRegion().boundingRect() == button.rect()
        return is_whole and button.mapTo(window, button.rect().bottomLeft()).y() < 500

    qtbot.waitUntil(is_in_sight)
    panel.tabs.choose("Attribution")
    assert not panel.bar.isVisible()
    panel.tabs.choose("Restore")
    assert panel.bar.isVisible()


@pytest.mark.slow
@pytest.mark.own_window
def test_headings_and_tabs_are_drawn_in_the_theme(panel: Any, qtbot: Any):
    """No black arrows on dark grey, and no white line beside the tabs."""
    panel.window().show()
    assert not panel.tabs.drawBase()
    for theme in ("dark", "light", "dark"):
        panel.viewer.theme = theme
        QApplication.processEvents()
        for part in panel.findChildren(Folded):
            button = part.heading
            text = button.palette().color(QPalette.ColorRole.ButtonText)
            assert (text.lightness() > 128) == (theme == "dark")
            # A letter of that text.
            assert button.icon().isNull() and button.text()[0] in "▾▸"
            image = button.grab().toImage()
            places = [(x, y) for x in range(image.width()) for y in range(image.height())]
            lights = [image.pixelColor(x, y).lightness() for x, y in places] or [0, 255]
            drawn = max(lights, key=lambda light: abs(light - lights[0]))
            assert abs(drawn - text.lightness()) < 60 or not part.isVisible(), (theme, part.text())
