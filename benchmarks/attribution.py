"""Attribution measured: completeness, how far maps spread, and the cost beside captum's.

    python benchmarks/attribution.py DATA [--models atmosphere haze-unet …] [--side 1024] [--json OUT]
    python benchmarks/attribution.py DATA --cost haze-unet --side 2048

DATA is a folder of test images with haze_real/ in it. Without --cost every model is asked about
the middle box of 128 pixels that it changes most, of every picture, with the facts of the
whole image held and followed. With --cost the model's map by the engine and by captum's
IntegratedGradients on the whole image, each in a fresh process, at the same 8 nodes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BOX = 128
STEPS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["atmosphere", "haze-unet", "dcp"])
    parser.add_argument("--side", type=int, default=1024, help="longer side of the pictures")
    parser.add_argument("--cost", metavar="ID", help="compare with captum instead")
    parser.add_argument("--runner", choices=("engine", "captum"), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.runner:
        print(json.dumps(cost(options)))
        return
    rows = compared(options) if options.cost else spread(options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def pictures(data: Path, side: int) -> list[tuple[str, Any]]:
    """Names and pixels (h, w, 3) uint8 of hazy pictures, made smaller."""
    from PIL import Image

    found = []
    for path in sorted((data / "haze_real").glob("*.jp*g")):
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
            picture.thumbnail((side, side))
            found.append((path.stem, np.asarray(picture)))
    return found


def changed_box(image: Any, model: Any) -> Any:
    """The box on a grid of `BOX` pixels that the model changes most."""
    import napari_restore as nr

    result = nr.restore(image, model, device="cpu")
    change = np.abs(result.array.compute().astype(float) - image.levels[0].compute()).mean(axis=2)
    rows, columns = (side // BOX for side in change.shape)
    cells = change[: rows * BOX, : columns * BOX].reshape(rows, BOX, columns, BOX).mean((1, 3))
    y, x = np.unravel_index(np.argmax(cells), cells.shape)
    return nr.Region.from_xywh(int(x) * BOX, int(y) * BOX, BOX, BOX), float(cells.max())


def spread(options: argparse.Namespace) -> list[dict[str, Any]]:
    import napari_restore as nr
    from napari_restore.errors import BadParameter

    rows: list[dict[str, Any]] = []
    for name in options.models:
        model = nr.load_model(name)
        for stem, pixels in pictures(options.data, options.side):
            image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
            box, change = changed_box(image, model)
            if change < 0.5:
                print(f"{name} {stem}: changes nothing")
                continue
            for facts in ("held", "followed"):
                try:
                    began = time.perf_counter()
                    found = nr.attribute(image, model, box, facts=facts, device="cpu")
                except BadParameter as error:
                    print(f"{name} {stem} {facts}: {error}")
                    continue
                told = found.record["attribution"]
                rings = told["rings"]
                far = sum(v for k, v in rings.items() if k != "box" and int(k.split("-")[0]) >= 128)
                row = {
                    "model": name,
                    "picture": stem,
                    "facts": facts,
                    "nodes": len(told["nodes"]),
                    "gap": told["completeness"]["relative_gap"],
                    "in_box": rings["box"],
                    "beyond_128": far,
                    "diffusion_index": told["diffusion_index"],
                    "seconds": time.perf_counter() - began,
                }
                rows.append(row)
                print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    for name in options.models:
        for facts in ("held", "followed"):
            own = [row for row in rows if (row["model"], row["facts"]) == (name, facts)]
            if own:
                good = sum(r["gap"] is not None and r["gap"] <= 0.01 for r in own)
                within = sum(r["nodes"] <= 33 for r in own)
                far = statistics.mean(r["beyond_128"] for r in own)
                print(
                    f"{name}, facts {facts}: gap ≤ 1 % on {good} of {len(own)}, {within} with at "
                    f"most 33 nodes; beyond 128 pixels {far:.1%} of the mass"
                )
    return rows


def compared(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for runner in ("engine", "captum"):
        words = [sys.executable, __file__, str(options.data), "--cost", options.cost]
        words += ["--side", str(options.side), "--runner", runner]
        told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        rows.append(json.loads(told.splitlines()[-1]))
        print(rows[-1])
    ours, theirs = rows
    for when in ("first", "again"):
        memory, seconds = (
            theirs[f"{of}_{when}"] / ours[f"{of}_{when}"] for of in ("bytes", "seconds")
        )
        print(
            f"{when}: captum takes {memory:.1f} times the memory and {seconds:.2f} times the time"
        )
    return rows


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and bytes beyond the process with the model, of one way to make a map.

    Of the first map, with all that is found out once: facts of the whole image, and what a
    gradient costs; and of the same again, when that is known.
    """
    import torch

    import napari_restore as nr
    from napari_restore.engine._budget import PeakMemory
    from napari_restore.engine._device import release_freed_memory
    from napari_restore.models import one_shot_facts

    generator = np.random.default_rng(0)
    y, x = np.mgrid[: options.side, : options.side].astype(np.float32)
    waves = np.dstack([np.sin(y / 40), np.cos(x / 60), np.sin((x + y) / 90)])
    pixels = 0.6 + 0.1 * waves + 0.05 * generator.random((*y.shape, 3), np.float32)
    pixels = pixels.astype(np.float32)
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    model = nr.load_model(options.cost)
    middle = options.side // 2
    box = nr.Region.from_xywh(middle, middle, BOX, BOX)
    asked = {"method": "ig", "baseline": "zero", "objective": "mean", "device": "cpu"}
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]

    def engine() -> float:
        return float(nr.attribute(image, model, box, steps=STEPS, **asked).map.sum())

    known: list[Any] = []

    def captum() -> float:
        from captum.attr import IntegratedGradients

        if not known:
            known.append(one_shot_facts(model, whole))

        def mean(batch: Any) -> Any:
            y = model(batch, known[0])
            return y[:, :, box.y0 : box.y1, box.x0 : box.x1].mean((1, 2, 3))

        # The gap as well, as the engine tells it.
        found, _ = IntegratedGradients(mean).attribute(
            whole,
            torch.zeros_like(whole),
            n_steps=STEPS,
            method="gausslegendre",
            internal_batch_size=1,
            return_convergence_delta=True,
        )
        return float(found.sum())

    _warm_up(model, whole[:, :, :256, :256])
    run = engine if options.runner == "engine" else captum
    found: dict[str, Any] = {"runner": options.runner}
    for when in ("first", "again"):
        began = time.perf_counter()
        with PeakMemory() as memory:
            found["sum"] = run()
        found[f"seconds_{when}"] = time.perf_counter() - began
        found[f"bytes_{when}"] = max(1, memory.peak - memory.start)
        release_freed_memory()
    return found


def _warm_up(model: Any, x: Any) -> None:
    """Let torch load what it needs, for a picture that is small."""
    import torch

    from napari_restore.models import one_shot_facts

    x = x.clone().requires_grad_(True)
    torch.autograd.grad(model(x, one_shot_facts(model, x.detach())).sum(), x)


if __name__ == "__main__":
    main()
