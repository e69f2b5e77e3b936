"""How the window feels: Qt's gaps with and without a run, and how soon pixels come.

Run as ``scripts/with-display python benchmarks/window.py SCENE [--cold SCENE]`` with a
large tiled scene, and perhaps a larger one for the cold start; prints a Markdown
table. Everything is done in the real window: clicks, camera moves, signals. A gap is
the time between two ticks of a timer of 5 ms in the thread of the window.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TICK_MS = 5
LIMIT = 300.0
SECONDS = 10.0
"""How long gaps are watched, each with and without a run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--cold", type=Path, help="a larger scene for the cold start")
    parser.add_argument("--model", default="dcp")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/napari-restore-window"))
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--only", default="", help="words of the figures to take")
    options = parser.parse_args()
    os.environ["NAPARI_RESTORE_CACHE"] = str(options.cache)
    from napari_restore.plugin import load

    # As `napari-restore view` begins.
    load()
    print("| figure | goal | measured |", flush=True)
    print("| --- | ---: | ---: |", flush=True)
    parts: list[tuple[str, Callable[[Any], None]]] = [
        ("start", lambda window: first_tiles(window)),
        ("gaps", lambda window: gaps(window)),
        ("cancel", lambda window: cancel(window)),
        ("pan", lambda window: pan(window)),
        ("swipe", lambda window: swipe(window)),
        ("live", lambda window: live(window, options.updates)),
    ]
    window = Window(options.scene, options.model)
    for name, part in parts:
        if name in (options.only or name):
            part(window)
    window.close()
    if options.cold is not None and "cold" in (options.only or "cold"):
        window = Window(options.cold, options.model)
        cold_tile(window)
        window.close()


def report(figure: str, goal: str, measured: str) -> None:
    print(f"| {figure} | {goal} | {measured} |", flush=True)


