"""Kills a run at random moments, repeats the command, compares with an undisturbed run.

    python benchmarks/kill_and_resume.py SCENE.tif [--kills 20] [--model dcp] [--in-sweeps]

Prints after how many tiles each kill fell, how many tiles were computed in all,
and whether the bytes are equal. Ends with one SIGINT: exit code, seconds until
the process is gone, and whether anything stands under the final name.

With `--in-sweeps` so many kills fall into one sweep of each kind of a model that sees the whole
image, each after a random number of tiles of that sweep.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WITHOUT_WEIGHTS = ("hint", "hint-small")


def command(scene: Path, out: Path, model: str, tile: int) -> list[str]:
    words = [sys.executable, "-m", "napari_restore", "restore", str(scene), "-o", str(out)]
    words += ["--model", model, "--tile", str(tile), "--json", "--progress", "json"]
    return words + (["--weights", "random:0"] if model in WITHOUT_WEIGHTS else [])


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "NAPARI_RESTORE_CACHE": str(cache), "PYTHONUNBUFFERED": "1"}


def whole_run(scene: Path, folder: Path, name: str, model: str, tile: int) -> tuple[dict, float]:
    """One run to the end; its record and seconds."""
    began = time.perf_counter()
    done = subprocess.run(
        command(scene, folder / name, model, tile),
        env=environment(folder / f"cache-{name}"),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), time.perf_counter() - began


def interrupted(
    scene: Path, folder: Path, model: str, tile: int, wait: float, since: str, how: int
) -> int:
    """Start the command, send `how` `wait` seconds after the event `since`; tiles finished so far."""
    process = subprocess.Popen(
        command(scene, folder / "killed.tif", model, tile),
        env=environment(folder / "cache-killed"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    finished = 0
    deadline = None
    assert process.stderr is not None
    for line in process.stderr:
        finished += '"TileDone"' in line
        if f'"{since}"' in line or '"TileDone"' in line:
            deadline = deadline or time.perf_counter() + wait
        if deadline is not None and time.perf_counter() > deadline:
            process.send_signal(how)
            break
    process.stderr.read()
    process.wait()
    return finished


def killed_in(words: list[str], cache: Path, phase: str, tiles: int) -> bool:
    """Start the command, kill it after so many tiles of `phase`; whether it came to that."""
    process = subprocess.Popen(
        words, env=environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    now, first = "", None
    for line in process.stderr:
        if not line.startswith("{"):
            # An error: it is no killed run that goes on.
            sys.exit(line.rstrip())
        event = json.loads(line)
        now = event["name"] if event["event"] == "Phase" else now
        if event["event"] == "Progress" and now == phase:
            first = event["done"] if first is None else first
            if event["done"] - first >= tiles:
                break
    process.kill()
    process.stderr.read()
    process.wait()
    return now == phase


def sweeps_of(words: list[str], cache: Path) -> list[str]:
    """Return the name of one sweep of each kind, that in the middle, of a run to the end."""
    done = subprocess.run(words, env=environment(cache), capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    names = [event["name"] for event in events if event["event"] == "Phase"]
    kinds: dict[str, list[str]] = {}
    for name in (name for name in names if re.search(r"\(\d+ of \d+\)$", name)):
        kinds.setdefault(re.sub(r"[\d()]|of", "", name), []).append(name)
    return [of_kind[len(of_kind) // 2] for of_kind in kinds.values()]


def kill_in_sweeps(arguments: argparse.Namespace, folder: Path) -> bool:
    """Kill runs in one sweep of each kind; whether each ended in the bytes of the undisturbed one."""
    rng = random.Random(arguments.seed)
    shape = (arguments.model, arguments.tile)
    whole, killed = folder / "whole.tif", folder / "killed.tif"
    sweeps = sweeps_of(command(arguments.scene, whole, *shape), folder / "cache-whole")
    words, cache = command(arguments.scene, killed, *shape), folder / "cache-killed"
    same = True
    for sweep in sweeps:
        landed = 0
        while landed < arguments.kills:
            if killed_in(words, cache, sweep, rng.randrange(3)):
                landed += 1
            else:
                # That sweep is done: from the start, with nothing known of the image.
                killed.unlink(missing_ok=True)
                shutil.rmtree(cache)
        subprocess.run(words, env=environment(cache), capture_output=True, check=True)
        equal = digest(whole) == digest(killed)
        print(f"{sweep}: {landed} kills, bytes equal: {equal}", flush=True)
        same = same and equal
        killed.unlink()
        shutil.rmtree(cache)
    return same


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="dcp")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in-sweeps", action="store_true")
    arguments = parser.parse_args()
    if arguments.in_sweeps:
        with tempfile.TemporaryDirectory() as name:
            sys.exit(0 if kill_in_sweeps(arguments, Path(name)) else 1)
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = (arguments.scene, folder)
        record, seconds = whole_run(*shape, "whole.tif", arguments.model, arguments.tile)
        tiles = record["plan"]["tiles"]
        print(f"undisturbed: {seconds:.1f} s, {tiles} tiles")
        killed = folder / "killed.tif"
        longest = max(0.05, record["measured"]["run_seconds"] / arguments.kills)
        same = True
        for number in range(arguments.kills):
            wait = rng.uniform(0, 4 * longest)
            # Half of them while the whole image is read, before any tile.
            since = rng.choice(("Progress", "TileDone"))
            seen = interrupted(*shape, arguments.model, arguments.tile, wait, since, signal.SIGKILL)
            print(f"kill {number + 1}: {wait:.2f} s after {since}, {seen} tiles in the store")
            if killed.exists():
                # Done before the kill came: begin again.
                same = same and digest(killed) == digest(folder / "whole.tif")
                killed.unlink()
        done = subprocess.run(
            command(arguments.scene, folder / "killed.tif", arguments.model, arguments.tile),
            env=environment(folder / "cache-killed"),
            capture_output=True,
            text=True,
        )
        last = json.loads(done.stdout) if done.stdout else {}
        measured = last.get("measured", {})
        print(
            f"last run: {measured.get('tiles_done')} done, {measured.get('tiles_resumed')} resumed"
        )
        same = same and digest(folder / "whole.tif") == digest(killed)
        print(f"bytes equal: {same}")
        killed.unlink()
        began = time.perf_counter()
        words = command(arguments.scene, killed, arguments.model, arguments.tile)
        process = subprocess.Popen(
            [*words, "--fresh"],
            env=environment(folder / "cache-killed"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if '"TileDone"' in line:
                break
        began = time.perf_counter()
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        code = process.wait()
        print(f"SIGINT: exit {code} after {time.perf_counter() - began:.2f} s")
        print(f"final name exists: {(folder / 'killed.tif').exists()}")
        print(f"left beside it: {sorted(p.name for p in folder.iterdir() if p.is_file())}")
        sys.exit(0 if same and code == 3 else 1)


if __name__ == "__main__":
    main()
