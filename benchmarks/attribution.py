"""Attribution measured: completeness, how far maps spread, and the cost beside captum's.

    python benchmarks/attribution.py DATA [--models atmosphere …] [--context-gradient stop] [--json OUT]
    python benchmarks/attribution.py DATA --cost haze-unet --side 2048

DATA is a folder of test images with haze_real/ in it. Without --cost every model is attributed for
the box of 128 pixels that it changes most, of ten pictures, with the context of the whole
image as constants and with their gradient. With --cost the model's map by the engine and by captum's
IntegratedGradients on the whole image, each in a fresh process, at the same 8 nodes: the first
one, with all that is found out once (statistics of the whole image in both), and the same again.
Python, torch, the model and one small picture that it has seen are in neither.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BOX = 128
STEPS = 8
MORE = (
    "haze_pairs/phenocam_dukehw_dec/hazy.jpg",
    "aerial_clean/landsat8_oregon.jpg",
    "aerial_clean/pexels_372738.jpg",
    "aerial_clean/coast_222226-2.jpg",
    "geotiff/sentinel2_TCI.tif",
)
"""Problem after those of haze_real/, until there are `PICTURES` that a model changes."""
PICTURES = 10
FROM_ABOVE = ("aerial", "coast", "landsat8", "pexels", "sat", "sentinel2")
"""What the names of pictures from the air or from space begin with; the others are natural."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--models", nargs="+", default=["atmosphere", "haze-unet", "inf-dehaze-small"]
    )
    parser.add_argument("--context-gradient", nargs="+", default=["stop", "through"])
    parser.add_argument("--side", type=int, default=768, help="longer side of the pictures")
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
    for path in [*sorted((data / "haze_real").glob("*.jp*g")), *(data / name for name in MORE)]:
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

    rows: list[dict[str, Any]] = []
    for name in options.models:
        model = nr.load_model(name)
        changed = 0
        print(f"{'picture':26} path  context   nodes     gap  in box  > 128    index  seconds")
        for stem, pixels in pictures(options.data, options.side):
            if changed == PICTURES:
                break
            image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
            box, change = changed_box(image, model)
            if change < 0.5:
                print(f"{stem:26} {name} changes nothing")
                continue
            changed += 1
            for context_gradient in options.context_gradient:
                row = table_row(image, model, box, context_gradient)
                if row is not None:
                    rows.append({"model": name, "picture": stem, **row})
                    print(line(rows[-1]), flush=True)
        sums(name, [row for row in rows if row["model"] == name])
    return rows


def table_row(image: Any, model: Any, box: Any, context_gradient: str) -> dict[str, Any] | None:
    """Return the measures of a map, by the model's own method or, where the gradient cannot go through the context by `ig`.

    None where they have no gradients at all.
    """
    import napari_restore as nr
    from napari_restore.errors import BadParameter

    for method in (None, "ig"):
        began = time.perf_counter()
        try:
            found = nr.attribute(
                image, model, box, method=method, context_gradient=context_gradient, device="cpu"
            )
            break
        except BadParameter as error:
            text = error
    else:
        print(f"{context_gradient}: {text}")
        return None
    answer = found.record["attribution"]
    rings = answer["rings"]
    gap = answer["completeness"]["relative_gap"]
    return {
        "context_gradient": context_gradient,
        "method": answer["method"],
        "nodes": len(answer["nodes"]),
        "gap": gap,
        "reached": gap is not None and gap <= 0.01,
        "in_box": rings["box"],
        "beyond_128": sum(
            share
            for ring, share in rings.items()
            if ring != "box" and int(ring.split("-")[0]) >= BOX
        ),
        "diffusion_index": answer["diffusion_index"],
        "seconds": time.perf_counter() - began,
    }


def line(row: dict[str, Any]) -> str:
    """A row of the table; marked where the gap is not reached."""
    gap = "–" if row["gap"] is None else f"{row['gap']:.2%}"
    mark = "" if row["reached"] else "  gap not reached"
    return (
        f"{row['picture']:26} {row['method']:5} {row['context_gradient']:9} {row['nodes']:5} {gap:>7} {row['in_box']:7.1%} "
        f"{row['beyond_128']:6.1%} {row['diffusion_index']:8.2f} {row['seconds']:8.2f}{mark}"
    )


