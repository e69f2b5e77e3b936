"""Of two photos, one over the other, the one that is chosen or restored can be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_restore.plugin.state import TargetChoice

pytestmark = pytest.mark.viewer


def names(panel: Any) -> list[str]:
    return [layer.name for layer in panel.viewer.layers]


def open_two(panel: Any, colours: np.ndarray, away: int = 0) -> None:
    """Photos "a" and, over it or beside it, "b"."""
    panel.viewer.add_image(colours[:300, :400], name="a")
    panel.viewer.add_image(colours[300:600, :400], name="b", translate=(0, away))


def choose(panel: Any, name: str) -> None:
    """As the user does in the list of images."""
    number = panel.image.findText(name)
    panel.image.setCurrentIndex(number)
    panel.image.activated.emit(number)


def test_a_chosen_photo_comes_to_the_front(panel: Any, colours: np.ndarray):
    open_two(panel, colours)
    choose(panel, "a")
    assert names(panel) == ["b", "a"]
    assert panel.state.layer.name == "a"
    choose(panel, "b")
    assert names(panel) == ["a", "b"]


def test_photos_beside_each_other_stay(panel: Any, colours: np.ndarray):
    open_two(panel, colours, away=390)
    choose(panel, "a")
    assert names(panel) == ["a", "b"]


@pytest.mark.slow
def test_a_new_result_of_a_hidden_photo_comes_to_the_front_with_it(
    panel: Any, colours: np.ndarray, finished_run: Any
):
    open_two(panel, colours)
    panel.target.choose(TargetChoice.WHOLE)
    panel.models.combo.setCurrentIndex(panel.models.combo.findData("identity"))
    assert panel.state.layer.name == "b"
    finished_run()
    # Selected in napari's own list.
    panel.viewer.layers.selection.active = panel.viewer.layers["a"]
    # Once the list of layers is at rest.
    QApplication.processEvents()
    assert names(panel)[-1] == "a"
    finished_run()
    sources = [layer.metadata.get("napari_restore_source") for layer in panel.viewer.layers]
    a, b = (panel.viewer.layers[name].unique_id for name in "ab")
    assert names(panel)[0] == "b" and names(panel)[2] == "a"
    assert sources == [None, b, None, a]
