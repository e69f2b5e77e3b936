"""How the tab Attention feels: click to thumbnails and overlay, maps in a drag, Qt's gaps.

    scripts/with-display python benchmarks/attention_window.py IMAGE --side 2048 8192

The image is repeated to squares of each side and prepared in a real window. Then the query is put
for the first time, put elsewhere, and dragged 40 steps, one every 40 ms, as a hand would. A gap is
the time between two ticks of a timer of 5 ms in the thread of the window; beside them stand those of
a drag that moves the picture, with the tab closed. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from attention_costs import write
from window import Gaps, Window

STEPS, STEP_MS = 40, 40
MODEL = "inf-dehaze-small"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--side", type=int, nargs="+", default=[2048])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--layer", default="", help="the chosen layer, if not the tab's own choice")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/napari-restore-window"))
    parser.add_argument("--profile", action="store_true", help="print where the drag's time goes")
    options = parser.parse_args()
    os.environ["NAPARI_RESTORE_CACHE"] = str(options.cache)
    from napari_restore.plugin import load

    load()
    print("| image | figure | measured |\n| --- | --- | ---: |", flush=True)
    for side in options.side:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.tif"
            write(options.image, side, path)
            measure(path, side, options)


def measure(path: Path, side: int, options: argparse.Namespace) -> None:
    """Print the rows of one image."""
    window = Window(path, options.model)
    tab = window.panel.attention
    window.look_at(side / 2, side / 2, 0.5)
    window.rest(1)
    report(side, "gaps of a drag that moves the picture, tab closed", pan(window))
    window.panel.tabs.choose("Attention")
    ended: list[Any] = []
    tab.ended.connect(lambda *outcome: ended.append(outcome))
    began = time.perf_counter()
    tab.bar.button.click()
    window.wait(lambda: bool(ended))
    assert ended[0][0] == "done", ended
    report(side, "prepare", f"{time.perf_counter() - began:.1f} s")
    if options.layer:
        first = next(site for site in tab.session.sites if site.name == options.layer)
        tab.heads.choose(first.name, [first.heads[0]])
    # What a user does before clicking.
    window.rest(2)
    for name, place in (("first", (0.5, 0.5)), ("next", (0.52, 0.47)), ("next", (0.46, 0.55))):
        found = click(window, tab, *(int(side * share) for share in place))
        report(side, f"{name} click, until thumbnails of the chosen layer, overlay, all", found)
        window.rest(1)
    for _ in range(3):
        report(side, f"drag of {STEPS} steps", drag(window, tab, options.profile))
        window.rest(1)
    window.close()


def report(side: int, figure: str, measured: str) -> None:
    print(f"| {side}² | {figure} | {measured} |", flush=True)


class Painted:
    """When the view of the heads was last painted with pictures of a layer."""

    def __init__(self, heads: Any) -> None:
        from qtpy.QtCore import QEvent, QObject

        class Filter(QObject):
            def eventFilter(self, watched: Any, event: Any) -> bool:
                if event.type() == QEvent.Type.Paint and heads.site in heads._pictures:
                    painted.at = time.perf_counter()
                return False

        painted = self
        self.at = 0.0
        self._filter, self._heads = Filter(), heads
        heads.installEventFilter(self._filter)

    def end(self) -> None:
        self._heads.removeEventFilter(self._filter)


def click(window: Window, tab: Any, y: int, x: int) -> str:
    """Put the query there; return seconds until each thing is on the screen, and the longest gap."""
    painted, watch = Painted(tab.heads), Gaps()
    watch._last = began = time.perf_counter()
    used = time.thread_time()
    watch._timer.start()
    tab.heads._pictures.clear()
    tab.pointer.put(y, x)
    window.wait(lambda: painted.at > began)
    thumbnails, until = painted.at - began, time.thread_time() - used
    window.wait(lambda: tab.query is not None and tab.query.query.box[:2] == (y, x))
    window.wait(lambda: tab.layers.map is not None and tab.layers.map.visible)
    shown = time.perf_counter()
    window.wait(lambda: window.drawn > shown - 0.02)
    overlay = window.drawn - began
    window.wait(lambda: len(tab.query.maps) == len(tab.session.sites))
    every, used = time.perf_counter() - began, time.thread_time() - used
    window.rest(0.5)
    watch._timer.stop()
    painted.end()
    return (
        f"{thumbnails:.2f} s, {overlay:.2f} s, {every:.2f} s "
        f"(processor time of this thread {until:.2f}, {used:.2f} s); "
        f"longest gap {1000 * max(watch.gaps):.0f} ms"
    )


def drag(window: Window, tab: Any, with_profile: bool) -> str:
    """Drag the query with the mouse; return maps per second and gaps."""
    layer, zoom = tab.state.layer, window.viewer.scene.camera.zoom
    start = np.array(tab.pointer.place, float)

    def place(step: int) -> Any:
        pixel = start + np.array([3 * step, 40 * np.sin(step / 4)])
        return np.array(layer.data_to_world(pixel))[-2:]

    event = SimpleNamespace(type="mouse_press", button=1, position=place(0), pos=place(0) * zoom)
    handling = tab.pointer._on_press(window.viewer, event)
    next(handling)
    answers: list[float] = []
    note = lambda answer: answers.append(time.perf_counter())  # noqa: E731
    tab.answered.connect(note)

    def move(step: int) -> None:
        event.type, event.position, event.pos = "mouse_move", place(step), place(step) * zoom
        next(handling)

    profile = None
    if with_profile:
        import cProfile

        profile = cProfile.Profile()
        profile.enable()
    seconds, gaps = stepped(window, move)
    number = len(answers)
    if profile is not None:
        import pstats

        profile.disable()
        pstats.Stats(profile).sort_stats("cumulative").print_stats(70)
    event.type = "mouse_release"
    for _ in handling:
        pass
    window.rest(1)
    tab.answered.disconnect(note)
    return f"{number / seconds:.1f} maps/s; {gaps}"


def pan(window: Window) -> str:
    """Move the picture as a drag would; return the gaps."""
    y, x = (side / 2 for side in (window.image.height, window.image.width))

    def move(step: int) -> None:
        window.look_at(y + 3 * step, x + 40 * np.sin(step / 4))

    stepped(window, move)
    window.rest(0.5)
    return stepped(window, move)[1]


def stepped(window: Window, move: Any) -> tuple[float, str]:
    """Call `move` for every step in Qt's loop; return the seconds it took and the gaps as text."""
    from qtpy.QtCore import QTimer

    done = 0

    def next_step() -> None:
        nonlocal done
        done += 1
        if done <= STEPS:
            move(done)

    watch, hand = Gaps(), QTimer()
    hand.timeout.connect(next_step)
    watch._last = began = time.perf_counter()
    used = time.thread_time()
    watch._timer.start()
    hand.start(STEP_MS)
    window.wait(lambda: done >= STEPS)
    seconds, used = time.perf_counter() - began, time.thread_time() - used
    hand.stop()
    watch._timer.stop()
    found = 1000 * np.array(watch.gaps)
    middle, high = np.percentile(found, [50, 99])
    return seconds, (
        f"{seconds / STEPS * 1000:.0f} ms a step ({used / STEPS * 1000:.0f} of this thread's "
        f"processor time), gaps median {middle:.0f}, "
        f"p99 {high:.0f}, longest {found.max():.0f} ms"
    )


if __name__ == "__main__":
    main()
