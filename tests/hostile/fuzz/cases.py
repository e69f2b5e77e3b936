"""One case: its files from its number, the door, and what must be as before afterwards."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confine import Outcome, run_confined
from corpus import ROOT, Seed
from doors import DOORS
from mutate import mutate

SERVER = b"@SERVER@"
VICTIM = {
    # What hostile files name: to be read as pixels, run or overwritten.
    "victim/secret.tif": b"the secret that lies outside\n" * 200,
    "victim/code.py": b"import pathlib\npathlib.Path(__file__).with_name('ran').touch()\ndef make(): ...\n",
    "victim/code.pt2": b"no program\n",
}


@dataclass(frozen=True)
class Case:
    """A seed with one file changed."""

    number: int
    seed: Seed
    door: str
    target: str
    change: str
    files: dict[str, bytes]

    @property
    def title(self) -> str:
        return f"{self.number}: {self.seed.name}, {self.target} by {self.door}: {self.change}"


def make_case(seeds: Sequence[Seed], number: int, start: int) -> Case:
    """The case of that number in the series that begins with `start`: always the same."""
    rng = random.Random(f"{start}/{number}")
    seed = seeds[number % len(seeds)]
    door = seed.doors[number // len(seeds) % len(seed.doors)]
    target = rng.choice(seed.targets)
    data, change = mutate(seed.files[target], target, rng)
    return Case(number, seed, door, target, change, {**seed.files, target: data})


def good_cases(seeds: Sequence[Seed]) -> list[Case]:
    """Every seed through the first of its doors, with nothing changed."""
    once = {seed.name: seed for seed in seeds}.values()
    return [Case(-1, seed, seed.doors[0], seed.targets[0], "nothing", seed.files) for seed in once]


def run_case(case: Case, folder: Path, server: str) -> Outcome:
    """Write the files of a case into the empty `folder`, go through the door, look at what changed."""
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / "home"
    for name in ("input", "output", "cache", "home", "victim"):
        (folder / name).mkdir(parents=True, mode=0o700)
    files = {
        name: data.replace(ROOT.encode(), str(folder).encode()).replace(SERVER, server.encode())
        for name, data in {**case.files, **VICTIM}.items()
    }
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(data)
    os.mkfifo(folder / "victim" / "pipe")
    opened = [folder / name for name in case.seed.opened]

    def work() -> None:
        os.chdir(home)
        os.environ |= {
            "NAPARI_RESTORE_CACHE": str(folder / "cache"), "HOME": str(home), "TMPDIR": str(home)
        }  # fmt: skip
        DOORS[case.door](folder, opened)

    before = _digests(folder)
    outcome = run_confined(work, folder.with_name(f"{folder.name}.log"))
    after = _digests(folder)
    if before != after and not outcome.problem:
        changed = sorted(set(before.items()) ^ set(after.items()))[0][0]
        return Outcome(f"changed: {changed}", outcome.output, outcome.seconds, outcome.peak)
    return outcome


def _digests(folder: Path) -> dict[str, str]:
    """What lies in `folder` outside of output and cache."""
    found = {}
    for path, names, files in os.walk(folder):
        if path == str(folder):
            names[:] = [name for name in names if name not in ("output", "cache")]
        for name in (*names, *files):
            whole = os.path.join(path, name)
            is_file = os.path.isfile(whole) and not os.path.islink(whole)
            content = Path(whole).read_bytes() if is_file else b""
            found[os.path.relpath(whole, folder)] = hashlib.sha256(content).hexdigest()
    return found
