"""How memory and time of a model of many sweeps grow with the image: a curve over sides.

    python benchmarks/staged_memory.py --sides 2048 4096 8192 16384 [--memory 3GiB]
        [--model inf-dehaze-small] [--weights random:0] [--work DIR] [--stop-after SECONDS]
        [--json OUT]

Each scene goes through the command line in a process of its own, `napari-restore restore
… --record`, GeoTIFF to GeoTIFF. Printed are the peak beyond the idle process (unique set
size, as the record has it) beside its prediction and the budget, the highest resident
size of the whole command from outside, writing the file included, seconds of the
command, of the run in it, and of the processor, seconds of the run by phase (the sum of the
sweeps, unless they are those of Inf-Dehaze), the grid of tokens, and maps by tier: as planned,
and as written.

With `--stop-after` a run that takes longer is stopped by Ctrl-C; the same command with
the same `--work` goes on with it. Seconds are then summed over the parts, memory is the
highest of them. Ends with 3 as long as something is left to do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MIB = 1 << 20
PHASES = ("encode", "bottleneck", "decode")
HEAD = (
    "| side | parts | added MiB | predicted MiB | budget MiB | resident MiB | command s | run s | s/MP "
    "| processor s/MP | phases s | grid MiB | maps MiB: ram, disk | written | tier |"
)


class Progress:
    """Progress of the parts of a run over one scene, stored in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.parts: list[dict[str, Any]] = []
        if path.exists():
            self.parts = json.loads(path.read_text())

    def add(self, part: dict[str, Any]) -> None:
        self.parts.append(part)
        self._path.write_text(json.dumps(self.parts, indent=1))

    @property
    def is_done(self) -> bool:
        return bool(self.parts) and self.parts[-1]["code"] == 0


def run_part(options: argparse.Namespace, scene: Path, number: int) -> dict[str, Any]:
    """One call of the command, stopped after `--stop-after` seconds if it is not done."""
    folder = scene.parent
    record = folder / f"{scene.stem}-{number}.json"
    words = [sys.executable, "-m", "napari_restore", "restore", str(scene)]
    words += ["-o", str(output_of(options, scene)), "--model", options.model]
    words += ["--weights", options.weights] if options.weights != "shipped" else []
    words += ["--memory", options.memory, "--record", str(record)]
    words += ["--residuals", options.residuals, *options.option]
    # A part that was killed left its record behind, or half of one.
    record.unlink(missing_ok=True)
    environment = {**os.environ, "NAPARI_RESTORE_CACHE": str(folder / "cache")}
    began, computed = time.perf_counter(), processor_seconds()
    highest, stopped = 0, False
    with open(folder / f"{scene.stem}.log", "a") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(0.1)
            highest = max(highest, highest_resident(process.pid))
            late = options.stop_after and time.perf_counter() - began > options.stop_after
            if late and not stopped:
                process.send_signal(signal.SIGINT)
                stopped = True
    record_data = json.loads(record.read_text()) if record.exists() else {}
    return {
        "code": process.returncode,
        "seconds": time.perf_counter() - began,
        "processor_seconds": processor_seconds() - computed,
        "resident": highest,
        "plan": record_data.get("plan", {}),
        "measured": record_data.get("measured", {}),
    }


def processor_seconds() -> float:
    """Seconds that finished child processes have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def output_of(options: argparse.Namespace, scene: Path) -> Path:
    return scene.with_name(f"{scene.stem}-clear{options.suffix}")


def highest_resident(process: int) -> int:
    """Bytes; 0 where the process is gone or the system does not report it."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM")), 0)


