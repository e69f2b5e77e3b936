"""What a small photo takes from the start of the command to its end, with and without a process on standby.

    python benchmarks/start.py PHOTO.jpg [--model dcp] [--rounds 5]

In turn, round after round: the command in a new process, the same where one waits
(`NAPARI_RESTORE_STANDBY`), and importing PyTorch alone. Printed are the medians of the seconds on the
clock, and ratios to the first. The files of the first two must be equal.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOADS = 60.0
"""Seconds at most for the waiting process to load its libraries."""
LISTENS = "00010000"
"""Flags of a socket in /proc/net/unix that accepts connections."""


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Return the seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def wait_for_standby() -> None:
    """Wait until a process on standby accepts commands; exit where none ever does."""
    end = time.monotonic() + LOADS
    while time.monotonic() < end:
        for line in Path("/proc/net/unix").read_text().splitlines():
            if LISTENS in line and "@napari-restore-" in line:
                return
        time.sleep(0.1)
    sys.exit("no process waits")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="dcp")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        usual = {**os.environ, "NAPARI_RESTORE_CACHE": str(Path(folder, "cache"))}
        usual.pop("PYTHONDONTWRITEBYTECODE", None)
        warm = {**usual, "NAPARI_RESTORE_STANDBY": "2"}
        outputs = [Path(folder, name) for name in ("new.jpg", "standby.jpg")]
        new, standby = (
            [
                *(sys.executable, "-m", "napari_restore", "restore", str(options.photo)),
                *("-o", str(output), "--model", options.model, "--fresh", "--overwrite"),
            ]
            for output in outputs
        )
        torch = [sys.executable, "-c", "import torch"]
        # The method is measured, bytecode written, and a process left behind.
        timed(new, usual)
        timed(standby, warm)
        wait_for_standby()
        runs = {"new process": (new, usual), "standby": (standby, warm), "torch": (torch, usual)}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                seconds[name].append(timed(*run))
        if outputs[0].read_bytes() != outputs[1].read_bytes():
            sys.exit("the files differ")
    print("| command | seconds | of a new process |\n| --- | ---: | ---: |")
    for name, values in seconds.items():
        ratio = statistics.median(
            a / b for a, b in zip(values, seconds["new process"], strict=True)
        )
        print(f"| {name} | {statistics.median(values):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
