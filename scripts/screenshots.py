"""Makes the pictures of the documentation from the real window; writes docs/images/.

scripts/with-display .venv/bin/python scripts/screenshots.py [NAME …]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import napari
import numpy as np
import tifffile
from napari.settings import get_settings
from PIL import Image
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication, QScrollArea

from napari_restore import Region
from napari_restore.plugin.areas.drawing_controller import Tool
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.plugin.widgets.folding import Folded
from napari_restore.sample import SAMPLE

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
LIMIT_MS = 900_000
SIZE = (1500, 950)


class Stage:
    """A window with the sample and the Restore panel, as a user has it after two clicks."""

    def __init__(self) -> None:
        self.viewer = napari.Viewer(title="napari-restore", show=True)
        self.viewer.window._qt_window.resize(*SIZE)
        self.viewer.open(SAMPLE, plugin="napari-restore")
        _, self.panel = self.viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
        QApplication.processEvents()
        self.viewer.reset_view()
        self.settle()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Let the window live until `condition` holds."""
        loop = QEventLoop()
        timer, end = QTimer(), QTimer()
        timer.timeout.connect(lambda: condition() and loop.quit())
        end.setSingleShot(True)
        end.timeout.connect(loop.quit)
        timer.start(20)
        end.start(LIMIT_MS)
        loop.exec()
        timer.stop()
        if not condition():
            raise TimeoutError(f"Waited in vain for {what}.")

    def settle(self, milliseconds: int = 800) -> None:
        """Let debounced things happen and the canvas draw."""
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    def zoom(self, factor: float) -> None:
        """Look closer at the middle."""
        self.viewer.scene.camera.zoom *= factor
        self.settle()

    def choose(self, model: str) -> None:
        """Choose a method as a click would."""
        combo = self.panel.models.combo
        combo.setCurrentIndex(combo.findData(model))

    def run(self) -> None:
        """Click Run and wait for the end."""
        ended: list[str] = []
        self.panel.ended.connect(lambda status, _: ended.append(status))
        self.panel.bar.button.click()
        self.until(lambda: bool(ended), "the end of the run")
        if ended != ["done"]:
            raise RuntimeError(f"The run {ended[0]}.")
        self.settle()

    def unfold(self, *titles: str) -> None:
        """Open the parts of the panel named so, close the others."""
        for part in self.panel.findChildren(Folded):
            if part.text() in titles:
                part.open()
            else:
                part.open(False)
        self.settle(200)

    def section(self, title: str) -> Any:
        """The panel's part of that title."""
        return next(part for part in self.panel.sections if part.TITLE == title)

    def shoot(self, name: str, quality: int = 88) -> None:
        """The whole window as it is now."""
        self.settle()
        path = FOLDER / f"{name}.jpg"
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        Image.fromarray(pixels[..., :3]).save(path, quality=quality)
        print(path)

    def close(self) -> None:
        """Close the window; notifications on their way are gone."""
        self.viewer.close()
        QApplication.processEvents()


def restored(stage: Stage) -> None:
    """A part of the sample without its haze."""
    stage.zoom(2)
    stage.run()
    stage.viewer.reset_view()
    stage.unfold()
    stage.shoot("restored")


def areas(stage: Stage) -> None:
    """Two drawn areas with faded edges."""
    stage.panel.target.choose(TargetChoice.DRAWN)
    stage.panel.drawing.toggle(Tool.POLYGON)
    shapes = stage.viewer.layers.selection.active
    polygon = np.array([[250, 300], [180, 1200], [900, 1500], [1500, 900], [1100, 250]])
    shapes.add(polygon, shape_type="polygon")
    shapes.add(np.array([[400, 1900], [1600, 2800]]), shape_type="rectangle")
    stage.panel.drawing.end()
    stage.panel.target.feather.setValue(96)
    stage.run()
    stage.unfold()
    stage.shoot("areas")


def open_large(stage: Stage, times: int) -> None:
    """Open the sample, so often side by side along each axis."""
    path = Path(os.environ["NAPARI_RESTORE_CACHE"]) / "large_town.tif"
    large = np.tile(tifffile.imread(SAMPLE), (times, times, 1))
    tifffile.imwrite(path, large, photometric="rgb", tile=(512, 512))
    stage.viewer.open(path, plugin="napari-restore")
    image = stage.viewer.layers[0].metadata["napari_restore"]
    stage.until(lambda: image.is_built(len(image.level_shapes) - 1), "its levels")
    stage.viewer.reset_view()
    stage.settle()


def live(stage: Stage) -> None:
    """Live on a large scene: what is in view clears up, first as a draft."""
    stage.viewer.layers.clear()
    # So large that its true pixels take longer than a draft.
    open_large(stage, 4)
    stage.panel.bar.live.setChecked(True)
    stage.until(lambda: any(x.name.startswith("Draft") for x in stage.viewer.layers), "a draft")
    stage.unfold()
    stage.shoot("live")


