"""The Attribution tab: from a box to layers, measures and files, in a real window."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from points import patience
from qtpy.QtWidgets import QApplication, QScrollArea

from napari_restore import Region, api
from napari_restore.commands import main
from napari_restore.errors import Cancelled
from napari_restore.explain import KINDS, OverviewShares, PartialAttribution
from napari_restore.plugin.attribution.attribution_form import (
    ALWAYS,
    BASELINES,
    BRACKET_BASELINES,
    METHODS,
    OBJECTIVES,
    WITH_BASELINE,
    applicable,
)
from napari_restore.plugin.attribution.results_section import report
from napari_restore.plugin.layers.placing import plane_of
from napari_restore.plugin.results.variant_text import table_of

pytestmark = pytest.mark.viewer
BOX = Region(100, 120, 148, 184)


@pytest.mark.slow
def test_a_box_becomes_layers_and_measures(tab: Any, finished_attribution: Any) -> None:
    tab.target.add_box(BOX)
    assert "64 × 48 pixels at x 120, y 100" in tab.form.box.text()
    found = finished_attribution()
    reported = found.record["attribution"]
    assert reported["box"] == list(BOX) and reported["completeness"]["reached"]
    layers = tab.results.current.layers
    # One entry in the list, whose name begins with what tells it from others.
    assert [layer.name for layer in layers.all] == ["1 dcp · haze · map"]
    np.testing.assert_array_equal(layers.map.data, found.map.sum(axis=2))
    low, high = layers.map.contrast_limits
    most = float(np.abs(found.map.sum(axis=2)).max())
    # The next number that the colour bar on the canvas has labels for.
    assert -low == high and most <= high <= 2 * most and found.limit == pytest.approx(most)
    assert layers.map.colorbar.visible
    # It lies where its pixels are.
    corner = plane_of(layers.map)[:2, 2] - plane_of(tab.state.layer)[:2, 2]
    np.testing.assert_allclose(corner, found.region[:2])
    assert layers.map.metadata["napari_restore_record"] is found.record
    assert tab.viewer.layers[-1].name == "Attribution target"
    assert "not why" in tab.results.measures.text()
    # A map is not an image to restore.
    assert tab.state.layer.name == "town" and tab.state.layer not in layers
    assert not tab.state.running and tab.bar.button.text() == "Run"


@pytest.mark.slow
def test_in_a_low_window_the_results_scroll_into_view(
    tab: Any, panel: Any, finished_attribution: Any, qtbot: Any
) -> None:
    window = panel.window()
    window.resize(1280, 800)
    window.show()
    tab.target.add_box(BOX)
    scroll = panel.findChild(QScrollArea)
    assert tab.results.measures.visibleRegion().isEmpty()
    finished_attribution()

    def in_sight() -> bool:
        seen = tab.results.measures.visibleRegion().boundingRect()
        return seen.top() == 0 and seen.height() > scroll.viewport().height() // 4

    qtbot.waitUntil(in_sight)


@pytest.mark.nightly
def test_the_curve_of_a_complete_map_meets_d(tab: Any, finished_attribution: Any) -> None:
    tab.target.add_box(BOX)
    reported = finished_attribution().record["attribution"]
    value, summed = tab.results.path.lines()
    assert value[-1] == pytest.approx(reported["completeness"]["difference"], rel=1e-6)
    assert summed[-1] == pytest.approx(reported["completeness"]["sum"], rel=1e-6)
    assert np.abs(value - summed).max() < 0.05 * np.abs(value).max()


@pytest.mark.nightly
def test_the_map_is_seen_while_it_comes(
    tab: Any, finished_attribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_restore.plugin.attribution.layers import AttributionLayers

    shown: list[Any] = []
    true = AttributionLayers.partial

    def partial(self: Any, seen: Any) -> None:
        true(self, seen)
        shown.append((seen.done, self.map.name, self.map in tab.viewer.layers))

    monkeypatch.setattr(AttributionLayers, "partial", partial)
    tab.target.add_box(BOX)
    finished_attribution()
    assert [done for done, _, _ in shown] == list(range(1, len(shown) + 1))
    assert len(shown) >= 9 and all(there for _, _, there in shown)
    assert not any("coming" in layer.name for layer in tab.viewer.layers)


@pytest.mark.slow
@pytest.mark.nightly
def test_cancel_leaves_nothing(
    panel: Any, tab: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_restore.plugin.attribution.layers import AttributionLayers

    before = list(tab.viewer.layers)
    tab.target.add_box(BOX)
    # Its points take longer than a click.
    panel.models.choose("haze-unet")
    reported: list[Any] = []
    tab.ended.connect(lambda *outcome: reported.append(outcome))
    # As soon as a first point is there.
    monkeypatch.setattr(
        AttributionLayers, "partial", lambda self, seen: tab.task and tab.bar.button.click()
    )
    tab.bar.button.click()
    assert tab.bar.button.text() == "Cancel" and tab.state.running
    qtbot.waitUntil(lambda: bool(reported))
    assert reported == [("cancelled", None)]
    assert [layer.name for layer in tab.viewer.layers] == [x.name for x in before] + [
        "Attribution target"
    ]
    assert tab.bar.message.text() == "Cancelled." and not tab.state.running


@pytest.mark.parametrize("leaves", ["image", "panel"])
@pytest.mark.slow
def test_image_or_panel_may_be_removed_meanwhile(
    tab: Any, panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, leaves: str
) -> None:
    from napari_restore.plugin.attribution.layers import AttributionLayers

    viewer, source, true = panel.viewer, tab.state.layer, AttributionLayers.partial
    tab.target.add_box(BOX)
    seen: list[Any] = []

    def partial(self: Any, reported: Any) -> None:
        true(self, reported)
        if not seen:
            viewer.layers.remove(source) if leaves == "image" else panel.close()
        seen.append(reported)

    monkeypatch.setattr(AttributionLayers, "partial", partial)
    tab.bar.button.click()
    asking = tab.task
    qtbot.waitUntil(lambda: asking.is_over)
    qtbot.waitUntil(lambda: not panel.state.running)
    QApplication.processEvents()
    assert len(seen) == 1
    kept = ["Attribution target"] if leaves == "image" else ["town", "Attribution target"]
    assert [layer.name for layer in viewer.layers] == kept


@pytest.mark.slow
def test_the_palette_turns_to_the_tab(tab: Any, panel: Any) -> None:
    from napari_restore.plugin import show_attribution

    panel.tabs.choose("Restore")
    assert tab.isHidden()
    show_attribution(panel.viewer)
    assert not tab.isHidden()
    assert panel.tabs.tabText(panel.tabs.currentIndex()) == "Attribution"


@pytest.mark.slow
def test_without_a_target_there_is_an_error(tab: Any) -> None:
    with pytest.raises(Exception, match="No target is drawn"):
        tab.request()
    assert "Press Box or Click" in tab.form.box.text()
    tab.target.add_box(Region(290, 390, 300, 400))
    # Drawn areas and boxes that are asked about are not each other's.
    from napari_restore.plugin.areas.areas import areas_layer

    assert areas_layer(tab.viewer) is None
    tab.form.method.setCurrentIndex(tab.form.method.findData("dam"))
    with pytest.raises(Exception, match="clear image"):
        tab.request()


@pytest.mark.slow
def test_a_polygon_and_an_overview(tab: Any, finished_attribution: Any) -> None:
    tab.target.use("polygon")
    layer = tab.viewer.layers["Attribution target"]
    layer.add_polygons([[(99.5, 119.5), (99.5, 183.5), (147.5, 119.5)]])
    question = tab.request()
    assert question.box == BOX
    np.testing.assert_allclose(question.polygon, [(100, 120), (100, 184), (148, 120)])
    tab.target.use(None)
    found = finished_attribution()
    np.testing.assert_allclose(
        found.record["attribution"]["polygon"], [(100, 120), (100, 184), (148, 120)]
    )
    tab.target.add_box(BOX)
    whole = finished_attribution()
    assert whole.record["attribution"]["polygon"] is None
    assert len(tab.results.all) == 2


@pytest.mark.nightly
def test_an_overview_is_placed_over_the_image(
    tab: Any, finished_attribution: Any, sample: Path
) -> None:
    assert tab.form.level.count() == 1
    tab.viewer.open(sample, plugin="napari-restore")
    assert tab.form.level.count() > 1
    tab.target.add_box(BOX)
    tab.form.level.setCurrentIndex(1)
    found = finished_attribution()
    reported = found.record["attribution"]
    assert reported["scale"] == 2 and reported["box"] == [50, 60, 74, 92]
    layer, source = tab.results.current.layers.map, tab.state.layer
    np.testing.assert_allclose(plane_of(layer)[:2, :2], 2 * plane_of(source)[:2, :2])
    # A pixel of the overview begins where its first one of the image does.
    y0, x0 = found.region[:2]
    beginning = source.data_to_world(np.array((2 * y0 - 0.5, 2 * x0 - 0.5)))
    np.testing.assert_allclose(layer.data_to_world((-0.5, -0.5)), beginning)
    assert "1:2" in tab.results.measures.text()


@pytest.mark.slow
@pytest.mark.nightly
def test_files_are_what_the_command_writes(
    tab: Any,
    finished_attribution: Any,
    qtbot: Any,
    tmp_path: Path,
    save_as: Callable[[Path | None], list[str]],
) -> None:
    import rasterio

    def copied() -> str:
        tab.results.copy.click()
        return QApplication.clipboard().text()

    tab.target.add_box(BOX)
    found = finished_attribution()
    for button, name in (
        (tab.results.map, "m.tif"),
        (tab.results.record, "r.json"),
        (tab.results.figure, "f.svg"),
    ):
        path = tmp_path / name
        save_as(path)
        button.click()
        qtbot.waitUntil(path.exists)
        # The window hears of it later, on its own thread.
        qtbot.waitUntil(lambda: found.record["output"] and str(tmp_path / "m.tif") in copied())
    with rasterio.open(tmp_path / "m.tif") as raster:
        np.testing.assert_allclose(raster.read(1), found.map.sum(axis=2), rtol=1e-5, atol=1e-12)
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["attribution"]["method"] == "haze" and record["task"]["question"]["box"]
    assert "<svg" in (tmp_path / "f.svg").read_text()
    program, *words = shlex.split(copied())
    assert words[words.index("-o") + 1] == str(tmp_path / "m.tif")
    assert program == "napari-restore" and "--box 120 100 64 48" in " ".join(words)
    words[words.index("-o") + 1] = str(tmp_path / "m.tif")
    assert record["command"] == shlex.join([program, *words])
    words[words.index("-o") + 1] = str(tmp_path / "again.tif")
    assert main([*words, "--progress", "off"]) == 0
    with (
        rasterio.open(tmp_path / "again.tif") as again,
        rasterio.open(tmp_path / "m.tif") as raster,
    ):
        np.testing.assert_array_equal(again.read(), raster.read())


@pytest.mark.nightly
def test_a_method_without_a_path(tab: Any, finished_attribution: Any) -> None:
    tab.target.add_box(Region(100, 120, 116, 136))
    tab.form.method.setCurrentIndex(tab.form.method.findData("smoothgrad"))
    assert finished_attribution().record["attribution"]["path"] is None
    assert "not claimed by this method" in tab.results.measures.text()
    assert tab.results.path.isHidden() and not tab.results.rings.isHidden()


@pytest.mark.slow
@pytest.mark.nightly
def test_two_attributions_side_by_side(tab: Any, finished_attribution: Any, qtbot: Any) -> None:
    tab.target.add_box(BOX)
    finished_attribution()
    tab.target.add_box(BOX.shift(60, 80))
    finished_attribution()
    assert tab.results.side_by_side.isEnabled()
    before = [layer.visible for layer in tab.viewer.layers]
    tab.results.side_by_side.click()
    qtbot.waitUntil(lambda: tab.viewer.canvas.grid.enabled)
    shown = [layer for layer in tab.viewer.layers if layer.visible]
    assert len(shown) == 2 and all(layer.rgb for layer in shown)
    # The canvas says which is which.
    assert all(layer.name_overlay.visible for layer in shown)
    assert [layer.name for layer in shown] == [
        "2 dcp · haze · 64 × 48 at 200, 160",
        "1 dcp · haze · 64 × 48 at 120, 100",
    ]
    # Box on box, whatever their places.
    places = []
    for layer, answer in zip(shown, (tab.results.all[1], tab.results.all[0]), strict=True):
        box, around = answer.attribution.box, answer.attribution.box.expand(64)
        offset = np.subtract(box[:2], np.maximum(around[:2], 0))
        places.append(plane_of(layer)[:2, 2] + offset)
    np.testing.assert_allclose(*places)
    # The newest box is in the middle of each half.
    middle = tab.state.layer.data_to_world((160 + 23.5, 200 + 31.5))
    np.testing.assert_allclose(tab.viewer.scene.camera.center[-2:], middle[-2:])
    tab.results.side_by_side.click()
    assert not tab.viewer.canvas.grid.enabled
    assert [layer.visible for layer in tab.viewer.layers] == before


@pytest.mark.slow
def test_one_attribution_is_on_the_canvas(
    tab: Any, finished_attribution: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_restore.plugin.attribution.layers import AttributionLayers

    tab.target.add_box(BOX)
    for _ in range(2):
        finished_attribution()

    def seen() -> list[bool]:
        return [found.layers.map.visible for found in tab.results.all]

    assert seen() == [False, True]
    tab.results.which.setCurrentIndex(0)
    assert seen() == [True, False]
    # One that is coming takes the place, and gives it back where it is cancelled.
    true = AttributionLayers.partial
    coming: list[Any] = []

    def partial(self: Any, reported: Any) -> None:
        true(self, reported)
        coming.append(seen())
        tab.task.cancel()

    def until_cancelled(*_: Any, watch: Any, stop: Any, **__: Any) -> None:
        watch(PartialAttribution(BOX, np.zeros((48, 64), np.float32), 1, 9))
        assert stop.wait(patience())
        raise Cancelled("Cancelled.", "Run it again.")

    monkeypatch.setattr(AttributionLayers, "partial", partial)
    monkeypatch.setattr(api, "attribute_elsewhere", until_cancelled)
    finished_attribution("cancelled")
    assert coming == [[False, False]] and seen() == [True, False]


@pytest.mark.slow
@pytest.mark.nightly
def test_another_choice_ends_side_by_side(tab: Any, finished_attribution: Any, qtbot: Any) -> None:
    tab.target.add_box(BOX)
    for _ in range(2):
        finished_attribution()
    tab.results.side_by_side.click()
    qtbot.waitUntil(lambda: tab.viewer.canvas.grid.enabled)
    tab.results.which.setCurrentIndex(0)
    assert not tab.viewer.canvas.grid.enabled and not tab.results.side_by_side.isChecked()
    assert [found.layers.map.visible for found in tab.results.all] == [True, False]


@pytest.mark.slow
def test_one_layer_shows_map_magnitude_and_area(tab: Any, finished_attribution: Any) -> None:
    tab.target.add_box(BOX)
    found = finished_attribution()
    layers, view = tab.results.current.layers, tab.results.view
    signed, count = layers.map, len(tab.viewer.layers)
    assert tab.results.exponent.isHidden()
    at = tab.viewer.layers.index(signed)
    view.setCurrentIndex(view.findData("magnitude"))
    np.testing.assert_array_equal(layers.map.data, np.abs(signed.data))
    assert layers.map.gamma == 0.5 and not tab.results.exponent.isHidden()
    tab.results.exponent.setCurrentIndex(3)
    assert layers.map.gamma == 0.125
    view.setCurrentIndex(view.findData("area"))
    np.testing.assert_allclose(layers.map.data, found.contribution_area())
    assert layers.map.name.endswith("contribution area") and signed not in tab.viewer.layers
    assert len(tab.viewer.layers) == count and tab.viewer.layers.index(layers.map) == at
    # The next answer is shown in the same way.
    finished_attribution()
    assert tab.results.current.layers.map.name == "2 dcp · haze · contribution area"
    assert layers.map.metadata["napari_restore_record"] is found.record


@pytest.mark.nightly
def test_the_report_is_a_table(tab: Any, finished_attribution: Any) -> None:
    tab.target.add_box(BOX)
    rows = dict(report(finished_attribution()))
    assert tab.results.measures.text() == table_of(list(rows.items()))
    assert tab.results.measures.text().count("<tr>") == len(rows)
    assert rows["Complete"].startswith("yes: gap ")
    assert rows["Box"] == "change of 64 × 48 px at x 120, y 100"
    assert "has no gradients" in rows["Context"] and "is unknown" in rows["Context"]
    # What its kind means is a sentence of its own.
    assert all(len(value) < 100 for name, value in rows.items() if name != "Shows")
    # Without a gradient there is nothing to follow.
    assert tab.results.through_context.isHidden()


@pytest.mark.nightly
def test_one_click_goes_through_the_context(
    tab: Any, panel: Any, finished_attribution: Any, qtbot: Any
) -> None:
    panel.models.choose("atmosphere")
    tab.target.add_box(BOX)
    tab.form.context_gradient.setCurrentIndex(tab.form.context_gradient.findData("stop"))
    tab.form.gap.setValue(100)  # Few points will do.
    held = finished_attribution().record
    older = tab.results.current.layers
    assert "came through it and is not in this map" in tab.results.measures.text()
    share = held["attribution"]["context"]["share"]
    assert f"{share:.0%} of the change" in tab.results.measures.text()
    reported: list[Any] = []
    tab.ended.connect(lambda *outcome: reported.append(outcome))
    assert not tab.results.through_context.isHidden()
    tab.results.through_context.click()
    qtbot.waitUntil(lambda: bool(reported))
    through = tab.results.current
    assert through.attribution.record["attribution"]["context"]["used"] == "through"
    assert through.attribution.box == BOX and tab.results.through_context.isHidden()
    assert "gradient through the context" in tab.results.measures.text()
    names = [layer.name for layer in through.layers.all]
    assert names == ["2 atmosphere · haze · overview", "2 atmosphere · haze · map"]
    assert all(layer.visible for layer in through.layers.all) and not older.visible


@pytest.mark.slow
def test_shares_of_the_overview_end_with_the_image(tab: Any) -> None:
    from napari_restore.plugin.attribution.layers import AttributionLayers, MapArrays

    source, whole = tab.state.layer, Region(0, 0, 300, 400)
    # Blocks of 2 × 2; the last row of them has one pixel.
    values = np.arange(75 * 100 * 3, dtype=np.float32).reshape(75, 100, 3)
    overview = OverviewShares(values, 4, (0, 0))
    zeros = np.zeros(whole.shape, np.float32)
    layers = AttributionLayers(tab.viewer, source, "1 atmosphere", 1)
    layers.finish(
        MapArrays(whole, [zeros], 1.0, whole, zeros, overview, KINDS["ig"]), {}, "map", 0.5
    )
    # Middles of the outermost pixels, 4 wide: their edges are those of the image.
    middles = source.extent.world + np.array([[1.5], [-1.5]])
    np.testing.assert_allclose(layers.overview.extent.world, middles)
    sums, side = overview.blocks()
    assert (side, sums.shape) == (8, (38, 50))
    # Means per pixel of the image, on one scale with the map: a block has 8 × 8, at the end 4 × 8.
    np.testing.assert_allclose(layers.overview.data[:74:2, ::2], sums[:37] / 64, rtol=1e-6)
    np.testing.assert_allclose(layers.overview.data[74, ::2], sums[37] / 32, rtol=1e-6)


@pytest.mark.slow
def test_maps_and_target_go_with_the_tab(tab: Any, panel: Any, finished_attribution: Any) -> None:
    tab.target.add_box(BOX)
    finished_attribution()
    own = [tab.results.current.layers.map, tab.viewer.layers["Attribution target"]]
    panel.tabs.choose("Restore")
    assert not any(layer.visible for layer in own) and tab.state.layer.visible
    panel.tabs.choose("Attribution")
    assert all(layer.visible for layer in own)
    # What the user has hidden stays so.
    own[0].visible = False
    panel.tabs.choose("Attention")
    panel.tabs.choose("Attribution")
    assert [layer.visible for layer in own] == [False, True]


@pytest.mark.slow
def test_removing_the_map_removes_the_attribution(tab: Any, finished_attribution: Any) -> None:
    tab.target.add_box(BOX)
    finished_attribution()
    layers = tab.results.current.layers
    tab.viewer.layers.remove(layers.map)
    assert tab.results.all == [] and tab.results.current is None
    assert [layer.name for layer in tab.viewer.layers][1:] == ["Attribution target"]


def test_what_the_form_offers_there_is() -> None:
    from napari_restore import explain
    from napari_restore.explain.attribution.methods import method_of
    from napari_restore.explain.attribution.objectives import objective_of
    from napari_restore.models import load

    for method in set(METHODS) - {None}:
        takes = method_of(method, load("dcp").card).takes_baseline
        assert takes == (method in WITH_BASELINE), method
    assert {*BASELINES, *BRACKET_BASELINES} == set(explain.NAMES)
    for name in set(OBJECTIVES) - {None, "channel"}:
        assert objective_of(name, 3).name == name


@pytest.mark.parametrize(
    ("given", "offered", "routes", "more"),
    [
        ({}, None, False, {"segments", "check"}),
        ({}, None, True, {"segments", "check", "routing"}),
        ({"method": "ig"}, None, False, {"segments", "check", "baseline"}),
        # Automatic is occlusion for parts; what else is set stays.
        ({"segments": "slic"}, None, False, {"segments", "check", "baseline"}),
        ({"segments": "slic", "method": "haze"}, None, False, {"segments", "check"}),
        ({"context_gradient": "through"}, None, False, {"segments"}),
        ({}, {}, True, {"arguments", "segments", "check"}),
        ({"check": True}, {}, False, {"arguments", "segments", "check", "baseline"}),
        ({}, {"takes_baseline": True}, False, {"arguments", "segments", "check", "baseline"}),
        ({"segments": "slic"}, {"of_layer": True}, False, {"arguments", "layer", "check"}),
    ],
)
def test_options_apply_by_method_and_model(given: Any, offered: Any, routes: Any, more: Any):
    values = dict.fromkeys(("method", "segments", "context_gradient", "check")) | given
    usual = {"of_layer": False, "takes_baseline": False}
    explainer = None if offered is None else SimpleNamespace(**(usual | offered))
    assert applicable(values, explainer, routes) == ALWAYS | more
