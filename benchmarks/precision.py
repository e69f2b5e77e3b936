"""What bfloat16 changes: differences to float32 on real scenes, PSNR, and time.

    python benchmarks/precision.py INDEX.csv haze-unet inf-dehaze-small hint-small-denoise
        [--split dev] [--scenes 8] [--side 640]

Each model restores the 8-bit scenes of the split as its task degrades them (haze, noise, low light),
from beginning to end, in both precisions, on one thread. Printed are differences of the 8-bit
results in steps (99.9th percentile and the largest, over all pixels and scenes), the mean PSNR in
float32 less that in bfloat16, the worst scene's, and the ratio of processor time. A card may name the
99.9th percentile as `bfloat16_error`: `--precision auto` takes bfloat16 up to one step.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from haze_families import FAMILIES, draw
from haze_matrix import chosen

import napari_restore as nr
from napari_restore.metrics import psnr
from napari_restore_lab.degradation import SCORED, degraded_scene


def degraded(task: str, clear: np.ndarray, name: str, kind: str, number: int) -> np.ndarray:
    """(h, w, 3) uint8 of a clear picture, 0 to 1; levels and families of haze come in turn."""
    if degradation := {"denoise": "noise", "lowlight": "lowlight"}.get(task):
        levels = SCORED[degradation]
        level = levels[number % len(levels)]
        picture, _ = degraded_scene(clear, name, degradation, level, seed=0)
    else:
        families = list(FAMILIES[kind])
        picture = draw(clear, name, kind, families[number % len(families)], number).hazy
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--scenes", type=int, default=8, help="of each kind")
    parser.add_argument("--side", type=int, default=640, help="longer side in pixels")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scenes = [
        scene
        for kind in FAMILIES
        for scene in chosen(given.index, given.split, kind, given.scenes, given.side)
    ]
    print(f"{len(scenes)} scenes; steps of 8 bits, dB")
    print("| | p99.9 | largest | PSNR lost | worst scene | processor time |")
    print("| --- |" + " ---: |" * 5)
    for name in given.models:
        model = nr.load_model(name)
        differences, lost, seconds = [], [], {"float32": 0.0, "bfloat16": 0.0}
        for number, scene in enumerate(scenes):
            picture = degraded(model.card.task, scene.clear, scene.name, scene.kind, number)
            results: dict[str, Any] = {}
            for precision in seconds:
                began = time.process_time()
                plan = nr.plan(picture, model, precision=precision, workers=1, exposure=0)
                results[precision] = np.asarray(nr.start(plan, fresh=True).result())
                if number:
                    seconds[precision] += time.process_time() - began
            a, b = (results[precision].astype(np.int16) for precision in seconds)
            differences.append(np.abs(a - b).ravel())
            figures = [psnr(r / 255, scene.clear, 1, scene.valid) for r in (a, b)]
            lost.append(figures[0] - figures[1])
        steps = np.concatenate(differences)
        cells = [f"{np.quantile(steps, 0.999):.0f}", f"{steps.max()}", f"{np.mean(lost):+.3f}"]
        cells += [f"{max(lost):+.3f}", f"{seconds['bfloat16'] / seconds['float32']:.2f}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
