"""The cache of IPL's cubes: off, exact, and positional; and how its maps are kept.

    python benchmarks/ipl_cache.py DATA --model ipl-small --weights FILE --size 900 1200

Fuses the frames of two brackets of DATA, of which the middle is cut out in one size: the first to
fill the cache, the second as the table says. `exact, warm` is a second run of the same bracket;
`positional` takes the cubes of the first one, in 8 bits; `int8` keeps maps in 8 bits. On one thread,
without alignment. Prints a Markdown table: processor seconds of the run without its plan, bytes that
the cache holds of a bracket, bytes of maps at their peak, and PSNR in dB to `off`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import napari_restore as nr
from napari_restore.models import load

BRACKETS = (("house_mertens", "fish_a_digital"), ("fish_a_digital", "house_mertens"))
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of test images")
    parser.add_argument("--model", default="ipl-small")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--size", nargs=2, type=int, default=[900, 1200], help="height and width")
    parser.add_argument("--memory", default="3GiB")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| bracket | cache | maps | seconds | cache, MiB | maps, MiB | PSNR |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for first, second in BRACKETS:
        earlier, image = (bracket(options.data, name, options.size) for name in (first, second))
        exact: np.ndarray | None = None
        for name, values, dtype, before in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                os.environ["NAPARI_RESTORE_CACHE"] = folder
                model = load(options.model, weights=options.weights, parameters=values)
                if exact is None:
                    # The first run of a process is slower.
                    run(earlier, model, options, dtype)
                if before == "another":
                    run(earlier, model, options, dtype)
                elif before == "itself":
                    run(image, model, options, dtype)
                found = run(image, model, options, dtype)
            score = ""
            if exact is None:
                exact = found["pixels"]
            else:
                score = f"{psnr(found['pixels'], exact):.1f}"
            cells = f"{found['seconds']:.1f} | {found['kept']:.1f} | {found['maps']:.1f} | {score}"
            kept = values.get("kept", dtype)
            print(f"| {second} | {name} | {kept} | {cells} |", flush=True)


WAYS: tuple[tuple[str, dict[str, str], str, str], ...] = (
    ("off", {"cache": "off"}, "float32", "nothing"),
    ("exact, cold", {"cache": "exact"}, "float32", "nothing"),
    ("exact, warm", {"cache": "exact"}, "float32", "itself"),
    ("positional", {"cache": "positional"}, "float32", "another"),
    ("positional, own", {"cache": "positional"}, "float32", "itself"),
    ("off", {"cache": "off"}, "float16", "nothing"),
    ("off", {"cache": "off", "kept": "int8"}, "float32", "nothing"),
)
"""Name, parameters, floats of maps, and what was fused before."""


def bracket(data: Path, name: str, size: list[int]) -> Any:
    """Return the middle of the first, a middle and the last frame of a bracket, as one image."""
    paths = sorted((data / "brackets" / name).glob("*.jpg"))
    chosen = [paths[0], paths[len(paths) // 2], paths[-1]]
    frames = []
    for path in chosen:
        with Image.open(path) as picture:
            left, top = (picture.width - size[1]) // 2, (picture.height - size[0]) // 2
            middle = picture.convert("RGB").crop((left, top, left + size[1], top + size[0]))
        frames.append(np.asarray(middle, np.float32) / 255)
    frames.sort(key=lambda frame: float(frame.mean()))
    return nr.open_bracket(frames, exposures=(-2, 0, 2), align="off")


def run(image: Any, model: Any, options: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """Fuse a bracket in a folder of its own; return pixels, seconds, and MiB of cache and maps."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = nr.plan(
            image,
            model,
            memory=options.memory,
            residual_dtype=dtype,
            residuals="ram",
            workers=1,
            device="cpu",
            scratch=scratch,
        )
        began = time.process_time()
        result = nr.start(plan).result()
        seconds = time.process_time() - began
        pixels = np.asarray(result.array)
        maps = sum(result.record["measured"]["residual_bytes"].values()) / MIB
    settled = Path(os.environ["NAPARI_RESTORE_CACHE"]) / "settled"
    kept = sum(file.stat().st_size for file in settled.rglob("*.npz")) / MIB
    return {"pixels": pixels, "seconds": seconds, "kept": kept, "maps": maps}


def psnr(pixels: np.ndarray, exact: np.ndarray) -> float:
    error = float(np.mean((pixels.clip(0, 1).astype(np.float64) - exact.clip(0, 1)) ** 2))
    return 10 * np.log10(1 / error) if error else float("inf")


if __name__ == "__main__":
    main()
