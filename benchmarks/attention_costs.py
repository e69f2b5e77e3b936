"""Costs of attention views by the size of the image: prepared once, then asked.

    python benchmarks/attention_costs.py IMAGE --sides 2048 8192 --model inf-dehaze-small

The image is repeated to squares of each side, written as GeoTIFF, and prepared in a process of its
own. Prints a Markdown table: seconds of the preparation after a restore of the same image, against
the bottleneck of that restore; bytes kept, against those planned; seconds of all heads of all layers
for the first query of a tile and the next ones; and what 40 queries add to the memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import rasterio

import napari_restore as nr
from napari_restore.engine import make_plan
from napari_restore.engine.ledger.kept_layers import LAYERS
from napari_restore.engine.rows import AttentionSource
from napari_restore.models import load

TILES, NEXT = 10, 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--model", default="inf-dehaze-small")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(Path(options.one[0]), Path(options.one[1]), options.model)))
        return
    print(
        "| image | bottleneck s | prepare s | kept MiB | planned | first query s | next s "
        "| 40 queries add MiB | a dense matrix, one head |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for side in options.sides:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.tif"
            write(options.image, side, path)
            command = [sys.executable, __file__, str(options.image), "--model", options.model]
            run = subprocess.run(
                [*command, "--one", str(path), str(Path(folder) / "scratch")],
                check=True,
                capture_output=True,
                text=True,
            )
            found = json.loads(run.stdout.splitlines()[-1])
        print(
            f"| {side}² | {found['bottleneck']:.1f} | {found['prepare']:.1f} "
            f"| {found['kept'] / 2**20:.1f} | {found['planned'] / 2**20:.1f} "
            f"| {found['first']:.2f} | {found['next']:.2f} | {found['added'] / 2**20:.0f} "
            f"| {found['dense'] / 2**30:.2f} GiB |",
            flush=True,
        )


def write(source: Path, side: int, path: Path) -> None:
    """Write a square of 8-bit RGB pixels, the source repeated."""
    image = nr.open_image(source)
    piece = image.read((0, 0, min(image.height, side), min(image.width, side)))[..., :3]
    height, width = piece.shape[:2]
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8"}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512}
    with rasterio.open(path, "w", **profile) as file:
        for y in range(0, side, 512):
            rows = piece[np.arange(y, min(y + 512, side)) % height]
            strip = rows[:, np.arange(side) % width]
            window = rasterio.windows.Window(0, y, side, len(strip))
            file.write(np.moveaxis(strip, 2, 0), window=window)


def measured(path: Path, scratch: Path, name: str) -> dict[str, float]:
    """Restore a corner, prepare, and ask."""
    model, image = load(name), nr.open_image(path)
    corner = nr.Region(0, 0, 256, 256)
    result = nr.restore(image, model, region=corner, scratch=scratch, progress=False)
    plan = make_plan(image, model, region=corner, scratch=scratch)
    source = AttentionSource(plan, lambda event: None, threading.Event())
    began = time.perf_counter()
    source.prepare()
    prepare = time.perf_counter() - began
    kept = sum(file.stat().st_size for file in scratch.glob(f"**/{LAYERS}/*"))
    process = psutil.Process()
    before = process.memory_full_info().uss
    first, following, most = [], [], 0
    tile = 256
    generator = np.random.default_rng(0)
    for _ in range(TILES):
        row, column = generator.integers(0, image.height // tile, 2)
        for number in range(1 + NEXT):
            y, x = generator.integers(0, tile, 2)
            began = time.perf_counter()
            source.rows((int(row * tile + y), int(column * tile + x)))
            (following if number else first).append(time.perf_counter() - began)
            most = max(most, process.memory_full_info().uss)
    assert plan.staged is not None
    tokens = plan.staged.tokens
    seconds = result.record["measured"]["phase_seconds"]
    return {
        "bottleneck": seconds["bottleneck"],
        "prepare": prepare,
        "kept": kept,
        "planned": source.kept_bytes,
        "first": median(first),
        "next": median(following),
        "added": most - before,
        "dense": 4.0 * tokens**2,
    }


if __name__ == "__main__":
    main()
