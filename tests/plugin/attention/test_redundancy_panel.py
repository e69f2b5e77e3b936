"""The comparison of heads in the window."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPointF

from napari_restore.errors import RestoreError
from napari_restore.plugin.attention.asked import PreparedAttention
from napari_restore.plugin.attention.heads_view import HeadsView
from napari_restore.plugin.attention.matrix_panel import RedundancyPanel

SITE = SimpleNamespace(name="a", title="Layer a", kind="window", heads=("1", "2", "3"))


class Session:
    """Compares heads, or says that it cannot."""

    sites = (SITE,)

    def __init__(self, found: Any) -> None:
        self._found = found

    def redundancy(self, query: Any, names: list[str]) -> Any:
        if isinstance(self._found, RestoreError):
            raise self._found
        return dict.fromkeys(names, self._found)


@pytest.fixture
def compared(qtbot: Any) -> Any:
    """A panel, what it asks, and a wait for its answer."""
    asked, heads = PreparedAttention(), HeadsView()
    qtbot.addWidget(heads)
    panel = RedundancyPanel(asked, heads)
    qtbot.addWidget(panel)
    heads.show_sites([SITE])  # type: ignore[list-item]
    asked.query = SimpleNamespace(query=SimpleNamespace(label="x 3, y 4"))  # type: ignore[assignment]

    def compare(found: Any) -> Any:
        asked.session = Session(found)  # type: ignore[assignment]
        panel.allow(True)
        panel.button.click()
        assert not panel.button.isEnabled()
        qtbot.waitUntil(panel.button.isEnabled)
        return panel

    return compare


def test_heads_are_compared_when_asked(compared: Any) -> None:
    matrix = np.array([[1, 0.5, np.nan], [0.5, 1, np.nan], [np.nan] * 3])
    panel = compared(matrix)
    np.testing.assert_allclose(panel.map.values, matrix)
    panel.map.resize(200, panel.map.heightForWidth(200))
    drawn = panel.map.grab().toImage()
    shades: dict[str, set[tuple[int, int, int]]] = {}
    for x, y in product(range(0, drawn.width(), 3), range(0, drawn.height(), 3)):
        if text := panel.map.text_at(QPointF(x + 0.5, y + 0.5)):
            shades.setdefault(text, set()).add(drawn.pixelColor(x, y).getRgb()[:3])
    assert shades.keys() == {
        f"{row} × {column}: {'not known' if '3' in (row, column) else value}"
        for row in SITE.heads
        for column in SITE.heads
        for value in ["1.000" if row == column else "0.500"]
    }
    # Viridis from 0, not from the least value, to 1.
    assert any(np.allclose(each, (33, 145, 140), atol=4) for each in shades["1 × 2: 0.500"])
    assert panel.caption.text() == "Layer a · x 3, y 4: CKA; mean of two heads 0.50"
    panel.allow(False)
    assert panel.map.isHidden() and not panel.button.isEnabled()
    panel = compared(RestoreError("It has one head.", "Choose another layer."))
    assert panel.caption.text().startswith("It has one head") and panel.map.isHidden()
