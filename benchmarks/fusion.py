"""How fast and with how much memory a bracket is fused, beside OpenCV and enfuse.

    python benchmarks/fusion.py FRAME FRAME… [--long 6000] [--memory 2GiB] [--rounds 3]
        [--hand-held] [--opencv FOLDER] [--json OUT]

Frames are enlarged to `--long` pixels a side and written as JPEG; every program reads these and
writes a JPEG, in a process of its own, one after the other, in so many rounds. Printed are the
medians of wall and processor seconds, and the highest resident size, and ours over each of the
others. With `--hand-held` frames are aligned as well, by Hugin's align_image_stack before enfuse.
`--opencv` is a folder with opencv-python-headless that is no part of this environment;
enfuse is used if it is installed. Fused pictures stay in the folder that is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

OPENCV = """
import sys
sys.path.insert(0, sys.argv[1])
import cv2
import numpy as np
frames = [cv2.imread(path) for path in sys.argv[3:]]
fused = cv2.createMergeMertens(1, 1, 1).process(frames)
cv2.imwrite(sys.argv[2], np.clip(fused * 255, 0, 255).round().astype(np.uint8))
"""


def timed(command: list[str]) -> tuple[float, float, float]:
    """Return wall seconds, processor seconds and the highest resident size in MiB."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = child.stderr.read() if child.stderr is not None else b""
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)} ended with {child.returncode}: {said.decode()[-500:]}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def enlarged(frames: list[Path], longest: int, folder: Path) -> list[str]:
    """Write the frames with `longest` pixels a side; return their paths."""
    paths = []
    for number, frame in enumerate(frames):
        with Image.open(frame) as picture:
            scale = longest / max(picture.size)
            size = (round(picture.width * scale), round(picture.height * scale))
            path = folder / f"{number}.jpg"
            picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(path, quality=95)
        paths.append(str(path))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", nargs="+", type=Path)
    parser.add_argument("--long", type=int, default=6000)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hand-held", action="store_true")
    parser.add_argument("--opencv", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="napari-restore-fusion-"))
    os.environ["NAPARI_RESTORE_CACHE"] = str(folder / "cache")
    paths = enlarged(options.frames, options.long, folder)
    ours = [sys.executable, "-m", "napari_restore", "fuse", *paths]
    ours += [] if options.hand_held else ["--align", "off"]
    ours += ["--ev", *map(str, range(len(paths))), "-o", str(folder / "ours.jpg"), "--overwrite"]
    programs = {"napari-restore": [*ours, "--memory", options.memory, "--progress", "off"]}
    if options.opencv is not None:
        program = [sys.executable, "-c", OPENCV, str(options.opencv)]
        programs["OpenCV"] = [*program, str(folder / "opencv.jpg"), *paths]
    if shutil.which("enfuse"):
        weights = ["--exposure-weight=1", "--saturation-weight=1", "--contrast-weight=1"]
        enfuse = ["enfuse", *weights, "-o", str(folder / "enfuse.jpg")]
        programs["enfuse"] = [*enfuse, *paths]
        if options.hand_held:
            align = ["align_image_stack", "-a", str(folder / "aligned_"), *paths]
            both = (
                f"{shlex.join(align)} && {shlex.join(enfuse)} {shlex.quote(str(folder))}/aligned_*"
            )
            programs = {"napari-restore": programs["napari-restore"]}
            programs["Hugin and enfuse"] = ["sh", "-c", both]
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in programs}
    for _ in range(options.rounds):
        for name, command in programs.items():
            # Nothing of the pictures must be found; how fast a method is has been measured before.
            for kind in ("contexts", "results", "settled", "streams"):
                shutil.rmtree(folder / "cache" / kind, ignore_errors=True)
            runs[name].append(timed(command))
    found = {
        name: [statistics.median(values) for values in zip(*each, strict=True)]
        for name, each in runs.items()
    }
    print(f"{len(paths)} frames, longer side {options.long}, in {folder}")
    print("| program | wall s | processor s | peak MiB | ours / its: wall | processor | peak |")
    for name, values in found.items():
        ratios = [own / other for own, other in zip(found["napari-restore"], values, strict=True)]
        cells = [f"{values[0]:.1f}", f"{values[1]:.1f}", f"{values[2]:.0f}"]
        print(f"| {name} | {' | '.join([*cells, *(f'{ratio:.2f}' for ratio in ratios)])} |")
    if options.json is not None:
        options.json.write_text(json.dumps({"runs": runs, "medians": found}, indent=1))


if __name__ == "__main__":
    main()
