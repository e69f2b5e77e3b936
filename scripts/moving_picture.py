"""Makes the moving picture of README.md from the real window; writes docs/images/demo.gif.

scripts/with-display .venv/bin/python scripts/moving_picture.py

Every frame is the window as it was; only the pointer is drawn onto it, and waiting is shortened.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.settings import get_settings
from PIL import Image, ImageDraw
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QScrollArea, QWidget
from screenshots import FOLDER, Stage, look_at

from napari_restore import Region
from napari_restore.plugin.state.request import TargetChoice

WINDOW = (1180, 760)
WIDTH = 960
LIMIT_BYTES = 3_000_000
COLOURS = 144
STILL = 6
"""Pixels whose colours differ by no more than this from the frame before keep it: they cost nothing."""

POINTER = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))

BOX = Region(900, 1500, 1028, 1628)


class Film:
    """The frames so far, (H, W, 3) uint8, with how long each is shown, in milliseconds."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.frames: list[npt.NDArray[np.uint8]] = []
        self.times: list[int] = []
        self.pointer = (WINDOW[0] * 0.45, WINDOW[1] * 0.5)

    def take(self, milliseconds: int) -> None:
        """Add the window as it is; one that has not changed adds nothing to the last frame."""
        pixels = self.stage.viewer.screenshot(canvas_only=False, flash=False)[..., :3]
        picture = Image.fromarray(pixels)
        scale = picture.width / self.stage.viewer.window._qt_window.width()
        draw_pointer(picture, *(part * scale for part in self.pointer))
        height = round(picture.height * WIDTH / picture.width)
        small = np.asarray(picture.resize((WIDTH, height), Image.Resampling.LANCZOS)).copy()
        if self.frames:
            before = self.frames[-1]
            same = np.abs(small.astype(int) - before).max(axis=-1) <= STILL
            small[same] = before[same]
            if same.all():
                self.times[-1] = max(self.times[-1], milliseconds)
                return
        self.frames.append(small)
        self.times.append(milliseconds)

    def move(
        self, x: float, y: float, steps: int = 6, then: Callable[[float], Any] = float
    ) -> None:
        """Move the pointer to a place of the window; `then` gets the way done, 0 to 1."""
        from_x, from_y = self.pointer
        for step in range(1, steps + 1):
            part = step / steps
            self.pointer = (from_x + (x - from_x) * part, from_y + (y - from_y) * part)
            then(part)
            self.stage.settle(60)
            self.take(70)

    def move_to(self, widget: QWidget, **options: Any) -> None:
        """Move the pointer to the middle of a control."""
        window = self.stage.viewer.window._qt_window
        place = widget.mapTo(window, QPoint(widget.width() // 2, widget.height() // 2))
        self.move(place.x(), place.y(), **options)

    def until(self, condition: Callable[[], bool], milliseconds: int, every: int) -> None:
        """Film until `condition` holds, one frame in `every` milliseconds, each shown so long."""
        for _ in range(2000):
            if condition():
                return
            self.stage.settle(every)
            self.take(milliseconds)
        raise TimeoutError("The window took too long.")

    def write(self) -> None:
        """Write the GIF, all frames in one palette."""
        chosen = self.frames[:: max(1, len(self.frames) // 12)]
        palette = Image.fromarray(np.concatenate([frame[::2, ::2] for frame in chosen])).quantize(
            COLOURS, method=Image.Quantize.MEDIANCUT
        )
        frames = [
            Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
            for frame in self.frames
        ]
        path = FOLDER / "demo.gif"
        frames[0].save(
            path,
            save_all=True,
            append_images=frames[1:],
            duration=self.times,
            loop=0,
            optimize=True,
        )
        size = path.stat().st_size
        print(f"{path}: {len(frames)} frames, {sum(self.times) / 1000:.1f} s, {size / 1e6:.2f} MB")
        if size > LIMIT_BYTES:
            raise SystemExit(f"It has more than {LIMIT_BYTES} bytes; take fewer frames.")


def draw_pointer(picture: Image.Image, x: float, y: float) -> None:
    """Draw an arrow whose tip is at (x, y)."""
    corners = [(x + dx, y + dy) for dx, dy in POINTER]
    ImageDraw.Draw(picture).polygon(corners, fill="white", outline="black", width=2)


def restore(film: Film) -> None:
    """Remove the haze of the whole sample."""
    stage = film.stage
    film.take(1600)
    film.move_to(stage.panel.bar.button)
    film.take(300)
    ended: list[str] = []
    stage.panel.ended.connect(lambda status, _: ended.append(status))
    stage.panel.bar.button.click()
    film.until(lambda: bool(ended), milliseconds=110, every=250)
    if ended != ["done"]:
        raise RuntimeError(f"The run {ended[0]}.")
    stage.settle(1500)
    film.take(1200)


def swipe(film: Film) -> None:
    """Drag the line between before and after across the image, with the mouse."""
    stage = film.stage
    button = stage.section("Compare").swipe
    stage.unfold("Compare")
    stage.panel.findChild(QScrollArea).ensureWidgetVisible(button)
    stage.settle()
    film.take(200)
    film.move_to(button)
    button.click()
    stage.settle(1500)
    film.take(500)
    canvas = stage.viewer.window._qt_viewer.canvas.native
    film.move_to(canvas)
    middle = canvas.rect().center()
    film.take(200)

    def drag(part: float, start: int, stop: int) -> None:
        place = QPoint(round(start + (stop - start) * part), middle.y())
        QTest.mouseMove(canvas, place)

    left, right = round(canvas.width() * 0.12), round(canvas.width() * 0.88)
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=middle)
    x, y = film.pointer
    for start, stop in ((middle.x(), left), (left, right), (right, middle.x())):
        film.move(x + stop - middle.x(), y, 9, lambda part, a=start, b=stop: drag(part, a, b))
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=middle)
    film.take(900)
    stage.unfold("Compare")
    button.click()
    stage.settle()


def attribute(film: Film) -> None:
    """Ask which pixels made a box of the result."""
    stage = film.stage
    tab = stage.panel.attribution
    look_at(stage, BOX, 1.5)
    stage.panel.tabs.choose("Attribution")
    tab.target.add_box(BOX)
    stage.settle(1500)
    film.take(1000)
    film.move_to(tab.bar.button)
    ended: list[str] = []
    tab.ended.connect(lambda status, _: ended.append(status))
    tab.bar.button.click()
    film.until(lambda: bool(ended), milliseconds=130, every=1500)
    if ended != ["done"]:
        raise RuntimeError(f"The attribution {ended[0]}.")
    stage.unfold()
    stage.settle(1500)
    film.take(3000)


def main() -> int:
    get_settings().application.ipy_interactive = False
    stage = Stage()
    stage.viewer.window._qt_window.resize(*WINDOW)
    stage.settle()
    stage.viewer.reset_view()
    stage.panel.target.choose(TargetChoice.WHOLE)
    stage.unfold()
    stage.settle()
    film = Film(stage)
    for part in (restore, swipe, attribute):
        part(film)
    film.write()
    stage.close()
    return 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_RESTORE_CACHE"] = folder
        sys.exit(main())
