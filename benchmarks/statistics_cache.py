"""Bytes that the cache keeps of a scene's statistics, and the time of runs that find them there.

`python benchmarks/statistics_cache.py SHARED_DATA [--side 4096]` repeats real pixels, mirrored, to a
square, and restores a part of it by every method: first, again, and with another setting.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

SCENES = {
    "uint8, 3 bands": ("spacenet_vegas_rgb.tif", "uint8", 3),
    "uint16, 3 bands": ("landsat8_tokyo_b432_uint16.tif", "uint16", 3),
    "uint16, 8 bands": ("landsat8_tokyo_b432_uint16.tif", "uint16", 8),
    "float32, 4 bands": ("spacenet_ms_float64.tif", "float32", 4),
}
SETTINGS = {
    "dcp": "omega=0.9",
    "hot": "strength=0.8",
    "htm": "strength=0.8",
    "atmosphere": "t0=0.2",
}


def scene(source: Path, dtype: str, bands: int, side: int, target: Path) -> Path:
    """Write `bands` bands of the file, mirrored to a square of `side` pixels; later ones scaled."""
    with rasterio.open(source) as file:
        pixels = file.read()
    planes = [pixels[b % 3 if bands == 8 else b] * (1 - 0.03 * (b // 3)) for b in range(bands)]
    stack = np.stack(planes).astype(dtype)
    pads = [(0, 0)] + [(0, max(0, side - length)) for length in stack.shape[1:]]
    stack = np.pad(stack, pads, "symmetric")[:, :side, :side]
    profile = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    size = {"width": side, "height": side, "count": bands, "dtype": dtype}
    with rasterio.open(target, "w", driver="GTiff", **size, **profile) as file:
        file.write(stack)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--models", nargs="*", default=list(SETTINGS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, dtype, bands) in SCENES.items():
            path = scene(
                options.data / "geotiff" / file, dtype, bands, options.side, Path(folder) / "a.tif"
            )
            measure(name, path, options.models, Path(folder))
        measure(
            "mosaic", options.data / "big/dune_drone_mosaic_8k.tif", options.models, Path(folder)
        )


def measure(name: str, path: Path, models: list[str], folder: Path) -> None:
    for model in models:
        environment = {**os.environ, "NAPARI_RESTORE_CACHE": tempfile.mkdtemp(dir=folder)}
        words = ["restore", path, "-o", folder / "out.tif", "--overwrite", "--model", model]
        words += ["--bands", "red=1,green=2,blue=3", "--srcwin", 100, 100, 700, 700]
        seconds, digests = [], []
        for setting in ([], [], ["--set", SETTINGS[model]]):
            began = time.perf_counter()
            command = [sys.executable, "-m", "napari_restore", *map(str, words), *setting]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
            digests.append(hashlib.sha256((folder / "out.tif").read_bytes()).hexdigest())
        assert digests[0] == digests[1]
        contexts = Path(environment["NAPARI_RESTORE_CACHE"]) / "contexts"
        kept = sum(file.stat().st_size for file in contexts.rglob("*") if file.is_file())
        times = ", ".join(f"{each:.1f}" for each in seconds)
        print(
            f"| {name} | {model} | {kept / 2**20:.2f} MiB | {times} s | {digests[0][:8]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
