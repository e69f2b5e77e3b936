"""Staged runs beside whole-image and sequential inference of the same network, in one run.

    python benchmarks/staged.py [--model inf-dehaze-small] [--side 4096] [--rounds 3]
        [--fp16-residuals] [--memory SIZE] [--only whole,sequential,…] [--work DIR] [--json OUT]

Every candidate runs in a fresh process, all in turn, round after round, on two threads:

- whole: `model(x)` on the whole image in memory; left out where it would not fit.
- sequential: as DehazeXL does it, the image in one tensor, tiles encoded in batches of
  16 with every residual and feature kept, one bottleneck, decoded in batches.
- ram, disk, recompute-first, recompute: the engine with that tier, from file to result.
- bare, bare-workers: each tile encoded and decoded once, nothing kept, and the bottleneck
  once; on two threads, and as the engine's workers share them. No file is touched.

Reading the file counts for the engine only, planning for none (its own column). Memory
is the peak minus the memory of the process with torch and the model loaded: resident
size, and unique set size as the records have it. "of sequential" and "of bare" are
medians over rounds of the ratio of seconds; bare is the quicker of the two.

Then each candidate runs once on the same scene in float32, where nothing is rounded to
8 bit: its difference from sequential where the model's range is 0 to 1, and the tokens
that choose other experts or buckets when the bottleneck is given this run's tokens. With
`--fp16-residuals` the engine keeps residuals in 16 bit, sequential does not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from staged_candidates import CANDIDATES, TIERS

CHILD = Path(__file__).with_name("staged_candidates.py")
MIB = 1 << 20
VISIBLE = 1e-4
STRIP = 512


def child(name: str, options: argparse.Namespace, scene: Path, *more: str) -> dict[str, Any] | None:
    """Return the measurements of one candidate in a fresh process; None if it failed."""
    # As the program sets it: threads that wait must not take a core from those that read.
    environment = dict(os.environ, OMP_WAIT_POLICY="PASSIVE")
    command = [sys.executable, str(CHILD), name, str(scene)]
    command += ["--model", options.model, "--side", str(options.side), *more]
    command += ["--memory", options.memory] if options.memory else []
    command += ["--fp16-residuals"] if options.fp16_residuals else []
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        environment["NAPARI_RESTORE_CACHE"] = str(Path(folder) / "cache")
        command += ["--scratch", folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        print(f"{name}: {said[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def make_scenes(options: argparse.Namespace) -> tuple[Path, Path]:
    """The scene in 8 bit, and the same in float32."""
    import numpy as np
    import rasterio
    from make_scene import make

    scene = Path(options.work) / f"scene-{options.side}.tif"
    exact = scene.with_name(f"scene-{options.side}-float.tif")
    if not scene.exists():
        make(scene, options.side, options.data, "uint8", "deflate")
    if not exact.exists() and not options.no_accuracy:
        with rasterio.open(scene) as file:
            profile = {**file.profile, "dtype": "float32", "compress": None}
            profile.pop("predictor", None)
            with rasterio.open(exact, "w", **profile) as other:
                for _, window in file.block_windows(1):
                    values = file.read(window=window).astype(np.float32) / 255
                    other.write(values, window=window)
    return scene, exact


def measure(options: argparse.Namespace, scene: Path) -> dict[str, list[dict[str, Any]]]:
    """All rounds of all candidates."""
    import psutil

    needs = child("needed", options, scene) or {}
    free = psutil.virtual_memory().available
    rounds_by_name: dict[str, list[dict[str, Any]]] = {}
    for name in options.only.split(","):
        if needs.get(name, 0) < 0.9 * free:
            rounds_by_name[name] = []
            continue
        sizes = f"{needs[name] / 2**30:.1f} GiB, {free / 2**30:.1f} are there"
        print(f"{name} is left out: it would take about {sizes}.\n", flush=True)
    for _ in range(options.rounds):
        for name, rounds in rounds_by_name.items():
            one = child(name, options, scene)
            if one is not None:
                rounds.append(one)
    return {name: rounds for name, rounds in rounds_by_name.items() if rounds}


def compare(options: argparse.Namespace, exact: Path, names: list[str]) -> dict[str, Any]:
    """How far each candidate is from sequential where nothing is rounded."""
    import numpy as np

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        base = Path(folder) / "sequential"
        sequential = child("sequential", options, exact, "--keep", str(base))
        if sequential is None:
            return found
        found["sequential"] = {"change": sequential["change"]}
        expected = np.load(f"{base}-pixels.npy", mmap_mode="r")
        for name in names:
            kept = Path(folder) / name
            one = child(name, options, exact, "--keep", str(kept))
            if one is None:
                continue
            pixels = np.load(f"{kept}-pixels.npy", mmap_mode="r")
            largest, seen = 0.0, 0
            for y in range(0, len(pixels), STRIP):
                off = np.abs(pixels[y : y + STRIP] - expected[y : y + STRIP]).max(axis=2)
                largest, seen = max(largest, float(off.max())), seen + int((off > VISIBLE).sum())
            found[name] = {"largest": largest, "visible": seen / pixels[..., 0].size}
            grid = Path(f"{kept}-grid.npy")
            if grid.exists():
                pair = ("--grids", f"{base}-grid.npy", str(grid))
                found[name]["flipped"] = child("flipped", options, exact, *pair)
            for path in Path(folder).glob(f"{name}-*"):
                path.unlink()
    return found


def ratio(rounds_by_name: dict[str, list[dict[str, Any]]], name: str, base: str) -> str:
    if base not in rounds_by_name:
        return "–"
    pairs = zip(rounds_by_name[name], rounds_by_name[base], strict=False)
    return f"{statistics.median(a['seconds'] / b['seconds'] for a, b in pairs):.2f}"


def show(
    options: argparse.Namespace,
    rounds_by_name: dict[str, list[dict[str, Any]]],
    apart: dict[str, Any],
) -> None:
    """Two tables: all candidates, and what the engine did."""

    def median(name: str, key: str) -> float:
        return statistics.median(one[key] for one in rounds_by_name[name])

    bases = [name for name in ("bare", "bare-workers") if name in rounds_by_name]
    quicker = min(bases, key=lambda name: median(name, "seconds"), default="bare")
    print(f"{options.model}, {options.side} × {options.side}, {options.rounds} rounds\n")
    print(
        "| candidate | s min | s median | CPU s | RSS MiB | USS MiB | s of sequential "
        "| RSS of sequential | of bare | largest difference | pixels > 1e-4 | tokens flipped |"
    )
    print("|" + " --- |" * 12)
    for name, rounds in rounds_by_name.items():
        largest = max(one["added_rss"] for one in rounds)
        base = [one["added_rss"] for one in rounds_by_name.get("sequential", [])]
        off = apart.get(name, {})
        flips = off.get("flipped")
        cells = [
            f"{min(one['seconds'] for one in rounds):.1f}",
            f"{median(name, 'seconds'):.1f}",
            f"{median(name, 'cpu_seconds'):.1f}",
            f"{largest / MIB:.0f}",
            f"{max(one['added_uss'] for one in rounds) / MIB:.0f}",
            ratio(rounds_by_name, name, "sequential"),
            f"{largest / max(base):.2f}" if base else "–",
            ratio(rounds_by_name, name, quicker),
            f"{off['largest']:.1e}" if "largest" in off else "–",
            f"{off['visible']:.4%}" if "visible" in off else "–",
            f"{flips['either']:.4%}" if flips else "–",
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nbare is {quicker}." if bases else "", end=" ")
    if "sequential" in apart:
        print(f"The network changes pixels by up to {apart['sequential']['change']:.2f}.", end="")
    print("\n")
    print(
        "| engine | tier | workers × threads, batch | plan s | encode s | bottleneck s | decode s "
        "| predicted s | added MiB | predicted MiB | residual MiB: ram, disk |"
    )
    print("|" + " --- |" * 11)
    for name in (name for name in TIERS if name in rounds_by_name):
        one = min(rounds_by_name[name], key=lambda one: one["seconds"])
        phases = [f"{one['phase_seconds'].get(p, 0):.1f}" for p in ("encode", "bottleneck")]
        sizes = [one["residual_bytes"][tier] / MIB for tier in ("ram", "disk")]
        cells = [
            one["residual_tier"],
            f"{one['workers']} × {one['threads']}, {one['tile_batch']}",
            f"{one['planning_seconds']:.1f}",
            *phases,
            f"{one['phase_seconds'].get('decode', 0):.1f}",
            f"{one['predicted_seconds']:.1f}",
            f"{one['added_bytes'] / MIB:.0f}",
            f"{one['predicted_bytes'] / MIB:.0f}",
            f"{sizes[0]:.0f}, {sizes[1]:.0f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="inf-dehaze-small")
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(CANDIDATES))
    parser.add_argument("--memory", help="the engine's budget")
    parser.add_argument("--fp16-residuals", action="store_true")
    parser.add_argument("--no-accuracy", action="store_true", help="times and memory only")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", help="where scenes and scratch go; kept if named")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        options.work = options.work or temporary
        Path(options.work).mkdir(parents=True, exist_ok=True)
        scene, exact = make_scenes(options)
        rounds_by_name = measure(options, scene)
        exactly = [name for name in rounds_by_name if name in ("whole", *TIERS)]
        comparable = "sequential" in rounds_by_name and not options.no_accuracy
        apart = compare(options, exact, exactly) if comparable else {}
    show(options, rounds_by_name, apart)
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds_by_name, "apart": apart}, indent=1))


if __name__ == "__main__":
    main()
