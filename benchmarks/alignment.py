"""How exactly hand-held frames are aligned: photos shifted, rotated, exposed and made noisy.

    python benchmarks/alignment.py INDEX.csv [--photos 25] [--pairs 4] [--opencv FOLDER]

Of each of the largest photos the middle part is the reference. The other frame shows it shifted by
up to 200 pixels, rotated by up to 2°, in a slight perspective, 2 EV darker or brighter, with noise
of photons and reading, in 8 bits. Printed are the largest distance of a corner from where it should
be, and OpenCV's AlignMTB beside it, which only shifts. `--opencv` is a folder with
opencv-python-headless that is no part of this environment.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_restore.errors import BadParameter
from napari_restore.images import bracket_of, light_of_srgb, open_image, srgb_of_light

SHIFT, TURN, PERSPECTIVE = 200.0, 2.0, 0.004
"""Most pixels and degrees, and how far the scale may change from one edge to the other."""
EV = 2.0
ELECTRONS, READ = 20000.0, 5.0
FLAGGED = 2.0
"""Pixels of a corner from which an alignment is wrong."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--photos", type=int, default=25)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--opencv", type=Path)
    options = parser.parse_args()
    if options.opencv is not None:
        sys.path.insert(0, str(options.opencv))
    ours, theirs, missed = [], [], 0
    for number, path in enumerate(largest(options.index, options.photos)):
        photo = np.asarray(Image.open(path).convert("RGB"))
        for pair in range(options.pairs):
            rng = np.random.default_rng((number, pair))
            reference, frame, true = made(photo, rng)
            frames = [open_image(reference), open_image(frame)]
            try:
                found = bracket_of(frames, 0, (0, 1), align="auto")
            except BadParameter:
                missed += 1
                print(f"{path.name} {pair}: left out", flush=True)
            else:
                assert found.companions is not None
                lies = getattr(found.frames[1].reader, "matrix", np.eye(3))
                error = corner_error(lies, true, reference.shape)
                unsure = any("may be off" in note for note in found.notes)
                ours.append((error, unsure))
                print(f"{path.name} {pair}: {error:.2f}{', unsure' if unsure else ''}", flush=True)
            if options.opencv is not None:
                theirs.append(
                    corner_error(shift_by_opencv(reference, frame), true, reference.shape)
                )
    errors, unsure = (np.array(each) for each in zip(*ours, strict=True))
    print(f"aligned {len(errors)}, left out {missed}")
    print(f"corner error, pixels: median {np.median(errors):.2f}, 90 % below ", end="")
    print(f"{np.quantile(errors, 0.9):.2f}, largest {errors.max():.2f}")
    wrong = errors > FLAGGED
    print(f"above 2: {wrong.sum()}, of which reported {(wrong & unsure).sum()}; ", end="")
    print(f"reported of the others: {(unsure & ~wrong).sum()}")
    if theirs:
        print(f"OpenCV AlignMTB: median {np.median(theirs):.1f}, best {min(theirs):.1f}")


def largest(index: Path, count: int) -> list[Path]:
    """Return the largest clear photos of an index."""
    with index.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if "_clean/" in row["file"]]
    rows = [row for row in rows if row["file"].endswith(".jpg")]
    rows.sort(key=lambda row: -int(row["width"]) * int(row["height"]))
    return [index.parent / row["file"] for row in rows[:count]]


def made(photo: npt.NDArray[Any], rng: np.random.Generator) -> tuple[Any, Any, npt.NDArray[Any]]:
    """Return reference and frame (h, w, 3) uint8, and the matrix from the first to the second."""
    margin = int(SHIFT + np.radians(TURN) * max(photo.shape[:2]) / 2 + 20)
    height, width = (side - 2 * margin for side in photo.shape[:2])
    turn = np.radians(rng.uniform(-TURN, TURN))
    dx, dy = rng.uniform(-1, 1, 2) * SHIFT / np.sqrt(2)
    px, py = rng.uniform(-1, 1, 2) * PERSPECTIVE / np.array([width, height])
    centre = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]])
    turned = np.array(
        [[np.cos(turn), -np.sin(turn), dx], [np.sin(turn), np.cos(turn), dy], [px, py, 1]]
    )
    # From the frame to the reference.
    matrix = np.linalg.inv(centre) @ turned @ centre
    to_photo = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]]) @ matrix
    # Pillow counts from the corners of pixels.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    data = half @ to_photo @ np.linalg.inv(half)
    data = (data / data[2, 2]).ravel()[:8]
    perspective, cubic = Image.Transform.PERSPECTIVE, Image.Resampling.BICUBIC
    moved = Image.fromarray(photo).transform((width, height), perspective, tuple(data), cubic)
    reference = photo[margin : margin + height, margin : margin + width]
    ev = EV if rng.random() < 0.5 else -EV
    return taken(reference, 0.0, rng), taken(np.asarray(moved), ev, rng), np.linalg.inv(matrix)


def taken(display: npt.NDArray[Any], ev: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Return a photo (h, w, 3) uint8 of what `display` shows, exposed by `ev`."""
    electrons = light_of_srgb(display.astype(np.float32) / 255) * np.float32(2.0**ev * ELECTRONS)
    spread = np.sqrt(electrons + np.float32(READ**2))
    electrons += spread * rng.standard_normal(electrons.shape, np.float32)
    shown = srgb_of_light(np.clip(electrons / np.float32(ELECTRONS), 0, 1))
    return np.rint(shown * 255).astype(np.uint8)


def corner_error(matrix: npt.NDArray[Any], true: npt.NDArray[Any], shape: Any) -> float:
    """Return the largest distance of a corner's place from the true one, pixels."""
    height, width = shape[:2]
    corners = np.array([[x, y, 1.0] for x in (0, width - 1) for y in (0, height - 1)]).T
    places = [(each @ corners)[:2] / (each @ corners)[2] for each in (matrix, true)]
    return float(np.linalg.norm(places[0] - places[1], axis=0).max())


def shift_by_opencv(reference: npt.NDArray[Any], frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the shift of AlignMTB as a matrix."""
    import cv2

    grey = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (reference, frame)]
    dx, dy = cv2.createAlignMTB(8).calculateShift(*grey)
    return np.array([[1, 0, -dx], [0, 1, -dy], [0, 0, 1.0]])


if __name__ == "__main__":
    main()
