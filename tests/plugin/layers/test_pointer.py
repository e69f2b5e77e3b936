"""The pointer moves over every kind of layer that the program makes: the status bar says what is there."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from qtpy.QtCore import QPoint
from qtpy.QtTest import QTest
from rasterio.transform import from_origin
from tests.explain._attention import maps_of
from tests.explain._models import Small, wrapped
from tests.images.brackets.photos import two_brackets

import napari_restore as nr
from napari_restore import Region, plugin
from napari_restore.plugin._actions import show_bands
from napari_restore.plugin.areas.drawing_controller import Tool
from napari_restore.plugin.attention.attention_tab import QueryController
from napari_restore.plugin.attention.layers import AttentionLayers
from napari_restore.plugin.attribution.layers import AttributionLayers, picture_of
from napari_restore.plugin.attribution.results_section import MapComparison
from napari_restore.plugin.layers.reader import LayerData, layer_of, read
from napari_restore.plugin.method.airlight_view import RubberBand
from napari_restore.plugin.method.band_roles_form import add_in_colour
from napari_restore.plugin.state.request import TargetChoice

pytestmark = [pytest.mark.viewer, pytest.mark.binding]
ROOT = Path(plugin.__file__).parent
Site = tuple[str, str]
"""A file of the plugin, and the function there that makes a layer."""
MADE_BY = {"Image", "ImageLayer", "Labels", "Shapes", "Points", "Vectors", "Surface", "Tracks"}
ADDED_BY = {f"add_{name.lower()}" for name in MADE_BY}
NEVER_SHOWN = {("attention/asked.py", "PrepareTask.work")}
"""Makes one that no viewer gets: the first of a kind takes long."""

AT = (22, 22)
"""Row and column of the image that the pointer is over."""


def sites() -> set[Site]:
    """Return where the sources make layers."""
    found = set()

    def visit(node: ast.AST, file: str, names: tuple[str, ...]) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = (*names, node.name)
        if isinstance(node, ast.Call):
            called = node.func
            named = called.id if isinstance(called, ast.Name) else ""
            attribute = called.attr if isinstance(called, ast.Attribute) else ""
            if named in MADE_BY or attribute in ADDED_BY:
                found.add((file, ".".join(names)))
        for child in ast.iter_child_nodes(node):
            visit(child, file, names)

    for path in ROOT.rglob("*.py"):
        visit(ast.parse(path.read_text("utf-8")), path.relative_to(ROOT).as_posix(), ())
    return found - NEVER_SHOWN


@pytest.fixture
def made_at(monkeypatch: pytest.MonkeyPatch) -> set[Site]:
    """Where layers were made in this test that came into the viewer."""
    from napari.components.layerlist import LayerList
    from napari.layers import Layer

    by_layer: dict[Any, Site] = {}
    shown: set[Site] = set()
    begin, insert = Layer.__init__, LayerList.insert

    def begun(self: Any, *given: Any, **options: Any) -> None:
        frame: Any = sys._getframe(1)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(ROOT):
                by_layer[id(self)] = (
                    path.relative_to(ROOT).as_posix(),
                    frame.f_code.co_qualname,
                )
                break
            frame = frame.f_back
        begin(self, *given, **options)

    def inserted(self: Any, index: int, value: Any) -> None:
        if site := by_layer.get(id(value)):
            shown.add(site)
        insert(self, index, value)

    monkeypatch.setattr(Layer, "__init__", begun)
    monkeypatch.setattr(LayerList, "insert", inserted)
    return shown


@pytest.fixture
def town(tmp_path: Path) -> Path:
    """A map of red, green, blue and near infrared, of 200 x 240 pixels."""
    path, random = tmp_path / "town.tif", np.random.default_rng(0)
    pixels = random.integers(60, 200, (4, 200, 240), np.uint8)
    profile = {"driver": "GTiff", "height": 200, "width": 240, "count": 4, "dtype": "uint8"}
    place = from_origin(500_000, 4_500_000, 10, 10)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=place, **profile) as file:
        file.write(pixels)
        for number, name in enumerate(("red", "green", "blue", "nir"), start=1):
            file.set_band_description(number, name)
    return path


def section(panel: Any, title: str) -> Any:
    return next(each for each in panel.sections if each.TITLE == title)


def add_data(viewer: Any, layers: list[LayerData]) -> None:
    """Add what a reader returns, as napari does."""
    for data, arguments, _ in layers:
        viewer.add_image(data, **arguments)


def add_of_results(panel: Any, qtbot: Any) -> None:
    """Maps of the current result, and the line over it."""
    compare = section(panel, "Compare")
    for name in ("quality", "change", "transmission"):
        button = next(
            b for b in compare.findChildren(type(compare.swipe)) if b.text() == name.title()
        )
        button.click()
    qtbot.waitUntil(lambda: len(named(panel, "Quality", "Change", "Transmission")) == 3)
    bands = section(panel, "Bands and indices")
    index = bands.index
    index.expression.setCurrentIndex(index.expression.findText("NDVI"))
    index.expression.activated.emit(index.expression.currentIndex())
    for number, button in enumerate(index.buttons.values(), start=1):
        button.click()
        qtbot.waitUntil(lambda n=number: len(named(panel, "NDVI")) == n)


def named(panel: Any, *beginnings: str) -> list[Any]:
    return [layer for layer in panel.viewer.layers if layer.name.startswith(beginnings)]


def add_areas(panel: Any, source: Any) -> None:
    """What is drawn and painted, and the box of a colour that is picked."""
    viewer = panel.viewer
    for target, tool in (
        (TargetChoice.DRAWN, Tool.RECTANGLE),
        (TargetChoice.PAINTED, Tool.BRUSH),
        (TargetChoice.GRADIENT, Tool.GRADIENT),
    ):
        viewer.layers.selection.active = source
        panel.target.choose(target)
        panel.target.tools[tool].click()
    viewer.layers["Areas to restore"].add_rectangles([[20, 20], [20, 90], [90, 90], [90, 20]])
    viewer.layers["Painted strength"].data[:] = 1
    RubberBand(viewer, source).show(Region(10, 10, 150, 150))


def add_of_attention(viewer: Any, source: Any, panel: Any) -> None:
    layers = AttentionLayers(viewer)
    cells = [[[y, x] for y in range(3, 6) for x in range(3, 6)]] * 2
    maps = maps_of(np.linspace(0, 0.25, 18).reshape(2, 9), cells, (4, 4), (200, 240))
    layers.make(source)
    layers.show(source, maps, ["1"], spread=False)
    effect: Any = SimpleNamespace(
        difference=np.ones((16, 16, 3), np.float32),
        region=Region(8, 8, 24, 24),
        head="1",
        kind=maps.kind,
        to_dict=dict,
    )
    layers.add_effect(source, effect, "a 1")
    QueryController(viewer, panel.state, panel).put(40, 40)
    # Colours of several heads.
    other = AttentionLayers(viewer)
    other.make(source)
    other.show(source, maps, ["1", "2"], spread=False)


def add_of_attribution(viewer: Any, source: Any, folder: Path, look: Any) -> MapComparison:
    image = nr.open_image(source.metadata["napari_restore"], bands="red=1,green=2,blue=3")
    box = nr.Region(20, 20, 36, 40)
    pixels = np.asarray(image.read((0, 0, 48, 56)))[..., :3]
    found = nr.attribute(pixels, wrapped(Small()), box, method="ig", steps=2, device="cpu")
    layers = AttributionLayers(viewer, source, "1", 1)
    layers.finish(picture_of(found), found.record, "map", 0.5)
    found.save(folder / "map.tif")
    add_data(viewer, read(folder / "map.tif"))
    # Two beside each other hide all else.
    look()
    beside = MapComparison(viewer)
    one: Any = SimpleNamespace(attribution=found, source=source, scale=1, title="one")
    beside._pair = pair = one, one
    beside._show(pair, [np.zeros((40, 40, 3), np.uint8)] * 2)
    return beside


def add_brackets(panel: Any, folder: Path, qtbot: Any) -> None:
    panel.tabs.choose("Fuse")
    tab = panel.fusion
    tab.add([str(two_brackets(folder))])
    qtbot.waitUntil(
        lambda: tab.controller.chosen.bracket is not None and not tab.controller.is_busy
    )
    tab.frames.shows[0].click()
    tab.show_weights.click()
    qtbot.waitUntil(lambda: bool(named(panel, "Frame")) and bool(named(panel, "Weight")))


@pytest.mark.slow
@pytest.mark.nightly
def test_the_pointer_moves_over_every_kind_of_layer(
    panel: Any, town: Path, made_at: set[Site], finished_run: Any, qtbot: Any, tmp_path: Path
) -> None:
    viewer = panel.viewer
    add_data(viewer, [layer_of(nr.open_image(town), viewer)])
    source = viewer.layers[0]
    panel.models.choose("dcp")
    panel.target.choose(TargetChoice.WHOLE)
    panel.state.set_options(maps=True)
    finished_run()
    add_of_results(panel, qtbot)
    said: dict[str, str] = {}

    def look() -> None:
        for layer in list(viewer.layers):
            text = point_at(viewer, layer)
            said.setdefault(str(layer.name), text)

    look()
    # The line hides what is compared.
    swipe = section(panel, "Compare").swipe
    swipe.setChecked(True)
    qtbot.waitUntil(lambda: len(named(panel, "Swipe")) == 2)
    add_areas(panel, source)
    add_of_attention(viewer, source, panel)
    beside = add_of_attribution(viewer, source, tmp_path, look)
    look()
    beside.end()
    swipe.setChecked(False)
    show_bands(viewer)
    look()
    viewer.layers.selection.active = viewer.layers["town (bands)"]
    combination = section(panel, "Bands and indices").combination
    combination.setCurrentIndex(combination.findText("False colour infrared"))
    combination.activated.emit(combination.currentIndex())
    add_in_colour(viewer, viewer.layers["town (bands)"], source.metadata["napari_restore"])
    look()
    print("\n".join(f"{name:60} {text}" for name, text in said.items()))
    canvas = viewer.window._qt_viewer.canvas.native
    viewer.layers.selection.active = named(panel, "Quality")[0]
    for x in range(0, canvas.width(), 40):
        QTest.mouseMove(canvas, QPoint(x, canvas.height() // 2))
    beginnings = {
        "town": "red",
        "Dark channel prior": "red",
        "Quality": "now black|now white|unchanged|",
        "Change": "value",
        "Swipe: line": "",
        "Areas": "",
        "Attention query": "",
        "Without head": "value 1",
        "1 · map": "value",
        "town (bands)": "red",
        "Painted": "1",
        "NDVI difference": "NDVI difference",
        "Attention · cells": "",
    }
    for name, begins in beginnings.items():
        (text, *_) = (said[each] for each in said if each.startswith(name))
        place, _, values = text.partition("  ·  ")
        assert place == "Easting 500\u202f225 m, Northing 4\u202f499\u202f775 m", (name, text)
        assert any(values.startswith(each) if each else not values for each in begins.split("|"))
    viewer.layers.clear()
    add_brackets(panel, tmp_path, qtbot)
    for layer in list(viewer.layers):
        assert point_at(viewer, layer)
    # A new kind of layer is shown above, too.
    assert made_at == sites()


def point_at(viewer: Any, layer: Any) -> str:
    """Return what the status bar says over `AT` with a layer chosen, whose controls are shown."""
    viewer.layers.selection.active = layer
    controls = viewer.window._qt_viewer.controls
    assert controls.currentWidget() is not controls.empty_widget
    viewer.mouse_over_canvas = True
    source = next(x for x in viewer.layers if "napari_restore" in x.metadata)
    position = np.array(viewer.dims.point)
    position[-2:] = source.data_to_world((*[0] * (source.ndim - 2), *AT))[-2:]
    viewer.cursor.position = tuple(position)
    viewer.update_status_from_cursor()
    status = viewer.status
    return str(status["coordinates"] if isinstance(status, dict) else status)
