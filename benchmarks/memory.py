"""Predicted and measured peak memory and time of whole commands, one process each.

    python benchmarks/memory.py SCENE.tif … [--model dcp --model hot] [--memory 1GiB] [--rounds 2]
        [--fuse FRAME FRAME FRAME] [--out DIR] [--idle]

For each method and scene: pixels computed per pixel of the scene (halos), idle and peak RAM (unique set
size), the budget's use, predicted and measured, the error of the predicted peak, milliseconds per
megapixel, and the time of the whole command beside the predicted one, by stage. All share one new cache: the first round measures methods.
"Others" are the processors that other programs used meanwhile: from 0.25 on times say little. With
`--idle` a command runs on one core, and its clock counts its own processor seconds alone: what one idle
core would take, but for waits. Also on a machine that is never idle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

MIB = 1 << 20
IDLE = """
import os, sys, time
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
time.perf_counter = time.process_time
from napari_restore.commands import main
sys.exit(main())
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", nargs="*", type=Path)
    parser.add_argument("--model", action="append", dest="models")
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--suffix", help="of the output; default: that of the scene")
    parser.add_argument("--fuse", nargs="+", action="append", default=[], type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--idle", action="store_true")
    arguments = parser.parse_args()
    program = ["-c", IDLE] if arguments.idle else ["-m", "napari_restore"]
    print(
        "| model | scene | MP | tile | halos | idle MiB | peak MiB | added MiB "
        "| predicted MiB | prediction | ms/MP ",
        end="",
    )
    print(
        "| others | predicted s | command s | predicted/took | start, read, restore, write: predicted; took |"
    )
    print("| --- " * 16 + "|")
    runs = [
        ("restore", [scene], model)
        for model in arguments.models or ["dcp"]
        for scene in arguments.scenes
    ]
    runs += [("fuse", frames, "mertens") for frames in arguments.fuse]
    with tempfile.TemporaryDirectory(dir=arguments.out) as name:
        for command, inputs, model in runs:
            output = Path(name) / f"out{arguments.suffix or inputs[0].suffix}"
            words = [sys.executable, *program, command, *map(str, inputs)]
            words += ["-o", str(output), "--model", model, "--overwrite"]
            words += ["--memory", arguments.memory, "--json", "--progress", "off"]
            if model == "haze-unet":
                words += ["--weights", "random:0"]
            for _ in range(arguments.rounds):
                print(row(words, inputs[0], model, Path(name) / "cache"), flush=True)


def row(words: list[str], scene: Path, model: str, cache: Path) -> str:
    """Return the row of the table of one command."""
    began, before, spent = time.perf_counter(), others(), processor_seconds()
    environment = {**os.environ, "NAPARI_RESTORE_CACHE": str(cache)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - began
    beside = max(0.0, others() - before) / took
    if IDLE in words:
        took = processor_seconds() - spent
    if done.returncode:
        return f"| {model} | {scene.name} | {done.stderr.strip()} |"
    record = json.loads(done.stdout)
    plan, measured = record["plan"], record["measured"]
    height, width = record["input"]["size"]
    pixels = height * width / 1e6
    peak, idle = measured["peak_ram_bytes"], measured["idle_ram_bytes"]
    predicted_peak, predicted = plan["predicted_peak_ram_bytes"], plan["predicted_seconds"]
    stages = plan["predicted_stages"], measured["stages"]
    one, other = (" ".join(f"{seconds:.1f}" for seconds in each.values()) for each in stages)
    cells = [
        *(model, scene.name, f"{pixels:.0f}", plan["tile"]),
        *(f"{plan['halo_overhead']:.2f}", f"{idle / MIB:.0f}"),
        *(f"{peak / MIB:.0f}", f"{(peak - idle) / MIB:.0f}"),
        *(f"{(predicted_peak - idle) / MIB:.0f}", f"{predicted_peak / peak - 1:+.0%}"),
        f"{measured['run_seconds'] / pixels * 1e3:.0f}",
        f"{beside:.2f}",
        *(f"{predicted:.1f}", f"{took:.1f}", f"{predicted / took:.2f}", f"{one}; {other}"),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def processor_seconds() -> float:
    """Return those of commands run here."""
    own = os.times()
    return own.children_user + own.children_system


def others() -> float:
    """Return the seconds of all processors that were not those of commands run here."""
    now = psutil.cpu_times()
    return now.user + getattr(now, "nice", 0.0) + now.system - processor_seconds()


if __name__ == "__main__":
    main()
