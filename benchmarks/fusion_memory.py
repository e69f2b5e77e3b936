"""Memory and speed of fusing brackets of any size: predicted, measured, and beside the budget.

    python benchmarks/fusion_memory.py FRAME FRAME FRAME --sides 4899 10000 30000
        [--memory 1.5GiB] [--model mertens] [--out DIR]

The frames are repeated with flips to squares of so many pixels a side, tiled TIFF with JPEG inside.
Each is fused to a tiled TIFF in a process of its own, with an empty cache. "Added" is the highest
memory less that before the run, "s" what the run took, both by its record; "processor s/MP" are those
of the whole process, which depend less on what runs beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.windows import Window

MIB = 1 << 20
BLOCK = 512
LONGEST = 4096


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", nargs="+", type=Path)
    parser.add_argument("--sides", nargs="+", type=int, default=[4899, 10000])
    parser.add_argument("--memory", default="1.5GiB")
    parser.add_argument("--model", default="mertens")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print("| MP | tile | added MiB | budget | prediction | s | s/MP | processor s/MP |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for side in options.sides:
        with tempfile.TemporaryDirectory(dir=options.out) as name:
            folder = Path(name)
            paths = [
                enlarged(frame, side, folder / f"{frame.stem}.tif") for frame in options.frames
            ]
            print(row(side, paths, folder, options), flush=True)


def enlarged(frame: Path, side: int, path: Path) -> Path:
    """Write a photo repeated with flips to `side` pixels a side; return its path."""
    with Image.open(frame) as photo:
        photo.thumbnail((LONGEST, LONGEST))
        pixels = np.asarray(photo.convert("RGB"))
    pixels = np.concatenate([pixels, pixels[::-1]])
    pixels = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    layout = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "BIGTIFF": "YES"}
    coding = {"compress": "jpeg", "photometric": "ycbcr", "JPEG_QUALITY": "95"}
    size = {"width": side, "height": side, "count": 3, "dtype": "uint8"}
    columns = np.arange(side) % pixels.shape[1]
    with rasterio.open(path, "w", driver="GTiff", **size, **layout, **coding) as file:
        for top in range(0, side, BLOCK):
            rows = np.arange(top, min(top + BLOCK, side)) % pixels.shape[0]
            strip = pixels[rows][:, columns].transpose(2, 0, 1)
            file.write(strip, window=Window(0, top, side, len(rows)))
    return path


def row(side: int, paths: list[Path], folder: Path, options: argparse.Namespace) -> str:
    """Fuse a bracket; return a row of the table."""
    record = folder / "record.json"
    words = [sys.executable, "-m", "napari_restore", "fuse", *map(str, paths), "--align", "off"]
    words += ["--ev", *map(str, range(len(paths))), "--model", options.model, "--overwrite"]
    words += ["-o", str(folder / "out.tif"), "--memory", options.memory, "--record", str(record)]
    environment = {**os.environ, "NAPARI_RESTORE_CACHE": str(folder / "cache")}
    before = processor_seconds()
    subprocess.run(
        [*words, "--progress", "off"], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    busy = processor_seconds() - before
    found = json.loads(record.read_text())
    plan, measured = found["plan"], found["measured"]
    peak, seconds = measured["peak_ram_bytes"], measured["run_seconds"]
    added = peak - measured["idle_ram_bytes"]
    return (
        f"| {side * side / 1e6:.0f} | {plan['tile']} | {added / MIB:.0f} | "
        f"{plan['memory_bytes'] / MIB:.0f} | {plan['predicted_peak_ram_bytes'] / peak - 1:+.0%} | {seconds:.0f} | "
        f"{seconds / side / side * 1e6:.2f} | {busy / side / side * 1e6:.2f} |"
    )


def processor_seconds() -> float:
    """Return the processor seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
