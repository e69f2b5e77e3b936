"""The targets in the real panel: drawing, painting, what runs, and the same on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from points import patience

from napari_restore import Region
from napari_restore.plugin.areas.areas import EXCLUDED
from napari_restore.plugin.areas.drawing_controller import Tool
from napari_restore.plugin.areas.target_chooser import ExcludeChooser
from napari_restore.plugin.results.earlier_results_view import apply_settings
from napari_restore.plugin.state.request import Exclusion, TargetChoice
from napari_restore.plugin.widgets.section import end_all

pytestmark = pytest.mark.viewer
CORNERS = np.array([(0, 0), (0, 1), (1, 1), (1, 0)], float)


def box(region: Region) -> np.ndarray:
    return CORNERS * region.shape + (region.y0, region.x0) - 0.5


def choose(panel: Any, model: str) -> None:
    panel.models.combo.setCurrentIndex(panel.models.combo.findData(model))


def area_is(panel: Any, qtbot: Any, fits: Any) -> None:
    qtbot.waitUntil(lambda: panel.state.area is not None and fits(panel.state.area))


@pytest.mark.nightly
def test_only_what_the_target_needs_is_offered(panel: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    shown = {
        TargetChoice.VISIBLE: [],
        TargetChoice.DRAWN: ["Rectangle", "Polygon", "feather"],
        TargetChoice.PAINTED: ["Brush", "feather"],
        TargetChoice.GRADIENT: ["Gradient"],
        TargetChoice.WHOLE: [],
    }
    for target, expected in shown.items():
        panel.target.choose(target)
        assert panel.state.target is target
        offered = {button.text(): button for button in panel.target.tools.values()}
        offered["feather"] = panel.target.feather
        visible = [name for name, widget in offered.items() if not widget.isHidden()]
        assert visible == expected
        assert panel.target.strength.isHidden()


@pytest.mark.slow
def test_a_rectangle_drawn_with_the_button_is_a_plain_region(
    panel: Any, qtbot: Any, colours: np.ndarray
):
    panel.viewer.add_image(colours, name="photo", scale=(2, 2))
    panel.target.choose(TargetChoice.DRAWN)
    assert "no area yet" in panel.target.pixels.text()
    button = panel.target.tools[Tool.RECTANGLE]
    button.click()
    areas = panel.viewer.layers["Areas to restore"]
    assert areas.mode == "add_rectangle" and button.isChecked()
    assert "Drag a rectangle" in panel.target.hint.text() and not panel.target.hint.isHidden()
    areas.add_rectangles(box(Region(100, 200, 300, 400)))
    area_is(panel, qtbot, lambda area: area.region == Region(100, 200, 300, 400))
    assert panel.state.area.mask is None
    areas.add_polygons(np.array([(400, 500), (400, 700), (600, 500)]))
    area_is(panel, qtbot, lambda area: area.mask is not None)
    assert panel.target.pixels.text().startswith("2 areas, ≈")
    areas.data = areas.data[:1]
    area_is(panel, qtbot, lambda area: area.mask is None)
    panel.target.feather.setValue(16)
    assert panel.state.area.mask is not None
    assert panel.state.request().feather == 16


@pytest.mark.slow
def test_drawing_ends(panel: Any, colours: np.ndarray):
    source = panel.viewer.add_image(colours, name="photo")
    for how in ("button", "escape", "mode", "layer", "target"):
        panel.viewer.layers.selection.active = source
        panel.target.choose(TargetChoice.DRAWN)
        button = panel.target.tools[Tool.POLYGON]
        button.click()
        areas = panel.viewer.layers["Areas to restore"]
        assert panel.drawing.tool is Tool.POLYGON and areas.mode == "add_polygon", how
        if how == "button":
            button.click()
        elif how == "escape":
            (bound,) = areas.keymap.values()
            bound(areas)
        elif how == "mode":
            areas.mode = "select"
        elif how == "layer":
            panel.viewer.layers.selection.active = source
        else:
            panel.target.choose(TargetChoice.WHOLE)
        assert areas.mode == ("select" if how == "mode" else "pan_zoom"), how
        assert panel.drawing.tool is None, how
        assert not button.isChecked() and panel.target.hint.isHidden(), how


@pytest.mark.slow
def test_the_other_button_changes_what_is_drawn(panel: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    panel.target.choose(TargetChoice.DRAWN)
    panel.target.tools[Tool.POLYGON].click()
    panel.target.tools[Tool.RECTANGLE].click()
    assert panel.viewer.layers["Areas to restore"].mode == "add_rectangle"
    assert [b.isChecked() for b in panel.target.tools.values()] == [True, False, False, False]
    assert len(panel.viewer.layers) == 2


@pytest.mark.slow
def test_edges_stay_thin_on_the_screen(panel: Any, qtbot: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    panel.target.choose(TargetChoice.DRAWN)
    panel.target.tools[Tool.RECTANGLE].click()
    areas = panel.viewer.layers["Areas to restore"]
    areas.add_rectangles(box(Region(100, 200, 300, 400)))
    panel.viewer.scene.camera.zoom = 8
    qtbot.waitUntil(lambda: areas.edge_width == [0.25])


@pytest.mark.slow
def test_a_second_gradient_takes_the_place_of_the_first(
    panel: Any, qtbot: Any, colours: np.ndarray
):
    panel.viewer.add_image(colours, name="photo")
    panel.target.choose(TargetChoice.GRADIENT)
    panel.target.tools[Tool.GRADIENT].click()
    line = panel.viewer.layers["Gradient"]
    line.add_lines(np.array([(0, 0), (0, 500)]))
    area_is(panel, qtbot, lambda area: area.soft)
    first = panel.state.area.mask
    line.add_lines(np.array([(0, 0), (900, 0)]))
    area_is(panel, qtbot, lambda area: area.mask != first)
    assert len(line.data) == 1
    panel.state.set_options(feather=20)
    assert panel.state.request().feather == 0


@pytest.mark.slow
@pytest.mark.nightly
def test_a_gradient_blends_between_before_and_after(
    panel: Any, qtbot: Any, sample: Path, finished_run: Any
):
    panel.viewer.open(sample, plugin="napari-restore")
    choose(panel, "dcp")
    panel.target.choose(TargetChoice.GRADIENT)
    panel.target.tools[Tool.GRADIENT].click()
    panel.viewer.layers["Gradient"].add_lines(np.array([(0, 99.5), (0, 299.5)]))
    area_is(panel, qtbot, lambda area: area.soft)
    variant = finished_run()
    image = variant.source.metadata["napari_restore"]
    strip = Region(200, 0, 202, 400)
    before, after = image.read(strip).astype(int), variant.result.read(strip).astype(int)
    np.testing.assert_array_equal(before[:, :100], after[:, :100])
    assert (before[:, 310:] != after[:, 310:]).any()


def paint(panel: Any, region: Region) -> Any:
    panel.target.choose(TargetChoice.PAINTED)
    panel.target.tools[Tool.BRUSH].click()
    layer = panel.viewer.layers["Painted strength"]
    assert layer.mode == "paint"
    rows, columns = np.mgrid[region.slices]
    layer.data_setitem((rows.ravel(), columns.ravel()), 1)
    return layer


@pytest.mark.slow
def test_what_the_brush_paints_is_restored(
    panel: Any, qtbot: Any, colours: np.ndarray, finished_run: Any
):
    panel.viewer.add_image(colours, name="photo")
    choose(panel, "identity")
    region = Region(300, 400, 420, 500)
    layer = paint(panel, region)
    # At once: the run waits for the mask.
    variant = finished_run()
    # The paint would veil what it has led to.
    assert layer.mode == "pan_zoom" and not layer.visible
    assert variant.request.area.targets == (region,)
    assert "≈" in panel.target.pixels.text()
    panel.target.tools[Tool.BRUSH].click()
    assert layer.visible
    layer.undo()
    text = panel.target.pixels.text
    qtbot.waitUntil(lambda: "Nothing is painted" in text())
    assert panel.state.area is None


@pytest.mark.slow
def test_a_layer_for_strength_can_be_chosen(panel: Any, qtbot: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    photo = panel.state.layer
    layer = paint(panel, Region(300, 400, 420, 500))
    area_is(panel, qtbot, lambda area: area.mask is not None)
    assert panel.target.strength.isHidden()
    grey = panel.viewer.add_image(np.full((1300, 1700), 0.5, np.float32), name="half")
    panel.image.setCurrentIndex(panel.image.findData(photo))
    chooser = panel.target.strength
    assert not chooser.isHidden()
    assert {chooser.itemText(i) for i in range(chooser.count())} == {layer.name, "half"}
    assert chooser.currentData() is layer
    chooser.setCurrentIndex(chooser.findData(grey))
    area_is(panel, qtbot, lambda area: area.soft)
    assert panel.target.feather.isHidden()
    panel.viewer.layers.remove(grey)
    area_is(panel, qtbot, lambda area: not area.soft)


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [
        "areas",
        pytest.param("paint", marks=pytest.mark.slow),
        pytest.param("gradient", marks=pytest.mark.slow),
    ],
)
@pytest.mark.ids("nightly", "areas", "gradient")
def test_the_command_writes_the_same_bytes(
    panel: Any, qtbot: Any, sample: Path, tmp_path: Path, what: str, finished_run: Any
):
    panel.viewer.open(sample, plugin="napari-restore")
    choose(panel, "dcp")
    if what == "areas":
        panel.target.choose(TargetChoice.DRAWN)
        panel.target.tools[Tool.POLYGON].click()
        areas = panel.viewer.layers["Areas to restore"]
        areas.add_polygons(np.array([(100, 120), (160, 700), (600, 300)]))
        areas.add_rectangles(box(Region(700, 800, 900, 1000)))
        panel.target.feather.setValue(24)
    elif what == "paint":
        paint(panel, Region(100, 120, 300, 420))
        panel.target.feather.setValue(24)
    else:
        panel.target.choose(TargetChoice.GRADIENT)
        panel.target.tools[Tool.GRADIENT].click()
        panel.viewer.layers["Gradient"].add_lines(np.array([(50, 60), (700, 900)]))
    area_is(panel, qtbot, lambda area: area.mask is not None)
    variant = finished_run()
    shown = variant.result.save(tmp_path / "window.tif")
    command = [sys.executable, "-m", "napari_restore", "restore", str(sample)]
    command += ["-o", str(tmp_path / "command.tif"), "--model", "dcp", "--fresh"]
    command += ["--mask", variant.request.area.mask]
    if what != "gradient":
        command += ["--feather", "24"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "command.tif").read_bytes() == Path(shown).read_bytes()
    image = variant.source.metadata["napari_restore"]
    assert variant.result.array.shape == image.shape


# -- leaving out ---------------------------------------------------------------------


@pytest.mark.slow
def test_shapes_labels_and_files_can_be_left_out(
    panel: Any, qtbot: Any, colours: np.ndarray, tmp_path: Path
):
    panel.viewer.add_image(colours, name="photo")
    clouds = panel.viewer.add_shapes([box(Region(10, 10, 50, 50))], name="clouds")
    assert panel.state.options.reading.exclude is None
    panel.exclude.choose(clouds)
    first = panel.state.options.reading.exclude
    assert first is not None and first.endswith(".geojson")
    clouds.data = [box(Region(10, 10, 90, 50))]
    qtbot.waitUntil(lambda: panel.state.options.reading.exclude not in (None, first))
    labels = panel.viewer.add_labels(np.ones((1300, 1700), np.uint8), name="border")
    names = [panel.exclude.combo.itemText(i) for i in range(panel.exclude.combo.count())]
    assert names == ["Nothing", "clouds", "border", "A file …"]
    panel.exclude.choose(labels)
    qtbot.waitUntil(lambda: str(panel.state.options.reading.exclude).endswith(".tif"))
    panel.viewer.layers.remove(labels)
    assert (
        panel.state.options.reading.exclude is None
        and panel.exclude.combo.currentText() == "Nothing"
    )
    panel.exclude.choose(tmp_path / "mask.tif")
    assert panel.state.options.reading.exclude == str(tmp_path / "mask.tif")
    assert panel.exclude.combo.currentText() == "mask.tif"
    panel.exclude.choose(None)
    assert panel.state.options.reading.exclude is None


@pytest.mark.slow
def test_a_file_to_leave_out_stays_for_another_image(panel: Any, tmp_path: Path):
    panel.viewer.add_image(np.ones((64, 64), np.uint8), name="first")
    panel.exclude.choose(tmp_path / "mask.tif")
    panel.viewer.add_image(np.ones((64, 64), np.uint8), name="second")
    assert panel.state.layer.name == "second"
    assert panel.state.options.reading.exclude == str(tmp_path / "mask.tif")


@pytest.mark.slow
def test_an_empty_layer_to_leave_out_is_explained(panel: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    panel.exclude.choose(panel.viewer.add_shapes(name="clouds", ndim=2))
    assert panel.state.options.reading.exclude is None
    assert "no area is drawn" in panel.exclude.message.text()


@pytest.mark.nightly
def test_what_is_left_out_stays_as_it_is(panel: Any, sample: Path, finished_run: Any):
    panel.viewer.open(sample, plugin="napari-restore")
    choose(panel, "dcp")
    panel.target.choose(TargetChoice.WHOLE)
    source = panel.state.layer
    left = Region(100, 100, 200, 300)
    corners = [source.data_to_world(p) for p in box(left)]
    panel.exclude.choose(panel.viewer.add_shapes([np.array(corners)], name="clouds"))
    variant = finished_run()
    inner = Region(110, 110, 190, 290)
    image = source.metadata["napari_restore"]
    np.testing.assert_array_equal(variant.result.read(inner), image.read(inner))
    other = Region(300, 300, 400, 400)
    assert (variant.result.read(other) != image.read(other)).any()


@pytest.mark.slow
def test_a_run_waits_for_what_is_left_out(panel: Any, colours: np.ndarray, finished_run: Any):
    panel.viewer.add_image(colours, name="photo")
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    marked = np.zeros((1300, 1700), np.uint8)
    marked[:300] = 1
    labels = panel.viewer.add_labels(marked, name="border")
    panel.exclude.choose(labels)
    assert panel.state.options.reading.exclude is None and panel.state.exclusion.pending
    assert "excluded" in panel.bar.plan_line.text()
    first = finished_run().request.options.reading.exclude
    assert str(first).endswith(".tif")
    labels.data_setitem((np.array([400]), np.array([500])), 1)
    assert panel.state.options.reading.exclude == first and panel.state.exclusion.pending
    assert finished_run().request.options.reading.exclude not in (None, first)


@pytest.mark.slow
def test_a_reopened_panel_shows_what_is_excluded(panel: Any, qtbot: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    panel.exclude.choose(panel.viewer.add_shapes([box(Region(10, 10, 50, 50))], name="clouds"))
    mask = panel.state.options.reading.exclude
    panel.close()
    again = ExcludeChooser(panel.viewer, panel.state)
    qtbot.addWidget(again)
    assert (
        panel.state.options.reading.exclude == mask and again.combo.currentText() == Path(mask).name
    )
    end_all(again)
    panel.state.set_options(exclude=None)
    assert again.combo.currentText() == Path(mask).name


@pytest.mark.slow
def test_settings_of_a_result_say_what_is_left_out(
    panel: Any, qtbot: Any, colours: np.ndarray, finished_run: Any
):
    state, viewer, combo = panel.state, panel.viewer, panel.exclude.combo
    viewer.add_image(colours[:200, :300], name="photo")
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    bare = finished_run()
    clouds = viewer.add_shapes([box(Region(10, 10, 50, 50))], name="clouds")
    panel.exclude.choose(clouds)
    masked, mask = finished_run(), state.options.reading.exclude
    assert mask is not None and combo.currentText() == "clouds"
    apply_settings(state, bare, viewer.layers)
    assert state.options.reading.exclude is None and combo.currentText() == "Nothing"
    apply_settings(state, masked, viewer.layers)
    assert state.options.reading.exclude == mask and combo.currentText() == Path(mask).name
    clouds.data = [box(Region(10, 10, 90, 50))]
    assert not state.exclusion.pending
    panel.exclude.choose(None)
    assert state.options.reading.exclude is None


@pytest.mark.slow
@pytest.mark.parametrize("other", [False, True], ids=["as it was", "another mask"])
@pytest.mark.ids("nightly", "another mask")
def test_settings_of_a_result_overtake_the_mask_being_made(
    panel: Any, qtbot: Any, colours: np.ndarray, finished_run: Any, tmp_path: Path, other: bool
):
    state, viewer = panel.state, panel.viewer
    viewer.add_image(colours[:200, :300], name="photo")
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    variant = finished_run()
    if other:
        panel.exclude.choose(viewer.add_shapes([box(Region(10, 10, 50, 50))], name="clouds"))
    before = state.options.reading.exclude
    labels = viewer.add_labels(np.ones((200, 300), np.uint8), name="border")
    panel.exclude.choose(labels)
    assert state.exclusion.pending and state.options.reading.exclude == before
    apply_settings(state, variant, viewer.layers)
    assert not state.exclusion.pending
    qtbot.waitUntil(lambda: not panel.exclude._query._is_busy)
    assert state.options.reading.exclude is None and panel.exclude.combo.currentText() == "Nothing"


@pytest.mark.parametrize("what", ["empty", "beside"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "beside")
def test_a_run_does_not_start_without_what_is_excluded(
    panel: Any, qtbot: Any, colours: np.ndarray, what: str
):
    panel.viewer.add_image(colours[:200, :300], name="photo")
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    marked = np.zeros((200, 300), np.uint8) if what == "empty" else np.ones((200, 300), np.uint8)
    far = (0, 0) if what == "empty" else (0, 5000)
    labels = panel.viewer.add_labels(marked, name="border", translate=far)
    shown: list[str] = []
    notification_manager.notification_ready.connect(lambda reported: shown.append(reported.message))
    panel.exclude.choose(labels)
    panel.bar.button.click()
    assert panel.runs.running is None and panel.state.exclusion.pending
    qtbot.waitUntil(lambda: not panel.state.exclusion.pending)
    assert panel.runs.running is None and not panel.state.running
    assert len(shown) == 1 and shown[0].startswith("Nothing is excluded: ")
    assert panel.exclude.message.text() == shown[0]
    # The next mask starts nothing that was dropped.
    panel.exclude.choose(None)
    assert panel.runs.running is None and panel.state.exclusion.problem is None


@pytest.mark.slow
def test_live_waits_for_what_is_excluded(panel: Any, qtbot: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    choose(panel, "identity")
    live = panel.runs.live
    with qtbot.waitSignal(live.updated):
        panel.bar.live.click()
    seen: list[Any] = []
    live.shown.connect(lambda variant: seen.append(variant.request.options.reading.exclude))
    border = np.zeros((1300, 1700), np.uint8)
    border[:100] = 1
    panel.exclude.choose(panel.viewer.add_labels(border, name="border"))
    live.update()
    assert panel.runs._live_request() is None
    qtbot.waitUntil(lambda: bool(seen))
    assert str(seen[0]).endswith(".tif")


@pytest.mark.slow
def test_closing_the_panel_drops_the_run_that_waits(panel: Any, qtbot: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    panel.target.choose(TargetChoice.WHOLE)
    panel.exclude.choose(panel.viewer.add_labels(np.ones((1300, 1700), np.uint8), name="border"))
    panel.bar.button.click()
    assert panel.runs.running is None
    panel.close()
    panel.state.exclusion = Exclusion()
    assert panel.runs.running is None


@pytest.mark.slow
def test_a_closed_panel_follows_no_strokes(panel: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    panel.target.choose(TargetChoice.DRAWN)
    panel.target.tools[Tool.RECTANGLE].click()
    areas = panel.viewer.layers["Areas to restore"]
    panel.exclude.choose(areas)
    panel.close()
    ours = ("DrawingController", "LayerWatch", "ExcludeChooser", "AreaController")
    for emitter in (areas.events.data, areas.events.mode, areas.events.affine):
        assert not [c for c in emitter.callbacks if any(name in repr(c) for name in ours)]


@pytest.mark.slow
def test_a_gradient_is_an_arrow_that_points_at_full_strength(panel: Any):
    panel.viewer.add_image(np.zeros((1000, 1000, 3), np.uint8), name="photo")
    panel.target.choose(TargetChoice.GRADIENT)
    panel.target.tools[Tool.GRADIENT].click()
    layer = panel.viewer.layers["Gradient"]
    layer.add_lines(np.array([(100, 100), (100, 900)]))
    (arrow,) = layer.data
    np.testing.assert_allclose(arrow[[0, 1, 3, 5]], [(100, 100), *[(100, 900)] * 3])
    sides = arrow[[2, 4]] - arrow[1]
    assert (sides[:, 1] < 0).all() and sides[0, 0] * sides[1, 0] < 0
    # The tip can be dragged as a point of any line.
    dragged = arrow.copy()
    dragged[3] = (500, 900)
    layer.data = [(dragged, "path")]
    np.testing.assert_allclose(layer.data[0][[0, 1, 3, 5]], [(100, 100), *[(500, 900)] * 3])


@pytest.mark.slow
def test_areas_that_are_left_out_are_not_restored_as_well(
    panel: Any, qtbot: Any, colours: np.ndarray
):
    panel.viewer.add_image(colours, name="photo")
    panel.target.choose(TargetChoice.DRAWN)
    panel.drawing.toggle(Tool.RECTANGLE)
    clouds = panel.viewer.layers.selection.active
    clouds.add(box(Region(100, 100, 200, 300)), shape_type="rectangle")
    panel.drawing.end()
    area_is(panel, qtbot, lambda area: area.targets == (Region(100, 100, 200, 300),))
    panel.exclude.choose(clouds)
    assert clouds.name == "Excluded" and panel.exclude.combo.currentText() == "Excluded"
    assert panel.state.options.reading.exclude is not None and panel.state.area is None
    assert "what is drawn is excluded" in panel.target.pixels.text()
    panel.drawing.toggle(Tool.RECTANGLE)
    fields = panel.viewer.layers.selection.active
    assert fields is not clouds
    fields.add(box(Region(400, 400, 500, 500)), shape_type="rectangle")
    panel.drawing.end()
    area_is(panel, qtbot, lambda area: area.targets == (Region(400, 400, 500, 500),))
    panel.viewer.layers.remove(fields)
    panel.exclude.choose(None)
    area_is(panel, qtbot, lambda area: area.targets == (Region(100, 100, 200, 300),))


@pytest.mark.binding
@pytest.mark.parametrize(
    ("target", "tool", "name"),
    [
        (TargetChoice.DRAWN, Tool.POLYGON, "Areas to restore"),
        (TargetChoice.PAINTED, Tool.BRUSH, "Painted strength"),
    ],
)
def test_a_tool_that_stays_lit_draws_what_is_restored(
    panel: Any, qtbot: Any, colours: np.ndarray, target: TargetChoice, tool: Tool, name: str
):
    panel.viewer.add_image(colours, name="photo")
    panel.target.choose(target)
    panel.target.tools[tool].click()
    clouds = panel.viewer.layers.selection.active
    if tool is Tool.BRUSH:
        clouds.paint((150, 150), 1)
    else:
        clouds.add(box(Region(100, 100, 200, 300)), shape_type="polygon")
    panel.exclude.choose(clouds)
    qtbot.waitUntil(lambda: panel.state.options.reading.exclude is not None)
    assert panel.drawing.tool is tool and panel.target.tools[tool].isChecked()
    fields = panel.viewer.layers.selection.active
    assert (clouds.name, fields.name) == ("Excluded", name) and fields.mode == tool.mode
    assert clouds.mode == "pan_zoom"
    if tool is Tool.POLYGON:
        assert_colour(clouds, (1, 0, 0, 1))
        fields.add(box(Region(400, 400, 500, 500)), shape_type="polygon")
        assert_colour(fields, (1, 1, 0, 1))
        area_is(panel, qtbot, lambda area: area.targets == (Region(400, 400, 500, 500),))
    else:
        assert [layer.colormap.color_dict[None].tolist() for layer in (clouds, fields)] == [
            [1, 0, 0, 1], [1, 1, 0, 1],
        ]  # fmt: skip
        assert panel.state.area is None and "Nothing is painted" in panel.target.pixels.text()
    panel.drawing.end()
    panel.exclude.choose(None)
    assert clouds.name.startswith(name)
    if tool is Tool.POLYGON:
        assert_colour(clouds, (1, 1, 0, 1))


def assert_colour(layer: Any, colour: tuple[int, ...]) -> None:
    """Of what is drawn in it, and of what will be."""
    from napari.utils.colormaps.standardize_color import transform_color

    np.testing.assert_array_equal(layer.edge_color, [colour] * len(layer.data))
    np.testing.assert_array_equal(transform_color(layer.current_edge_color), [colour])


@pytest.mark.binding
def test_areas_to_exclude_are_drawn_by_their_own_button(
    panel: Any, qtbot: Any, colours: np.ndarray
):
    panel.viewer.add_image(colours, name="photo")
    exclude = panel.exclude
    exclude.draw.click()
    clouds = panel.viewer.layers["Excluded"]
    assert clouds.mode == "add_polygon" and exclude.combo.currentText() == "Excluded"
    assert exclude.draw.isChecked() and panel.drawing.tool is Tool.EXCLUDE
    assert "Click the corners" in exclude.message.text() and panel.target.hint.isHidden()
    clouds.add(box(Region(100, 100, 200, 300)), shape_type="polygon")
    assert_colour(clouds, (1, 0, 0, 1))
    qtbot.waitUntil(lambda: panel.state.options.reading.exclude is not None)
    assert exclude.message.isHidden() and panel.state.not_ready is None
    # What is to be restored is drawn elsewhere, and the button goes on where it was.
    panel.target.choose(TargetChoice.DRAWN)
    assert not exclude.draw.isChecked()
    panel.target.tools[Tool.POLYGON].click()
    assert panel.viewer.layers.selection.active.name == "Areas to restore"
    exclude.draw.click()
    assert panel.viewer.layers.selection.active is clouds
    assert not panel.target.tools[Tool.POLYGON].isChecked()
    # Nothing is excluded any more: what is lit would draw areas to restore.
    exclude.choose(None)
    assert panel.drawing.tool is None and not exclude.draw.isChecked()
    assert EXCLUDED not in clouds.metadata and clouds.mode == "pan_zoom"
