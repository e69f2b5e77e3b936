from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.settings import get_settings
from napari_mouse import canvas_of
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_restore import Region
from napari_restore.errors import BadRegion
from napari_restore.plugin.compare.compared_layers import Compared
from napari_restore.plugin.compare.swipe import GRAB, Swipe

pytestmark = [pytest.mark.viewer, pytest.mark.binding]
ASKEW = np.array([[-0.8, -0.6, 5e3], [-0.6, 0.8, 3e3], [0, 0, 1]])
"""North up and turned by 37°."""


def begun(viewer: Any, qtbot: Any, *arguments: Any, **options: Any) -> Swipe:
    swipe = Swipe(viewer, *arguments, **options)
    qtbot.waitUntil(lambda: swipe.is_ready)
    return swipe


def picture(viewer: Any) -> np.ndarray:
    QApplication.processEvents()
    return np.asarray(viewer.screenshot(flash=False))[..., :3].astype(int)


def on_screen(viewer: Any, layer: Any, row: float, column: float) -> tuple[int, int]:
    """Where a pixel of a layer lies on the canvas, (x, y)."""
    height, width = viewer.canvas.size
    camera = viewer.scene.camera
    away = np.array(layer.data_to_world((row, column))) - camera.center[-2:]
    signs = [1 if way in ("down", "right") else -1 for way in camera.orientation2d]
    y, x = away * signs * camera.zoom + (height / 2, width / 2)
    return round(x), round(y)


def covered(viewer: Any, variant: Any) -> Region:
    """Where the pixels of the curtain lie, of the source at full resolution."""
    curtain = viewer.layers["Swipe: left side"]
    corners = [(-0.5, -0.5), np.array(curtain.data.shape[:2]) - 0.5]
    ends = [variant.source.world_to_data(curtain.data_to_world(each)) for each in corners]
    return Region(*np.round(np.add(ends, 0.5)[:, -2:]).astype(int).ravel().tolist())


def white(viewer: Any, x: int, y: int) -> int:
    """How many pixels of the line are white, away from its handle."""
    row = picture(viewer)[min(max(y, 40), 400) - 30]
    return int((row[x - 8 : x + 8].min(1) > 250).sum())


