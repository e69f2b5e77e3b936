"""Good manners: nothing goes on or stays behind, nothing is mixed up, all is within reach."""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QScrollArea,
    QSlider,
    QTabBar,
    QTableWidget,
)

from napari_restore.plugin.state.request import TargetChoice

pytestmark = pytest.mark.viewer
CONTROLS = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QSlider)


def opened(viewer: Any) -> Any:
    _, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    return panel


def begun(panel: Any, qtbot: Any) -> Any:
    """A run that has reached its child, on an image large enough not to end at once."""
    pixels = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (2048, 8, 3))
    panel.viewer.add_image(pixels, name="photo")
    panel.models.choose("dcp")
    panel.target.choose(TargetChoice.WHOLE)
    panel.advanced.tile.setValue(128)
    panel.bar.button.click()
    run = panel.runs.running
    qtbot.waitUntil(lambda: run.job is not None)
    return run


class Clicked(QCloseEvent):
    """Closing by the window's own button."""

    def spontaneous(self) -> bool:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["stay", "close"])
@pytest.mark.ids("nightly", "stay")
def test_closing_napari_mid_run_asks(
    make_napari_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, answer: str
):
    viewer = make_napari_viewer()
    panel = opened(viewer)
    run = begun(panel, qtbot)
    asked = []

    class Question:
        def __init__(self, *args: Any, extra_info: str = "", **options: Any) -> None:
            asked.append(extra_info)

        def exec_(self) -> Any:
            accepted = QDialog.DialogCode.Accepted
            return accepted if answer == "close" else QDialog.DialogCode.Rejected

    monkeypatch.setattr("napari._qt.qt_main_window.ConfirmCloseDialog", Question)
    ended = []
    run.ended.connect(lambda *arguments: ended.append(arguments))
    event = Clicked()
    panel.window().closeEvent(event)
    # Afterwards napari asks about the layers, as its own settings say.
    assert "restoration" in asked[0]
    assert event.isAccepted() == (answer == "close")
    if answer == "stay":
        assert panel.runs.running is not None
        panel.runs.cancel()
    qtbot.waitUntil(lambda: bool(ended))
    assert ended[0][0] == "cancelled"


@pytest.mark.slow
def test_removing_the_source_stops_its_run(panel: Any, qtbot: Any):
    begun(panel, qtbot)
    outcome = []
    panel.ended.connect(lambda *arguments: outcome.append(arguments))
    panel.viewer.layers.remove("photo")
    qtbot.waitUntil(lambda: bool(outcome))
    assert outcome[0][0] == "cancelled"
    assert panel.runs.running is None
    assert not panel.bar.button.isEnabled()


@pytest.mark.slow
@pytest.mark.nightly
def test_two_viewers_do_not_mix(make_napari_viewer: Any, qtbot: Any):
    one, other = make_napari_viewer(), make_napari_viewer()
    first, second = opened(one), opened(other)
    one.add_image(np.full((64, 64, 3), 90, np.uint8), name="one")
    other.add_image(np.full((80, 80, 3), 90, np.uint8), name="other")
    assert first.state is not second.state
    first.models.choose("identity")
    first.memory.setValue(2)
    first.target.choose(TargetChoice.VISIBLE)
    assert second.state.method.model == "atmosphere"
    assert second.state.memory_gib == 0
    assert second.state.target is TargetChoice.WHOLE
    outcome = []
    first.ended.connect(lambda *arguments: outcome.append(arguments))
    # The key of a viewer runs what that viewer shows.
    one.keymap[coerce_keybinding("Control-Enter")](one)
    qtbot.waitUntil(lambda: bool(outcome))
    assert outcome[0][0] == "done"
    assert (len(one.layers), len(other.layers)) == (2, 1)
    assert second.runs.running is None
    assert second.state.variants == ()
    first.close()
    other.keymap[coerce_keybinding("Control-B")](other)
    assert coerce_keybinding("Control-Enter") in other.keymap


def callbacks_of_ours(viewer: ViewerModel) -> list[str]:
    """What of this plugin a viewer and its layers still call."""
    emitters = [
        viewer.events,
        viewer.layers.events,
        viewer.layers.selection.events,
        viewer.scene.camera.events,
        viewer.canvas.events,
        viewer.dims.events,
        viewer.cursor.events,
        *(layer.events for layer in viewer.layers),
    ]
    found = [
        repr(callback)
        for group in emitters
        for emitter in [group, *getattr(group, "emitters", {}).values()]
        for callback in getattr(emitter, "callbacks", ())
    ]
    found += [repr(c) for c in (*viewer.mouse_drag_callbacks, *viewer.mouse_move_callbacks)]
    found += [repr(callback) for callback in viewer.keymap.values()]
    return [text for text in found if "napari_restore" in text]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["close", "remove"])
