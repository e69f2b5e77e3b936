"""napari's Preferences for the plugin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.settings import get_plugin_settings, get_settings
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest

from napari_restore.images import cache_dir, cache_environment
from napari_restore.plugin import RestorePanel
from napari_restore.plugin.state import preferences
from napari_restore.plugin.state.preferences import PreferenceLink
from napari_restore.plugin.state.state import RestoreState


@pytest.fixture
def group(plugin_settings: Any, npe2pm: Any) -> Iterator[Any]:
    """The preferences as the manifest declares them, of this test alone."""
    npe2pm.register(PluginManifest.from_distribution("napari-restore"))
    yield get_plugin_settings("napari-restore").restore


def test_the_defaults_are_those_of_the_state(group: Any):
    state = RestoreState()
    PreferenceLink(state)
    assert (state.memory_gib, state.options.machine.device) == (0, "auto")
    assert not group.live


def test_preferences_come_first_and_are_followed(group: Any):
    group.memory_gib = 3.5
    group.device = "cpu"
    state = RestoreState()
    link = PreferenceLink(state)
    assert (state.memory_gib, state.options.machine.device) == (3.5, "cpu")
    group.memory_gib = 0
    assert state.memory_gib == 0
    group.device = "cuda"
    assert state.options.machine.device == "cuda"
    reported = []
    link.live_changed.connect(reported.append)
    group.live = True
    assert reported == [True]
    link.leave()
    group.memory_gib = 1
    assert state.memory_gib == 0


def test_what_the_user_has_set_stays_when_the_panel_opens_again(group: Any):
    state = RestoreState()
    PreferenceLink(state).leave()
    state.memory_gib = 7.0
    PreferenceLink(state)
    assert state.memory_gib == 7.0


def test_limits_are_kept(group: Any):
    for name, value in (("memory_gib", -1), ("device", "toaster")):
        with pytest.raises(ValueError, match=name):
            setattr(group, name, value)


def test_the_cache_folder_yields_to_the_environment(
    group: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = cache_dir()
    group.cache_folder = str(tmp_path / "mine")
    link = PreferenceLink(RestoreState())
    assert cache_dir() == given
    monkeypatch.delenv("NAPARI_RESTORE_CACHE")
    assert cache_dir() == tmp_path / "mine"
    # A child process is told, napari's own environment is left alone.
    assert cache_environment() == {"NAPARI_RESTORE_CACHE": str(tmp_path / "mine")}
    assert "NAPARI_RESTORE_CACHE" not in os.environ
    group.cache_folder = ""
    assert cache_environment() == {}
    link.leave()


def test_a_large_image_hints_once_at_asynchronous_drawing(
    group: Any, monkeypatch: pytest.MonkeyPatch
):
    class Large:
        height = width = 9000

    shown = []
    notification_manager.notification_ready.connect(lambda reported: shown.append(reported.message))
    monkeypatch.setattr(preferences, "_hinted", False)
    monkeypatch.setattr(get_settings().experimental, "async_", True)
    preferences.hint_at_async(Large())  # type: ignore[arg-type]
    monkeypatch.setattr(get_settings().experimental, "async_", False)
    group.async_hint = False
    preferences.hint_at_async(Large())  # type: ignore[arg-type]
    assert shown == []
    group.async_hint = True
    preferences.hint_at_async(Large())  # type: ignore[arg-type]
    preferences.hint_at_async(Large())  # type: ignore[arg-type]
    assert len(shown) == 1
    assert "Render Layers Asynchronously" in shown[0]


def test_without_a_manifest_nothing_is_missed(plugin_settings: Any):
    state = RestoreState()
    link = PreferenceLink(state)
    assert not link.live
    link.leave()


@pytest.mark.slow
@pytest.mark.viewer
def test_the_panel_shows_them(group: Any, make_napari_viewer: Any):
    group.memory_gib = 2.5
    group.device = "cpu"
    viewer = make_napari_viewer()
    panel = RestorePanel(viewer)
    dock = viewer.window.add_dock_widget(panel)
    assert (panel.memory.value(), panel.advanced.device.currentText()) == (2.5, "cpu")
    assert (panel.state.memory_gib, panel.state.options.machine.device) == (2.5, "cpu")
    viewer.add_image(np.zeros((40, 40, 3), np.uint8))
    assert not panel.bar.live.isChecked()
    group.memory_gib = 4
    assert panel.memory.value() == 4
    panel.advanced.device.setCurrentText("auto")
    assert panel.state.options.machine.device == "auto"
    viewer.window.remove_dock_widget(dock)
    group.memory_gib = 1
    assert panel.state.memory_gib == 4


def test_no_test_writes_to_the_settings_of_whoever_runs_it() -> None:
    """`make_napari_viewer` resets napari's settings, which saves them."""
    assert get_settings().config_path is None
