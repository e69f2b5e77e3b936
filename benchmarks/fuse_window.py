"""How soon the tab Fuse shows a picture, and how near it is to the true pixels.

Run as ``scripts/with-display python benchmarks/fuse_window.py FRAME FRAME… [--changes 8]``; prints a
Markdown table. Frames are dropped on the window, a slider is moved, and every draft is waited for
until it is drawn. Drafts are compared with true pixels of the whole picture, in 255ths.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from window import Gaps, Window, report

import napari_restore as nr

CONTRASTS = (0.0, 0.6, 0.2, 0.8, 0.4, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", nargs="+", type=Path)
    parser.add_argument("--changes", type=int, default=8)
    options = parser.parse_args()
    os.environ["NAPARI_RESTORE_CACHE"] = tempfile.mkdtemp(prefix="napari-restore-")
    from napari_restore.plugin import load

    load()
    window = FuseWindow()
    print("| figure | goal | measured |", flush=True)
    print("| --- | ---: | ---: |", flush=True)
    first(window, options.frames)
    slider(window, options.changes)
    gaps(window)
    window.close()


class FuseWindow(Window):
    """A viewer with the tab Fuse, and all that Live has shown."""

    def __init__(self) -> None:
        import napari

        self.viewer = napari.Viewer()
        self.viewer.window._qt_window.resize(1400, 900)
        _, self.panel = self.viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
        self.drawn = 0.0
        self.viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(self._on_draw)
        self.panel.tabs.choose("Fuse")
        self.tab = self.panel.fusion
        self.live = self.panel.runs.live
        self.steps: list[tuple[float, Any, Any]] = []
        shown = self.live._on_result

        def note(attempt: Any, step: Any, result: Any) -> None:
            shown(attempt, step, result)
            self.steps.append((time.perf_counter(), step, result))

        self.live._on_result = note
        # As a user who opens the window, then looks for his photos.
        self.rest(4)

    def step_after(self, change: Any) -> tuple[float, Any]:
        """Seconds from `change` until the next picture is drawn, and its step."""
        before, began = len(self.steps), time.perf_counter()
        change()
        self.wait(lambda: len(self.steps) > before)
        at, step, _ = self.steps[before]
        self.wait(lambda: self.drawn > at)
        return self.drawn - began, step

    def at_rest(self) -> None:
        def is_at_rest() -> bool:
            bracket = self.tab.controller.bracket
            is_aligned = bracket is not None and not bracket.is_rough
            return is_aligned and not self.tab.controller.is_busy and not self.live.is_busy

        self.rest(0.6)
        self.wait(is_at_rest)
        self.rest(0.6)


def first(window: FuseWindow, frames: list[Path]) -> None:
    grouped: list[float] = []
    window.tab.controller.groups_changed.connect(lambda: grouped.append(time.perf_counter()))
    seconds, step = window.step_after(lambda: window.tab.add([str(path) for path in frames]))
    after = window.drawn - grouped[0]
    report("grouped to first draft", "1 s", f"{after:.2f} s, on 1/{step.scale}")
    report("dropped to first draft", "–", f"{seconds:.2f} s")
    began = time.perf_counter()
    window.at_rest()
    report("until aligned and the screen's pixels", "–", f"{time.perf_counter() - began:.1f} s")


def slider(window: FuseWindow, changes: int) -> None:
    row = window.tab.parameters.rows["contrast"]
    times, scales = [], set()
    for number in range(changes):
        value = CONTRASTS[number % len(CONTRASTS)]
        seconds, step = window.step_after(lambda: setattr(row, "value", value))  # noqa: B023
        times.append(seconds)
        scales.add(step.scale)
        window.at_rest()
    report(
        "slider to next draft",
        "0.5 s",
        f"{np.median(times):.2f} s (max {max(times):.2f}), on 1/{max(scales)}",
    )
    _, step, draft = next(entry for entry in reversed(window.steps) if entry[1].is_draft)
    plan = draft.plan
    model = nr.load_model(plan.model.card.id, parameters=plan.model.card.values)
    fused = nr.restore(window.tab.controller.bracket.image, model)
    whole = fused.read(fused.region).astype(np.float64)
    height, width = (side // step.scale * step.scale for side in whole.shape[:2])
    cells = (height // step.scale, step.scale, width // step.scale, step.scale, 3)
    small = whole[:height, :width].reshape(cells).mean((1, 3))
    drawn = draft.read(draft.region).astype(np.float64)
    y0, x0, y1, x1 = draft.region
    small = small[y0:y1, x0:x1]
    error = np.mean((drawn[: len(small), : small.shape[1]] - small) ** 2)
    report("draft to true pixels", "–", f"{10 * np.log10(255**2 / error):.1f} dB")


def gaps(window: FuseWindow) -> None:
    window.layer = window.panel.state.layer
    window.image = window.layer.metadata["napari_restore"]
    window.panel.bar.live.setChecked(False)
    window.look_at(window.image.height / 2, window.image.width / 2, 0.5)
    watch = Gaps()
    watch.of(window, 3)
    without = watch.of(window, 6)
    window.panel.bar.live.setChecked(True)
    window.tab.parameters.rows["contrast"].value = 0.5
    during = watch.of(window, 6)
    for number, name in enumerate(("p99", "max")):
        report(
            f"gaps of the event loop, {name}",
            "as without",
            f"{without[number]:.0f} ms without, {during[number]:.0f} ms while fusing",
        )


if __name__ == "__main__":
    main()
