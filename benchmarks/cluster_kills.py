"""Kill workers of a cluster at random while it restores, and compare with a run on one machine.

    python benchmarks/cluster_kills.py SCENE.tif [--model haze-unet] [--kills 20] [--workers 2]

Prints for each run how many workers were killed, whether the pixels are equal, and how many tiles were
computed more than once after they were finished.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

import napari_restore as nr


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("--model", default="haze-unet")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two kills")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    image, model = nr.open_image(arguments.scene), nr.load_model(arguments.model)
    with (
        tempfile.TemporaryDirectory() as folder,
        nr.connect(f"local:{arguments.workers}") as cluster,
    ):
        options = {"tile": arguments.tile, "shared": True, "workers": 1, "memory": "1GiB"}
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
            equal = (result.store.path / "0").is_dir() and all(
                (
                    path.read_bytes()
                    == (expected.store.path / path.relative_to(result.store.path)).read_bytes()
                )
                for path in (result.store.path / "0" / "c").rglob("*")
                if path.is_file() and path.suffix != ".new"
            )
            events = cluster.client.get_events(f"napari-restore-{job._run._run_id}")
            tiles = [tuple(box) for _, box in events]
            again = len(tiles) - len(set(tiles))
            took = time.perf_counter() - began
            print(
                f"| {number} | {count[0]} | {equal} | {took:.1f} | {len(set(tiles))} | {again} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
