"""A model of many sweeps by where its maps are, beside the whole call and independent tiles.

    python benchmarks/swept_tiers.py DATA --model hint-small-denoise --side 2048

The middle of a large scene, enlarged where it is too small, degraded as the model expects. Ways: the
network called on the whole picture; runs with maps in memory, on disk, and made again; statistics of
an overview and of crops; independent tiles of 512 pixels, cut as auto-tilers do (16 pixels around
each) and averaged as MONAI's sliding window does (a quarter of overlap). Each in a process of its own,
on one thread. Prints a Markdown table: processor seconds, MiB added at the peak, mean and largest
difference to the whole call in 255ths, PSNR.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hint_statistics import LEVELS, psnr
from PIL import Image

import napari_restore as nr
from napari_restore.engine.machine.budget import PeakMemory
from napari_restore.models import RestorationModel, load
from napari_restore_lab.degradation import degraded_scene

SCENE = "natural_clean/lomiri_picosdeeuropa.jpg"
TILE = 512
RUNS: dict[str, dict[str, Any]] = {
    "in memory": {"residuals": "ram", "memory": "12GiB"},
    "on disk": {"residuals": "disk", "memory": "1GiB"},
    "made again": {"residuals": "recompute", "memory": "1GiB"},
    "overview": {"memory": "4GiB"},
    "crop": {"memory": "1GiB"},
}
WAYS = ("model(x)", *RUNS, "tiles, 16 px", "tiles, MONAI")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of test images")
    parser.add_argument("--model", default="hint-small-denoise")
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options, *options.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        clear, degraded = pair(options)
        np.save(Path(folder) / "x.npy", degraded)
        print("| way | processor s | MiB | mean | largest | PSNR |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
        whole: np.ndarray | None = None
        for way in options.ways:
            command = [sys.executable, *sys.argv, "--one", way, folder]
            environment = {**os.environ, "NAPARI_RESTORE_CACHE": f"{folder}/{way}"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                print(f"| {way} | {done.stderr.strip().splitlines()[-1]} | | | | |", flush=True)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            restored = np.load(Path(folder) / "y.npy")
            whole = restored if whole is None else whole
            off = 255 * np.abs(restored - whole)
            cells = [f"{found['seconds']:.0f}", f"{found['MiB']:.0f}"]
            cells += [f"{off.mean():.2g}", f"{off.max():.2g}", f"{psnr(restored, clear):.2f}"]
            print(f"| {way} | {' | '.join(cells)} |", flush=True)


def pair(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of the scene, (side, side, 3) in [0, 1], and the same degraded."""
    degradation, level = LEVELS[options.model.rpartition("-")[2]]
    with Image.open(options.data / SCENE) as picture:
        photo = picture.convert("RGB")
    scale = max(1.0, options.side / min(photo.size))
    photo = photo.resize([round(length * scale) for length in photo.size])
    left, top = ((length - options.side) // 2 for length in photo.size)
    middle = photo.crop((left, top, left + options.side, top + options.side))
    clear = np.asarray(middle, np.float32) / 255
    return clear, degraded_scene(clear, SCENE, degradation, level, 0)[0]


def one(options: argparse.Namespace, way: str, folder: str) -> None:
    """Restore in one way; write the result, print its cost."""
    torch.set_num_threads(1)
    degraded = np.load(Path(folder) / "x.npy")
    values = {"statistics": way} if way in ("overview", "crop") else {}
    model = load(options.model, parameters=values)
    # Libraries choose kernels at the first call.
    small = np.ascontiguousarray(degraded[:256, :256])
    called(model, small)
    began = time.process_time()
    with PeakMemory() as peak:
        if way in RUNS:
            restored = np.asarray(nr.restore(degraded, model, device="cpu", **RUNS[way]))
        elif way == "model(x)":
            restored = called(model, degraded)
        else:
            restored = tiled(model, degraded, way == "tiles, MONAI")
    seconds = time.process_time() - began
    np.save(Path(folder) / "y.npy", restored.clip(0, 1))
    print(json.dumps({"seconds": seconds, "MiB": (peak.peak - peak.start) / 2**20}))


def called(model: RestorationModel, pixels: np.ndarray) -> np.ndarray:
    """Return the network's output (h, w, 3) for pixels (h, w, 3)."""
    with torch.inference_mode():
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
        restored: np.ndarray = model(x)[0].permute(1, 2, 0).numpy()
    return restored


def tiled(model: RestorationModel, pixels: np.ndarray, averaged: bool) -> np.ndarray:
    """Return the output of tiles that know nothing of each other."""
    step = TILE * 3 // 4 if averaged else TILE - 32
    total, count = np.zeros_like(pixels), np.zeros(pixels.shape[:2], np.float32)
    side = len(pixels)
    starts = sorted({min(start, side - TILE) for start in range(0, side, step)})
    for y in starts:
        for x in starts:
            restored = called(model, np.ascontiguousarray(pixels[y : y + TILE, x : x + TILE]))
            margin = 0 if averaged else 16
            top, left = (margin if at else 0 for at in (y, x))
            bottom, right = (TILE - (margin if at + TILE < side else 0) for at in (y, x))
            rows, columns = slice(y + top, y + bottom), slice(x + left, x + right)
            if averaged:
                total[rows, columns] += restored
                count[rows, columns] += 1
            else:
                total[rows, columns] = restored[top:bottom, left:right]
                count[rows, columns] = 1
    return total / count[..., None]


if __name__ == "__main__":
    main()
