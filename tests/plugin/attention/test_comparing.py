"""Two queries beside each other, and matrices, without a network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF

from napari_restore.plugin.attention._asked import Reference
from napari_restore.plugin.attention._heads_view import HeadsView
from napari_restore.plugin.attention._matrix_panel import MatrixPanel
from napari_restore.plugin.attention._matrix_view import HeatMap
from napari_restore.plugin.attention._thumbnails import SIDE, Pair, Thumbnails

SITE = SimpleNamespace(name="a", title="Layer a", kind="window", heads=("1", "2", "3"))


def test_pairs_take_the_place_of_two(qtbot: Any) -> None:
    view = HeadsView()
    qtbot.addWidget(view)
    view.resize(3 * SIDE + 20, 100)
    view.show_sites([SITE])  # type: ignore[list-item]
    single = view.height()
    assert {cell.box.width() for cell in view.cells()} == {SIDE}
    view.show_pairs(True)
    assert {cell.box.width() for cell in view.cells()} == {2 * SIDE + 1}
    assert view.height() > single
    bars = [Thumbnails(None, (0, 0), (0, 0), shares) for shares in ((1.0, 1.0, 1.0), (1.0, 1.0))]
    # The reference, on the left, has two heads.
    view.show_pictures({"a": Pair(bars[0], bars[1])}, replaces=True)
    picture = view.grab().toImage()

    def is_bar(head: int, right: bool) -> bool:
        box = view.cells()[head].box
        at = QPointF(box.left() + SIDE / 2 + right * (SIDE + 1), box.center().y()).toPoint()
        return picture.pixelColor(at).red() < 120

    assert [is_bar(head, right) for head in range(3) for right in (False, True)] == [
        *[True] * 4,
        False,
        True,
    ]
    view.show_pairs(False)
    assert view.height() == single


def test_a_reference_says_what_it_lacks() -> None:
    maps: Any = SimpleNamespace(maps={"a": SimpleNamespace(site=SITE)})
    reference = Reference(maps, "A network", "1")
    assert reference.missing("a", ["1", "3"]) == ""
    assert "no head 4" in reference.missing("a", ["1", "4"])
    assert "no layer b" in reference.missing("b", ["1"])


def test_a_heat_map_names_what_is_under_the_pointer(qtbot: Any) -> None:
    heat = HeatMap()
    qtbot.addWidget(heat)
    heat.show_matrix([[0, 0.25], [np.nan, 1]], ["one", "two"], ["three", "four"])
    heat.resize(200, heat.heightForWidth(200))
    box, side = heat._box(), heat._side()

    def at(row: float, column: float) -> str:
        return heat.text_at(box.topLeft() + QPointF(side * (column + 0.5), side * (row + 0.5)))

    assert at(0, 1) == "one × four: 0.250" and at(1, 0) == "two × three: not known"
    assert at(2, 0) == at(0, -1) == ""
    assert box.bottom() < heat.height() and box.right() <= heat.width()
    heat.show_matrix(np.zeros((0, 0)), (), ())
    assert heat.isHidden() and heat.text_at(QPointF(3, 3)) == ""


def test_many_channels_fit_into_a_narrow_panel(qtbot: Any) -> None:
    heat = HeatMap()
    qtbot.addWidget(heat)
    names = [str(number) for number in range(144)]
    heat.show_matrix(np.eye(144), names, names)
    heat.resize(260, heat.heightForWidth(260))
    assert heat._box().right() <= 260 and heat._box().bottom() < heat.height()
    assert not heat.grab().isNull()


def test_matrices_of_channels_are_shown_where_there_are_any(qtbot: Any) -> None:
    panel = MatrixPanel()
    qtbot.addWidget(panel)
    used = np.array([[-0.5, 0.25], [1, 0]])
    maps: Any = SimpleNamespace(
        numbers={
            "matrix.2": used,
            "softmax.2": np.array([[0.5, 0.5], [0.9, 0.1]]),
            "channels.2": np.array([7.0, 3.0]),
        }
    )
    assert not panel.show_head(maps, "1") and panel.map.isHidden()
    assert panel.show_head(maps, "2")
    np.testing.assert_allclose(panel.map.values, used)
    assert panel.map._rows == ["7", "3"] and panel.map._limits == (-0.5, 1)
    panel.which.setCurrentIndex(1)
    np.testing.assert_allclose(panel.map.values[1], [0.9, 0.1])
    assert not panel.show_head(None, "")
