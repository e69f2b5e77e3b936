"""Whether moving people come whole from one frame: photos with figures that walk through.

    python benchmarks/ghosts.py INDEX.csv [--photos 6] [--side 1200] [--out DIR]

In each frame, 2 EV apart and with noise, the same two figures of several parts stand elsewhere; the
places of one overlap. Compared is with brackets in which nothing moves, the figures standing as in
one frame in all of them: over the whole of each figure, in any frame, the result should be one of
these. Printed are the median and the largest of the mean differences from the nearest one, the share
of pixels of figures that differ from it by more than 0.1, and how far what never moves differs
from the fusion without deghosting, in 255ths. `--out` keeps pictures.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from alignment import taken
from PIL import Image, ImageDraw, ImageFilter

import napari_restore as nr

EVS = (-2.0, 0.0, 2.0)
Array = npt.NDArray[Any]
FAR = 0.1
"""Of the range, from which a pixel is of another frame."""
SHIRTS = ((150, 40, 40), (60, 90, 150), (120, 130, 70), (190, 190, 185))
TROUSERS = ((40, 42, 60), (110, 95, 75), (60, 60, 60))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--side", type=int, default=1200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    # What is known of an image must not come from an earlier version.
    os.environ["NAPARI_RESTORE_CACHE"] = tempfile.mkdtemp(prefix="napari-restore-ghosts-")
    with options.index.open(newline="") as file:
        rows = [row["file"] for row in csv.DictReader(file) if "natural_clean/" in row["file"]]
    found: dict[float, list[tuple[float, float]]] = {0.0: [], 1.0: []}
    still = []
    for number, name in enumerate(sorted(rows)[:: max(1, len(rows) // options.photos)]):
        photo = Image.open(options.index.parent / name).convert("RGB")
        photo.thumbnail((options.side, options.side))
        shown, masks = walking(photo, np.random.default_rng(number))
        fused = {amount: of(shown, number, amount) for amount in found}
        standing = [of([each] * len(EVS), number, 0.0) for each in shown]
        moving = np.any(masks, axis=(0, 1))
        for amount, result in fused.items():
            for mask in masks.reshape(-1, *moving.shape):
                found[amount].append(nearest(result, standing, mask))
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                Image.fromarray(result).save(options.out / f"{Path(name).stem}_{amount:g}.png")
        near = Image.fromarray(moving.astype(np.uint8)).filter(ImageFilter.MaxFilter(101))
        away = np.asarray(near) == 0
        difference = np.abs(fused[1.0].astype(float) - fused[0.0])[away]
        still.append((difference.mean(), np.quantile(difference, 0.999)))
        print(name, np.round(found[1.0][-len(EVS) * 2 :], 3).tolist(), still[-1], flush=True)
    for amount, values in found.items():
        mean, far = np.array(values).T
        print(
            f"deghost {amount:g}: {len(mean)} figures, difference {np.median(mean) * 255:.1f}, ",
            end="",
        )
        print(
            f"largest {mean.max() * 255:.1f}; pixels far off {far.mean():.3f}, most {far.max():.3f}"
        )
    print("away from figures, mean and 99.9 %:", np.mean(still, axis=0).round(2).tolist())


def walking(photo: Image.Image, rng: np.random.Generator) -> tuple[list[Array], Array]:
    """Return what each frame shows (h, w, 3) uint8, and masks (frames, 2, h, w) of the figures."""
    width, height = photo.size
    tall = round(0.4 * height)
    figures = [figure(tall, rng) for _ in range(2)]
    # The second one makes less than a step between two frames.
    left = [rng.permutation((0.05, 0.3, 0.5)), 0.7 + np.arange(3) * 0.3 * tall / width]
    top = [round(height * rng.uniform(0.4, 0.55)) for _ in figures]
    shown, masks = [], np.zeros((len(EVS), 2, height, width), bool)
    for frame in range(len(EVS)):
        picture = photo.copy()
        for number, each in enumerate(figures):
            place = (round(left[number][frame] * width), top[number])
            posed = each.rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC)
            picture.paste(posed, place, posed)
            whole = Image.new("L", photo.size)
            whole.paste(posed.getchannel("A"), place)
            masks[frame, number] = np.asarray(whole) > 127
        shown.append(np.asarray(picture))
    return shown, masks


def figure(tall: int, rng: np.random.Generator) -> Image.Image:
    """Return a standing figure of head, torso, arms and legs, with texture (RGBA)."""
    scale = 4
    size = (tall * scale // 2, tall * scale)
    drawn = Image.new("RGBA", size)
    draw = ImageDraw.Draw(drawn)

    def part(kind: str, box: tuple[float, ...], colour: tuple[int, ...]) -> None:
        places = [round(each * size[1]) for each in box]
        getattr(draw, kind)(places, fill=(*colour, 255))

    shirt, trousers = (kinds[rng.integers(len(kinds))] for kinds in (SHIRTS, TROUSERS))
    skin = (205, 160, 130)
    part("rectangle", (0.16, 0.52, 0.24, 0.97), trousers)
    part("rectangle", (0.27, 0.52, 0.35, 0.97), trousers)
    part("ellipse", (0.10, 0.2, 0.17, 0.55), shirt)
    part("ellipse", (0.34, 0.2, 0.41, 0.55), shirt)
    part("rectangle", (0.15, 0.17, 0.36, 0.55), shirt)
    part("ellipse", (0.19, 0.02, 0.32, 0.17), skin)
    drawn = drawn.resize((tall // 2, tall), Image.Resampling.LANCZOS)
    pixels = np.asarray(drawn).astype(float)
    cloth = Image.fromarray(rng.integers(0, 255, (tall // 6, tall // 12), np.uint8), "L")
    folds = np.asarray(cloth.resize(drawn.size, Image.Resampling.BICUBIC), float) / 255
    fine = rng.normal(0, 0.05, folds.shape)
    pixels[..., :3] *= (0.7 + 0.5 * folds + fine)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGBA")


def of(shown: list[Array], seed: int, amount: float) -> Array:
    """Return the fusion (h, w, 3) uint8 of frames that show this, in the order of `EVS`."""
    rng = np.random.default_rng(seed)
    frames = [taken(each, ev, rng) for each, ev in zip(shown, EVS, strict=True)]
    images = [nr.open_image(frame) for frame in frames]
    result = nr.fuse(images, exposures=EVS, align="off", deghost=amount, progress=False)
    return np.asarray(result.array)


def nearest(result: Array, standing: list[Array], mask: Array) -> tuple[float, float]:
    """Return the mean difference from the nearest bracket, and the share of pixels far from it."""
    differences = [np.abs(result[mask].astype(float) - each[mask]) / 255 for each in standing]
    best = min(differences, key=lambda each: float(each.mean()))
    return float(best.mean()), float((best.max(axis=1) > FAR).mean())


if __name__ == "__main__":
    main()
