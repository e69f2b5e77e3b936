"""The engine beside a bare loop and beside other tilers, same weights, one run.

    python benchmarks/engine_speed.py SCENE.tif [--rounds 3] [--json OUT]

Every candidate runs in a fresh process, all in turn, round after round; printed
are the median seconds per megapixel, the ratio to the engine (paired by round)
and the largest difference from the whole-image run. Candidates:

- bare: the model over the engine's own padded tiles in RAM; no file is touched.
- engine-zarr, engine-tif: file in, file out, as the command line does it; in bfloat16, too.
- auto-tiler: split in tiles with 16 px overlap, half-sine blending, everything in RAM.
- monai: `sliding_window_inference` at its defaults (overlap 0.25), if installed.
- dask: `map_overlap` with the exact halo, zarr out, at its defaults.
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
from functools import partial
from pathlib import Path

ENGINE = ("engine-zarr", "engine-tif", "engine-zarr-bfloat16", "engine-tif-bfloat16")
CANDIDATES = ("bare", *ENGINE, "auto-tiler", "monai", "dask")


def load(scene: str, model: str):
    """Image and model."""
    import napari_restore as nr

    weights = "random:0" if model == "haze-unet" else None
    return nr.open_image(scene), nr.load_model(model, weights=weights)


def read_array(scene: str):
    """(H, W, C) float32 in [0, 1]."""
    import numpy as np
    import rasterio

    with rasterio.open(scene) as file:
        return np.moveaxis(file.read(), 0, 2).astype(np.float32) / 255


def bare(scene: str, model: str, out: Path) -> float:
    import torch

    import napari_restore as nr
    from napari_restore.engine.planning.tiles import box_with_halo, cut_into_tiles

    image, net = load(scene, model)
    plan = nr.plan(image, net)
    pixels = torch.from_numpy(read_array(scene)).permute(2, 0, 1)[None]
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    size = (image.height, image.width)
    cores = cut_into_tiles(plan.targets, size, plan.layout.tile)
    began = time.perf_counter()
    with torch.inference_mode():
        for core in cores:
            fed = box_with_halo(core, plan.layout.halo, size)
            net(pixels[..., fed.y0 : fed.y1, fed.x0 : fed.x1])
    return time.perf_counter() - began


def engine(scene: str, model: str, out: Path, precision: str = "float32") -> float:
    import napari_restore as nr

    image, net = load(scene, model)
    plan = nr.plan(image, net, output=out, precision=precision)
    began = time.perf_counter()
    result = nr.start(plan, fresh=True).result()
    result.save(out)
    return time.perf_counter() - began


def auto_tiler(scene: str, model: str, out: Path) -> float:
    import numpy as np
    import torch

    _, net = load(scene, model)
    pixels = read_array(scene)
    height, width, _ = pixels.shape
    overlap, tile = 16, 1024
    began = time.perf_counter()
    result = np.zeros_like(pixels)
    total = np.zeros((height, width, 1), np.float32)
    ramp = (np.sin((np.arange(2 * overlap) + 0.5) / (2 * overlap) * np.pi / 2) ** 2).astype("f4")
    with torch.inference_mode():
        for y in range(0, height, tile):
            for x in range(0, width, tile):
                y0, x0 = max(0, y - overlap), max(0, x - overlap)
                y1, x1 = min(height, y + tile + overlap), min(width, x + tile + overlap)
                part = torch.from_numpy(pixels[y0:y1, x0:x1]).permute(2, 0, 1)[None]
                done = net(part)[0].permute(1, 2, 0).numpy()
                weight = np.ones((y1 - y0, x1 - x0, 1), np.float32)
                if y0:
                    weight[: 2 * overlap] *= ramp[:, None, None]
                if x0:
                    weight[:, : 2 * overlap] *= ramp[None, :, None]
                if y1 < height:
                    weight[-2 * overlap :] *= ramp[::-1, None, None]
                if x1 < width:
                    weight[:, -2 * overlap :] *= ramp[None, ::-1, None]
                result[y0:y1, x0:x1] += done * weight
                total[y0:y1, x0:x1] += weight
    result /= total
    return time.perf_counter() - began


def monai(scene: str, model: str, out: Path) -> float:
    import torch
    from monai.inferers import sliding_window_inference

    _, net = load(scene, model)
    pixels = torch.from_numpy(read_array(scene)).permute(2, 0, 1)[None]
    began = time.perf_counter()
    with torch.inference_mode():
        sliding_window_inference(pixels, (512, 512), 4, net)
    return time.perf_counter() - began


def dask_overlap(scene: str, model: str, out: Path) -> float:
    import dask.array as da
    import numpy as np
    import torch

    _, net = load(scene, model)
    pixels = read_array(scene)
    halo = net.card.halo

    def run(block):
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(block)).permute(2, 0, 1)[None]
            return net(x)[0].permute(1, 2, 0).numpy()

    began = time.perf_counter()
    array = da.from_array(pixels, chunks=(1024, 1024, 3))
    done = array.map_overlap(run, depth=(halo, halo, 0), boundary="reflect", dtype=np.float32)
    scaled = (done * 255).round().clip(0, 255).astype(np.uint8)
    scaled.to_zarr(str(out), overwrite=True)
    return time.perf_counter() - began


RUN = {
    "bare": bare,
    "engine-zarr": engine,
    "engine-tif": engine,
    "engine-zarr-bfloat16": partial(engine, precision="bfloat16"),
    "engine-tif-bfloat16": partial(engine, precision="bfloat16"),
    "auto-tiler": auto_tiler,
    "monai": monai,
    "dask": dask_overlap,
}


def child(name: str, scene: str, model: str, passive: bool) -> float | None:
    """Seconds of one candidate in a fresh process; None if it cannot run here."""
    environment = dict(os.environ)
    if passive:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    with tempfile.TemporaryDirectory() as folder:
        environment["NAPARI_RESTORE_CACHE"] = str(Path(folder) / "cache")
        command = [
            sys.executable,
            __file__,
            scene,
            "--child",
            name,
            "--out",
            folder,
            "--model",
            model,
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene")
    parser.add_argument("--model", default="haze-unet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(CANDIDATES))
    parser.add_argument("--peers-passive", action="store_true", help="passive OpenMP for all")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        suffix = "tif" if "tif" in arguments.child else "zarr"
        out = arguments.out / f"result.{suffix}"
        print(RUN[arguments.child](arguments.scene, arguments.model, out))
        return
    import rasterio

    with rasterio.open(arguments.scene) as file:
        megapixels = file.width * file.height / 1e6
    seconds: dict[str, list[float]] = {name: [] for name in arguments.only.split(",")}
    for _ in range(arguments.rounds):
        for name in seconds:
            ours = name.startswith("engine") or name == "bare"
            took = child(name, arguments.scene, arguments.model, ours or arguments.peers_passive)
            if took is not None:
                seconds[name].append(took)
    print("| candidate | ms/MP (median) | of bare |\n| --- | --- | --- |")
    for name, values in seconds.items():
        if not values:
            continue
        pairs = zip(values, seconds.get("bare", []), strict=False)
        ratio = (
            statistics.median([a / b for a, b in pairs]) if seconds.get("bare") else float("nan")
        )
        print(f"| {name} | {statistics.median(values) / megapixels * 1e3:.0f} | {ratio:.2f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
