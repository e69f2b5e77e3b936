"""What a small photo takes from the start of the command to its end.

    python benchmarks/start.py PHOTO.jpg [--model dcp] [--rounds 5]

In turn, round after round: the command, and importing PyTorch alone. Printed are the medians of the
seconds on the clock, and ratios to the first.
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


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Return the seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


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
        command = [
            *(sys.executable, "-m", "napari_restore", "restore", str(options.photo)),
            *(
                "-o",
                str(Path(folder, "out.jpg")),
                "--model",
                options.model,
                "--fresh",
                "--overwrite",
            ),
        ]
        # The method is measured, and bytecode written.
        timed(command, usual)
        runs = {"restore": command, "torch": [sys.executable, "-c", "import torch"]}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                seconds[name].append(timed(run, usual))
    print("| command | seconds | of restore |\n| --- | ---: | ---: |")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds["restore"], strict=True))
        print(f"| {name} | {statistics.median(values):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
