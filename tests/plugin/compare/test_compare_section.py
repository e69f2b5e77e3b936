"""The Compare part of the panel, driven as a user would."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from napari_mouse import canvas_of
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

import napari_restore as nr
from napari_restore import Region
from napari_restore.metrics import psnr
from napari_restore.plugin.compare.compare_section import CompareSection
from napari_restore.plugin.compare.swipe import Swipe
from napari_restore.plugin.layers.reader import layer_of
from napari_restore.plugin.tasks.task import DebouncedQuery
from napari_restore.plugin.widgets.section import end_all
from napari_restore.questions import Adjustment

from .conftest import show

pytestmark = pytest.mark.viewer


@pytest.fixture
def section(viewer: Any, state: Any, qtbot: Any) -> Any:
    section = CompareSection(viewer, state)
    qtbot.addWidget(section)
    yield section
    end_all(section)
    section.leave()


@pytest.fixture
def swipes(monkeypatch: pytest.MonkeyPatch) -> list[Swipe]:
    """All that begin."""
    begun: list[Swipe] = []
    begin = Swipe.__init__

    def remember(self: Swipe, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        begun.append(self)

    monkeypatch.setattr(Swipe, "__init__", remember)
    return begun


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


@pytest.mark.slow
def test_without_a_result_the_next_step_is_shown(section: Any):
    assert not section.hint.isHidden()
    assert not section.swipe.isEnabled() and not section.sides.isEnabled()


@pytest.mark.slow
@pytest.mark.nightly
def test_swipe_and_side_by_side_exclude_each_other(
    section: Any, viewer: Any, state: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    variant = make_variant(viewer, hazy)
    show(state, variant)
    assert section.hint.isHidden()
    before = names(viewer)
    section.swipe.click()
    qtbot.waitUntil(lambda: "Swipe: left side" in names(viewer))
    assert names(viewer)[-1] == "Swipe: line"
    section.sides.click()
    assert not section.swipe.isChecked()
    assert names(viewer) == before
    assert viewer.canvas.grid.enabled
    section.swipe.click()
    assert not section.sides.isChecked()
    assert not viewer.canvas.grid.enabled
    qtbot.waitUntil(lambda: "Swipe: left side" in names(viewer))
    viewer.layers.remove("Swipe: line")
    assert not section.swipe.isChecked()
    assert names(viewer) == before


@pytest.mark.slow
@pytest.mark.nightly
def test_another_result_is_swiped_on_where_the_line_was(
    section: Any,
    viewer: Any,
    state: Any,
    qtbot: Any,
    make_variant: Any,
    hazy: np.ndarray,
    swipes: list[Swipe],
):
    first = make_variant(viewer, hazy)
    second = make_variant(viewer, hazy, "identity", source=first.source)
    show(state, first)
    section.swipe.click()
    swipes[-1].move_to(300)
    show(state, first, second)
    assert section.swipe.isChecked()
    assert swipes[-1].variant is second
    assert swipes[-1].column == 300
    assert [section.other.itemText(i) for i in range(2)] == ["Source", first.name]
    section.other.setCurrentIndex(1)
    qtbot.waitUntil(lambda: swipes[-1].is_ready)
    covered = np.asarray(viewer.layers["Swipe: left side"].data)[:, 100]
    np.testing.assert_array_equal(covered, np.asarray(first.layer.data[0])[:, 100])
    assert swipes[-1].column == 300
    section.sides.click()
    grid = viewer.canvas.grid
    place = {x: grid.position(viewer.layers.index(x), viewer.layers) for x in viewer.layers}
    assert (place[first.layer], place[second.layer]) == ((0, 0), (0, 1))
    assert not first.source.visible
    show(state)
    assert not section.sides.isChecked()
    assert not grid.enabled


@pytest.mark.nightly
def test_the_key_and_the_button_blink(
    section: Any, viewer: Any, state: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    variant = make_variant(viewer, hazy)
    show(state, variant)
    canvas = canvas_of(viewer)
    QTest.keyPress(canvas, Qt.Key.Key_H)
    assert variant.layer.opacity == 0
    QTest.keyRelease(canvas, Qt.Key.Key_H)
    qtbot.waitUntil(lambda: variant.layer.opacity == 1)
    QTest.mousePress(section.hold, Qt.MouseButton.LeftButton)
    assert variant.layer.opacity == 0
    QTest.mouseRelease(section.hold, Qt.MouseButton.LeftButton)
    assert variant.layer.opacity == 1


@pytest.mark.nightly
def test_a_repeating_key_does_not_flicker(
    section: Any, viewer: Any, state: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    """As X11 tells of it: released and pressed again, many times a second."""
    variant = make_variant(viewer, hazy)
    show(state, variant)
    canvas = canvas_of(viewer)
    opacities: list[float] = []
    variant.layer.events.opacity.connect(lambda: opacities.append(variant.layer.opacity))

    QTest.keyPress(canvas, Qt.Key.Key_H)
    for _ in range(5):
        QTest.keyRelease(canvas, Qt.Key.Key_H)
        QTest.keyPress(canvas, Qt.Key.Key_H)
    assert opacities == [0]
    QTest.keyRelease(canvas, Qt.Key.Key_H)
    qtbot.waitUntil(lambda: opacities == [0, 1])


@pytest.mark.nightly
def test_contrast_is_linked_unless_the_user_does_not_want_it(
    section: Any, viewer: Any, state: Any, make_variant: Any
):
    pixels = np.random.default_rng(1).integers(1, 60_000, (300, 200)).astype(np.uint16)
    variant = make_variant(viewer, pixels, "identity", bands=None)
    show(state, variant)
    variant.source.contrast_limits = (10, 900)
    assert variant.layer.contrast_limits == [10, 900]
    section.link.click()
    variant.source.contrast_limits = (10, 500)
    assert variant.layer.contrast_limits == [10, 900]


@pytest.mark.slow
def test_figures_follow_the_view_and_what_the_result_shows(
    section: Any, viewer: Any, state: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    variant = make_variant(viewer, hazy)
    show(state, variant)
    view = section.figures
    assert view.reference.count() == 1
    assert "No layer" in view.reference.itemText(0)
    clear = np.clip(hazy.astype(int) - 30, 0, 255).astype(np.uint8)
    truth = viewer.add_image(clear, name="clear")
    viewer.reset_view()
    view.reference.setCurrentIndex(view.reference.findData(truth))
    qtbot.waitUntil(lambda: "PSNR" in view.text.text())
    first = view.text.text()
    expected = psnr(hazy, clear, 255)
    assert f"PSNR {expected:.2f} dB" in first
    assert "0.63 MP" in first
    viewer.scene.camera.zoom *= 4
    qtbot.waitUntil(lambda: view.text.text() != first)

    def is_unchanged() -> bool:
        line = view.text.text().splitlines()[0]
        before, after = line.removeprefix("PSNR ").split(" → ")
        return before == after

    assert not is_unchanged()
    # Figures of the view before the last one may still come first.
    variant.adjust(Adjustment(strength=0.0))
    qtbot.waitUntil(is_unchanged)
    viewer.scene.camera.center = (1e6, 1e6)
    qtbot.waitUntil(lambda: "in view" in view.text.text())
    viewer.layers.remove(truth)
    assert view.text.text() == ""


@pytest.mark.slow
def test_maps_come_and_go_with_their_buttons(
    section: Any, viewer: Any, state: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    variant = make_variant(viewer, hazy, region=Region(0, 0, 512, 600), maps=True)
    show(state, variant)
    view = section.maps
    shares = variant.record["measured"]["quality_shares"]
    words = view.legend.text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"unchanged {shares['unchanged']:.1%}"[:-1] in words
    for name, kind in (("change", "image"), ("transmission", "image"), ("quality", "labels")):
        view.buttons[name].click()
        title = f"{name.capitalize()}: {variant.name}"
        qtbot.waitUntil(lambda title=title: title in names(viewer))
        layer = viewer.layers[title]
        assert type(layer).__name__.lower() == kind
        assert layer.metadata["napari_restore_record"] == variant.record
    view.buttons["change"].click()
    assert f"Change: {variant.name}" not in names(viewer)
    viewer.layers.remove(f"Quality: {variant.name}")
    assert not view.buttons["quality"].isChecked()
    assert view.buttons["transmission"].isChecked()
    viewer.layers.remove(variant.layer)
    assert names(viewer) == ["source"]


@pytest.mark.slow
def test_maps_that_a_result_lacks_are_disabled(
    section: Any, viewer: Any, state: Any, make_variant: Any, hazy: np.ndarray
):
    variant = make_variant(viewer, hazy, "identity")
    show(state, variant)
    button = section.maps.buttons["transmission"]
    assert not button.isEnabled()
    assert "box below" in button.toolTip()
    assert not state.options.storing.maps
    section.maps.keep.click()
    assert state.options.storing.maps


@pytest.mark.slow
@pytest.mark.nightly
def test_a_map_follows_the_result_it_was_made_of(
    section: Any, viewer: Any, state: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    variant = make_variant(viewer, hazy)
    show(state, variant)
    section.maps.buttons["change"].click()
    title = f"Change: {variant.name}"
    qtbot.waitUntil(lambda: title in names(viewer))
    coarsest = np.asarray(viewer.layers[title].data[-1])
    assert np.nanmax(np.abs(coarsest)) > 5
    variant.adjust(Adjustment(strength=0.0))
    qtbot.waitUntil(lambda: bool(np.nanmax(np.abs(coarsest)) == 0))


@pytest.mark.nightly
def test_leaving_lets_go_of_everything(
    viewer: Any, state: Any, qtbot: Any, make_variant: Any, hazy: np.ndarray
):
    keys = dict(viewer.keymap)
    mouse = list(viewer.mouse_drag_callbacks), list(viewer.mouse_move_callbacks)
    variant = make_variant(viewer, hazy)
    truth = viewer.add_image(hazy, name="clear")
    layers = list(viewer.layers)
    section = CompareSection(viewer, state)
    qtbot.addWidget(section)
    show(state, variant)
    section.figures.reference.setCurrentIndex(section.figures.reference.findData(truth))
    section.swipe.click()
    qtbot.waitUntil(lambda: "Swipe: left side" in names(viewer))
    end_all(section)
    section.leave()
    assert list(viewer.layers) == layers
    assert dict(viewer.keymap) == keys
    assert (viewer.mouse_drag_callbacks, viewer.mouse_move_callbacks) == mouse
    ours = ("Swipe", "Blink", "CompareSection", "FiguresView", "MapsView")
    camera = viewer.scene.camera.events
    watched = [camera.zoom, camera.center, viewer.canvas.events.size, viewer.dims.events.ndisplay]
    watched += [viewer.layers.events.inserted, viewer.layers.events.removed]
    for layer in layers:
        watched += [layer.events.set_data, layer.events.gamma]
    left = [x for event in watched for x in event.callbacks if any(o in repr(x) for o in ours)]
    assert left == []
    variant.source.gamma = 0.5
    assert variant.layer.gamma == 1


def test_only_the_newest_order_counts_and_is_received_in_the_window(qtbot: Any):
    threads, got = [], []

    def work(number: int) -> int:
        threads.append(threading.current_thread())
        if number < 0:
            raise ValueError("a bug")
        return number

    def receive(number: int) -> None:
        got.append((number, threading.current_thread() is threading.main_thread()))

    query = DebouncedQuery(work, receive, 5)
    for number in range(5):
        query.request(number)
    qtbot.waitUntil(lambda: bool(got))
    assert got == [(4, True)]
    assert threading.main_thread() not in threads
    query.request_now(7)
    query.request_now(8)
    qtbot.waitUntil(lambda: got[-1] == (8, True))
    assert (7, True) not in got
    query.request_now(9)
    query.discard()
    query.request_now(10)
    qtbot.waitUntil(lambda: got[-1] == (10, True))
    assert (9, True) not in got


def test_an_error_on_the_thread_is_shown(qtbot: Any):
    shown: list[str] = []
    notification_manager.notification_ready.connect(lambda reported: shown.append(reported.message))

    def work() -> None:
        raise ValueError("nothing to divide")

    query = DebouncedQuery(work, lambda _: pytest.fail("received"), 0)
    query.request_now()
    qtbot.waitUntil(lambda: bool(shown))
    assert "nothing to divide" in shown[0]


@pytest.mark.nightly
def test_the_panel_has_it(panel: Any, qtbot: Any, colours: np.ndarray):
    (section,) = (s for s in panel.sections if isinstance(s, CompareSection))
    assert not section.swipe.isEnabled() and not section.sides.isEnabled()
    assert "H" in {str(key) for key in panel.viewer.keymap}
    panel.close()
    assert "H" not in {str(key) for key in panel.viewer.keymap}


@pytest.mark.slow
@pytest.mark.nightly
def test_a_photo_is_swiped_like_a_map(
    panel: Any, qtbot: Any, colours: np.ndarray, finished_run: Any
):
    image = nr.open_image(colours[:200, :300], bands="red=1,green=2,blue=3")
    data, arguments, _ = layer_of(image)
    panel.viewer.add_image(data, **arguments)
    assert image.is_photo
    panel.models.combo.setCurrentIndex(panel.models.combo.findData("identity"))
    finished_run()
    (section,) = (s for s in panel.sections if isinstance(s, CompareSection))
    section.swipe.click()
    qtbot.waitUntil(lambda: "Swipe: left side" in names(panel.viewer))
    panel.form.photos.show_chosen()
    drawn = [layer for layer in panel.viewer.layers if layer.name.startswith("Swipe")]
    assert len(drawn) == 2 and all(layer.visible for layer in drawn)
