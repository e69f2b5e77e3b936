"""A session with layers of other people: what is theirs is as before once the panel is closed."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest
from napari.settings import get_settings
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_restore.plugin.state.request import TargetChoice

pytestmark = [pytest.mark.viewer, pytest.mark.own_window, pytest.mark.binding, pytest.mark.slow]
OURS = "napari_restore"


def filled(viewer: Any) -> None:
    rng = np.random.default_rng(0)
    viewer.add_image(rng.integers(60, 200, (60, 80, 3), dtype=np.uint8), name="photo")
    viewer.add_image(rng.random((3, 60, 80)), channel_axis=0, name=["r", "g", "b"])
    viewer.add_labels((rng.random((60, 80)) > 0.5).astype(int), name="labels")
    viewer.add_shapes([np.array([[0, 0], [20, 30]])], shape_type="rectangle", name="shapes")
    viewer.add_points(rng.random((5, 2)) * 60, name="points")
    viewer.add_vectors(rng.random((5, 2, 2)) * 50, name="vectors")
    viewer.add_tracks(np.array([[0, 0, 1, 2], [0, 1, 3, 4]], float), name="tracks")
    viewer.layers["g"].visible = False
    viewer.layers.selection.active = viewer.layers["points"]


def told(viewer: Any) -> dict[str, Any]:
    """What belongs to napari, to other plugins and to the user."""
    settings = get_settings().model_dump()
    # napari notes where a dock was.
    settings["application"].pop("plugin_widget_positions", None)
    plugins = npe2.PluginManager.instance()
    window = viewer.window._qt_window
    layers = [layer for layer in viewer.layers if not layer.name.startswith("Dark channel")]
    return {
        "settings": settings,
        "environment": dict(os.environ),
        "readers": {
            suffix: [each.plugin_name for each in plugins.iter_compatible_readers([f"x{suffix}"])]
            for suffix in (".tif", ".png", ".zarr", ".npy", ".csv")
        },
        "writers": [
            (each.name, [w.command for w in each.contributions.writers or ()])
            for each in plugins.iter_manifests()
        ],
        "docks": sorted(
            each.windowTitle() for each in window.findChildren(QDockWidget) if each.isVisible()
        ),
        "layers": [
            (x.name, x.visible, x.opacity, str(x.blending), str(getattr(x, "mode", "")))
            for x in layers
        ],
        "selection": {each.name for each in viewer.layers.selection},
        "metadata": [{k for k in x.metadata if not k.startswith(OURS)} for x in layers],
        "slots": {
            x.name: {n: len(e.callbacks) for n, e in x.events.emitters.items()}
            for x in layers
            if x.name != "photo"
        },
        "keys": (sorted(map(str, viewer.keymap)), [sorted(map(str, x.keymap)) for x in layers]),
        "mouse": [len(getattr(viewer, f"mouse_{n}_callbacks")) for n in ("move", "drag", "wheel")],
    }


def test_what_is_theirs_is_as_before(make_napari_viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    viewer = make_napari_viewer(show=True)
    filled(viewer)
    QApplication.processEvents()
    before = told(viewer)
    dock, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    viewer.layers.selection.active = viewer.layers["photo"]
    panel.models.choose("dcp")
    panel.target.choose(TargetChoice.WHOLE)
    reported: list[Any] = []
    panel.ended.connect(lambda *outcome: reported.append(outcome))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(reported))
    assert reported[0][0] == "done", reported
    during = told(viewer)
    assert during["layers"] == before["layers"]
    assert during["slots"] == before["slots"] and during["settings"] == before["settings"]
    panel.state.current.result.save(tmp_path / "o.tif")
    for layer in [x for x in viewer.layers if x.name.startswith("Dark channel")]:
        viewer.layers.remove(layer)
        QApplication.processEvents()
    viewer.layers.selection.active = viewer.layers["points"]
    viewer.window.remove_dock_widget(dock)
    del dock, panel
    QApplication.processEvents()
    gc.collect()
    assert told(viewer) == before