def cluster(stage: Stage) -> None:
    """Two processes of this machine compute tiles from the middle of the view outwards."""
    # Statistics are counted by a first run, so that no draft hides the tiles.
    stage.viewer.layers.clear()
    open_large(stage, 3)
    stage.choose("haze-unet")
    stage.zoom(32)
    stage.run()
    stage.viewer.layers.remove(stage.panel.state.current.layer)
    stage.viewer.reset_view()
    stage.panel.target.choose(TargetChoice.WHOLE)
    stage.unfold("Advanced")
    shown = stage.panel.advanced.cluster
    shown.button.click()
    shown.name.setText("local:2")
    shown.connection.click()
    stage.until(lambda: stage.panel.state.cluster is not None, "the workers")
    stage.settle(2000)
    ended: list[str] = []
    stage.panel.ended.connect(lambda status, _: ended.append(status))
    stage.panel.bar.button.click()
    progress = stage.panel.bar.progress
    stage.until(lambda: progress.maximum() > 1 and progress.value() > 40, "some tiles")
    stage.shoot("cluster")
    stage.until(lambda: bool(ended), "the end of the run")
    shown.connection.click()


def folder(stage: Stage) -> None:
    """The second of three images of a folder is being restored."""
    home = Path(os.environ["NAPARI_RESTORE_CACHE"])
    (home / "scenes").mkdir()
    pixels = tifffile.imread(SAMPLE)
    for name, turned in (("east", pixels), ("north", pixels[::-1]), ("west", pixels[:, ::-1])):
        tifffile.imwrite(home / "scenes" / f"{name}.tif", turned, photometric="rgb")
    batch = stage.section("Several images")
    batch.source.setText(str(home / "scenes"))
    batch.target.setText(str(home / "restored"))
    stage.unfold("Several images")
    batch.start_folder.click()
    image, tiles = batch.message, batch.progress
    stage.until(lambda: image.text().startswith("2") and tiles.value() > 20, "tiles of the second")
    stage.panel.findChild(QScrollArea).ensureWidgetVisible(image)
    stage.shoot("folder")
    stage.until(lambda: batch.folder is None, "the end of the folder")


def swipe(stage: Stage) -> None:
    """Before on the left, after on the right."""
    stage.panel.target.choose(TargetChoice.WHOLE)
    stage.run()
    stage.unfold("Compare")
    stage.section("Compare").swipe.setChecked(True)
    stage.shoot("swipe")


def variants(stage: Stage) -> None:
    """Two results with other settings, to choose between."""
    stage.choose("dcp")
    stage.panel.target.choose(TargetChoice.WHOLE)
    stage.run()
    stage.panel.parameters.rows["omega"].value = 0.7
    stage.settle()
    stage.run()
    stage.unfold("Results")
    stage.shoot("variants")


def quality(stage: Stage) -> None:
    """What happened to every pixel."""
    stage.choose("hot")
    stage.panel.target.choose(TargetChoice.WHOLE)
    stage.section("Compare").maps.keep.setChecked(True)
    stage.run()
    stage.unfold("Compare")
    stage.section("Compare").maps.buttons["quality"].click()
    stage.until(lambda: any("quality" in x.name.lower() for x in stage.viewer.layers), "the map")
    stage.shoot("quality")


def transmission(stage: Stage) -> None:
    """What the network saw: transmission as a layer, airlight as a colour."""
    stage.choose("atmosphere")
    stage.panel.target.choose(TargetChoice.WHOLE)
    maps = stage.section("Compare").maps
    maps.keep.setChecked(True)
    stage.run()
    stage.unfold("Compare")
    maps.buttons["transmission"].click()
    stage.until(lambda: any("transm" in x.name.lower() for x in stage.viewer.layers), "the map")
    stage.panel.findChild(QScrollArea).ensureWidgetVisible(maps.keep)
    stage.shoot("transmission")


def error(stage: Stage) -> None:
    """A budget that is too small for one tile."""
    stage.panel.memory.setValue(0.01)
    stage.settle()
    stage.panel.bar.button.click()
    stage.until(lambda: stage.panel.runs.running is None, "the refusal")
    stage.unfold()
    stage.shoot("error")


def light(stage: Stage) -> None:
    """The light theme."""
    stage.viewer.theme = "light"
    stage.zoom(2)
    stage.run()
    stage.unfold("Adjust")
    stage.shoot("light")


def attribute(stage: Stage, region: Region) -> None:
    """Attribute a box in the Attribution tab, and wait for the end."""
    tab, ended = stage.panel.attribution, []
    stage.panel.tabs.choose("Attribution")
    tab.target.add_box(region)
    tab.ended.connect(lambda status, _: ended.append(status))
    tab.bar.button.click()
    stage.until(lambda: bool(ended), "the attribution")
    if ended != ["done"]:
        raise RuntimeError(f"The attribution {ended[0]}.")
    stage.unfold()


