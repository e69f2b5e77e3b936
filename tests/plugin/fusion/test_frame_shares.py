"""The Attribution tab over a bracket: a map for each frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_restore import Region

pytestmark = pytest.mark.viewer


@pytest.mark.slow
@pytest.mark.nightly
def test_a_bracket_is_attributed_to_its_frames(
    panel: Any, tab: Any, fused: Any, qtbot: Any, photos: Path
) -> None:
    fused(lambda: tab.add([str(photos)]))
    panel.bar.set_live(False)
    panel.tabs.choose("Attribution")
    attribution = panel.attribution
    baselines = attribution.form.baseline
    offered = [baselines.itemData(number) for number in range(baselines.count())]
    assert offered == ["zero", "blur", "reference"]
    attribution.target.add_box(Region(60, 60, 76, 76))
    ended: list[Any] = []
    attribution.ended.connect(lambda *outcome: ended.append(outcome))
    attribution.bar.button.click()
    qtbot.waitUntil(lambda: bool(ended))
    status, found = ended[0]
    assert status == "done", ended
    assert found.record["attribution"]["method"] == "ig"
    assert "Shares of the frames" in attribution.results.measures.text()
    layers = attribution.results.current.layers
    assert [layer.name.split(" · ")[-1] for layer in layers.frames] == [
        "frame a0",
        "frame a1",
        "frame a2",
    ]
    assert layers.map.visible and not any(layer.visible for layer in layers.frames)
    total = sum(np.asarray(layer.data) for layer in layers.frames)
    np.testing.assert_allclose(total, np.asarray(layers.map.data), atol=1e-5)
    # Another image has other baselines.
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    assert baselines.findData("reference") < 0 and baselines.findData("output") >= 0
