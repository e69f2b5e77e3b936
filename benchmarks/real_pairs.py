"""Scores models on real haze: pairs of one view, hazy and clear, taken on different days.

    python benchmarks/real_pairs.py DATA/haze_pairs atmosphere dcp:omega=0.85 [--top 0.4]

Folders that hold hazy.jpg and clear.jpg are pairs; of each the upper `--top` counts,
where the haze is. Exposure differs between days, so that a result gets one gain a
channel in linear light (median to median) first, and no offset, which would reward a
black picture. Then: PSNR, the mean |log2| of the ratio of local contrasts, and
CIEDE2000 between the mean colours of blocks. All but PSNR are better when lower.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import napari_restore as nr
from napari_restore.metrics import ciede2000, psnr
from napari_restore.models import load_named

BLOCK = 32
"""Side in pixels of the blocks whose contrast and mean colour are compared."""
LUMA = np.array([0.2126, 0.7152, 0.0722])


def light(v: np.ndarray) -> np.ndarray:
    return np.where(v <= 0.04045, v / 12.92, ((np.maximum(v, 0) + 0.055) / 1.055) ** 2.4)


def display(v: np.ndarray) -> np.ndarray:
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * np.maximum(v, 0) ** (1 / 2.4) - 0.055)


def blocks(plane: np.ndarray) -> np.ndarray:
    """(rows, columns, BLOCK², …) of (h, w, …)."""
    h, w = (side // BLOCK for side in plane.shape[:2])
    cut = plane[: h * BLOCK, : w * BLOCK].reshape(h, BLOCK, w, BLOCK, *plane.shape[2:])
    return cut.swapaxes(1, 2).reshape(h, w, BLOCK * BLOCK, *plane.shape[2:])


def figures(result: np.ndarray, clear: np.ndarray) -> list[float]:
    """PSNR, contrast error, colour error of (h, w, 3) display values 0 to 1."""
    a, b = light(result), light(clear)
    gain = np.median(b, (0, 1)) / np.maximum(np.median(a, (0, 1)), 1e-4)
    fitted = np.clip(display(a * gain), 0, 1)
    contrast = [blocks(p @ LUMA).std(axis=2) + 2 / 255 for p in (fitted, clear)]
    colours = [blocks(p).mean(axis=2) for p in (fitted, clear)]
    return [
        psnr(fitted, clear, 1),
        float(np.abs(np.log2(contrast[0] / contrast[1])).mean()),
        ciede2000(colours[0], colours[1], 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+", help="as evaluate takes them")
    parser.add_argument("--only", default="millhaft_*", help="folders of pairs")
    parser.add_argument("--top", type=float, default=0.4, help="upper share that counts")
    given = parser.parse_args()
    found = [hazy.parent for hazy in sorted(given.folder.glob(f"{given.only}/hazy.jpg"))]
    print("| | PSNR | contrast | colour | median |\n| --- | ---: | ---: | ---: | ---: |")
    for name, model in load_named(["identity", *given.models]):
        rows = []
        for folder in found:
            image = nr.open_image(folder / "hazy.jpg")
            result = np.asarray(nr.restore(image, model, exposure=0).array)
            clear = np.asarray(Image.open(folder / "clear.jpg").convert("RGB"))
            rest = slice(0, int(given.top * len(clear)))
            a, b = (picture[rest].astype(np.float64) / 255 for picture in (result, clear))
            rows.append([*figures(a, b), float(np.median(a @ LUMA) / np.median(b @ LUMA))])
        cells = " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0))
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