@pytest.mark.ids("nightly", "close", "remove")
def test_a_panel_that_is_gone_leaves_nothing_behind(make_napari_viewer: Any, qtbot: Any, how: str):
    viewer = make_napari_viewer()
    viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    before = callbacks_of_ours(viewer)
    dock, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    panel.models.choose("identity")
    panel.target.choose(TargetChoice.WHOLE)
    outcome = []
    panel.ended.connect(lambda *arguments: outcome.append(arguments))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(outcome))
    panel.models.choose("dcp")
    panel.airlight.pick_button.click()
    assert len(callbacks_of_ours(viewer)) > len(before)
    gone = weakref.ref(panel)
    if how == "close":
        panel.close()
    viewer.window.remove_dock_widget(dock)
    del panel, dock
    assert callbacks_of_ours(viewer) == before

    def collected() -> bool:
        gc.collect()
        return gone() is None

    qtbot.waitUntil(collected)


@pytest.mark.slow
def test_every_control_is_explained_and_reached_by_keyboard(panel: Any):
    panel.viewer.add_image(np.zeros((64, 64, 5), np.uint16)[..., 0], name="scene")
    panel.models.choose("dcp")
    mine = [panel.models, panel.bands, panel.parameters, panel.airlight, panel.advanced, panel.bar]
    for part in mine:
        for control in (c for kind in CONTROLS for c in part.findChildren(kind)):
            # Qt's own parts, as the corner of a table that has no headers there.
            if isinstance(control.parent(), (QAbstractSpinBox, QComboBox, QTableWidget)):
                continue
            assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, control
            if control is not panel.bar.button:
                assert control.toolTip(), (part, control)


@pytest.mark.slow
def test_every_control_of_a_photo_has_a_tooltip(panel: Any, finished_run: Any, colours: np.ndarray):
    panel.viewer.add_image(colours[:60, :80], name="a")
    panel.models.choose("identity")
    finished_run()
    untold: list[Any] = []
    for title in ("Restore", "Fuse"):
        panel.tabs.choose(title)
        for control in (c for kind in CONTROLS for c in panel.findChildren(kind)):
            # That of a widget is that of its parts, too.
            whole = control
            while whole is not panel and not whole.toolTip():
                whole = whole.parentWidget()
            is_of_qt = isinstance(control.parent(), QTabBar)
            if whole is panel and control.isVisibleTo(panel) and not is_of_qt:
                name = control.currentText if isinstance(control, QComboBox) else control.text
                untold.append((type(control).__name__, name(), control.accessibleName()))
    assert not untold
    assert all(panel.tabs.tabToolTip(number) for number in range(panel.tabs.count()))


@pytest.mark.slow
def test_labels_lead_to_their_controls(panel: Any):
    found = 0
    for form in panel.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            label = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
            field = form.itemAt(row, QFormLayout.ItemRole.FieldRole)
            if label is None or field is None or isinstance(field.widget(), QLabel):
                continue
            assert label.widget().buddy() is not None, label.widget().text()
            assert not re.search("[a-z][A-Z]", label.widget().text()), "a name of the code"
            found += 1
    assert found >= 10


@pytest.mark.slow
@pytest.mark.own_window
def test_nothing_is_wider_than_the_panel(panel: Any):
    panel.viewer.add_image(np.zeros((64, 64, 3), np.uint8), name="photo")
    (scroll,) = panel.findChildren(QScrollArea)
    bar = scroll.verticalScrollBar().sizeHint().width()
    assert scroll.widget().minimumSizeHint().width() + bar <= panel.minimumWidth()


@pytest.mark.slow
def test_the_device_is_shown_with_its_reason(panel: Any, qtbot: Any):
    with qtbot.waitSignal(panel.plans.planned):
        panel.viewer.add_image(np.zeros((64, 64, 3), np.uint8), name="photo")
        panel.advanced.device.setCurrentText("cpu")
    assert panel.advanced.reason.text() == "cpu: chosen by the user"
    assert panel.advanced.scope.text().startswith("local")
    panel.advanced.tile_batch.setValue(3)
    assert panel.state.request().options.computing.tile_batch == 3
