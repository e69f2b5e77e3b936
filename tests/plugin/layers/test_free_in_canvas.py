"""What OpenGL has of layers that leave is freed in the context of the canvas that drew them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtGui import QOpenGLContext
from vispy.gloo.glir import GlirParser

pytestmark = [pytest.mark.viewer, pytest.mark.binding]

KINDS = ["image", "colours", "labels", "shapes", "points"]


def add(viewer: Any, kind: str) -> Any:
    """Add a layer of a kind and return it."""
    seven = np.full((30, 40), 7, np.uint8)
    if kind == "colours":
        return viewer.add_image(np.dstack([seven] * 3))
    corners = np.array([[1.0, 2], [3, 4], [5, 0]])
    if kind == "shapes":
        return viewer.add_shapes([corners], shape_type="polygon")
    return getattr(viewer, f"add_{kind}")(corners if kind == "points" else seven)


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch, make_napari_viewer: Any) -> Any:
    """A shown viewer, and the kinds of commands that OpenGL got in another context than its canvas's."""
    viewer = make_napari_viewer(show=True)
    canvas = viewer.window._qt_viewer.canvas.native
    found: list[str] = []
    parse = GlirParser.parse

    def watched(self: Any, commands: Any) -> None:
        commands = list(commands)
        if QOpenGLContext.currentContext() != canvas.context():
            found.extend(str(command[0]) for command in commands)
        parse(self, commands)

    def drawn() -> None:
        """Draw the canvas, then let Qt put the window together in its own context."""
        canvas.makeCurrent()
        viewer.window._qt_viewer.canvas._scene_canvas.update()
        viewer.window._qt_window.repaint()
        canvas.doneCurrent()

    monkeypatch.setattr(GlirParser, "parse", watched)
    return viewer, found, drawn


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.ids("nightly", "colours", "shapes", "points")
def test_layers_go_in_the_context_of_the_canvas(strangers: Any, kind: str, qtbot: Any) -> None:
    viewer, found, drawn = strangers
    viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    layers = [add(viewer, kind) for _ in range(3)]
    qtbot.wait(50)
    drawn()
    found.clear()
    viewer.layers.remove(layers[0])
    drawn()
    viewer.layers.clear()
    assert found == []


def test_images_opened_without_the_panel_too(strangers: Any, sample: Path, qtbot: Any) -> None:
    viewer, found, drawn = strangers
    viewer.open(sample, plugin="napari-restore")
    qtbot.wait(50)
    drawn()
    found.clear()
    viewer.layers.clear()
    assert found == []