def row(options: argparse.Namespace, side: int, parts: list[dict[str, Any]], width: int) -> str:
    """A line of the table."""
    from napari_restore.engine.machine.budget import parse_size

    plans = [part["plan"] for part in parts if part["plan"]]
    measured = [part["measured"] for part in parts if part["measured"]]
    if not plans:
        return f"| {side}² | {len(parts)} | no record, see the log |"
    # The first part plans everything; later ones only what is left.
    staged = plans[0]["staged"]
    seconds = sum(m["run_seconds"] for m in measured)
    computed = sum(part["processor_seconds"] for part in parts)
    names = PHASES if "bottleneck" in measured[0]["phase_seconds"] else ["sweeps"]
    phases = [sum(phase_seconds(m, name) for m in measured) for name in names]
    added = max(m["peak_ram_bytes"] - m["idle_ram_bytes"] for m in measured)
    predicted = max(
        plan["predicted_peak_ram_bytes"] - m["idle_ram_bytes"]
        for plan, m in zip(plans, measured, strict=True)
    )
    sizes = [staged["residual_bytes"][tier] / MIB for tier in ("ram", "disk")]
    written = [m["residual_bytes"][tier] / MIB for m in measured[-1:] for tier in ("ram", "disk")]
    cells = [
        str(len(parts)),
        f"{added / MIB:.0f}",
        f"{predicted / MIB:.0f}",
        f"{parse_size(options.memory) / MIB:.0f}",
        f"{max(part['resident'] for part in parts) / MIB:.0f}",
        f"{sum(part['seconds'] for part in parts):.1f}",
        f"{seconds:.1f}",
        f"{seconds / (side * side / 1e6):.2f}",
        f"{computed / (side * side / 1e6):.2f}",
        ", ".join(f"{phase:.1f}" for phase in phases),
        f"{staged['tokens'] * width * 4 / MIB:.1f}",
        f"{sizes[0]:.0f}, {sizes[1]:.0f}",
        f"{written[0]:.0f}, {written[1]:.0f}",
        plans[0]["residual_tier"],
    ]
    return f"| {side}² | {' | '.join(cells)} |"


def phase_seconds(measured: dict[str, Any], name: str) -> float:
    """Seconds of a phase; "sweeps" is all but the statistics of the image and what follows."""
    by_phase = measured["phase_seconds"]
    if name != "sweeps":
        return by_phase.get(name, 0.0)
    return sum(by_phase.values())


def token_width(model: str) -> int:
    """Channels of a token, 0 without any. In a process of its own: this one stays small."""
    code = (
        "import sys, napari_restore as nr\n"
        "print(getattr(nr.load_model(sys.argv[1], weights='random:0'), 'width', 0))"
    )
    words = [sys.executable, "-c", code, model]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--model", default="inf-dehaze-small")
    parser.add_argument("--weights", default="random:0", help="as on the command line; or shipped")
    parser.add_argument("--memory", default="3GiB")
    parser.add_argument("--residuals", default="auto")
    parser.add_argument("--option", action="append", default=[], help="for the command; repeatable")
    parser.add_argument("--suffix", default=".tif")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, help="where all files go; needed to go on later")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.stop_after and options.work is None:
        parser.error("--stop-after needs --work, where the rest is found again")
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        width = token_width(options.model)
        print(HEAD)
        print("|" + " --- |" * HEAD.count(" |"), flush=True)
        record_data, left = {}, False
        for side in options.sides:
            progress = curve_point(options, work, side)
            left = left or not progress.is_done
            record_data[side] = progress.parts
            print(row(options, side, progress.parts, width), flush=True)
            code = progress.parts[-1]["code"]
            if code == 3:
                print(f"\n{side}² is not done: give the same command again.", file=sys.stderr)
                break
            if code:
                print(f"\n{side}² ended with {code}: see its log.", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(record_data, indent=1))
    sys.exit(3 if left else 0)


def curve_point(options: argparse.Namespace, work: Path, side: int) -> Progress:
    """A part of the run over the scene of this side, unless it is done already."""
    from make_scene import make

    name = f"{options.model}-{options.memory}-{options.residuals}-{side}"
    progress = Progress(work / f"{name}.parts.json")
    if progress.is_done:
        return progress
    scene = work / f"{name}.tif"
    if not scene.exists():
        unfinished = scene.with_suffix(".part.tif")
        make(unfinished, side, options.data, "uint8", "deflate")
        unfinished.rename(scene)
    progress.add(run_part(options, scene, len(progress.parts) + 1))
    if progress.is_done and options.work is None:
        # Sides follow each other: only one needs its room on the disk.
        scene.unlink()
        output_of(options, scene).unlink(missing_ok=True)
    return progress


if __name__ == "__main__":
    main()
