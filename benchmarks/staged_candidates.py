"""The candidates of staged.py: each runs in a process of its own and prints JSON.

    python benchmarks/staged_candidates.py NAME SCENE --scratch DIR [--model …] [--keep PREFIX]

What they are is said in staged.py, which calls this.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TIERS = ("ram", "disk", "recompute-first", "recompute")
CANDIDATES = ("whole", "sequential", *TIERS, "bare", "bare-workers")
THREADS = 2
BATCH = 16


def load(model: str):
    """The network, on `THREADS` threads."""
    import torch

    import napari_restore as nr

    torch.set_num_threads(THREADS)
    return nr.load_model(model, weights="random:0").eval().requires_grad_(False)


def read_image(scene: str):
    """(C, H, W) float32 in [0, 1]."""
    import rasterio
    import torch

    # GDAL's own cache must not count as what a candidate needs.
    with rasterio.Env(GDAL_CACHEMAX=16), rasterio.open(scene) as file:
        pixels = torch.empty(file.count, file.height, file.width)
        scale = 255 if file.dtypes[0] == "uint8" else 1
        for _, window in file.block_windows(1):
            rows, columns = window.toslices()
            pixels[:, rows, columns] = torch.from_numpy(file.read(window=window)) / scale
    return pixels


class Watch:
    """Seconds, processor time and memory from `start` on; `idle` is set when it is made."""

    def __init__(self) -> None:
        from napari_restore.engine.machine.budget import PeakMemory

        # Linux: resets the peak resident size.
        Path("/proc/self/clear_refs").write_text("5")
        self._resident = _status("VmRSS")
        self._memory = PeakMemory()

    def __enter__(self) -> Watch:
        self._memory.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.__exit__()

    def start(self) -> None:
        self._cpu = _cpu_seconds()
        self._began = time.perf_counter()

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self._began
        self._cpu = _cpu_seconds() - self._cpu
        self._highest = _status("VmHWM")

    def measures(self) -> dict[str, Any]:
        return {
            "seconds": self._seconds,
            "cpu_seconds": self._cpu,
            "added_rss": self._highest - self._resident,
            "added_uss": self._memory.peak - self._memory.start,
        }


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def whole(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    model = load(options.model)
    with Watch() as watch:
        x = read_image(options.scene)[None]
        with torch.inference_mode():
            watch.start()
            y = model(x)
            watch.stop()
    save(options, y[0].permute(1, 2, 0))
    return watch.measures()


def sequential(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from napari_restore.models import pad_to_multiple

    model = load(options.model)
    with Watch() as watch:
        x = read_image(options.scene)
        height, width = x.shape[1:]
        with torch.inference_mode():
            watch.start()
            x = pad_to_multiple(x[None], model.tile)[0]
            features, residuals = [], []
            for places in batches(x, model.tile, BATCH):
                encoded, kept = model.encode(tiles_at(x, places, model.tile))
                features.append(encoded)
                residuals.append(kept)
            grid = grid_of(features, x, model.tile)
            first = grid.clone() if options.keep else None
            grid = model.steps()[1](grid)
            side = model.tile // model.stride
            y = torch.empty_like(x)
            for number, places in enumerate(batches(x, model.tile, BATCH)):
                tokens = torch.stack([token_tile(grid, at, model, side) for at in places])
                tiles = tiles_at(x, places, model.tile)
                done = model.decode(tokens, features[number], residuals[number], tiles)
                for (top, left), tile in zip(places, done, strict=True):
                    y[:, top : top + model.tile, left : left + model.tile] = tile
            watch.stop()
    save(options, y[:, :height, :width].permute(1, 2, 0), first)
    change = max((a - b).abs().max().item() for a, b in zip(y, x, strict=True))
    return watch.measures() | {"change": change}


def engine(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import torch

    import napari_restore as nr
    from napari_restore.engine.running.tokens import TokenStore

    model = load(options.model)
    scratch = Path(options.scratch)
    with Watch() as watch:
        began = time.perf_counter()
        plan = plan_of(options, model, scratch)
        planning = time.perf_counter() - began
        watch.start()
        result = nr.start(plan, fresh=True).result()
        watch.stop()
    if options.keep:
        tokens = TokenStore.of(plan)
        assert tokens is not None
        first, _ = tokens.load(torch.device("cpu"), lambda: None)
        tokens.close()
        save(options, np.asarray(result.array), first)
    record = result.record
    measures = {name: record["plan"][name] for name in ("workers", "threads", "tile_batch")}
    measures |= {name: record["plan"][name] for name in ("residual_tier", "predicted_seconds")}
    measures |= {name: record["measured"][name] for name in ("phase_seconds", "residual_rounding")}
    measures["residual_bytes"] = record["plan"]["staged"]["residual_bytes"]
    measures["predicted_bytes"] = plan.prediction.added_ram_bytes
    # As the record has it: beyond the memory of the process after planning.
    measured = record["measured"]
    measures["added_bytes"] = measured["peak_ram_bytes"] - measured["idle_ram_bytes"]
    return watch.measures() | measures | {"planning_seconds": planning}


def plan_of(options: argparse.Namespace, model: Any, scratch: Path):
    import napari_restore as nr

    tier = options.name if options.name in TIERS else "auto"
    values = {"black": 0, "white": 1} if options.keep else {}
    return nr.plan(
        nr.open_image(options.scene, bands="red=1,green=2,blue=3"),
        model,
        device="cpu",
        memory=options.memory,
        residuals=tier,
        residual_dtype="float16" if options.fp16_residuals else None,
        scratch=scratch,
        **values,
    )


def bare(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from napari_restore.models import pad_to_multiple

    model = load(options.model)
    plan = plan_of(options, model, Path(options.scratch))
    workers = plan.layout.workers if options.name == "bare-workers" else 1
    threads = plan.layout.threads if options.name == "bare-workers" else THREADS
    with Watch() as watch, torch.inference_mode():
        x = pad_to_multiple(read_image(options.scene)[None], model.tile)[0]
        side = model.tile // model.stride
        shape = (plan.layout.tile_batch, model.width, side, side)
        tokens = torch.randn(shape, generator=torch.Generator().manual_seed(0))

        def both(places: list[tuple[int, int]]):
            with torch.inference_mode():
                tiles = tiles_at(x, places, model.tile)
                encoded, residuals = model.encode(tiles)
                model.decode(tokens[: len(places)], encoded, residuals, tiles)
                return encoded

        watch.start()
        places = list(batches(x, model.tile, plan.layout.tile_batch))
        with ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(threads,)
        ) as pool:
            features = list(pool.map(both, places))
        torch.set_num_threads(THREADS)
        model.steps()[1](grid_of(features, x, model.tile))
        watch.stop()
    return watch.measures()


def flipped(options: argparse.Namespace) -> dict[str, Any]:
    """Share of tokens that choose otherwise in any layer, for two grids before the bottleneck."""
    import numpy as np
    import torch

    model = load(options.model)
    with torch.inference_mode():
        one, other = (model.place_tokens(torch.from_numpy(np.load(p))) for p in options.grids)
        experts = buckets = torch.zeros(one.shape[:2].numel(), dtype=torch.bool)
        for layer in range(model.layers):
            a, b = (model.bottleneck.routing(layer, grid) for grid in (one, other))
            experts = experts | (a["experts"] != b["experts"]).any(-1).flatten()
            if len(a["buckets"]):
                buckets = buckets | (a["buckets"] != b["buckets"]).any(2).any(0)
            del a, b
            one, other = (model.bottleneck_layer(layer, grid) for grid in (one, other))
    shares = {"experts": experts, "buckets": buckets, "either": experts | buckets}
    return {name: share.float().mean().item() for name, share in shares.items()}


def batches(x: Any, tile: int, size: int):
    """Corners of whole tiles, row by row, `size` at a time."""
    height, width = x.shape[1:]
    places = [(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]
    return (places[i : i + size] for i in range(0, len(places), size))


def tiles_at(x: Any, places: list[tuple[int, int]], tile: int):
    import torch

    return torch.stack([x[:, y : y + tile, x0 : x0 + tile] for y, x0 in places])


def token_tile(grid: Any, place: tuple[int, int], model: Any, side: int):
    """A tile's tokens with those around it, (C, side + 2 · margin, …)."""
    y, x = (edge // model.stride for edge in place)
    around = side + 2 * model.margin
    return model.steps()[1].with_margin(grid.permute(2, 0, 1))[:, y : y + around, x : x + around]


def grid_of(features: list[Any], x: Any, tile: int):
    """The tokens (H, W, C) of the whole image."""
    import torch

    from napari_restore.models import stitch

    rows, columns = x.shape[1] // tile, x.shape[2] // tile
    return stitch(torch.cat(features), rows, columns).permute(1, 2, 0).contiguous()


def needed(options: argparse.Namespace) -> dict[str, int]:
    """Bytes that the candidates without tiers hold at their peak, about."""
    from napari_restore.engine.machine.device import choose_device
    from napari_restore.engine.planning.costs import calibrate_sweeps

    model = load(options.model)
    cost = calibrate_sweeps(model, choose_device("cpu"), THREADS, "float32")
    tiles = (-(-options.side // model.tile)) ** 2
    area = model.tile**2
    kept = 4 * sum(r.channels * area // r.stride**2 for r in model.residuals)
    kept += 4 * model.width * area // model.stride**2

    def peak(batch: int) -> int:
        # The image as it is, padded and restored; features, and what a batch takes.
        computed = max(part.bytes(batch * area) for part in cost.sweeps.values())
        return 3 * 12 * options.side**2 + tiles * kept + computed

    return {"whole": peak(tiles), "sequential": peak(min(BATCH, tiles))}


def save(options: argparse.Namespace, pixels: Any, grid: Any = None) -> None:
    """Keep (H, W, C) float32, and the tokens that went into the bottleneck."""
    import numpy as np

    if not options.keep:
        return
    np.save(f"{options.keep}-pixels.npy", np.asarray(pixels))
    if grid is not None:
        np.save(f"{options.keep}-grid.npy", np.asarray(grid))


RUN = {
    "whole": whole,
    "sequential": sequential,
    "bare": bare,
    "bare-workers": bare,
    "flipped": flipped,
    "needed": needed,
    **dict.fromkeys(TIERS, engine),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(RUN))
    parser.add_argument("scene")
    parser.add_argument("--scratch", required=True, help="an empty folder")
    parser.add_argument("--model", default="inf-dehaze-small")
    parser.add_argument("--memory", help="the engine's budget")
    parser.add_argument("--fp16-residuals", action="store_true")
    parser.add_argument("--keep", help="how the names of pixels and tokens begin that are kept")
    parser.add_argument("--side", type=int, help="of the scene, for `needed`")
    parser.add_argument("--grids", nargs=2, help="files of tokens, for `flipped`")
    options = parser.parse_args()
    print(json.dumps(RUN[options.name](options)))


if __name__ == "__main__":
    main()