def look_at(stage: Stage, region: Region, zoom: float) -> None:
    """Point the camera at the middle of a box of the image, with `zoom` screen pixels a pixel."""
    layer = stage.panel.state.layer
    y, x = (region.y0 + region.y1) / 2, (region.x0 + region.x1) / 2
    here, beside = (np.array(layer.data_to_world((y, x + n))) for n in (0, 1))
    stage.viewer.scene.camera.center = tuple(here)
    stage.viewer.scene.camera.zoom = zoom / float(np.linalg.norm(beside - here))


def attribution(stage: Stage) -> None:
    """Two attributions of one box, side by side."""
    box = Region(900, 1500, 1028, 1628)
    stage.viewer.window._qt_window.resize(SIZE[0], 1150)
    look_at(stage, box, 1.9)
    for model in ("dcp", "haze-unet"):
        stage.choose(model)
        attribute(stage, box)
    stage.panel.attribution.results.side_by_side.click()
    stage.until(lambda: stage.viewer.canvas.grid.enabled, "the two maps")
    scroll = stage.panel.findChild(QScrollArea)
    scroll.ensureWidgetVisible(stage.panel.attribution.results.record)
    stage.shoot("attribution-tab")


def corner(stage: Stage) -> None:
    """Why a dune became dark; needs the photograph of docs/lab/why-this-corner.md."""
    box = Region(1900, 480, 2028, 608)
    stage.viewer.layers.clear()
    # The sample had turned the view north up.
    stage.viewer.scene.camera.orientation2d = ("down", "right")
    stage.viewer.open(os.environ["COAST"], plugin="napari-restore")
    stage.viewer.window._qt_window.resize(SIZE[0], 1150)
    stage.choose("dcp")
    stage.panel.target.choose(TargetChoice.WHOLE)
    stage.run()
    attribute(stage, box)
    view = stage.panel.attribution.results.view
    view.setCurrentIndex(view.findData("area"))
    look_at(stage, box, 1.0)
    stage.shoot("corner-dcp")
    stage.choose("atmosphere")
    view.setCurrentIndex(view.findData("signed"))
    for layer in stage.viewer.layers:
        layer.visible = layer is stage.panel.state.layer or layer.name == "Attribution target"
    attribute(stage, box)
    stage.viewer.reset_view()
    stage.shoot("corner-atmosphere")


def fuse(stage: Stage) -> None:
    """A bracket fused live; needs the folder of its frames."""
    stage.viewer.layers.clear()
    # The sample had turned the view north up.
    stage.viewer.scene.camera.orientation2d = ("down", "right")
    stage.viewer.window._qt_window.resize(SIZE[0], 1000)
    stage.panel.tabs.choose("Fuse")
    controller, live = stage.panel.fusion.controller, stage.panel.runs.live
    controller.add_paths([os.environ["BRACKET"]])
    stage.until(lambda: controller.bracket and not controller.bracket.is_rough, "the frames")
    stage.settle()
    stage.viewer.reset_view()
    stage.settle(2000)
    stage.until(lambda: not live.is_busy, "the view")
    scroll = stage.panel.findChild(QScrollArea)
    scroll.ensureWidgetVisible(stage.panel.fusion.after)
    stage.shoot("fuse", quality=80)


def tone(stage: Stage) -> None:
    """Warmer, shadows lifted, a curve; needs a photo."""
    stage.viewer.layers.clear()
    # The sample had turned the view north up.
    stage.viewer.scene.camera.orientation2d = ("down", "right")
    stage.viewer.open(os.environ["PHOTO"], plugin="napari-restore")
    stage.choose("atmosphere")
    stage.run()
    stage.unfold("Tone and colour")
    section = stage.section("Tone and colour")
    section.temperature.setValue(7400)
    for name, value in (("saturation", 12), ("shadows", 35), ("highlights", -30)):
        section.sliders[name].setValue(value)
    stage.panel.state.current.adjust(replace(section.chosen, curve="0,0:0.3,0.22:0.7,0.78:1,1"))
    stage.panel.findChild(QScrollArea).ensureWidgetVisible(section)
    stage.shoot("tone", quality=80)


SCENES = {
    scene.__name__: scene
    for scene in (
        *(restored, areas, live, cluster, folder, swipe, variants, quality, transmission, error),
        *(light, attribution, corner, fuse, tone),
    )
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *SCENES], help="by default all")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    get_settings().application.ipy_interactive = False
    needs = {"corner": "COAST", "fuse": "BRACKET", "tone": "PHOTO"}
    possible = [name for name in SCENES if name not in needs or needs[name] in os.environ]
    for name in options.names or possible:
        stage = Stage()
        SCENES[name](stage)
        stage.close()
    return 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        # Results of an earlier time would be offered in the pictures.
        os.environ["NAPARI_RESTORE_CACHE"] = folder
        sys.exit(main())
