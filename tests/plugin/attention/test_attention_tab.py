"""The Attention tab: prepare, click, drag, choose heads, pin, save, in a real window."""

from __future__ import annotations

import gc
import shlex
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.utils.key_bindings import coerce_keybinding
from napari_mouse import Mouse
from PIL import Image
from qtpy.QtCore import QPointF, Qt
from qtpy.QtWidgets import QApplication

import napari_restore as nr
from napari_restore import api
from napari_restore.explain.attention.session import AttentionSession
from napari_restore.plugin.attention.attention_tab import CROSS
from napari_restore.plugin.attention.heads_view import SIDE, HeadsView
from napari_restore.plugin.layers.placing import plane_of
from napari_restore.plugin.state.request import Area, ChosenMethod

pytestmark = pytest.mark.viewer
SIZE = (300, 400)


@pytest.fixture
def tab(panel: Any, tmp_path: Path) -> Any:
    """The tab over a hazy picture, with the network that ships."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    scene = 0.3 + 0.2 * np.sin(x / 9)[..., None] * [1, 0.5, 0.2] + 0.1 * np.cos(y / 7)[..., None]
    hazy = 0.6 * scene + 0.4 * 0.9 + 0.02 * rng.standard_normal((*SIZE, 3))
    path = tmp_path / "town.png"
    Image.fromarray(np.round(255 * np.clip(hazy, 0, 1)).astype(np.uint8)).save(path)
    panel.viewer.open(str(path), plugin="napari-restore")
    panel.models.choose("inf-dehaze-small")
    panel.tabs.choose("Attention")
    return panel.attention


@pytest.fixture
def prepared(tab: Any, qtbot: Any) -> Any:
    ended: list[Any] = []
    tab.ended.connect(lambda *outcome: ended.append(outcome))
    tab.bar.button.click()
    assert tab.bar.button.text() == "Cancel"
    qtbot.waitUntil(lambda: bool(ended))
    assert ended[0][0] == "done", ended
    return tab


def asked(tab: Any, qtbot: Any, y: int, x: int) -> Any:
    """Put the query there and wait for all layers."""
    tab.pointer.put(y, x)
    every = {site.name for site in tab.session.sites}

    def complete() -> bool:
        query = tab.query
        return query is not None and query.query.box[:2] == (y, x) and set(query.maps) == every

    qtbot.waitUntil(complete)
    return tab.query


@pytest.mark.slow
def test_a_click_becomes_heads_over_the_image(prepared: Any, panel: Any, qtbot: Any) -> None:
    tab = prepared
    assert not tab.head_actions.pin.isEnabled()
    # Layers are there before the first click, which then need not wait for them.
    made = list(tab.viewer.layers)
    query = asked(tab, qtbot, 150, 260)
    expected = nr.attend(
        tab.state.request(Area((nr.Region(0, 0, 1, 1),))).image,
        "inf-dehaze-small",
        [(150, 260)],
        progress=False,
    )
    for name, maps in expected.queries[0].maps.items():
        # Another thread may divide its sums differently.
        np.testing.assert_allclose(query.maps[name].weights, maps.weights, atol=1e-6)
        np.testing.assert_array_equal(query.maps[name].cells, maps.cells)
    names = [layer.name for layer in tab.viewer.layers]
    assert names == ["town", "Attention", "Attention · cells", "Attention query"]
    assert list(tab.viewer.layers) == made
    # A window lies where its pixels are: cell (y, x) covers pixels from stride · (y, x).
    tab.heads.choose("decoder.3.1", ["2"])
    shown, maps = tab.layers.map, tab.query.maps["decoder.3.1"]
    found = maps.map("2")
    np.testing.assert_array_equal(shown.data, found.values)
    corner = plane_of(shown) @ [-0.5, -0.5, 1] - plane_of(tab.state.layer) @ [-0.5, -0.5, 1]
    np.testing.assert_allclose(corner[:2], np.array(found.region[:2]) * found.stride)
    assert "decoder 3.1, head 2" in tab.numbers.text() and "in its own window" in tab.numbers.text()
    assert tab.layers.outline.data.shape == (4, 2, 2)
    width = tab.layers.outline.edge_width
    cross = tab.pointer.points
    assert np.isclose(cross.size[0] * plane_of(cross)[0, 0] * tab.viewer.scene.camera.zoom, CROSS)
    tab.viewer.scene.camera.zoom *= 4
    qtbot.waitUntil(lambda: np.isclose(tab.layers.outline.edge_width, width / 4))
    assert np.isclose(cross.size[0] * plane_of(cross)[0, 0] * tab.viewer.scene.camera.zoom, CROSS)
    # Only its outline: what it marks is seen.
    assert cross.face_color[0, 3] == 0 and tab.layers.map.colorbar.visible
    panel.tabs.choose("Restore")
    assert [layer.name for layer in tab.viewer.layers if layer.visible] == ["town"]
    panel.tabs.choose("Attention")
    assert all(layer.visible for layer in tab.viewer.layers)
    # Its weights by distance, which add up to 1; of bands the shares ω, too.
    (title, shares), *others = tab.chart.groups.items()
    assert title == "Weights by distance" and not others
    assert list(shares) == ["0–8 px", "8–32 px", "32–128 px", "128–512 px", "> 512 px"]
    assert np.isclose(sum(shares.values()), 1)
    bands = next(site for site in tab.session.sites if site.kind == "band")
    tab.heads.choose(bands.name, [bands.heads[0]])
    omega = tab.chart.groups["Share ω of each band"]
    assert list(omega) == ["low", "middle", "high"] and np.isclose(sum(omega.values()), 1)
    tab.heads.choose("decoder.3.1", ["2"])
    # Several heads: a colour each.
    tab.heads.choose("decoder.3.1", ["2", "3"])
    assert tab.layers.map.rgb
    # Settings make another question.
    tab.state.method = ChosenMethod("dcp")
    assert tab.session is None and not tab.head_actions.pin.isEnabled()
    assert [layer.name for layer in tab.viewer.layers] == ["town"]
    assert not tab.chart.groups and tab.chart.isHidden()
    assert tab.hint.text().startswith("Dark channel prior has no attention")
    assert not tab.bar.button.isEnabled()


@pytest.mark.slow
@pytest.mark.nightly
def test_what_attends_to_a_click_is_shown(prepared: Any, panel: Any, qtbot: Any) -> None:
    tab = prepared
    asked(tab, qtbot, 150, 260)
    tab.heads.choose("decoder.3.1", ["2"])
    tab.direction.setCurrentIndex(1)
    qtbot.waitUntil(lambda: tab.query is not None and set(tab.query.maps) == {"decoder.3.1"})
    image = tab.state.request(Area((nr.Region(0, 0, 1, 1),))).image
    options: dict[str, Any] = {"layers": ["decoder.3.1"], "attended_by": True, "progress": False}
    expected = nr.attend(image, "inf-dehaze-small", [(150, 260)], **options)
    (maps,) = expected.queries[0].maps.values()
    np.testing.assert_allclose(tab.query.maps["decoder.3.1"].weights, maps.weights, atol=1e-6)
    assert maps.kind.says in tab.numbers.text()
    assert "--attended-by" in shlex.split(tab.head_actions.command())
    # A layer of which it is not known is refused: no map of another is taken for its, and the way back is open.
    tab.heads.choose("encoder.1.bands", ["low 1"])
    qtbot.waitUntil(lambda: "not known in encoder.1.bands" in tab.numbers.text())
    assert tab.layers.map is None and "Attention" not in panel.viewer.layers
    tab.direction.setCurrentIndex(0)
    every = {site.name for site in tab.session.sites}
    qtbot.waitUntil(lambda: tab.query is not None and set(tab.query.maps) == every)
    assert "--attended-by" not in shlex.split(tab.head_actions.command())


@pytest.mark.slow
@pytest.mark.nightly
def test_dragging_follows_pinning_keeps_and_closing_frees(
    prepared: Any,
    panel: Any,
    qtbot: Any,
    tmp_path: Path,
    save_as: Callable[[Path | None], list[str]],
) -> None:
    tab = prepared
    asked(tab, qtbot, 40, 60)
    press(tab, (40, 60), (44, 70), (60, 90))
    assert tab.pointer.place == (60, 90)
    qtbot.waitUntil(lambda: tab.query.query.box[:2] == (60, 90))
    # A drag that begins elsewhere is napari's.
    press(tab, (250, 350), (200, 300), (180, 280))
    assert tab.pointer.place == (60, 90)
    # A click is a query.
    press(tab, (120, 200))
    assert tab.pointer.place == (120, 200)
    asked(tab, qtbot, 120, 200)
    tab.heads.choose("bottleneck.1", ["4"])
    tab.head_actions.without.click()
    qtbot.waitUntil(lambda: "dB" in tab.bar.message.text())
    # Cross and outline stay on top.
    on_top = ["Attention · cells", "Attention query"]
    *_, effect = (layer for layer in tab.viewer.layers if layer.name not in on_top)
    assert effect.name == "Without head 4 · bottleneck 1" and effect.data.shape == (249, 257)
    assert [layer.name for layer in tab.viewer.layers[-2:]] == on_top
    tab.viewer.layers.remove(effect)
    tab.head_actions.pin.click()
    pinned = tab.viewer.layers["Head 4 · bottleneck 1 · x 200, y 120"]
    assert [layer.name for layer in tab.viewer.layers[-2:]] == on_top
    tab.viewer.layers.move(tab.viewer.layers.index(pinned), len(tab.viewer.layers))
    assert [layer.name for layer in tab.viewer.layers[-2:]] == on_top
    kept = pinned.metadata["napari_restore_attention"]
    assert kept["head"] == "4" and kept["query"]["box"] == [120, 200, 121, 201]
    for button, name in (
        (tab.head_actions.map, "map.tif"),
        (tab.head_actions.figure, "figure.png"),
        (tab.head_actions.table, "n.csv"),
    ):
        save_as(tmp_path / name)
        button.click()
        qtbot.waitUntil((tmp_path / name).exists)
    direct = tmp_path / "direct.tif"
    image = tab.asked.request.image
    found = nr.attend(
        image, "inf-dehaze-small", [(120, 200)], layers=["bottleneck.1"], progress=False
    )
    found.save(direct)
    assert (tmp_path / "map.tif").read_bytes() == direct.read_bytes()
    tab.head_actions.copy.click()
    line = QApplication.clipboard().text()
    assert line == api.command_of(found.record, tmp_path / "map.tif")
    assert "--query 200 120 --layer bottleneck.1" in line
    panel.close()
    assert [layer.name for layer in tab.viewer.layers] == ["town", kept_name(tab)]
    press(tab, (60, 90))
    assert tab.pointer.place is None


@pytest.mark.slow
def test_keys_move_the_query_and_an_answer_is_kept_beside_others(
    prepared: Any, panel: Any, qtbot: Any
) -> None:
    tab = prepared
    tab.heads.choose("decoder.3.1", ["2"])
    site = tab.asked.site("decoder.3.1")
    first = asked(tab, qtbot, 120, 200)
    assert tab.viewer.layers.selection.active is tab.state.layer
    press(tab, (40, 64))
    points = tab.viewer.layers.selection.active
    assert points.name == "Attention query"
    hit(points, "Left", "Down", "Shift-Right")
    assert tab.pointer.place == (40 + site.stride, 64 + 7 * site.stride)
    # Within the image.
    hit(points, "Shift-Up", "Shift-Up", "Shift-Up", "Shift-Up")
    assert tab.pointer.place[0] == 0
    panel.tabs.choose("Restore")
    assert not points.keymap
    panel.tabs.choose("Attention")
    assert len(points.keymap) == 8
    # Two queries: both thumbnails, and either over the image on the scale of both.
    assert tab.reference.overlay.isHidden()
    asked(tab, qtbot, 120, 200)
    tab.reference.keep.click()
    second = asked(tab, qtbot, 40, 64)
    assert "Left: the reference (Inf-Dehaze, small, x 200, y 120)" in tab.reference.caption.text()
    assert are_drawn_in_pairs(tab.heads, tab.session.sites)
    shown, limits = tab.layers.map, tuple(tab.layers.map.contrast_limits)
    np.testing.assert_array_equal(shown.data, second.maps[site.name].map("2").values)
    tab.reference.overlay.setCurrentIndex(1)
    np.testing.assert_allclose(shown.data, first.maps[site.name].map("2").values, atol=1e-6)
    assert tuple(shown.contrast_limits) == limits
    assert limits[1] == max(
        query.maps[site.name].map("2").values.max() for query in (first, second)
    )
    assert tab.numbers.text().startswith("decoder 3.1, head 2 · x 200")
    # Another network for the same image: the reference stays, and says what it lacks.
    tab.state.method = ChosenMethod("dcp")
    assert tab.asked.kept is not None and tab.session is None
    tab.reference.explain("elsewhere.1", ["1"])
    assert "has no layer elsewhere.1" in tab.reference.caption.text()
    tab.reference.forget.click()
    assert tab.reference.overlay.isHidden()
    tab.heads.show_sites([site])
    assert {cell.box.width() for cell in tab.heads.cells()} == {SIDE}


@pytest.mark.nightly
def test_heads_between_channels_have_a_matrix(tab: Any, panel: Any, qtbot: Any) -> None:
    assert tab.matrix_part.isHidden()
    panel.models.choose("hint-small-denoise")
    ended: list[Any] = []
    tab.ended.connect(lambda *outcome: ended.append(outcome))
    tab.bar.button.click()
    qtbot.waitUntil(lambda: bool(ended))
    asked(tab, qtbot, 100, 90)
    tab.heads.choose("latent.1", ["2"])
    assert not tab.matrix_part.isHidden()
    numbers = tab.query.maps["latent.1"].numbers
    np.testing.assert_allclose(tab.matrix.map.values, numbers["matrix.2"], rtol=1e-6)
    assert tab.matrix.map.text_at(QPointF(tab.matrix.map.rect().center()))
    assert list(tab.matrix.grouping.heads) == ["1", "2", "3", "4"]
    assert tab.redundancy.map.isHidden()
    tab.redundancy.button.click()
    qtbot.waitUntil(tab.redundancy.button.isEnabled)
    matrix = tab.redundancy.map.values
    assert matrix.shape == (4, 4) and "mean of two heads" in tab.redundancy.caption.text()
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-6)
    panel.models.choose("inf-dehaze-small")
    assert tab.matrix_part.isHidden() and tab.redundancy.map.isHidden()


def hit(layer: Any, *keys: str) -> None:
    """Press keys while a layer is the active one."""
    for key in keys:
        layer.keymap[coerce_keybinding(key)](layer)


def kept_name(tab: Any) -> str:
    return str(tab.viewer.layers[-1].name)


def press(tab: Any, *pixels: tuple[int, int]) -> None:
    """Press the mouse at the first pixel of the image, and move it along the others."""
    layer, zoom = tab.state.layer, tab.viewer.scene.camera.zoom
    places = [(plane_of(layer) @ [*pixel, 1])[:2] for pixel in pixels]
    Mouse(*places, zoom=zoom).drive(tab.viewer)


def are_drawn_in_pairs(heads: HeadsView, sites: Any) -> bool:
    """Whether every head has two pictures, neither the grey of what is not computed."""
    blank = HeadsView()
    blank.show_sites(sites)
    blank.show_pairs(True)
    blank.resize(heads.size())
    cells = heads.cells()
    assert cells == blank.cells() and {cell.box.width() for cell in cells} == {2 * SIDE + 1}
    drawn, empty = heads.grab().toImage(), blank.grab().toImage()

    def differs(left: float, top: float) -> bool:
        at = [
            (round(left) + x, round(top) + y) for x, y in product(range(3, SIDE - 3, 4), repeat=2)
        ]
        return any(drawn.pixel(*each) != empty.pixel(*each) for each in at)

    return all(
        differs(cell.box.left() + offset, cell.box.top())
        for cell in cells
        for offset in (0, SIDE + 1)
    )


@pytest.mark.nightly
def test_a_cancelled_preparation_goes_on(tab: Any, qtbot: Any) -> None:
    ended: list[Any] = []
    tab.ended.connect(lambda *outcome: ended.append(outcome))
    tab.bar.button.click()
    tab.bar.button.click()
    qtbot.waitUntil(lambda: bool(ended))
    assert ended[0][0] == "cancelled" and tab.session is None
    assert "kept" in tab.bar.message.text() and not tab.state.running


def test_clicks_on_thumbnails(qtbot: Any) -> None:
    sites = [
        SimpleNamespace(name="a", title="a", kind="window", heads=("1", "2")),
        SimpleNamespace(name="b", title="b", kind="sparse", heads=("1", "2", "3")),
    ]
    view = HeadsView()
    qtbot.addWidget(view)
    view.show_sites(sites)  # type: ignore[arg-type]
    assert (view.site, view.heads) == ("b", ["1"])
    chosen: list[Any] = []
    view.chosen.connect(lambda *each: chosen.append(each))

    def click(number: int, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
        at = QPointF(view.cells()[number].box.center())
        event = SimpleNamespace(position=lambda: at, modifiers=lambda: modifier)
        view.mousePressEvent(event)

    click(0)
    click(3)
    click(4, Qt.KeyboardModifier.ControlModifier)
    click(3, Qt.KeyboardModifier.ControlModifier)
    assert chosen == [("a", ["1"]), ("b", ["2"]), ("b", ["2", "3"]), ("b", ["3"])]
    view.step(1)
    assert view.heads == ["1"]


@pytest.mark.slow
@pytest.mark.parametrize("meanwhile", [False, True])
@pytest.mark.ids("nightly", "False")
def test_what_is_prepared_is_forgotten(panel: Any, qtbot: Any, meanwhile: bool) -> None:
    # Of an image in memory, where it can be seen: the session is in this process.
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    panel.viewer.add_image(pixels, name="town")
    panel.models.choose("inf-dehaze-small")
    panel.tabs.choose("Attention")
    tab, ended = panel.attention, []
    tab.ended.connect(lambda *outcome: ended.append(outcome))
    tab.bar.button.click()
    if meanwhile:
        panel.models.choose("dcp")
    qtbot.waitUntil(lambda: bool(ended))
    assert ended.pop()[0] == "done"
    assert (tab.session is None) == meanwhile and kept_sessions() == (not meanwhile)
    if not meanwhile:
        asked(tab, qtbot, 30, 40)
        panel.models.choose("dcp")
        assert tab.session is None
        qtbot.waitUntil(lambda: kept_sessions() == 0)


def kept_sessions() -> int:
    gc.collect()
    return sum(type(each) is AttentionSession for each in gc.get_objects())
