"""How much nodata beside a scene moves its valid pixels, by models that see the whole image.

    python benchmarks/nodata_beside.py PHOTO --model andehazeformer-small --model hint-small-denoise
        [--side 768]

The middle of a photo is hazy, noisy or dark, as the model's task has it, and is restored by
itself and with half of its width as NaN at its right: a third of the image. Printed is the
difference of its pixels in 255ths of the range. It is not 0: convolutions reach from the
edge of nodata into the scene, and what is counted over cells has some of them cut by it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import napari_restore as nr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--side", type=int, default=768, help="of the scene in pixels")
    given = parser.parse_args()
    photo, side = Image.open(given.photo).convert("RGB"), given.side
    x, y = (photo.width - side) // 2, (photo.height - side) // 2
    clear = np.asarray(photo.crop((x, y, x + side, y + side)), np.float32) / 255
    print("| model | mean | 99.9 % | largest | largest beyond 64 px of the edge |")
    print("| --- |" + " ---: |" * 4)
    for name in given.model:
        model = nr.load_model(name)
        scene = degraded(clear, model.card.task)
        beside = np.full((side, side // 2, 3), np.nan, np.float32)
        alone = np.asarray(nr.restore(scene, model, exposure=0).array)
        both = np.asarray(nr.restore(np.concatenate([scene, beside], 1), model, exposure=0).array)
        moved = 255 * np.abs(both[:, :side] - alone).max(2)
        cells = (moved.mean(), np.quantile(moved, 0.999), moved.max(), moved[:, : side - 64].max())
        print(f"| `{name}` | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |", flush=True)


def degraded(clear: np.ndarray, task: str) -> np.ndarray:
    """Return a clear picture under even haze, noise of σ 25, or five times less light."""
    if task == "denoise":
        noise = np.random.default_rng(0).standard_normal(clear.shape, np.float32)
        return np.clip(clear + 25 / 255 * noise, 0, 1)
    if task == "lowlight":
        return (clear**2.2 / 5) ** (1 / 2.2)
    t = np.float32(0.55)
    return clear * t + np.float32(0.85) * (1 - t)


if __name__ == "__main__":
    main()
