"""Predicted and measured peak memory and speed of whole runs, one process each.

    python benchmarks/memory.py SCENE.tif … [--model dcp] [--memory 1GiB] [--out DIR]

For each scene: idle and peak RAM (unique set size), the budget's use, the error
of the prediction, and milliseconds per megapixel.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MIB = 1 << 20


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", nargs="+", type=Path)
    parser.add_argument("--model", default="dcp")
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--suffix", default=".tif")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print("| scene | MP | tile | idle MiB | peak MiB | added MiB | prediction | s | ms/MP |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for scene in arguments.scenes:
        with tempfile.TemporaryDirectory(dir=arguments.out) as name:
            words = [sys.executable, "-m", "napari_restore", "restore", str(scene)]
            words += ["-o", str(Path(name) / f"out{arguments.suffix}"), "--model", arguments.model]
            words += ["--memory", arguments.memory, "--json", "--progress", "off"]
            if arguments.model == "haze-unet":
                words += ["--weights", "random:0"]
            environment = {**os.environ, "NAPARI_RESTORE_CACHE": str(Path(name) / "cache")}
            done = subprocess.run(words, env=environment, capture_output=True, text=True)
            if done.returncode:
                print(f"| {scene.name} | {done.stderr.strip()} |")
                continue
            record = json.loads(done.stdout)
        plan, measured = record["plan"], record["measured"]
        height, width = record["input"]["size"]
        pixels = height * width / 1e6
        peak, idle = measured["peak_ram_bytes"], measured["idle_ram_bytes"]
        error = plan["predicted_peak_ram_bytes"] / peak - 1
        seconds = measured["run_seconds"]
        print(
            f"| {scene.name} | {pixels:.0f} | {plan['tile']} | {idle / MIB:.0f} | {peak / MIB:.0f} "
            f"| {(peak - idle) / MIB:.0f} | {error:+.0%} | {seconds:.1f} | {seconds / pixels * 1e3:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