def sums(name: str, rows: list[dict[str, Any]]) -> None:
    """Print what the rows of a model come to."""
    for context_gradient in ("stop", "through"):
        own = [row for row in rows if row["context_gradient"] == context_gradient]
        if own:
            print(
                f"{name}, context {context_gradient}: gap ≤ 1 % on {sum(r['reached'] for r in own)} of {len(own)}; "
                f"nodes {min(r['nodes'] for r in own)} to {max(r['nodes'] for r in own)}; of the mass "
                f"beyond {BOX} pixels {beyond(own, True)} from above, {beyond(own, False)} natural; "
                f"seconds {statistics.median(r['seconds'] for r in own):.2f}, at most "
                f"{max(r['seconds'] for r in own):.2f}"
            )


def beyond(rows: list[dict[str, Any]], from_above: bool) -> str:
    """Mean share of the mass far from the box, and of how many pictures."""
    shares = [
        row["beyond_128"] for row in rows if row["picture"].startswith(FROM_ABOVE) == from_above
    ]
    return f"{statistics.mean(shares):.1%} ({len(shares)})" if shares else "– (0)"


def compared(options: argparse.Namespace) -> list[dict[str, Any]]:
    from napari_restore.engine.machine.device import ENVIRONMENT

    rows = []
    for runner in ("engine", "captum"):
        words = [sys.executable, __file__, str(options.data), "--cost", options.cost]
        words += ["--side", str(options.side), "--runner", runner]
        # As in the window's processes: threads that wait do not spin, and all take from one heap.
        given = {**os.environ, **ENVIRONMENT}
        with tempfile.TemporaryDirectory() as cache:
            # Statistics of the image that an earlier call left on the disk would come for nothing.
            given["NAPARI_RESTORE_CACHE"] = cache
            done = subprocess.run(words, check=True, capture_output=True, text=True, env=given)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
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

    Of the first map, with all that is found out once: statistics of the whole image, and what a
    gradient costs; and of the same again, when that is known.
    """
    import torch

    import napari_restore as nr
    from napari_restore._heap import release_freed_memory
    from napari_restore.engine.machine.budget import PeakMemory
    from napari_restore.models import one_shot_statistics

    generator = np.random.default_rng(0)
    y, x = np.mgrid[: options.side, : options.side].astype(np.float32)
    waves = np.dstack([np.sin(y / 40), np.cos(x / 60), np.sin((x + y) / 90)])
    pixels = 0.6 + 0.1 * waves + 0.05 * generator.random((*y.shape, 3), np.float32)
    pixels = pixels.astype(np.float32)
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    model = nr.load_model(options.cost)
    middle = options.side // 2
    box = nr.Region.from_xywh(middle, middle, BOX, BOX)
    settings = {"method": "ig", "baseline": "zero", "objective": "mean", "device": "cpu"}
    if model.routing_bytes:
        # Captum's function is the model as it runs.
        settings["routing"] = "recomputed"
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]

    def engine() -> float:
        return float(
            nr.attribute(
                image, model, box, steps=STEPS, context_gradient="stop", **settings
            ).map.sum()
        )

    known: list[Any] = []

    def captum() -> float:
        from captum.attr import IntegratedGradients

        if not known:
            known.append(one_shot_statistics(model, whole))

        def mean(batch: Any) -> Any:
            y = model(batch, known[0])
            return y[:, :, box.y0 : box.y1, box.x0 : box.x1].mean((1, 2, 3))

        # Also the gap, as reported by the engine.
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
        # Gaps that earlier work has left in the heap are no room that is free.
        release_freed_memory()
        began = time.perf_counter()
        with PeakMemory() as memory:
            found["sum"] = run()
        found[f"seconds_{when}"] = time.perf_counter() - began
        found[f"bytes_{when}"] = max(1, memory.peak - memory.start)
    return found


def _warm_up(model: Any, x: Any) -> None:
    """Let torch load what it needs, for a picture that is small."""
    import torch

    from napari_restore.models import one_shot_statistics

    x = x.clone().requires_grad_(True)
    torch.autograd.grad(model(x, one_shot_statistics(model, x.detach())).sum(), x)


if __name__ == "__main__":
    main()
