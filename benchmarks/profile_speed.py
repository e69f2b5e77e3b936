"""A photo in the colours of another profile beside the same one in sRGB.

    python benchmarks/profile_speed.py PHOTO.jpg [--model dcp] [--profile adobe-rgb] [--rounds 3]

Each round runs the command `restore` once for each, in turn, with an empty cache: seconds of the
processor, in this process and its children, and on the clock. Prints medians and their ratio.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from napari_restore.images.values.working_space import named_profile

Image.MAX_IMAGE_PIXELS = None


def run(photo: Path, folder: Path, model: str) -> tuple[float, float]:
    """Return seconds of the processor and on the clock of one command."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        words = [sys.executable, "-m", "napari_restore", "restore", str(photo)]
        words += ["-o", str(Path(cache) / "out.jpg"), "--model", model, "--progress", "off"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(words, check=True, env={**os.environ, "XDG_CACHE_HOME": cache})
        wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="dcp")
    parser.add_argument("--profile", default="adobe-rgb")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Image.open(options.photo) as photo:
        folder, found = Path(name), dict[str, list[tuple[float, float]]]()
        for profile in ("sRGB", options.profile):
            target = folder / f"{profile}.jpg"
            photo.convert("RGB").save(target, quality=92, icc_profile=named_profile(profile))
            found[profile] = []
        for _ in range(options.rounds):
            for profile, times in found.items():
                times.append(run(folder / f"{profile}.jpg", folder, options.model))
    medians = {profile: np.median(times, axis=0) for profile, times in found.items()}
    for profile, (processor, wall) in medians.items():
        print(f"{profile:12} {processor:6.2f} s of the processor, {wall:6.2f} s on the clock")
    processor, wall = medians[options.profile] / medians["sRGB"]
    print(f"{'ratio':12} {processor:6.2f}   {wall:28.2f}")


if __name__ == "__main__":
    main()