def before_and_after(viewer: Any, variant: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pictures without and with the result."""
    variant.layer.visible = False
    before = picture(viewer)
    variant.layer.visible = True
    return before, picture(viewer)


@pytest.mark.slow
def test_left_is_the_source_and_right_the_result(
    viewer: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    variant = make_variant(viewer, hazy)
    before, after = before_and_after(viewer, variant)
    swipe = begun(viewer, qtbot, variant)
    swipe.move_to(600)
    seen = picture(viewer)
    x, y = on_screen(viewer, variant.source, 300, 600)
    assert (np.abs(before - after).max(2) > 5).mean() > 0.3
    np.testing.assert_array_equal(seen[:, : x - 20], before[:, : x - 20])
    np.testing.assert_array_equal(seen[:, x + 20 :], after[:, x + 20 :])
    assert seen[y - 100, x].min() > 200


@pytest.mark.slow
@pytest.mark.nightly
def test_the_curtain_lies_exactly_on_the_source_at_every_level(
    viewer: Any, qtbot: Any, make_variant: Any, sample: Path
):
    variant = make_variant(viewer, sample, bands=None)
    for zoom, level in {0.1: 3, 0.3: 1, 0.7: 0, 3.0: 0}.items():
        viewer.scene.camera.zoom = zoom / variant.source.scale[1]
        variant.layer.visible = False
        picture(viewer)
        before = picture(viewer)
        swipe = begun(viewer, qtbot, variant)
        swipe.move_to(variant.source.metadata["napari_restore"].width)
        covered = picture(viewer)
        x, _ = on_screen(viewer, variant.source, 0, swipe.column)
        assert variant.source.data_level == min(level, len(variant.source.data) - 1)
        assert x > 100
        np.testing.assert_array_equal(covered[:, : x - 30], before[:, : x - 30])
        swipe.end()


@pytest.mark.nightly
def test_it_leans_with_an_image_that_lies_askew(
    viewer: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    viewer.scene.camera.orientation2d = ("up", "right")
    variant = make_variant(viewer, hazy, affine=ASKEW, units=("metre", "metre"))
    viewer.reset_view()
    before, after = before_and_after(viewer, variant)
    swipe = begun(viewer, qtbot, variant)
    swipe.move_to(500)
    seen = picture(viewer)
    wrong = 0
    for row in range(50, 700, 50):
        for column, expected in ((400, before), (600, after)):
            x, y = on_screen(viewer, variant.source, row, column)
            # Drawn through a slanted grid, a pixel may be its neighbour.
            near = (slice(y - 1, y + 2), slice(x - 1, x + 2))
            wrong += np.abs(seen[near].mean((0, 1)) - expected[near].mean((0, 1))).max() > 12
        x, y = on_screen(viewer, variant.source, row, 500)
        # Not across the handle's arrows.
        assert abs(row - 350) < 40 or seen[y, x].min() > 150
    assert wrong <= 2


@pytest.mark.slow
def test_the_mouse_drags_it_and_the_view_stays(
    viewer: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    variant = make_variant(viewer, hazy)
    swipe = begun(viewer, qtbot, variant)
    canvas = canvas_of(viewer)
    centre = viewer.scene.camera.center
    x, y = on_screen(viewer, variant.source, 200, swipe.column)

    def drag(start: int, stop: int, arrived: Any) -> None:
        move(canvas, QPoint(start, y), Qt.MouseButton.NoButton)
        QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=QPoint(start, y))

        def moved() -> bool:
            # Moves that come within a few ms of another are dropped on the way.
            move(canvas, QPoint(stop, y), Qt.MouseButton.LeftButton)
            return bool(arrived())

        qtbot.waitUntil(moved)
        QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(stop, y))

    expected = pytest.approx(450 - 150 / viewer.scene.camera.zoom, abs=2)
    drag(x + GRAB // 2, x - 150, lambda: swipe.column == expected)
    assert viewer.scene.camera.center == centre
    # Away from the line the mouse pans, as ever.
    drag(x + 100, x + 160, lambda: viewer.scene.camera.center != centre)
    assert swipe.column == expected


def move(canvas: Any, at: QPoint, held: Qt.MouseButton) -> None:
    """Move the mouse with a button held, which QTest.mouseMove cannot."""
    event = QMouseEvent(
        QEvent.Type.MouseMove,
        QPointF(at),
        QPointF(canvas.mapToGlobal(at)),
        Qt.MouseButton.NoButton,
        held,
        Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(canvas, event)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    ["end", "escape", pytest.param("line removed", marks=pytest.mark.slow), "curtain removed"],
)
@pytest.mark.ids("nightly", "escape", "end", "line removed", "curtain removed")
def test_ending_leaves_everything_as_it_was(
    viewer: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray, how: str
):
    first = make_variant(viewer, hazy)
    second = make_variant(viewer, hazy, "identity", source=first.source)
    first.source.visible = False
    viewer.layers.selection.active = first.source
    escapes = []
    viewer.bind_key("Escape", lambda _: escapes.append(1))
    plain = picture(viewer)
    layers = [(layer, layer.visible, id(layer.data)) for layer in viewer.layers]
    keys = dict(viewer.keymap)
    swipe = begun(viewer, qtbot, second)
    assert not first.layer.visible and first.source.visible
    assert viewer.layers.selection.active is first.source
    swipe.move_to(200)
    if how == "end":
        swipe.end()
    elif how == "escape":
        canvas = canvas_of(viewer)
        canvas.setFocus()
        QTest.keyClick(canvas, Qt.Key.Key_Escape)
    else:
        viewer.layers.remove("Swipe: line" if how == "line removed" else "Swipe: left side")
    assert [(layer, layer.visible, id(layer.data)) for layer in viewer.layers] == layers
    assert viewer.keymap == keys
    assert viewer.scene.camera.mouse_pan
    assert viewer.layers.selection.active is first.source
    listening = [*viewer.mouse_drag_callbacks, *viewer.mouse_move_callbacks]
    events = [viewer.scene.camera.events, viewer.canvas.events, viewer.dims.events]
    events += [viewer.layers.events, first.source.events]
    for group in events:
        listening += [each for emitter in group.emitters.values() for each in emitter.callbacks]
    assert not any("Swipe" in repr(callback) for callback in listening)
    np.testing.assert_array_equal(picture(viewer), plain)


@pytest.mark.slow
def test_it_follows_pan_and_zoom(viewer: Any, qtbot: Any, make_variant: Any, colours: np.ndarray):
    variant = make_variant(viewer, colours, "identity")
    viewer.scene.camera.zoom = 2.0
    viewer.scene.camera.center = (300, 300)
    swipe = begun(viewer, qtbot, variant)
    assert not covered(viewer, variant).intersect(Region(900, 1300, 1000, 1400)).pixels > 0
    viewer.scene.camera.center = (950, 1350)
    view = Region(900, 1300, 1000, 1400)
    qtbot.waitUntil(lambda: covered(viewer, variant).intersect(view) == view)
    # The line would be hard to find where it was.
    assert swipe.column == pytest.approx(1350, abs=60)
    widths = []
    for zoom in (2.0, 0.3):
        viewer.scene.camera.zoom = zoom
        at = on_screen(viewer, variant.source, 650, swipe.column)
        qtbot.waitUntil(lambda at=at: 2 <= white(viewer, *at) <= 4)
        widths.append(white(viewer, *at))
    assert widths[0] == pytest.approx(widths[1], abs=1)


@pytest.mark.nightly
def test_while_tiles_are_missing_the_left_side_is_covered_all_the_same(
    viewer: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    variant = make_variant(viewer, hazy, finished=False, tile=128)
    swipe = begun(viewer, qtbot, variant)
    swipe.move_to(450)
    before = picture(viewer)
    later = Region(256, 640, 384, 768)
    variant.shown.mark(later)
    variant.shown.refresh()
    x, y = on_screen(viewer, variant.source, 320, 700)
    qtbot.waitUntil(lambda: np.abs(picture(viewer)[y, x] - before[y, x]).max() > 5)
    edge, _ = on_screen(viewer, variant.source, 0, 450)
    np.testing.assert_array_equal(picture(viewer)[:, : edge - 20], before[:, : edge - 20])


@pytest.mark.nightly
def test_another_result_may_be_on_the_left(
    viewer: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    half = Region(0, 0, 700, 256)
    left = make_variant(viewer, hazy, region=half)
    right = make_variant(viewer, hazy, "identity", source=left.source)
    swipe = begun(viewer, qtbot, right, Compared.of(left))
    swipe.move_to(512)
    curtain = np.asarray(viewer.layers["Swipe: left side"].data)
    region = covered(viewer, left)
    own = np.asarray(left.layer.data[0])
    shape = half.shift(-region.y0, -region.x0)
    np.testing.assert_array_equal(curtain[shape.slices], own[: half.height, : half.width])
    # Where the left one has nothing the source shows.
    rest = Region(0, 256, 700, 512).shift(-region.y0, -region.x0)
    np.testing.assert_array_equal(curtain[rest.slices][..., :3], hazy[:, 256:512])
    assert not curtain[:, 512 - region.x0 :, 3].any()


@pytest.mark.slow
def test_grey_bands_keep_their_values_and_display(
    viewer: Any, qtbot: Any, make_variant: Any, planned: Any
):
    pixels = np.random.default_rng(1).integers(1, 60_000, (5, 700, 500)).astype(np.uint16)
    variant = make_variant(
        viewer, pixels.transpose(1, 2, 0), "identity", bands=None, contrast_limits=(10, 50_000)
    )
    viewer.dims.set_current_step(0, 1)
    swipe = begun(viewer, qtbot, variant)
    swipe.move_to(300)
    region = covered(viewer, variant)
    shown = viewer.layers["Swipe: left side"]
    curtain = np.asarray(shown.data)
    np.testing.assert_array_equal(curtain[:, : 300 - region.x0], pixels[1, :, region.x0 : 300])
    assert np.isnan(curtain[:, 300 - region.x0 :]).all()
    variant.source.contrast_limits = (5, 9000)
    variant.source.colormap = "magma"
    assert shown.contrast_limits == [5, 9000]
    assert shown.colormap.name == "magma"
    viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: bool(np.asarray(shown.data)[0, 0] == pixels[2, 0, region.x0]))


@pytest.mark.nightly
def test_it_also_works_with_asynchronous_slicing(
    viewer: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    variant = make_variant(viewer, hazy)
    variant.layer.visible = False
    before = picture(viewer)
    variant.layer.visible = True
    get_settings().experimental.async_ = True
    try:
        swipe = begun(viewer, qtbot, variant)
        swipe.move_to(600)
        x, _ = on_screen(viewer, variant.source, 0, 600)
        qtbot.waitUntil(lambda: bool((picture(viewer)[:, : x - 20] == before[:, : x - 20]).all()))
        swipe.end()
    finally:
        get_settings().experimental.async_ = False


@pytest.mark.slow
def test_out_of_view_it_does_not_begin(viewer: Any, make_variant: Any, hazy: np.ndarray):
    variant = make_variant(viewer, hazy)
    viewer.scene.camera.center = (1e6, 1e6)
    layers = list(viewer.layers)
    with pytest.raises(BadRegion, match="in view"):
        Swipe(viewer, variant)
    assert list(viewer.layers) == layers
