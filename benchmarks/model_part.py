"""The model part alone: tiles of a scene through a model, as the engine's workers share them.

    python benchmarks/model_part.py SCENE.tif [--model atmosphere …] [--rounds 3]

Nothing is read, written or counted beside: the scene lies in memory, and what the
model sees of the whole image is made before. Every model gets the tile, halo, workers
and threads of its plan; the models run in turn, round after round. Printed are the
median milliseconds per megapixel of the scene and the processor's time in it.
Staged models have benchmarks/staged.py.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import threading
import time
from typing import Any


class Candidate:
    """A model with a plan of its own and everything its tiles need."""

    def __init__(self, scene: str, model: str, weights: str | None) -> None:
        import napari_restore as nr
        from napari_restore.engine.running.prepared import prepare
        from napari_restore.engine.statistics.context import compute_context

        self.image = nr.open_image(scene)
        self.model = nr.load_model(model, weights=weights)
        self.plan = nr.plan(self.image, self.model)
        self.statistics = prepare(self.plan, None, lambda _: compute_context(self.image)).statistics

    def run(self, pixels: Any) -> tuple[float, float]:
        """Seconds, and seconds of the processor, for all tiles."""
        import torch

        from napari_restore.engine.planning.tiles import box_with_halo, cut_into_tiles
        from napari_restore.models import placed_at

        plan, size = self.plan, (self.image.height, self.image.width)
        waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for core in cut_into_tiles(plan.targets, size, plan.layout.tile):
            waiting.put(core)

        def work() -> None:
            torch.set_num_threads(plan.layout.threads)
            with torch.inference_mode():
                while True:
                    try:
                        core = waiting.get_nowait()
                    except queue.Empty:
                        return
                    fed = box_with_halo(core, plan.layout.halo, size)
                    x = pixels[..., fed.y0 : fed.y1, fed.x0 : fed.x1].contiguous()
                    statistics = self.statistics
                    if self.model.card.placed:
                        statistics = placed_at(statistics, [(fed.y0, fed.x0)], 1.0, x)
                    self.model(x, statistics)

        began, spent = time.perf_counter(), time.process_time()
        threads = [threading.Thread(target=work) for _ in range(plan.layout.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began, time.process_time() - spent


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", help="8-bit image of three bands")
    parser.add_argument("--model", action="append", help="ID or ID:WEIGHTS; any number of times")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    import numpy as np
    import rasterio
    import torch

    with rasterio.open(arguments.scene) as file:
        pixels = torch.from_numpy(file.read((1, 2, 3)).astype(np.float32) / 255)[None]
    candidates = {}
    for label in arguments.model or ["atmosphere", "haze-unet", "dcp"]:
        model, _, weights = label.partition(":")
        candidates[label] = Candidate(arguments.scene, model, weights or None)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(arguments.rounds):
        for name, candidate in candidates.items():
            times[name].append(candidate.run(pixels))
    megapixels = pixels.shape[2] * pixels.shape[3] / 1e6
    print(f"{pixels.shape[2]} × {pixels.shape[3]}; ms per megapixel, median of {arguments.rounds}")
    for name, found in times.items():
        wall, cpu = (
            1e3 * statistics.median(part) / megapixels for part in zip(*found, strict=True)
        )
        plan = candidates[name].plan
        print(
            f"{name}: {wall:.1f} ({cpu:.1f} of the processor), tile {plan.layout.tile}, halo {plan.layout.halo}, "
            f"{plan.layout.workers} workers of {plan.layout.threads} threads",
            flush=True,
        )


if __name__ == "__main__":
    main()
