"""The Attention tab with a network of the user's own, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attending_networks
import numpy as np
import pytest
from PIL import Image

from napari_restore.models import load
from napari_restore.plugin.method.model_chooser import ModelChoice

pytestmark = [pytest.mark.viewer, pytest.mark.slow]


def test_a_network_from_a_file_is_prepared_and_asked(
    panel: Any, tmp_path: Path, qtbot: Any
) -> None:
    path = tmp_path / "scene.png"
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    Image.fromarray(noise).save(path)
    panel.viewer.open(str(path), plugin="napari-restore")
    name = f"{attending_networks.__file__}:windows"
    panel.models.add(ModelChoice(load(name, trust=True).card, name, trust=True))
    panel.tabs.choose("Attention")
    tab, ended = panel.attention, []
    assert not tab.state.method.card.attention
    assert tab.bar.button.isEnabled()
    tab.ended.connect(lambda *outcome: ended.append(outcome))
    tab.bar.button.click()
    qtbot.waitUntil(lambda: bool(ended))
    assert ended[0][0] == "done", ended
    tab.pointer.put(50, 70)
    qtbot.waitUntil(lambda: tab.query is not None and len(tab.query.maps) == 3)
    assert list(tab.query.maps) == ["attention.1", "attention.2", "attention.3"]
