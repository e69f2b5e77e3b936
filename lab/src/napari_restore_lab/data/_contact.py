"""Contact sheets: many small images in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from napari_restore_lab.synthetic_haze import Haze, cell_means

Array = npt.NDArray[np.float32]

SIDE = 256
"""Longer side of one image in pixels."""
LINE = 14
"""Height of a line of text in pixels."""
GAP = 6
DEEPEST = 2.2
"""Optical depth shown as white."""


class SceneStrip(NamedTuple):
    """One scene: hazy, clear and optical depth side by side, and its caption."""

    text: str
    hazy: Array
    """(h, w, 3) display values."""
    clear: Array
    depth: Array
    """(h, w) optical depth."""


def strip_of(text: str, hazy: Array, clear: Array, haze: Haze | None) -> SceneStrip:
    """Return a strip of images (h, w, 3), reduced in size."""
    step = max(1, -(-max(clear.shape[:2]) // SIDE))
    depth = np.zeros(clear.shape[:2], np.float32) if haze is None else haze.depth
    return SceneStrip(text, *(cell_means(part, step) for part in (hazy, clear, depth)))


def haze_text(haze: Haze | None, valid: npt.NDArray[np.bool_]) -> str:
    """Describe a haze in one line; `valid` (H, W) are the pixels with data."""
    if haze is None:
        return "no haze"
    light = "linear" if haze.linear else "display"
    colour = " ".join(f"{value:.2f}" for value in haze.airlight)
    mean = haze.depth[valid].mean() if valid.any() else 0.0
    return f"depth {mean:.2f}  airlight {colour}  g {haze.exponent:.2f}  {light}"


def contact_sheet(strips: Sequence[SceneStrip], columns: int | None = None) -> Image.Image:
    """Arrange all strips in rows of `columns`, by default about square."""
    pictures = [_picture(strip) for strip in strips]
    if columns is None:
        columns = max(1, round((len(pictures) / 2.4) ** 0.5))
    width = max(picture.width for picture in pictures) + GAP
    rows = [pictures[k : k + columns] for k in range(0, len(pictures), columns)]
    heights = [max(picture.height for picture in row) + GAP for row in rows]
    sheet = Image.new("RGB", (width * min(columns, len(pictures)), sum(heights)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for number, picture in enumerate(row):
            sheet.paste(picture, (number * width, top))
        top += height
    return sheet


def _picture(strip: SceneStrip) -> Image.Image:
    depth = np.repeat(strip.depth[..., None] / np.float32(DEEPEST), 3, axis=2)
    values = np.concatenate([strip.hazy, strip.clear, depth], axis=1)
    picture = Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))
    width = max(picture.width, 3 * LINE)
    framed = Image.new("RGB", (width, picture.height + LINE), "white")
    framed.paste(picture, (0, LINE))
    # The built-in font has Latin-1 only.
    text = strip.text.encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(framed).text((2, 1), text, fill="black")
    return framed
