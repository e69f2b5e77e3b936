"""Of two images, one over the other, the one that is chosen or restored can be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from PIL import Image
from qtpy.QtWidgets import QApplication
from rasterio.transform import from_origin

from napari_restore.plugin.areas.drawing_controller import DrawingController, Tool
from napari_restore.plugin.layers.layer_order import (
    SOURCE,
    bring_to_front,
    insert_above,
    keeping_active,
)
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.plugin.state.state import RestoreState
from napari_restore.plugin.widgets.section import end_all

pytestmark = pytest.mark.viewer


def names(panel: Any) -> list[str]:
    return [layer.name for layer in panel.viewer.layers]


def seen(panel: Any) -> list[str]:
    return [layer.name for layer in panel.viewer.layers if layer.visible]


@pytest.fixture
def open_two(panel: Any, colours: np.ndarray, tmp_path: Path) -> Callable[[int], None]:
    """A function that opens photos "a" and, over it or beside it, "b"."""

    def open_two(away: int = 0) -> None:
        for number, name in enumerate("ab"):
            path = tmp_path / f"{name}.png"
            Image.fromarray(colours[300 * number :][:300, :400]).save(path)
            panel.viewer.open(path, plugin="napari-restore")
            panel.viewer.layers[name].translate = (0, away * number)

    return open_two


def choose(panel: Any, name: str) -> None:
    """As the user does in the list of images."""
    number = panel.image.findText(name)
    panel.image.setCurrentIndex(number)
    panel.image.activated.emit(number)


@pytest.mark.nightly
def test_a_chosen_photo_is_shown_and_none_moves(panel: Any, open_two: Any):
    open_two(0)
    choose(panel, "a")
    assert seen(panel) == ["a"]
    assert panel.state.layer.name == "a"
    choose(panel, "b")
    assert seen(panel) == ["b"]
    choose(panel, "a")
    panel.close()
    assert seen(panel) == ["a", "b"] == names(panel)


@pytest.mark.slow
def test_photos_beside_each_other_stay(panel: Any, open_two: Any):
    open_two(390)
    choose(panel, "a")
    assert names(panel) == seen(panel) == ["a", "b"]


def test_layers_of_others_are_not_hidden(panel: Any, colours: np.ndarray):
    for name in "ab":
        panel.viewer.add_image(colours[:300, :400], name=name)
    choose(panel, "a")
    assert seen(panel) == ["b", "a"]


def test_nothing_listens_to_the_layers_of_others(panel: Any, open_two: Any):
    open_two()
    theirs = panel.viewer.add_points([[20, 20]])
    before = [len(emitter.callbacks) for emitter in theirs.events.emitters.values()]
    choose(panel, "a")
    assert [len(emitter.callbacks) for emitter in theirs.events.emitters.values()] == before


@pytest.mark.slow
def test_a_chosen_map_comes_to_the_front(panel: Any, tmp_path: Path):
    for name in "ab":
        with rasterio.open(
            tmp_path / f"{name}.tif",
            "w",
            driver="GTiff",
            width=40,
            height=30,
            count=3,
            dtype="uint8",
            crs="EPSG:32633",
            transform=from_origin(500000, 5000000, 1, 1),
        ) as file:
            file.write(np.full((3, 30, 40), 90, np.uint8))
        panel.viewer.open(tmp_path / f"{name}.tif", plugin="napari-restore")
    choose(panel, "a")
    assert names(panel) == seen(panel) == ["b", "a"]


@pytest.mark.nightly
def test_results_of_photos_are_above_them(panel: Any, open_two: Any, finished_run: Any):
    open_two(0)
    panel.target.choose(TargetChoice.WHOLE)
    panel.models.combo.setCurrentIndex(panel.models.combo.findData("identity"))
    assert panel.state.layer.name == "b"
    finished_run()
    # Selected in napari's own list.
    panel.viewer.layers.selection.active = panel.viewer.layers["a"]
    # Once the list of layers is at rest.
    QApplication.processEvents()
    assert seen(panel) == ["a"]
    of_a = finished_run().layer.name
    sources = [layer.metadata.get("napari_restore_source") for layer in panel.viewer.layers]
    a, b = (panel.viewer.layers[name].unique_id for name in "ab")
    assert sources == [None, a, None, b] and seen(panel) == ["a", of_a]
    # A result of a photo that is hidden for another moves nothing.
    before = names(panel)
    bring_to_front(panel.viewer, panel.viewer.layers["b"])
    assert names(panel) == before


@pytest.mark.parametrize("tool", [Tool.POLYGON, Tool.BRUSH, Tool.GRADIENT, Tool.EXCLUDE])
def test_one_draws_on_when_a_result_comes(tool: Tool, colours: np.ndarray):
    viewer = ViewerModel()
    source = viewer.add_image(colours, name="photo")
    drawing = DrawingController(viewer, RestoreState(layer=source))
    drawing.toggle(tool)
    drawn, mode = viewer.layers.selection.active, viewer.layers.selection.active.mode
    results = [ImageLayer(colours, name=name) for name in ("draft", "result")]
    for layer in (*results, results[0]):
        insert_above(viewer, source, layer)
        assert viewer.layers.selection.active is drawn and drawn.mode == mode
        assert drawing.tool is tool and set(viewer.layers.selection) == {drawn}
    assert source.metadata.get(SOURCE) is None and results[1].metadata[SOURCE] == source.unique_id
    drawing.end()
    insert_above(viewer, source, third := ImageLayer(colours, name="third"))
    assert viewer.layers.selection.active is third
    with keeping_active(viewer):
        viewer.layers.remove(results[0])
    assert viewer.layers.selection.active is third
    end_all(drawing)
