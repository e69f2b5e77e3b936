"""A run that is cancelled and run again goes on in one layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_restore.plugin.state.request import TargetChoice

pytestmark = [pytest.mark.viewer, pytest.mark.slow]


def test_cancel_then_run_leaves_one_layer(panel: Any, qtbot: Any, colours: np.ndarray):
    panel.viewer.add_image(colours, name="photo")
    panel.models.choose("dcp")
    panel.target.choose(TargetChoice.WHOLE)
    panel.advanced.tile.setValue(256)
    ended: list[Any] = []
    panel.ended.connect(lambda *outcome: ended.append(outcome[0]))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(panel.state.variants))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(ended))
    assert ended == ["cancelled"]
    (half,) = panel.state.variants
    name = half.name
    panel.bar.button.click()
    qtbot.waitUntil(lambda: len(ended) == 2)
    (whole,) = panel.state.variants
    assert ended[1] == "done" and whole is not half and whole.result is not None
    assert [str(layer.name) for layer in panel.viewer.layers] == ["photo", name]
    # One that is whole stays beside the next.
    panel.bar.button.click()
    qtbot.waitUntil(lambda: len(ended) == 3)
    assert len(panel.state.variants) == 2
