"""One point of an attribution through what sweeps count, beside the graph of the whole image.

    python benchmarks/reverse_sweeps.py PHOTO --weights FILE --side 512 --ways through stop whole
    python benchmarks/reverse_sweeps.py PHOTO --weights FILE --side 2048 --memory 3GiB

The photo is cut to SIDE pixels, or tiled by reflection where it is smaller, and gets noise of σ 25.
A point is the gradient of the mean output in a box of 128 pixels in the middle, by the engine
(`through` what is counted, and `stop`) and by autograd on all of `model(x)` (`whole`). `stop` is given
8 GiB: on the local engine, the graph of a box with the reach of all sweeps is larger than that of one
sweep on a tile. Each runs in a fresh process; planning, what a tile costs, and the sweeps of the image are in none. Prints seconds,
processor seconds, bytes added and predicted, the relative L2 difference, and the share of
|gradient · (x − x blurred)| beyond 128 pixels from the box.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

BOX = 128
SIGMA = 25 / 255
WAYS = ("through", "stop", "whole")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="hint-small")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--memory", default="3GiB")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["through", "stop"])
    parser.add_argument("--runner", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runner:
        print(json.dumps(point(options)))
        return
    gradients: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for runner in options.ways:
            row, gradients[runner] = in_own_process(options, runner, Path(folder))
            print(runner, json.dumps(row), flush=True)
    if {"through", "whole"} <= gradients.keys():
        expected = gradients["whole"]
        difference = np.linalg.norm(gradients["through"] - expected) / np.linalg.norm(expected)
        print(f"relative L2 of through and whole: {difference:.2e}")


def in_own_process(options: argparse.Namespace, runner: str, folder: Path) -> tuple[Any, Any]:
    """Return the row and the gradient of one way."""
    from napari_restore.engine.machine.device import ENVIRONMENT

    out = folder / f"{runner}.npy"
    words = [sys.executable, __file__, *sys.argv[1:], "--runner", runner, "--out", str(out)]
    done = subprocess.run(
        words, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT}
    )
    return json.loads(done.stdout.splitlines()[-1]), np.load(out)


def noisy(photo: Path, side: int) -> Any:
    """Pixels (side, side, 3) float32 of the photo under noise."""
    from PIL import Image

    with Image.open(photo) as picture:
        pixels = np.asarray(picture.convert("RGB").crop((0, 0, side, side)), np.float32) / 255
        height, width = (min(side, limit) for limit in (picture.height, picture.width))
    pixels = np.pad(
        pixels[:height, :width], ((0, side - height), (0, side - width), (0, 0)), "symmetric"
    )
    noise = np.random.default_rng(0).standard_normal(pixels.shape, np.float32)
    return np.clip(pixels + SIGMA * noise, 0, 1)


def point(options: argparse.Namespace) -> dict[str, Any]:
    """Return what one point takes; the gradient is saved."""
    import torch
    from scipy.ndimage import gaussian_filter

    import napari_restore as nr
    from napari_restore._heap import release_freed_memory
    from napari_restore.engine import make_plan
    from napari_restore.engine.gradients.gradient_source import GradientSource
    from napari_restore.engine.gradients.swept import gradients_of
    from napari_restore.engine.machine.budget import PeakMemory

    pixels, side = noisy(options.photo, options.side), options.side
    corner = (side - BOX) // 2
    box = nr.Region.from_xywh(corner, corner, BOX, BOX)
    model = nr.load_model(options.model, weights=options.weights)
    row: dict[str, Any] = {}
    source: GradientSource | None = None
    gradient = np.zeros((3, side, side), np.float32)
    if options.runner == "whole":
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous().requires_grad_(True)
        model.requires_grad_(False)
        with torch.no_grad():
            model(x[..., :64, :64])

        def work() -> None:
            y = model(x)[(..., *box.slices)]
            gradient[:] = torch.autograd.grad(y.sum() / y.numel(), x)[0][0].numpy()
    else:
        memory = options.memory if options.runner == "through" else "8GiB"
        image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
        plan = make_plan(image, model, region=box, device="cpu", memory=memory)
        source = GradientSource(plan, lambda event: None, threading.Event())
        # What is kept of the image beside: as in an attribution.
        beside = 3 * 4 * side * side
        gradients = gradients_of(
            source, box, lambda region: beside, through=options.runner == "through"
        )
        row["predicted_bytes"] = gradients.bytes
        row["tile"], row["workers"] = _layout(gradients)

        def work() -> None:
            y = gradients.forward(source.image, keep=True)
            row["forward_seconds"] = time.perf_counter() - began
            by_y = torch.full_like(y, 1 / y.numel())
            for part, by in gradients.backward(source.image, by_y):
                gradient[(slice(None), *part.slices)] += by[0].numpy()

    release_freed_memory()
    began, processor = time.perf_counter(), time.process_time()
    with source or nullcontext(), PeakMemory() as peak:
        work()
    row["seconds"] = time.perf_counter() - began
    row["processor_seconds"] = time.process_time() - processor
    row["bytes"] = peak.peak - peak.start
    np.save(options.out, gradient)
    change = pixels - gaussian_filter(pixels, (8, 8, 0))
    mass = np.abs((gradient * change.transpose(2, 0, 1)).sum(0))
    far = mass.copy()
    far[max(0, box.y0 - BOX) : box.y1 + BOX, max(0, box.x0 - BOX) : box.x1 + BOX] = 0
    row["beyond_128"] = float(far.sum() / mass.sum())
    return row


def _layout(gradients: Any) -> tuple[int, int]:
    grid = getattr(gradients, "_grid", None)
    return (0, 0) if grid is None else (grid.tile, gradients._workers)


if __name__ == "__main__":
    main()
