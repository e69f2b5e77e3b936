"""Kill parts of a cluster at random while it restores, and compare with a run on one machine.

    python benchmarks/cluster_kills.py SCENE.tif [--model haze-unet] [--kills 20] [--workers 2]
    python benchmarks/cluster_kills.py SCENE.tif --target scheduler --kills 5
    python benchmarks/cluster_kills.py SCENE.tif --target client --kills 5

Prints for each run how many workers were killed, whether the pixels are equal, and how many tiles were
computed more than once after they were finished. Where scheduler or client is killed, the same command
is run again: `finished` are the tiles that were done by then, `resumed` those that it went on from.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import napari_restore as nr
from napari_restore.engine import topic_of
from napari_restore.engine.machine.device import cores


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("--model", default="haze-unet")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two kills")
    parser.add_argument("--tile", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=["worker", "scheduler", "client"], default="worker")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    if arguments.target == "worker":
        kill_workers(arguments)
    else:
        with tempfile.TemporaryDirectory() as folder:
            kill_once_each(arguments, Path(folder))


def kill_workers(arguments: argparse.Namespace) -> None:
    """Kill workers of one cluster, one after another, while it restores the scene again and again."""
    image, model = nr.open_image(arguments.scene), nr.load_model(arguments.model)
    with (
        tempfile.TemporaryDirectory() as folder,
        nr.connect(f"local:{arguments.workers}") as cluster,
    ):
        # A swept model may fix its tiles.
        tile = arguments.tile or (512 if model.card.scope == "local" else None)
        # One thread to a tile, as on workers: sums of swept models follow it.
        options = {"tile": tile, "shared": True, "workers": cores(), "memory": "2GiB"}
        expected = nr.start(nr.plan(image, model, scratch=f"{folder}/alone", **options)).result()
        killed = 0
        print(
            "| run | killed | equal | s | tiles | computed again |\n| ---: | ---: | --- | ---: | ---: | ---: |"
        )
        for number in range(1, 1000):
            if killed >= arguments.kills:
                break
            plan = nr.plan(image, model, scratch=f"{folder}/{number}", **options)
            over = threading.Event()
            count = [0]

            def kill(
                over: threading.Event = over,
                count: list[int] = count,
                most: int = arguments.kills - killed,
            ) -> None:
                time.sleep(1.0)
                while not over.is_set() and count[0] < most:
                    try:
                        pids = list(cluster.client.run(os.getpid, on_error="ignore").values())
                    except Exception:
                        pids = []
                    if pids and not over.is_set():
                        os.kill(random.choice(pids), signal.SIGKILL)
                        count[0] += 1
                    over.wait(random.uniform(0.5, 1.5) * arguments.pause)

            job = nr.start(plan, cluster=cluster)
            thread = threading.Thread(target=kill)
            began = time.perf_counter()
            thread.start()
            try:
                result = job.result()
            finally:
                over.set()
                thread.join()
            killed += count[0]
            equal = np.array_equal(np.asarray(result.array), np.asarray(expected.array))
            events = cluster.client.get_events(topic_of(job.executor.dispatcher.run_id))
            tiles = [(event["step"], *event["region"]) for _, event in events]
            again = len(tiles) - len(set(tiles))
            took = time.perf_counter() - began
            print(
                f"| {number} | {count[0]} | {equal} | {took:.1f} | {len(set(tiles))} | {again} |",
                flush=True,
            )


class Machines:
    """A scheduler and its workers, each a process."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.file = folder / "scheduler.json"
        self._workers = workers
        self.start()

    def start(self) -> None:
        """Start all of them."""
        self.file.unlink(missing_ok=True)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        python = [sys.executable, "-m"]
        named = ["--scheduler-file", str(self.file)]
        self.scheduler = subprocess.Popen(
            [*python, "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", *named],
            **quiet,
        )
        self.workers = [
            subprocess.Popen(
                [*python, "distributed.cli.dask_worker", "--nthreads", "1", *named],
                **quiet,
            )
            for _ in range(self._workers)
        ]
        while not self.file.exists():
            time.sleep(0.1)

    def stop(self) -> None:
        """End all of them."""
        for each in (*self.workers, self.scheduler):
            each.kill()
            each.wait()


def kill_once_each(arguments: argparse.Namespace, folder: Path) -> None:
    """Kill scheduler or client in the middle of a command, then run the same command again."""
    machines = Machines(folder, arguments.workers)
    command = [sys.executable, "-m", "napari_restore", "restore", str(arguments.scene)]
    command += ["--model", arguments.model, "--memory", "1GiB"]
    command += [] if arguments.tile is None else ["--tile", str(arguments.tile)]
    alone = folder / "alone.tif"
    run([*command, "-o", str(alone), "--scratch", str(folder / "alone")])
    print("| kill | exit code | finished | resumed | computed | equal |")
    print("| ---: | ---: | ---: | ---: | ---: | --- |")
    try:
        for number in range(1, arguments.kills + 1):
            scratch, output = folder / str(number), folder / f"{number}.tif"
            again = [*command, "-o", str(output), "--scratch", str(scratch)]
            again += ["--cluster", str(machines.file), "--record", str(folder / f"{number}.json")]
            client = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not finished_tiles(scratch) and client.poll() is None:
                time.sleep(0.05)
            time.sleep(random.uniform(0.0, 2.0) * arguments.pause)
            (machines.scheduler if arguments.target == "scheduler" else client).kill()
            code = client.wait()
            before = -1
            while before != (before := len(finished_tiles(scratch))):
                # Workers end the ranges that they have begun.
                time.sleep(3.0)
            if arguments.target == "scheduler":
                machines.stop()
                machines.start()
            run(again)
            measured = json.loads((folder / f"{number}.json").read_text())["measured"]
            resumed, done = measured["tiles_resumed"], measured["tiles_done"]
            equal = output.read_bytes() == alone.read_bytes()
            print(f"| {number} | {code} | {before} | {resumed} | {done} | {equal} |", flush=True)
    finally:
        machines.stop()


def finished_tiles(scratch: Path) -> set[tuple[int, ...]]:
    """Boxes of the tiles that a store names as finished, or its parts."""
    lines: list[str] = []
    for path in [*scratch.rglob("tiles.jsonl"), *scratch.rglob("parts/*.jsonl")]:
        if path.parent.parent.name != "staged":
            lines += [line for line in path.read_text().splitlines(True) if line.endswith("\n")]
    return {tuple(json.loads(line)["region"]) for line in lines}


def run(command: list[str]) -> None:
    """Run a command to its end; what it says is shown where it fails."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"exit code {ended.returncode}: {ended.stderr[-1000:]}")


if __name__ == "__main__":
    main()
