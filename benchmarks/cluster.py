"""What a cluster costs and brings: the same run on one machine and on processes of it.

    python benchmarks/cluster.py cost SCENE.tif [--model haze-unet] [--rounds 3]
    python benchmarks/cluster.py speedup SCENE.tif [--workers 1 2 4 8 16] [--seconds 0.5]
    python benchmarks/cluster.py tiles SCENE.tif … [--workers 2]

`cost` compares two processes of one thread with one process of two, in turn, once workers have run before.
`speedup` runs a model that sleeps in place of computing, so that cores do not matter; with
`--sweeps 29` one that counts over the image so often, and every time waits for all tiles. `tiles` runs
`identity` in tiles of 512 pixels and prints what a tile costs in all, for images of several sizes.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

import napari_restore as nr
from napari_restore.images import cache_dir

SLEEPER = """
import time
import torch

class Sleeper(torch.nn.Module):
    def forward(self, x):
        time.sleep({seconds})
        return x + 0.01

def make():
    return Sleeper()
"""
SLEEPING_SWEEPS = """
import time
import torch
from napari_restore.models import RESTORED, Counts, Map, ModelCard, Sweep, SweptModel

CARD = ModelCard(
    id="sleeper", title="Sleeper", summary="Sleeps.", scope="swept", bands=3, multiple_of=8, min_size=8
)

class Sleeper(SweptModel):
    def __init__(self):
        super().__init__(CARD)
        self.offset = torch.nn.Parameter(torch.full((1,), 0.01), requires_grad=False)

    def steps(self):
        last = Sweep("restore", "Restoring", self._restore, writes=(Map(RESTORED, 3, 1),))
        return (*(self._counting(number) for number in range({sweeps} - 1)), last)

    def _counting(self, number):
        seen = Map("mean", 1, 8)

        def run(given):
            time.sleep({seconds})
            return {{"mean": torch.nn.functional.avg_pool2d(given.view.mean(1, keepdim=True), 8)}}

        def count(features, valid):
            return {{"sum": features["mean"].double().sum((2, 3))}}

        name = f"sum{{number}}"
        counts = Counts((seen,), {{"sum": (1,)}}, count, (name,), lambda sums, _: {{name: sums["sum"]}})
        return Sweep(f"count{{number}}", f"Count {{number + 1}}", run, counts=counts)

    def _restore(self, given):
        time.sleep({seconds})
        return {{RESTORED: given.view + self.offset}}

def make():
    return Sleeper()
"""


def timed(plan, cluster=None) -> tuple[float, dict]:
    """Seconds of a run from nothing, without writing a file, and its record."""
    began = time.perf_counter()
    result = nr.start(plan, cluster=cluster, fresh=True).result()
    took, record = time.perf_counter() - began, result.record
    result.store.close()
    result.store.remove()
    del result
    gc.collect()
    return took, record


def shared_plan(image, model, cluster, **options):
    """A plan for the cluster."""
    threads = min(cluster.threads().values())
    memory = cluster.default_memory()
    return nr.plan(image, model, shared=True, workers=threads, memory=memory, **options)


def cost(arguments: argparse.Namespace, scratch: str) -> None:
    """One process of two threads, and two processes of one."""
    image, model = nr.open_image(arguments.scene[0]), nr.load_model(arguments.model)
    with nr.connect("local:2") as cluster:
        timed(shared_plan(image, model, cluster, scratch=scratch), cluster)
        rows = []
        for _ in range(arguments.rounds):
            # The same tiles: what is compared is the way they are given out.
            spread = shared_plan(image, model, cluster, scratch=scratch)
            there, record = timed(spread, cluster)
            alone, _ = timed(nr.plan(image, model, scratch=scratch, tile=spread.layout.tile))
            own, _ = timed(nr.plan(image, model, scratch=scratch))
            rows.append((own, alone, there))
            predicted = spread.prediction.added_ram_bytes >> 20
            added = [w["added_ram_bytes"] >> 20 for w in record["measured"]["workers"].values()]
            print(
                f"{own:.2f} s, {alone:.2f} s with tiles of the cluster, {there:.2f} s on it "
                f"(MiB added per worker: {added} of {predicted})",
                flush=True,
            )
        print(
            f"ratio {statistics.median(c / a for a, b, c in rows):.3f}, "
            f"with equal tiles {statistics.median(c / b for a, b, c in rows):.3f}"
        )


def speedup(arguments: argparse.Namespace, scratch: str) -> None:
    """A model that sleeps, on more and more workers."""
    code = Path(scratch, "sleeper.py")
    source = SLEEPER if arguments.sweeps == 1 else SLEEPING_SWEEPS
    code.write_text(source.format(seconds=arguments.seconds, sweeps=arguments.sweeps))
    if arguments.sweeps == 1:
        code.with_suffix(".json").write_text('{"bands": 3, "halo": 0}')
    image = nr.open_image(arguments.scene[0])
    model = nr.load_model(f"{code}:make", trust=True)
    print("| workers | s | ideal | share |\n| ---: | ---: | ---: | ---: |")
    for count in arguments.workers:
        with nr.connect(f"local:{count}") as cluster:
            plan = nr.plan(
                image, model, shared=True, workers=1, tile=512, memory="512MiB", scratch=scratch
            )
            tiles = plan.layout.tiles
            timed(plan, cluster)
            # What sweeps have counted would not be counted again.
            shutil.rmtree(cache_dir() / "settled", ignore_errors=True)
            took, _ = timed(plan, cluster)
            ideal = -(-tiles // count) * arguments.seconds * arguments.sweeps
            print(f"| {count} | {took:.1f} | {ideal:.1f} | {ideal / took:.2f} |", flush=True)


def tiles(arguments: argparse.Namespace, scratch: str) -> None:
    """Seconds of a tile of 512 pixels of the idle model, for several images."""
    model = nr.load_model("identity")
    print("| scene | tiles | s | core ms per tile | alone | MiB of the scheduler |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with nr.connect(f"local:{arguments.workers[0]}") as cluster:
        for scene in arguments.scene:
            image = nr.open_image(scene)
            plan = shared_plan(image, model, cluster, tile=512, scratch=scratch)
            if scene == arguments.scene[0]:
                timed(plan, cluster)
            before = rss()
            took, _ = timed(plan, cluster)
            added = (rss() - before) >> 20
            alone, _ = timed(nr.plan(image, model, tile=512, scratch=scratch))
            count, cores = plan.layout.tiles, arguments.workers[0]
            print(
                f"| {Path(scene).name} | {count} | {took:.1f} | {took / count * cores * 1e3:.1f} | "
                f"{alone / count * cores * 1e3:.1f} | {added} |",
                flush=True,
            )


def rss() -> int:
    """Bytes of this process, in which the scheduler of `local:N` runs, too."""
    return psutil.Process().memory_info().rss


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("cost", "speedup", "tiles"))
    parser.add_argument("scene", nargs="+")
    parser.add_argument("--model", default="haze-unet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--sweeps", type=int, default=1, help="of the model that sleeps")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        {"cost": cost, "speedup": speedup, "tiles": tiles}[arguments.what](arguments, scratch)


if __name__ == "__main__":
    sys.exit(main())
