"""Keys, menus and the command palette."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari._app_model import get_app_model
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import notification_manager
from napari.utils.shortcuts import default_shortcuts
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_restore.plugin import BOUND, panel_of
from napari_restore.plugin.compare.compare_section import KEY
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.plugin.widgets.keys import KEYS, is_free

pytestmark = pytest.mark.binding

OURS = {name: coerce_keybinding(key.keys) for name, key in KEYS.items() if name != "leave"}


def pressed(viewer: Any, name: str) -> None:
    """What napari does when the key of `name` is pressed."""
    viewer.keymap[OURS[name]](viewer)


def test_no_key_is_one_of_naparis():
    taken = {binding for bindings in default_shortcuts.values() for binding in bindings}
    assert not taken & set(OURS.values())
    assert len(set(OURS.values())) == len(OURS)


def test_the_table_is_complete():
    assert set(BOUND) | {"blink", "leave"} == set(KEYS)
    assert KEYS["blink"].keys == KEY
    page = Path(__file__).parents[2].joinpath("docs", "window.md").read_text(encoding="utf-8")
    for key in KEYS.values():
        assert f"| {key.keys.replace('-', ' + ')} | {key.what} |" in page


def test_every_command_but_the_hooks_is_in_a_menu():
    manifest = PluginManifest.from_distribution("napari-restore")
    menus = manifest.contributions.menus
    offered = {
        item.command for items in menus.values() for item in items if hasattr(item, "command")
    }
    hooks = {"read", "write", "sample"}
    commands = {command.id for command in manifest.contributions.commands}
    assert commands - offered == {f"napari-restore.{name}" for name in hooks}


@pytest.mark.viewer
def test_keys_are_bound_while_the_panel_is_open(panel: Any):
    viewer = panel.viewer
    for name in BOUND:
        assert OURS[name] in viewer.keymap
    assert not is_free(viewer, KEYS["run"].keys)
    panel.close()
    assert not set(OURS.values()) & set(viewer.keymap)
    assert panel_of(viewer) is None


@pytest.mark.viewer
@pytest.mark.slow
def test_a_key_that_is_taken_stays_with_its_owner(make_napari_viewer: Any):
    viewer = make_napari_viewer()
    hits = []
    viewer.bind_key("Control-Enter", hits.append)
    dock, _ = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    pressed(viewer, "run")
    assert hits == [viewer]
    viewer.window.remove_dock_widget(dock)
    assert OURS["run"] in viewer.keymap


@pytest.mark.viewer
@pytest.mark.slow
def test_tooltips_name_the_keys(panel: Any):
    assert "Ctrl+Enter" in panel.bar.button.toolTip()
    assert "Ctrl+L" in panel.bar.live.toolTip()


@pytest.mark.slow
@pytest.mark.viewer
def test_run_and_export_by_key(panel: Any, qtbot: Any, sample: Path):
    viewer = panel.viewer
    shown = []
    notification_manager.notification_ready.connect(lambda reported: shown.append(reported.message))
    pressed(viewer, "export")
    pressed(viewer, "swipe")
    pressed(viewer, "cancel")
    pressed(viewer, "live")
    assert shown == [
        "There is no result yet. Run a method first.",
        "Run a method first: its result is compared with the source.",
        "Nothing is being restored.",
        "There is no image to restore.",
    ]
    viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    panel.models.choose("identity")
    panel.target.choose(TargetChoice.WHOLE)
    outcome = []
    panel.ended.connect(lambda *arguments: outcome.append(arguments))
    pressed(viewer, "run")
    qtbot.waitUntil(lambda: bool(outcome))
    assert outcome[0][0] == "done"
    pressed(viewer, "swipe")
    (swipe,) = (s.swipe for s in panel.sections if hasattr(s, "swipe"))
    assert swipe.isChecked()
    pressed(viewer, "swipe")
    assert not swipe.isChecked()


@pytest.mark.viewer
@pytest.mark.own_window
@pytest.mark.slow
def test_undo_by_key(panel: Any, qtbot: Any, finished_run: Any):
    """From the canvas and from the panel; what is typed is undone by its field."""
    shown = []
    notification_manager.notification_ready.connect(lambda reported: shown.append(reported.message))
    window, viewer = panel.window(), panel.viewer
    window.show()
    viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    panel.models.choose("identity")
    canvas = window._qt_viewer.canvas.native
    undo = (Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(canvas, *undo)
    assert shown.pop() == "There is no result yet. Run a method first."
    variant = finished_run()
    adjust, tone = panel.sections[:2]
    slider, box = adjust.sliders["strength"], tone.sliders["saturation"].box
    slider.setValue(40)
    qtbot.waitUntil(lambda: variant.adjustment.strength == 0.4)
    QTest.keyClick(slider, *undo)
    assert variant.adjustment.strength == 1 and slider.value() == 100
    box.lineEdit().selectAll()
    QTest.keyClicks(box, "25")
    QTest.keyClick(box, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: variant.adjustment.saturation == 25)
    QTest.keyClicks(box, "7")
    assert box.lineEdit().isUndoAvailable()
    QTest.keyClick(box, *undo)
    assert box.value() == variant.adjustment.saturation == 25
    QTest.keyClick(box, *undo)
    assert box.value() == variant.adjustment.saturation == 0
    QTest.keyClick(canvas, *undo)
    assert shown == ["There is nothing to undo: no change of this result's look is left."]


@pytest.mark.viewer
@pytest.mark.slow
def test_a_command_opens_the_panel_it_needs(make_napari_viewer: Any):
    viewer = make_napari_viewer()
    assert panel_of(viewer) is None
    get_app_model().commands.execute_command("napari-restore.run").result()
    panel = panel_of(viewer)
    assert panel is not None
    assert panel.runs.running is None
