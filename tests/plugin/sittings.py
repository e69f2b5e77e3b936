"""Sit at the window and do at random what users do: ``python tests/plugin/sittings.py --seeds 0-99``.

Each sitting has a process of its own. It fails where that dies, raises anywhere, warns by Qt, gives
OpenGL commands in another context than the canvas's, or stands still for a minute. QT_API names the
toolkit; a seed makes the same choices again, at other moments.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STEPS = 40
BLOCKED = 60
"""Seconds that a step may take."""
HARMLESS = re.compile(
    "propagateSizeHints|XDG_RUNTIME_DIR|Populating font family|does not support|QFont::|iCCP"
    "|QXcb|QPainter::begin: Paint device returned engine == 0"
)
"""What Qt says on a display without a screen."""
NEVER = re.compile("quit|exit|browser|online|download", re.IGNORECASE)
"""Buttons that end the window, or reach for the network."""


def sit(seed: int, steps: int = STEPS) -> tuple[bool, str]:
    """Return whether a sitting in a process of its own went well, and what it wrote."""
    with tempfile.TemporaryDirectory(prefix="sitting", ignore_cleanup_errors=True) as folder:
        known = {
            "NAPARI_RESTORE_CACHE": f"{folder}/cache",
            "NAPARI_CONFIG": f"{folder}/napari.yaml",
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "passive",
        }
        Path(folder, "cache").mkdir(mode=0o700)
        command = [sys.executable, str(Path(__file__).resolve()), "--one", str(seed)]
        # Written to a file: a process that it leaves behind would keep a pipe open.
        with Path(folder, "log").open("w+b") as log:
            done = subprocess.Popen(
                [*command, "--steps", str(steps)],
                cwd=folder,
                env={**os.environ, **known},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                code: int | str = done.wait(BLOCKED + 30 * steps)
            except subprocess.TimeoutExpired:
                done.kill()
                code = "not ended"
            log.seek(0)
            told = log.read().decode(errors="replace")
    return code == 0, f"{told}\nended with {code}"


class Sitting:
    """One window and the hand that uses it."""

    def __init__(self, seed: int) -> None:
        import napari
        from qtpy import QtCore, QtGui, QtTest, QtWidgets

        self.core, self.gui, self.test, self.widgets = QtCore, QtGui, QtTest.QTest, QtWidgets
        self.chance = random.Random(seed)
        self.found: list[str] = []
        self._listen()
        self.files = made_files(Path.cwd())
        self.viewer = napari.Viewer(show=False)
        self.window = self.viewer.window._qt_window
        self.window.resize(*self.chance.choice([(1366, 728), (1580, 960)]))
        self.viewer.window.show()
        _, self.panel = self.viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
        self.canvas = self.viewer.window._qt_viewer.canvas.native
        # napari's own, which shows a notification.
        sys.excepthook = self._on_exception
        self._watch_contexts()
        self._answer_dialogs()
        self.pump(0.5)

    # -- what goes wrong ------------------------------------------------------------

    def _listen(self) -> None:
        self.core.qInstallMessageHandler(lambda kind, context, text: self._on_qt(str(text)))
        sys.excepthook = self._on_exception
        threading.excepthook = lambda told: self._on_exception(
            told.exc_type, told.exc_value, told.exc_traceback
        )
        sys.unraisablehook = lambda told: self._on_exception(
            told.exc_type, told.exc_value, told.exc_traceback
        )

    def _on_exception(self, kind: Any, value: Any, where: Any) -> None:
        self.found.append("".join(traceback.format_exception(kind, value, where)))

    def _on_qt(self, text: str) -> None:
        if not HARMLESS.search(text):
            self.found.append(f"Qt: {text}")

    def _watch_contexts(self) -> None:
        from vispy.gloo.glir import GlirParser

        parse, found, canvas = GlirParser.parse, self.found, self.canvas

        def watched(parser: Any, commands: Any) -> None:
            commands = list(commands)
            current = self.gui.QOpenGLContext.currentContext()
            if current != canvas.context():
                # Functions touch no object.
                named = [command[:2] for command in commands if command[0] != "FUNC"]
                found.extend(f"OpenGL in another context: {each}" for each in named[:1])
            parse(parser, commands)

        GlirParser.parse = watched

    def told(self) -> list[str]:
        """Return what went wrong since the last call."""
        from napari.utils.notifications import ErrorNotification, notification_manager

        from napari_restore.errors import RestoreError

        records = notification_manager.records
        for record in records:
            if isinstance(record, ErrorNotification):
                error = record.exception
                if not isinstance(error, RestoreError):
                    self.found.append("".join(traceback.format_exception(error)))
        records.clear()
        found, self.found[:] = list(self.found), []
        return found

    # -- what a hand can do ----------------------------------------------------------

    def pump(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            self.widgets.QApplication.processEvents()
            self.widgets.QApplication.sendPostedEvents(
                None, self.core.QEvent.Type.DeferredDelete.value
            )
            if time.monotonic() > end:
                return
            time.sleep(0.005)

    def _answer_dialogs(self) -> None:
        """Answer dialogs of files at once, and other modal ones by a button at random."""
        dialog, chance = self.widgets.QFileDialog, self.chance
        some = [str(file) for file in self.files]

        def answer(_: Any) -> bool:
            return chance.random() < 0.5

        dialog.exec = answer
        dialog.open = lambda _: None
        dialog.selectedFiles = lambda _: [f"{Path.cwd()}/out{chance.randrange(99)}.tif"]
        dialog.getOpenFileName = staticmethod(lambda *_, **__: (chance.choice(some), ""))
        dialog.getOpenFileNames = staticmethod(lambda *_, **__: ([chance.choice(some)], ""))
        dialog.getSaveFileName = staticmethod(lambda *_, **__: ("", ""))
        dialog.getExistingDirectory = staticmethod(lambda *_, **__: "")
        self.gui.QDesktopServices.openUrl = staticmethod(lambda *_: True)
        self._timer = self.core.QTimer()
        self._timer.timeout.connect(self._leave_modal)
        self._timer.start(300)

    def _leave_modal(self) -> None:
        top = self.widgets.QApplication.activeModalWidget()
        popup = self.widgets.QApplication.activePopupWidget()
        if popup is not None:
            popup.close()
        if top is not None:
            print("  a dialog:", type(top).__name__, top.windowTitle(), flush=True)
            buttons = self.of(self.widgets.QAbstractButton, top)
            if buttons and self.chance.random() < 0.7:
                self._press(self.chance.choice(buttons))
            else:
                top.close()

    def of(self, kind: type, root: Any = None) -> list[Any]:
        """Return the visible, enabled widgets of a kind that a user could reach."""
        found = (self.panel if root is None else root).findChildren(kind)
        return [each for each in found if each.isVisible() and each.isEnabled()]

    def _press(self, widget: Any) -> None:
        for area in iter_parents(widget):
            if isinstance(area, self.widgets.QScrollArea):
                area.ensureWidgetVisible(widget, 5, 5)
        self.widgets.QApplication.processEvents()
        left = self.core.Qt.MouseButton.LeftButton
        middle = widget.rect().center()
        if isinstance(widget, (self.widgets.QCheckBox, self.widgets.QRadioButton)):
            middle.setX(10)
        self.test.mouseClick(widget, left, self.core.Qt.KeyboardModifier.NoModifier, middle)

    def click(self) -> str:
        buttons = [b for b in self.of(self.widgets.QAbstractButton) if not NEVER.search(b.text())]
        if not buttons:
            return "nothing to click"
        button = self.chance.choice(buttons)
        told = f"click {button.text() or button.accessibleName() or type(button).__name__!r}"
        self._press(button)
        return told

    def click_named(self) -> str:
        named = [
            b
            for b in self.of(self.widgets.QAbstractButton)
            if b.text() in ("Run", "Cancel", "Live")
        ]
        if not named:
            return "nothing to run"
        button = self.chance.choice(named)
        self._press(button)
        return f"click {button.text()}"

    def tab(self) -> str:
        tabs = self.panel.tabs
        number = self.chance.randrange(tabs.count())
        left, none = self.core.Qt.MouseButton.LeftButton, self.core.Qt.KeyboardModifier.NoModifier
        self.test.mouseClick(tabs, left, none, tabs.tabRect(number).center())
        return f"tab {tabs.tabText(number)}"

    def choose(self) -> str:
        combos = [combo for combo in self.of(self.widgets.QComboBox) if combo.count()]
        if not combos:
            return "nothing to choose"
        combo = self.chance.choice(combos)
        items = [
            n
            for n in range(combo.count())
            if not NEVER.search(combo.itemText(n))
            and combo.model().flags(combo.model().index(n, 0)) & self.core.Qt.ItemFlag.ItemIsEnabled
        ]
        if not items:
            return "no item"
        number = self.chance.choice(items)
        text = combo.itemText(number)
        combo.setCurrentIndex(number)
        combo.activated.emit(number)
        return f"choose {text!r}"

    def slide(self) -> str:
        sliders = self.of(self.widgets.QAbstractSlider)
        sliders = [s for s in sliders if not isinstance(s, self.widgets.QScrollBar)]
        if not sliders:
            return "nothing to slide"
        slider = self.chance.choice(sliders)
        low, high = slider.minimum(), slider.maximum()
        slider.setSliderDown(True)
        for _ in range(3):
            share = self.chance.random()
            slider.setValue(type(low)(low + share * (high - low)))
            self.pump(0.05)
        slider.setSliderDown(False)
        return f"slide {slider.accessibleName()!r}"

    def spin(self) -> str:
        boxes = self.of(self.widgets.QAbstractSpinBox)
        if not boxes:
            return "nothing to count"
        box = self.chance.choice(boxes)
        box.stepBy(self.chance.randint(-3, 3))
        return f"step {box.accessibleName()!r}"

    def write(self) -> str:
        lines = self.of(self.widgets.QLineEdit)
        if not lines:
            return "nothing to write in"
        line, text = self.chance.choice(lines), self.chance.choice(["0.5", "12", "", "abc", "-1"])
        line.setFocus()
        line.selectAll()
        self.test.keyClicks(line, text)
        self.test.keyClick(line, self.core.Qt.Key.Key_Return)
        return f"write {text!r} in {line.accessibleName()!r}"

    def pick(self) -> str:
        views = [
            v for v in self.of(self.widgets.QAbstractItemView) if v.model() and v.model().rowCount()
        ]
        if not views:
            return "nothing to pick"
        view = self.chance.choice(views)
        row = self.chance.randrange(view.model().rowCount())
        view.setCurrentIndex(view.model().index(row, 0))
        return f"pick row {row} of {view.accessibleName()!r}"

    def place(self) -> Any:
        return self.core.QPoint(
            self.chance.randrange(5, max(6, self.canvas.width() - 5)),
            self.chance.randrange(5, max(6, self.canvas.height() - 5)),
        )

    def draw(self) -> str:
        left = self.core.Qt.MouseButton.LeftButton
        none = self.core.Qt.KeyboardModifier.NoModifier
        for _ in range(3):
            place = self.place()
            self.test.mouseMove(self.canvas, place)
            self.test.mouseClick(self.canvas, left, none, place)
            self.pump(0.05)
        place = self.place()
        self.test.mousePress(self.canvas, left, none, place)
        self.test.mouseMove(self.canvas, self.place())
        self.test.mouseRelease(self.canvas, left, none, self.place())
        self.test.mouseDClick(self.canvas, left, none, self.place())
        return "clicks and drags on the canvas"

    def hover(self) -> str:
        for _ in range(4):
            self.test.mouseMove(self.canvas, self.place())
            self.pump(0.05)
        return "pointer over the canvas"

    def zoom(self) -> str:
        self.viewer.scene.camera.zoom *= self.chance.choice([0.5, 2.0, 3.0])
        return "zoom"

    def key(self) -> str:
        qt = self.core.Qt
        keys = [qt.Key.Key_Z, qt.Key.Key_V, qt.Key.Key_G, qt.Key.Key_Home, qt.Key.Key_Escape]
        key = self.chance.choice(keys)
        held = qt.KeyboardModifier.NoModifier
        if key in (qt.Key.Key_Z, qt.Key.Key_G):
            held = qt.KeyboardModifier.ControlModifier
        target = self.chance.choice([self.canvas, self.panel])
        self.test.keyClick(target, key, held)
        return f"key {key} {held}"

    def drop(self) -> str:
        self.panel.tabs.choose("Fuse")
        self.pump(0.1)
        file = self.chance.choice([self.files[-1], *self.files])
        data = self.core.QMimeData()
        data.setUrls([self.core.QUrl.fromLocalFile(str(file))])
        place = self.core.QPointF(self.panel.rect().center())
        qt = self.core.Qt
        common = (qt.DropAction.CopyAction, data, qt.MouseButton.LeftButton)
        none = qt.KeyboardModifier.NoModifier
        app = self.widgets.QApplication
        app.sendEvent(self.panel, self.gui.QDragEnterEvent(place.toPoint(), *common, none))
        app.sendEvent(self.panel, self.gui.QDropEvent(place, *common, none))
        return f"drop {file.name}"

    def open(self) -> str:
        file = self.chance.choice([file for file in self.files if file.is_file()])
        self.viewer.open(file, plugin="napari-restore")
        return f"open {file.name}"

    def delete(self) -> str:
        if not len(self.viewer.layers):
            return "nothing to delete"
        layer = self.chance.choice(list(self.viewer.layers))
        self.viewer.layers.selection = {layer}
        self.viewer.layers.remove_selected()
        return f"delete {layer.name}"

    def see(self) -> str:
        if not len(self.viewer.layers):
            return "nothing to see"
        layer = self.chance.choice(list(self.viewer.layers))
        layer.visible = not layer.visible
        return f"visible {layer.name}"

    def select(self) -> str:
        if not len(self.viewer.layers):
            return "nothing to select"
        layer = self.chance.choice(list(self.viewer.layers))
        self.viewer.layers.selection.active = layer
        return f"select {layer.name}"

    def wait(self) -> str:
        self.pump(self.chance.choice([0.3, 1.0, 4.0]))
        return "wait"

    def steps(self) -> Iterator[Callable[[], str]]:
        """Yield what to do, an image or a bracket first."""
        yield from (self.chance.choice([self.open, self.drop]), self.wait)
        often = {
            self.click: 9,
            self.click_named: 4,
            self.choose: 6,
            self.tab: 2,
            self.slide: 3,
            self.wait: 4,
            self.delete: 2,
            self.drop: 2,
            self.open: 2,
        }
        others = (self.spin, self.write, self.pick, self.draw, self.hover, self.zoom, self.key)
        often |= dict.fromkeys((*others, self.see, self.select), 1)
        while True:
            yield self.chance.choices(list(often), list(often.values()))[0]


def iter_parents(widget: Any) -> Iterator[Any]:
    """Yield the widgets that a widget lies in."""
    while (widget := widget.parentWidget()) is not None:
        yield widget


def made_files(folder: Path) -> list[Path]:
    """Write small images and a bracket: colour, grey, 16 bits, four bands on a map."""
    import numpy as np
    import rasterio
    from PIL import Image
    from rasterio.transform import from_origin

    dice = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320]
    scene = 90 + 60 * np.sin(y / 17)[..., None] * np.cos(x / 23)[..., None] * [1, 0.8, 0.6]
    scene = (scene + 60 + dice.normal(0, 4, scene.shape)).clip(0, 255)
    paths = [folder / name for name in ("colour.jpg", "grey.png", "deep.tif", "map.tif", "bracket")]
    Image.fromarray(scene.astype(np.uint8)).save(paths[0], quality=92)
    Image.fromarray(scene[..., 0].astype(np.uint8)).save(paths[1])
    place = {"crs": "EPSG:32653", "transform": from_origin(4e5, 384e4, 10, 10)}
    for path, bands, more in ((paths[2], 3, {}), (paths[3], 4, place)):
        profile = {
            "driver": "GTiff",
            "height": 240,
            "width": 320,
            "count": bands,
            "dtype": "uint16",
        }
        with rasterio.open(path, "w", **profile, **more) as file:
            file.write((scene[..., [0, 1, 2, 0][:bands]] * 40).astype(np.uint16).transpose(2, 0, 1))
    paths[4].mkdir()
    for number, light in enumerate((0.4, 1.0, 2.2)):
        exif = Image.Exif()
        taken = {0x9003: f"2026:05:01 10:00:0{number}", 0x829A: light / 100, 0x8827: 100}
        exif.get_ifd(0x8769).update(taken)
        frame = Image.fromarray((scene * light).clip(0, 255).astype(np.uint8))
        frame.save(paths[4] / f"{number}.jpg", exif=exif, quality=92)
    return paths


def one(seed: int, steps: int) -> int:
    """Sit once, in this process; return 1 where something went wrong."""
    faulthandler.enable()
    sitting = Sitting(seed)
    wrong = False
    ways = sitting.steps()
    for number in range(steps):
        faulthandler.dump_traceback_later(BLOCKED, exit=True)
        way = next(ways)
        print(f"{number:2} {way.__name__}", flush=True)
        try:
            print(f"   {way()}", flush=True)
            sitting.pump(sitting.chance.choice([0.0, 0.1, 0.4]))
        except Exception:
            sitting.found.append(traceback.format_exc())
        for text in sitting.told():
            wrong = True
            print(f"WRONG {text}", flush=True)
    faulthandler.dump_traceback_later(BLOCKED, exit=True)
    sitting.viewer.close()
    sitting.pump(0.5)
    for text in sitting.told():
        wrong = True
        print(f"WRONG {text}", flush=True)
    print("closed", flush=True)
    os._exit(int(wrong))


def main() -> int:
    """Sit as often as there are seeds; print each that goes wrong with what it wrote."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-99", help="first and last, such as 0-99")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--one", type=int, help="sit here, with this seed")
    given = parser.parse_args()
    if given.one is not None:
        return one(given.one, given.steps)
    first, last = map(int, (given.seeds.split("-") * 2)[:2])
    wrong = []
    for seed in range(first, last + 1):
        begun = time.monotonic()
        is_well, told = sit(seed, given.steps)
        print(
            f"seed {seed}: {'well' if is_well else 'WRONG'}, {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        if not is_well:
            wrong.append(seed)
            print(told, flush=True)
    print(f"{len(wrong)} of {last + 1 - first} sittings went wrong: {wrong}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