class Window:
    """A viewer with the panel and one scene."""

    def __init__(self, scene: Path, model: str) -> None:
        import napari

        from napari_restore import api
        from napari_restore.images import trim_cache

        trim_cache(0, ("contexts", "results"))
        self.api = api
        self.viewer = napari.Viewer()
        self.viewer.window._qt_window.resize(1400, 900)
        _, self.panel = self.viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
        self.app = napari.qt.get_qapp()
        self.drawn = 0.0
        self.viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(self._on_draw)
        self.viewer.open(scene, plugin="napari-restore")
        self.layer = self.viewer.layers[0]
        self.image = self.layer.metadata["napari_restore"]
        self.choose(model)
        self.planned()

    def _on_draw(self, event: Any) -> None:
        self.drawn = time.perf_counter()

    def choose(self, model: str) -> None:
        combo = self.panel.models.combo
        combo.setCurrentIndex(combo.findData(model))

    def wait(self, ready: Callable[[], Any], limit: float = LIMIT) -> float:
        """Seconds until `ready`, in Qt's own loop: one of ours would keep threads waiting."""
        from qtpy.QtCore import QEventLoop, QTimer

        began = time.perf_counter()
        loop, timer = QEventLoop(), QTimer()

        def look() -> None:
            if ready() or time.perf_counter() - began > limit:
                loop.quit()

        timer.timeout.connect(look)
        timer.start(2)
        loop.exec()
        timer.stop()
        if time.perf_counter() - began > limit:
            raise TimeoutError(ready)
        return time.perf_counter() - began

    def rest(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        self.wait(lambda: time.perf_counter() > end)

    def planned(self) -> None:
        """Wait until what is set is planned and the child is warm, as a user who looks first."""
        panel, worker = self.panel, self.panel.runs.worker
        self.rest(0.6)
        self.wait(lambda: panel.plans.plan_of(panel.state.request()) is not None)
        self.rest(0.5)
        self.wait(lambda: worker.process is not None and not worker._open)

    def look_at(self, y: float, x: float, zoom: float | None = None) -> None:
        """Move the camera to level-0 pixel (y, x); `zoom` in screen pixels per pixel."""
        world = self.layer.data_to_world((y, x))
        self.viewer.scene.camera.center = (0, *world[-2:])
        if zoom is not None:
            size = abs(
                np.subtract(self.layer.data_to_world((1, 1)), self.layer.data_to_world((0, 0)))
            )
            self.viewer.scene.camera.zoom = zoom / float(size[-1])

    def click(self, until: Callable[[], Any]) -> float:
        """Seconds from a click on Run until `until` and the drawing after it."""
        inserted: list[float] = []
        note = lambda event: inserted.append(time.perf_counter())  # noqa: E731
        self.viewer.layers.events.inserted.connect(note)
        began = time.perf_counter()
        self.panel.bar.button.click()
        self.wait(until)
        self.viewer.layers.events.inserted.disconnect(note)
        self.wait(lambda: self.drawn > inserted[-1])
        return self.drawn - began

    def first_tile(self) -> float:
        before = len(self.panel.state.variants)
        return self.click(lambda: len(self.panel.state.variants) > before)

    def draft(self) -> float:
        from napari_restore.plugin.runs.layer_run import drafts_in

        return self.click(lambda: drafts_in(self.viewer))

    def finish(self) -> None:
        self.wait(lambda: self.panel.runs.running is None)

    def forget_results(self) -> None:
        """Remove all results, so that the next run has to make its tiles."""
        import gc

        from napari_restore.images import trim_cache

        self.panel.state.current = None
        self.panel.state.variants = ()
        for layer in [x for x in self.viewer.layers if x is not self.layer]:
            self.viewer.layers.remove(layer)
        self.rest(0.3)
        gc.collect()
        trim_cache(0, ("results",))

    def close(self) -> None:
        self.panel.close()
        self.viewer.close()


def first_tiles(window: Window) -> None:
    height, width = window.image.height, window.image.width
    window.wait(lambda: window.image.is_built(len(window.image.level_shapes) - 1))
    window.look_at(height / 2, width / 2, 0.25)
    window.planned()
    report("click to draft, nothing known of the image", "0.5 s", f"{window.draft():.2f} s")
    window.finish()
    window.forget_results()
    window.look_at(height / 2, width / 2, 1)
    window.planned()
    times = []
    for number in range(5):
        window.look_at(height * (0.2 + 0.12 * number), width * 0.5)
        window.planned()
        times.append(window.first_tile())
        window.finish()
    shown = ", ".join(f"{t:.2f}" for t in times)
    report(
        "click to first true tile, statistics known",
        "0.35 s",
        f"{np.median(times):.2f} s ({shown})",
    )
    window.forget_results()


def cold_tile(window: Window) -> None:
    height, width = window.image.height, window.image.width
    window.look_at(height / 2, width / 2, 1)
    window.planned()
    report("click to provisional tile, larger scene just opened", "2 s", f"{window.draft():.2f} s")
    window.panel.runs.cancel()
    window.finish()


class Gaps:
    """Times between ticks."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def of(self, window: Window, seconds: float) -> tuple[float, float]:
        """(p99, max) in ms while the camera wanders."""
        from qtpy.QtCore import QTimer

        step = 0
        height, width = window.image.height, window.image.width

        def drag() -> None:
            nonlocal step
            step += 1
            y, x = (0.5 + 0.02 * turn(step / 15) for turn in (np.sin, np.cos))
            window.look_at(height * y, width * x)

        # A step every 100 ms, as a hand that drags.
        hand = QTimer()
        hand.timeout.connect(drag)
        hand.start(100)
        self.gaps.clear()
        self._last = time.perf_counter()
        self._timer.start()
        window.rest(seconds)
        hand.stop()
        self._timer.stop()
        ms = np.array(self.gaps) * 1000
        return float(np.percentile(ms, 99)), float(ms.max())


def gaps(window: Window) -> None:
    from napari_restore.plugin.state.request import TargetChoice

    height, width = window.image.height, window.image.width
    window.look_at(height / 2, width / 2, 0.5)
    window.planned()
    watch = Gaps()
    watch.of(window, 4)
    base = watch.of(window, SECONDS)
    window.panel.target.choose(TargetChoice.WHOLE)
    window.planned()
    window.panel.bar.button.click()
    window.wait(lambda: window.panel.runs.running is not None and window.panel.runs.running.variant)
    run = watch.of(window, SECONDS)
    still = window.panel.runs.running is not None
    for number, name in enumerate(("p99", "max")):
        goal = ("100 ms", "250 ms")[number]
        ratio = run[number] / base[number]
        cells = f"{base[number]:.0f} ms without, {run[number]:.0f} ms during a run, × {ratio:.2f}"
        report(
            f"gaps of the event loop, {name}", goal, cells + ("" if still else " (it ended early)")
        )
    window.panel.runs.cancel()
    window.finish()
    window.forget_results()
    window.panel.target.choose(TargetChoice.VISIBLE)


def cancel(window: Window) -> None:
    from napari_restore.plugin.state.request import TargetChoice

    window.panel.target.choose(TargetChoice.WHOLE)
    times = []
    for _ in range(3):
        window.forget_results()
        window.planned()
        window.panel.bar.button.click()
        window.wait(
            lambda: window.panel.runs.running is not None and window.panel.runs.running.variant
        )
        window.rest(1.0)
        began = time.perf_counter()
        window.panel.bar.button.click()
        window.finish()
        times.append(time.perf_counter() - began)
    report("cancel to end", "0.5 s", ", ".join(f"{t:.2f}" for t in times) + " s")
    window.panel.target.choose(TargetChoice.VISIBLE)
    window.forget_results()


def pan(window: Window) -> None:
    height, width = window.image.height, window.image.width
    window.look_at(height / 2, width / 2, 1)
    window.panel.bar.live.setChecked(True)
    live = window.panel.runs.live
    places = [(height / 2 + 300 * (n % 3), width / 2 + 300 * (n // 3)) for n in range(6)]
    window.wait(lambda: live.variant is not None and live._attempt is None)
    for y, x in places:
        window.look_at(y, x)
        window.rest(0.3)
        window.wait(lambda: live._attempt is None)
    window.rest(1.0)
    times, tiles = [], live.variant.shown
    for y, x in places:
        window.rest(0.5)
        began = time.perf_counter()
        window.look_at(y, x)
        window.wait(lambda: window.drawn > began)  # noqa: B023
        times.append(window.drawn - began)
    assert tiles is live.variant.shown
    report(
        "pan to finished tiles, until drawn",
        "150 ms",
        f"{1000 * np.median(times):.0f} ms (max {1000 * max(times):.0f})",
    )
    window.panel.bar.live.setChecked(False)
    window.forget_results()


def swipe(window: Window) -> None:
    from napari_restore.plugin.compare.compare_section import CompareSection

    height, width = window.image.height, window.image.width
    window.look_at(height / 2, width / 2, 0.5)
    window.planned()
    window.first_tile()
    window.finish()
    section = next(s for s in window.panel.sections if isinstance(s, CompareSection))
    section.swipe.click()
    swipe: Any = section._way
    window.wait(lambda: swipe.is_ready)
    window.rest(1.0)
    times = []
    for number in range(60):
        window.rest(0.1)
        began = time.perf_counter()
        swipe.move_to(width / 2 + 600 * np.sin(number / 3))
        window.wait(lambda: window.drawn > began)  # noqa: B023
        times.append(window.drawn - began)
    report(
        "swipe, until drawn",
        "100 ms",
        f"{1000 * np.median(times):.0f} ms (p95 {1000 * np.percentile(times, 95):.0f})",
    )
    section.swipe.click()
    window.forget_results()


def live(window: Window, updates: int) -> None:
    import psutil

    height, width = window.image.height, window.image.width
    window.look_at(height / 2, width / 2, 2)
    window.panel.bar.live.setChecked(True)
    live = window.panel.runs.live
    own = psutil.Process()
    memory_use, times = [], []
    rng = np.random.default_rng(0)
    for number in range(updates + 1):
        rested: list[bool] = []
        live.updated.connect(lambda: rested.append(True))  # noqa: B023
        began = time.perf_counter()
        if number % 2:
            window.look_at(height * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6))
        else:
            window.panel.parameters.rows["omega"].value = 0.5 + 0.4 * (number % 23) / 23
        window.wait(lambda: rested)  # noqa: B023
        live.updated.disconnect()
        times.append(time.perf_counter() - began)
        if number in (updates // 4, updates // 2, updates):
            window.rest(1.0)
            child = psutil.Process(window.panel.runs.worker.process.pid)
            memory_use.append(tuple(p.memory_full_info().uss / 2**20 for p in (own, child)))
    report(
        "live update, median", "–", f"{np.median(times):.2f} s (p95 {np.percentile(times, 95):.2f})"
    )
    text = "; ".join(f"{a:.0f} + {b:.0f}" for a, b in memory_use)
    report(
        f"memory after {updates // 4}, {updates // 2} and {updates} live updates, window + child",
        "flat",
        f"{text} MiB",
    )
    window.panel.bar.live.setChecked(False)


if __name__ == "__main__":
    main()
