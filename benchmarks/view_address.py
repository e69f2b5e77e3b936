"""How soon the window shows a COG of a server that takes its time for each request.

    scripts/with-display python benchmarks/view_address.py COG.tif [--delay 0.05] [--runs 5]

Each run is a fresh process with an empty cache and the panel; the server is a process of its own. The
time is from the moment at which the window is asked to open the address to the first picture on the
canvas, beside that of the same file on disk. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "tests" / "support"
LIMIT_MS = 60_000


def serve(folder: Path, delay: float) -> None:
    """Serve `folder` until the pipe is closed; prints the address, at the end the requests."""
    sys.path.insert(0, str(SUPPORT))
    from range_server import RangeServer

    with RangeServer(folder) as server:
        server.delay = delay
        print(server.address, flush=True)
        sys.stdin.read()
        print(server.requests, server.sent, flush=True)


def show(path: str) -> None:
    """Open `path` in a window that is there already; prints the seconds to its first picture."""
    from napari_restore.plugin import load

    load()
    import napari
    from qtpy.QtCore import QEventLoop, QTimer

    def rest(milliseconds: int) -> None:
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1500, 950)
    viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    rest(2000)
    loop, drawn = QEventLoop(), []

    def on_draw(_: object) -> None:
        if len(viewer.layers) and not drawn:
            drawn.append(time.perf_counter())
            loop.quit()

    viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(on_draw)
    QTimer.singleShot(LIMIT_MS, loop.quit)
    began = time.perf_counter()
    viewer.open(path, plugin="napari-restore")
    if not drawn:
        loop.exec()
    print(drawn[0] - began, flush=True)
    # Without the questions of a window that is closed.
    os._exit(0)


def seconds(path: str) -> float:
    """Return the seconds of `show` in a fresh process."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, __file__, "--show", path],
            env={**os.environ, "NAPARI_RESTORE_CACHE": cache},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cog", type=Path, nargs="?")
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--show", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.delay)
        return
    if options.show is not None:
        show(options.show)
        return
    cog = options.cog.resolve()
    print("| file | first picture s | requests | MB sent |")
    print("| --- | --- | ---: | ---: |")
    times = sorted(seconds(str(cog)) for _ in range(options.runs))
    print(f"| on disk | {text_of(times)} | | |")
    times, counts = [], []
    for _ in range(options.runs):
        with subprocess.Popen(
            [sys.executable, __file__, "--serve", str(cog.parent), "--delay", str(options.delay)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            address = server.stdout.readline().strip()
            times.append(seconds(f"{address}/{cog.name}"))
            counts.append(server.communicate()[0].split())
    requests, sent = max(int(count[0]) for count in counts), max(int(count[1]) for count in counts)
    delay = f"{1000 * options.delay:.0f} ms per request"
    print(f"| {delay} | {text_of(sorted(times))} | {requests} | {sent / 1e6:.1f} |")


def text_of(times: list[float]) -> str:
    """Return the median of sorted times, and all of them."""
    return f"{times[len(times) // 2]:.2f} ({', '.join(f'{each:.2f}' for each in times)})"


if __name__ == "__main__":
    main()
