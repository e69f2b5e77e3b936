"""HINT by statistics of the image, of its overview, and of crops: PSNR over sizes of the image.

    python benchmarks/hint_statistics.py DATA --model hint-small-denoise --sizes 256 512 1024

From the middle of large scenes marked dev in DATA/INDEX.csv; noise of σ 25, or 5 times less light, as
`napari-restore evaluate` makes them. On one thread, by the network called on the whole picture; above
1024 pixels, but for crops, by a run within 3 GiB. An image of at most 1024 pixels is its own overview,
one of at most 256 its own crop: such rows are those of `image` and not computed again. Prints a
Markdown table: mean PSNR in dB, mean and largest difference to `image` in 255ths, processor seconds,
and MiB added at the peak.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import napari_restore as nr
from napari_restore._heap import release_freed_memory
from napari_restore.engine.machine.budget import PeakMemory
from napari_restore.models import RestorationModel, load
from napari_restore_lab.degradation import degraded_scene

SCENES = (
    "aerial_clean/caliterra_9386.jpg",
    "natural_clean/budgie_lake-sherburne.jpg",
    "natural_clean/lomiri_picosdeeuropa.jpg",
    "aerial_clean/coast_222143-2.jpg",
)
LEVELS = {"denoise": ("noise", 25.0), "lowlight": ("lowlight", 5.0)}
LARGEST = {"image": 0, "overview": 1024, "crop": 256}
"""Sides up to which a way is that of the image."""
LARGEST_CALL = 1024
"""Side above which a call on the whole picture would take many GiB."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of test images")
    parser.add_argument("--model", default="hint-small-denoise")
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512, 1024])
    parser.add_argument("--ways", nargs="+", choices=LARGEST, default=list(LARGEST))
    parser.add_argument("--intra-sizes", nargs="+", type=int, default=[128, 0])
    parser.add_argument("--images", type=int, default=len(SCENES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| size | intra_size | statistics | PSNR | mean | largest | seconds | MiB |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for size in options.sizes:
        pairs = [pair(options.data, name, size, options.model) for name in SCENES[: options.images]]
        inputs = np.mean([psnr(dark, clear) for clear, dark in pairs])
        print(f"| {size} | | input | {inputs:.2f} | | | | |", flush=True)
        for intra_size in options.intra_sizes:
            for way, found in scores(options, pairs, size, intra_size).items():
                cells = f"{found[0]:.2f} | {found[1]:.2f} | {found[2]:.0f} | {found[3]:.1f}"
                print(f"| {size} | {intra_size} | {way} | {cells} | {found[4]:.0f} |", flush=True)


def pair(data: Path, name: str, size: int, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of a scene, (size, size, 3) in [0, 1], and the same degraded."""
    degradation, level = LEVELS[model.rpartition("-")[2]]
    with Image.open(data / name) as picture:
        left, top = (picture.width - size) // 2, (picture.height - size) // 2
        middle = picture.convert("RGB").crop((left, top, left + size, top + size))
    clear = np.asarray(middle, np.float32) / 255
    return clear, degraded_scene(clear, name, degradation, level, 0)[0]


def scores(
    options: argparse.Namespace,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    size: int,
    intra_size: int,
) -> dict[str, np.ndarray]:
    """Return by way: PSNR, mean and largest difference to `image`, seconds and MiB; means."""
    rows: dict[str, list[tuple[float, ...]]] = {way: [] for way in options.ways}
    for clear, degraded in pairs:
        image: np.ndarray | None = None
        for way in options.ways:
            if size <= LARGEST[way]:
                # The same row as that of `image`.
                rows[way].append(rows["image"][-1])
                continue
            values: dict[str, Any] = {"statistics": way, "intra_size": intra_size}
            restored, seconds, added = called(load(options.model, parameters=values), degraded)
            image = restored if image is None else image
            difference = 255 * np.abs(restored - image)
            measured = (float(difference.mean()), float(difference.max()), seconds, added)
            rows[way].append((psnr(restored, clear), *measured))
    return {way: np.mean(found, axis=0) for way, found in rows.items()}


def called(model: RestorationModel, degraded: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return the restored picture in [0, 1], processor seconds, and MiB added at the peak."""
    release_freed_memory()
    began = time.process_time()
    with torch.inference_mode(), PeakMemory() as peak:
        if max(degraded.shape) > LARGEST_CALL and model.card.values["statistics"] != "crop":
            restored = np.asarray(nr.restore(degraded, model, memory="3GiB", device="cpu"))
        else:
            x = torch.from_numpy(degraded).permute(2, 0, 1)[None].contiguous()
            restored = model(x)[0].permute(1, 2, 0).numpy()
    seconds = time.process_time() - began
    return restored.clip(0, 1), seconds, (peak.peak - peak.start) / 2**20


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2)))


if __name__ == "__main__":
    main()
