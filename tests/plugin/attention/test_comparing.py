"""Two queries beside each other, and matrices, without a network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPointF, QRect

from napari_restore.plugin.attention.asked import KeptAnswer
from napari_restore.plugin.attention.heads_view import SIDE, ComparedHeads, HeadsView, Thumbnails
from napari_restore.plugin.attention.matrix_panel import HeatMap, MatrixPanel

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
    view.show_pictures({"a": ComparedHeads(bars[0], bars[1])}, replaces=True)
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
    reference = KeptAnswer(maps, "A network", "1")
    assert reference.missing("a", ["1", "3"]) == ""
    assert "no head 4" in reference.missing("a", ["1", "4"])
    assert "no layer b" in reference.missing("b", ["1"])


def test_a_heat_map_names_what_is_under_the_pointer(qtbot: Any) -> None:
    heat = HeatMap()
    qtbot.addWidget(heat)
    heat.show_matrix([[0, 0.25], [np.nan, 1]], ["one", "two"], ["three", "four"])
    heat.resize(200, heat.heightForWidth(200))
    cells = under_pointer(heat)
    assert list(cells) == [
        "one × three: 0.000",
        "one × four: 0.250",
        "two × three: not known",
        "two × four: 1.000",
    ]
    # All are of one size, so none is cut off; names and scale are beside them.
    assert np.ptp([(cell.width(), cell.height()) for cell in cells.values()], axis=0).max() <= 4
    assert cells["two × four: 1.000"].bottom() < heat.height() - 4
    heat.show_matrix(np.zeros((0, 0)), (), ())
    assert heat.isHidden() and heat.text_at(QPointF(3, 3)) == ""


def under_pointer(heat: HeatMap) -> dict[str, QRect]:
    """Return where each text is said, without places where none is."""
    found: dict[str, QRect] = {}
    for y, x in np.ndindex(heat.height() // 4, heat.width() // 4):
        if text := heat.text_at(QPointF(4 * x + 2, 4 * y + 2)):
            found[text] = found.get(text, QRect()).united(QRect(4 * x, 4 * y, 4, 4))
    return found


@pytest.mark.slow
def test_many_channels_fit_into_a_narrow_panel(qtbot: Any) -> None:
    heat = HeatMap()
    qtbot.addWidget(heat)
    names = [str(number) for number in range(144)]
    heat.show_matrix(np.eye(144), names, names)
    heat.resize(260, heat.heightForWidth(260))
    middle = heat.rect().center()
    across = [heat.text_at(QPointF(x + 0.5, middle.y())) for x in range(260)]
    down = [heat.text_at(QPointF(middle.x(), y + 0.5)) for y in range(heat.height())]
    assert {text.split(" × ")[1].split(":")[0] for text in across if text} == set(names)
    assert {text.split(" × ")[0] for text in down if text} == set(names)
    assert down[-1] == ""
    assert not heat.grab().isNull()


def of_channels(*channels: tuple[int, ...]) -> Any:
    """Return a layer of heads "1", "2" … with these channels, whose correlation falls from 0.9."""
    every = [each for head in channels for each in head]
    numbers: dict[str, Any] = {}
    for number, head in enumerate(channels, start=1):
        numbers |= {
            f"matrix.{number}": np.array([[-0.5, 0.25], [1, 0]]),
            f"softmax.{number}": np.array([[0.5, 0.5], [0.9, 0.1]]),
            f"channels.{number}": np.array(head, float),
            f"correlation.{number}": np.array([0.9 - 0.4 * every.index(each) for each in head]),
        }
    names = tuple(str(number + 1) for number in range(len(channels)))
    return SimpleNamespace(numbers=numbers, site=SimpleNamespace(heads=names))


def test_matrices_of_channels_are_shown_where_there_are_any(qtbot: Any) -> None:
    panel = MatrixPanel()
    qtbot.addWidget(panel)
    maps = of_channels((5, 1), (7, 3))
    assert not panel.show_head(maps, "mean") and panel.map.isHidden()
    assert panel.show_head(maps, "2")
    np.testing.assert_allclose(panel.map.values, [[-0.5, 0.25], [1, 0]])
    panel.map.resize(200, panel.map.heightForWidth(200))
    cells, drawn = under_pointer(panel.map), panel.map.grab().toImage()
    assert list(cells) == ["7 × 7: -0.500", "7 × 3: 0.250", "3 × 7: 1.000", "3 × 3: 0.000"]
    # The ends of viridis.
    for text, colour in (("7 × 7: -0.500", (68, 1, 84)), ("3 × 7: 1.000", (253, 231, 37))):
        shown = drawn.pixelColor(cells[text].center())
        np.testing.assert_allclose((shown.red(), shown.green(), shown.blue()), colour, atol=4)
    panel.which.setCurrentIndex(1)
    np.testing.assert_allclose(panel.map.values[1], [0.9, 0.1])
    assert panel.overlap.isHidden()
    assert not panel.show_head(None, "")


def test_channels_stand_in_the_order_of_their_heads(qtbot: Any) -> None:
    panel = MatrixPanel()
    qtbot.addWidget(panel)
    panel.show_head(of_channels((5, 1), (7, 3)), "2", beside=of_channels((1, 5), (3, 4)))
    chart = panel.grouping
    chart.resize(200, chart.sizeHint().height())
    said = [chart.text_at(QPointF(x + 0.5, 20)) for x in range(-10, 210)]
    bars = list(dict.fromkeys(said))
    assert bars[0] == said[-1] == "" and len(bars) == 5
    assert bars[1] == "channel 5, head 1: 0.900" and bars[4] == "channel 3, head 2: -0.300"
    # Of 3, 4 and 7 both have 3; the order within a head does not count.
    assert panel.overlap.text().endswith("head 1 100%, head 2 33%")
    picture = chart.grab().toImage()
    top = chart.fontMetrics().height() + 6
    middles = [said.index(bars[n]) - 10 + said.count(bars[n]) // 2 for n in (1, 3)]
    chosen = [picture.pixelColor(x, top) for x in middles]
    # The first bar reaches the top and belongs to another head than the chosen one.
    assert chosen[0].red() == chosen[0].blue() and chosen[0] != chosen[1]
    chart.show_heads(None, "")
    assert chart.isHidden() and chart.text_at(QPointF(100, 20)) == ""
