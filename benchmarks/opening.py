"""How long until a picture is there, and until all levels are.

    python benchmarks/opening.py SCENE.tif [PHOTO.jpg PHOTO.png …]

For files that are read in place: seconds to open, to the first piece of the
coarser levels (from the middle outwards), and to all of them. For untiled files:
decoded megabytes per second into the tiled cache. Each in a fresh process with an
empty cache; memory is what the process grew by.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time


def measure(path: str) -> dict[str, object]:
    began = time.perf_counter()
    import psutil

    from napari_restore import open_image

    own = psutil.Process()
    image = open_image(path)
    opened = time.perf_counter() - began
    before = own.memory_info().rss
    peak, first = before, None

    def landed(*_: object) -> None:
        nonlocal peak, first
        first = first or time.perf_counter() - began
        peak = max(peak, own.memory_info().rss)

    middle = (image.height / 2, image.width / 2)
    image.build_pyramid(landed, centre=middle)
    full = time.perf_counter() - began
    size = image.height * image.width * image.bands * image.dtype.itemsize
    return {
        "in_place": image.reader.random_access,
        "mb": size / 1e6,
        "opened": opened,
        "first": first,
        "full": full,
        "growth": (peak - before) / 2**20,
    }


def main() -> None:
    """Command line."""
    if len(sys.argv) == 3 and sys.argv[1] == "--child":
        print(json.dumps(measure(sys.argv[2])))
        return
    print("| file | read | MB | open s | first piece s | all levels s | MB/s | growth MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run(
                [sys.executable, __file__, "--child", path],
                env={**os.environ, "NAPARI_RESTORE_CACHE": cache},
                capture_output=True,
                text=True,
                check=True,
            )
        result = json.loads(done.stdout)
        rate = result["mb"] / (result["full"] - result["opened"])
        first = "–" if result["first"] is None else f"{result['first']:.2f}"
        print(
            f"| {os.path.basename(path)} | {'in place' if result['in_place'] else 'streamed'} "
            f"| {result['mb']:.0f} | {result['opened']:.2f} | {first} | {result['full']:.1f} "
            f"| {rate:.0f} | {result['growth']:.0f} |"
        )


if __name__ == "__main__":
    main()
