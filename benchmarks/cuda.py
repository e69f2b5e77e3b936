"""What runs on a CUDA device give and take, beside the CPU and beside their predictions.

    python benchmarks/cuda.py [CHECK …] [--device cuda] [--json OUT]

Checks (default: all but `huge`):

- planning: what takes the seconds of a plan.
- equal: every network on CPU and device, one tile and tiles of 256: largest difference of float32
  results (values 0 to 1).
- memory: peak device memory over its prediction, and seconds, for tiles of 256 to 2048.
- backoff: the device gets too little memory for the planned tile; tiles halve, same result.
- half: float16 and bfloat16 beside float32.
- tiers: residuals on the device, in RAM, on disk and computed again: seconds, peak, difference.
- staged: `inf-dehaze-lite` in float16 at 3840 × 2160 and 8192²: seconds by stage, peak; 8192²
  within 6 GiB.
- attribution: integrated gradients on CPU and device: seconds a point, largest difference.
- huge: 30000² within 24 GiB.

The image is the sample scene, repeated. A check that fails is printed with its error; the others
go on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import napari_restore as nr

SAMPLE = Path(nr.__file__).with_name("sample") / "hazy_town_synthetic.tif"
LOCAL = ("haze-unet", "atmosphere-aerial")
SWEPT = ("inf-dehaze-small", "andehazeformer-small", "hint-small-denoise")


def scene(height: int, width: int, dtype: str = "float32") -> npt.NDArray[Any]:
    """Return the sample repeated to (H, W, 3), mirrored so that it has no seams."""
    import rasterio

    with rasterio.open(SAMPLE) as file:
        pixels = np.moveaxis(file.read([1, 2, 3]), 0, 2)
        largest = np.iinfo(file.dtypes[0]).max
    twice = np.concatenate([pixels, pixels[:, ::-1]], 1)
    twice = np.concatenate([twice, twice[::-1]], 0)
    rows = -(-height // twice.shape[0])
    columns = -(-width // twice.shape[1])
    image = np.tile(twice, (rows, columns, 1))[:height, :width]
    if dtype == "uint8":
        return np.ascontiguousarray((image / largest * 255).astype(np.uint8))
    return np.ascontiguousarray((image / largest).astype(np.float32))


class Places:
    """Samples where threads are, as long as it is entered."""

    STEP = 0.02

    def __enter__(self) -> Places:
        self._counts: Counter[str] = Counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self.STEP):
            for number, frame in sys._current_frames().items():
                if number == threading.get_ident():
                    continue
                rows = traceback.extract_stack(frame, limit=80)[::-1]
                ours = [row for row in rows[1:] if "napari_restore" in row.filename]
                if ours:
                    stack = [f"{Path(row.filename).stem}.{row.name}" for row in rows[:1] + ours[:4]]
                    self._counts[" < ".join(stack)] += 1

    @property
    def most(self) -> dict[str, float]:
        """Seconds by place, the longest first; with what of the program called it."""
        return {place: round(n * self.STEP, 2) for place, n in self._counts.most_common(12)}


class Bench:
    """Rows of figures, printed as they come."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.rows: list[dict[str, Any]] = []

    def say(self, **row: Any) -> None:
        self.rows.append(row)
        print(json.dumps(row, default=str), flush=True)

    def run(self, image: npt.NDArray[Any], model: str, device: str = "", **options: Any) -> Any:
        """Return the pixels of a run (None of huge images), and its figures."""
        started = time.perf_counter()
        planned = self.plan(image, model, device, **options)
        planning = round(time.perf_counter() - started, 2)
        result, figures = self.start(planned)
        # Before another run takes the place of its store.
        pixels = None if image.nbytes > 1 << 29 else np.asarray(result)
        return pixels, {"planning": planning, **figures}

    def plan(self, image: npt.NDArray[Any], model: str, device: str = "", **options: Any) -> Any:
        weights = "random:0" if model == "inf-dehaze-lite" else None
        loaded = nr.load_model(model, weights=weights) if weights else model
        if model.startswith("inf-dehaze"):
            # Its tiles are part of it.
            options.pop("tile", None)
        options.setdefault("black", 0.0)
        options.setdefault("white", 255.0 if image.dtype == np.uint8 else 1.0)
        return nr.plan(image, loaded, device=device or self.device, **options)

    def start(self, planned: Any) -> Any:
        """Return the result of a planned run and its figures; nothing of an earlier run is taken."""
        result = nr.start(planned, fresh=True).result()
        plan, measured = result.record["plan"], result.record["measured"]
        return result, {
            "run": round(measured["run_seconds"], 2),
            "predicted_s": round(plan["predicted_seconds"], 2),
            "stages": {k: round(v, 2) for k, v in measured["stages"].items()},
            "device_mib": measured["peak_device_bytes"] >> 20,
            "allocated_mib": self.allocated() >> 20,
            "predicted_mib": plan["predicted_peak_device_bytes"] >> 20,
            "ram_mib": (measured["peak_ram_bytes"] - measured["idle_ram_bytes"]) >> 20,
            "predicted_ram_mib": (plan["predicted_peak_ram_bytes"] - measured["idle_ram_bytes"])
            >> 20,
            "tile": plan["tile"],
            "batch": plan["tile_batch"],
            "workers": plan["workers"],
            "tier": plan["residual_tier"],
            "backoffs": measured["backoffs"],
            "precision": plan["precision"],
        }

    def allocated(self) -> int:
        """Return the most bytes of tensors since the start of the last run."""
        import torch

        return torch.cuda.max_memory_allocated() if self.device.startswith("cuda") else 0

    def planning(self) -> None:
        """What planning does, of a first and a second plan: seconds by place, of all threads."""
        image = scene(1024, 1024)
        for model in ("haze-unet", "inf-dehaze-small", "andehazeformer-small"):
            for _ in range(2):
                started = time.perf_counter()
                with Places() as places:
                    self.plan(image, model)
                seconds = time.perf_counter() - started
                self.say(
                    check="planning", model=model, seconds=round(seconds, 2), places=places.most
                )

    def equal(self) -> None:
        image = scene(512, 640)
        for model in LOCAL + SWEPT:
            expected, _ = self.run(image, model, "cpu", tile=512)
            whole, figures = self.run(image, model, tile=768)
            tiled, _ = self.run(image, model, tile=256)
            self.say(
                check="equal",
                model=model,
                to_cpu=float(np.abs(whole - expected).max()),
                tiled=float(np.abs(tiled - whole).max()),
                seconds=figures["run"],
            )

    def memory(self) -> None:
        import torch

        image = scene(2048, 2048, "uint8")
        for model in ("haze-unet", *SWEPT, "inf-dehaze-lite"):
            for tile in (256,) if model.startswith("inf-dehaze") else (256, 512, 1024, 2048):
                torch.cuda.empty_cache()
                try:
                    _, figures = self.run(image, model, tile=tile)
                except Exception as error:
                    self.say(check="memory", model=model, tile=tile, error=str(error))
                else:
                    self.say(check="memory", model=model, **figures)

    def backoff(self) -> None:
        import torch

        image = scene(2048, 2048)
        for model in ("andehazeformer-small", "hint-small-denoise", "haze-unet"):
            free, figures = self.run(image, model, tile=2048)
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(0).total_memory
            share = figures["allocated_mib"] * 0.75 * 2**20 / total
            try:
                # Planned with all of the memory, run with less.
                planned = self.plan(image, model, tile=2048)
                torch.cuda.set_per_process_memory_fraction(share)
                result, less = self.start(planned)
                tight = np.asarray(result)
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
            off = float(np.abs(free - tight).max())
            self.say(
                check="backoff", model=model, before=figures["device_mib"], largest=off, **less
            )

    def half(self) -> None:
        image = scene(2048, 2048)
        for model in ("haze-unet", "inf-dehaze-small", "hint-small-denoise"):
            exact, figures = self.run(image, model)
            self.say(check="half", model=model, **figures)
            for precision in ("bfloat16", "float16"):
                if precision not in nr.load_model(model).card.precisions:
                    continue
                result, figures = self.run(image, model, precision=precision)
                off = np.abs(result - exact)
                self.say(
                    check="half",
                    model=model,
                    largest=float(off.max()),
                    mean=float(off.mean()),
                    **figures,
                )

    def tiers(self) -> None:
        image = scene(3072, 3072)
        first = None
        for tier in ("device", "ram", "disk", "recompute-first", "recompute"):
            pixels, figures = self.run(image, "inf-dehaze-small", residuals=tier)
            first = pixels if first is None else first
            off = float(np.abs(pixels - first).max())
            self.say(check="tiers", wanted=tier, largest=off, **figures)

    def staged(self) -> None:
        sizes: tuple[tuple[int, int, dict[str, Any]], ...] = (
            (2160, 3840, {}),
            (8192, 8192, {}),
            (8192, 8192, {"device_memory": "6GiB"}),
        )
        for height, width, options in sizes:
            image = scene(height, width, "uint8")
            for precision in ("float16", "float32") if not options else ("float16",):
                _, figures = self.run(image, "inf-dehaze-lite", precision=precision, **options)
                self.say(check="staged", size=[height, width], **options, **figures)

    def attribution(self) -> None:
        image = scene(512, 640)
        for model in ("haze-unet", "inf-dehaze-small", "hint-small-denoise", "atmosphere-aerial"):
            maps = {}
            # Twice there: the first loads its kernels.
            for device in ("cpu", self.device, self.device):
                # Finished points of one device are not those of the other.
                os.environ["NAPARI_RESTORE_CACHE"] = tempfile.mkdtemp()
                started = time.perf_counter()
                box = nr.Region.from_xywh(300, 200, 32, 32)
                found = nr.attribute(
                    image, model, box, device=device, steps=8, progress=False, black=0.0, white=1.0
                )
                seconds = time.perf_counter() - started
                maps[device] = np.asarray(found.map)
                largest = float(np.abs(maps[device]).max())
                off = float(np.abs(maps[device] - maps["cpu"]).max())
                self.say(
                    check="attribution",
                    model=model,
                    device=device,
                    seconds=round(seconds, 2),
                    point=round(seconds / 8, 3),
                    of_largest=off / largest if largest else None,
                    gap=found.record["attribution"]["completeness"],
                )

    def huge(self) -> None:
        import dask.array as da

        part = scene(3000, 3000, "uint8")
        image = da.tile(da.asarray(part), (10, 10, 1))  # type: ignore[no-untyped-call]
        _, figures = self.run(
            image, "inf-dehaze-lite", precision="float16", device_memory="24GiB", memory="64GiB"
        )
        self.say(check="huge", **figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    checks = (
        "planning",
        "equal",
        "memory",
        "backoff",
        "half",
        "tiers",
        "staged",
        "attribution",
        "huge",
    )
    parser.add_argument("checks", nargs="*", choices=(*checks, []))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bench = Bench(options.device)
    for name in options.checks or checks[:-1]:
        check: Callable[[], None] = getattr(bench, name)
        started = time.perf_counter()
        try:
            check()
        except Exception:
            bench.say(check=name, error=traceback.format_exc())
        print(f"# {name}: {time.perf_counter() - started:.0f} s", flush=True)
        if options.json:
            options.json.write_text(json.dumps(bench.rows, indent=1, default=str))


if __name__ == "__main__":
    main()
