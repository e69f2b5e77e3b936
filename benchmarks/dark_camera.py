"""Scores models against low light in pictures that LibRaw developed from dark, noisy mosaics.

    python benchmarks/dark_camera.py INDEX.csv hint-small-lowlight hint-small-lowlight:weights=FILE
        [--split unseen] [--scenes 6] [--side 512] [--strips FOLDER]

Models are named as `evaluate` names them. Scenes are taken with less light, as in camera_noise.py, and
saved as JPEG of quality 92; the truth is developed from all of the light, without noise. PSNR in dB, and
the colour noise that is left: the deviation of a* and b* (CIELAB) from the truth at structures of 8 to 64
pixels, where the truth is smooth. `gamma` brings the median to where it is in the mean of pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from camera_noise import BODIES, JPEG, Picture, developed, restored
from haze_matrix import chosen
from PIL import Image
from scipy.ndimage import uniform_filter
from skimage.color import rgb2lab

from napari_restore.images import light_of_srgb, srgb_of_light
from napari_restore.metrics import psnr
from napari_restore.models import load_named

DARKER = {6: 1600, 14: 3200}
"""ISO by the factor that the light is divided by."""
MEDIAN = 0.4
SMALL, LARGE = 8, 64
"""Sides of the boxes between which structures count as blotches."""
SMOOTH = 3.0
"""Largest deviation of L* within 24 pixels where the truth is smooth."""
Method = Callable[[Picture], np.ndarray]


def pictures(scenes: list, factor: int) -> list[Picture]:
    """Return the scenes with so much less light, and what they are with all of it."""
    made = []
    for number, scene in enumerate(scenes):
        even = tuple(slice(0, side // 2 * 2) for side in scene.clear.shape[:2])
        clear, valid = scene.clear[even], scene.valid[even]
        body = list(BODIES.values())[number % len(BODIES)]
        dark = srgb_of_light(light_of_srgb(clear) / np.float32(factor))
        codes = np.rint(developed(dark, body, DARKER[factor], 1000 * number + factor) * 255)
        file = BytesIO()
        Image.fromarray(codes.astype(np.uint8)).save(file, "JPEG", quality=JPEG)
        seen = np.asarray(Image.open(file), np.float32) / 255
        made.append(Picture(scene.name, f"{factor}", seen, developed(clear, body, None, 0), valid))
    return made


def gamma(picture: Picture) -> np.ndarray:
    middle = np.clip(np.median(picture.noisy.mean(2)[picture.valid]), 0.01, 0.9)
    return picture.noisy ** min(1.0, float(np.log(MEDIAN) / np.log(middle)))


def blotches(result: np.ndarray, picture: Picture) -> float:
    """Return the deviation of a* and b*; NaN where nothing is smooth."""
    found, truth = rgb2lab(result), rgb2lab(picture.truth)
    mean = uniform_filter(truth[..., 0], 24)
    smooth = uniform_filter(truth[..., 0] ** 2, 24) - mean**2 < SMOOTH**2
    smooth &= picture.valid
    if smooth.mean() < 0.02:
        return float("nan")
    apart = (found - truth)[..., 1:]
    size = [(side, side, 1) for side in (SMALL, LARGE)]
    band = uniform_filter(apart, size[0]) - uniform_filter(apart, size[1])
    return float(np.sqrt((band[smooth] ** 2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("models", nargs="+", help="as evaluate takes them")
    parser.add_argument("--split", default="unseen")
    parser.add_argument("--scenes", type=int, default=6, help="of each kind")
    parser.add_argument("--side", type=int, default=512, help="longer side in pixels")
    parser.add_argument("--strips", type=Path, help="folder for pictures, results and truth")
    given = parser.parse_args()
    kinds = ("aerial", "natural")
    scenes = [
        scene
        for kind in kinds
        for scene in chosen(given.index, given.split, kind, given.scenes, given.side)
    ]
    methods: dict[str, Method] = {"untouched": lambda picture: picture.noisy, "gamma": gamma}
    methods |= {name: partial(restored, model) for name, model in load_named(given.models)}
    made = {factor: pictures(scenes, factor) for factor in DARKER}
    strips: dict[tuple[int, int], list[np.ndarray]] = {}
    heads = [f"{factor} × darker | colour noise" for factor in DARKER]
    print(f"| | {' | '.join(heads)} |\n| --- |{' ---: |' * 2 * len(DARKER)}")
    for name, method in methods.items():
        cells = []
        for factor, taken in made.items():
            results = [method(picture) for picture in taken]
            for number, result in enumerate(results):
                strips.setdefault((factor, number), []).append(result)
            pairs = list(zip(results, taken, strict=True))
            level = np.mean([psnr(r, p.truth, 1, p.valid) for r, p in pairs])
            cells += [f"{level:.2f}", f"{np.nanmean([blotches(r, p) for r, p in pairs]):.2f}"]
        print(f"| {' | '.join([name, *cells])} |", flush=True)
    if given.strips is not None:
        given.strips.mkdir(parents=True, exist_ok=True)
        for (factor, number), results in strips.items():
            picture = made[factor][number]
            strip = np.concatenate([*results, picture.truth], axis=1)
            path = given.strips / f"{Path(picture.scene).stem}_{factor}.png"
            Image.fromarray(np.rint(np.clip(strip, 0, 1) * 255).astype(np.uint8)).save(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
