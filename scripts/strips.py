"""Pictures beside what models make of them, one strip each: how results are looked at.

Run as ``python scripts/strips.py OUT.jpg --model ID [--model FILE.safetensors …] PATH…``. Every
picture is restored whole, by the same door as ``napari-restore restore``, and shown at
`--side` pixels with the model's name; 16-bit pictures share one contrast per strip. With
``--reduced 2 4`` the picture made smaller is restored, too, and how far that is from the whole
one's result made smaller is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import napari_restore as nr

GAP = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--model", action="append", required=True, help="ID or weights file")
    parser.add_argument("--side", type=int, default=480, help="longer side of each picture")
    parser.add_argument("--crop", type=int, nargs=4, metavar=("X", "Y", "WIDTH", "HEIGHT"))
    parser.add_argument("--reduced", type=int, nargs="*", default=[], metavar="N")
    parser.add_argument("--bands", help="as ROLE=N[,…], for files that do not name theirs")
    options = parser.parse_args()
    models = [nr.load_model(name) for name in options.model]
    rows = [strip(path, models, options) for path in options.paths]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height + GAP for row in rows) - GAP), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + GAP
    sheet.save(options.out, quality=88)


def strip(
    path: Path, models: list[nr.RestorationModel], options: argparse.Namespace
) -> Image.Image:
    image = nr.open_image(path, **({"bands": options.bands} if options.bands else {}))
    named = {role: band for band, role in enumerate(image.roles)}
    bands = [
        named.get(role, min(i, image.shape[2] - 1))
        for i, role in enumerate(("red", "green", "blue"))
    ]
    pictures = [("input", np.asarray(image.levels[0])[..., bands])]
    for model in models:
        whole = np.asarray(nr.restore(image, model, exposure=0).array)[..., bands]
        pictures.append((model.card.id, whole))
        for step in options.reduced:
            small = nr.open_image(reduced(pictures[0][1], step), bands="red=1,green=2,blue=3")
            result = np.asarray(nr.restore(small, model, exposure=0).array)
            pictures.append((f"{model.card.id} 1/{step}", result))
            apart = np.abs(result.astype(np.float64) - reduced(whole, step))
            share = np.nanmean(apart) / (limits(pictures[0][1])[1])
            print(f"{path.name}, {model.card.id} at 1/{step}: {255 * share:.2f} of 255 apart")
    low, high = limits(pictures[0][1])
    shown = [labelled(name, picture, low, high, options) for name, picture in pictures]
    row = Image.new("RGB", (sum(p.width + GAP for p in shown) - GAP, shown[0].height), "white")
    left = 0
    for picture in shown:
        row.paste(picture, (left, 0))
        left += picture.width + GAP
    return row


def reduced(pixels: np.ndarray, step: int) -> np.ndarray:
    """Means of `step` × `step` pixels, in the same type."""
    height, width = (side // step * step for side in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // step, step, width // step, step, -1)
    means = blocks.mean((1, 3))
    return (means.round() if pixels.dtype.kind in "iu" else means).astype(pixels.dtype)


def limits(pixels: np.ndarray) -> tuple[float, float]:
    """Black and white of a strip: bytes as they are, else up to the brightest thousandth."""
    if pixels.dtype == np.uint8:
        return 0.0, 255.0
    return 0.0, float(np.nanpercentile(pixels, 99.9))


def labelled(
    name: str, pixels: np.ndarray, low: float, high: float, options: argparse.Namespace
) -> Image.Image:
    if options.crop:
        x, y, width, height = options.crop
        pixels = pixels[y : y + height, x : x + width]
    scaled = np.nan_to_num((pixels.astype(np.float32) - low) / (high - low))
    picture = Image.fromarray((scaled.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    scale = options.side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 8 * len(name) + 8, 15), fill="black")
    draw.text((4, 2), name, fill="white")
    return picture


if __name__ == "__main__":
    main()
