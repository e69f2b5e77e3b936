"""Strips of hazy, restored and clear images side by side, with labels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from napari_restore_lab._replacing import replacing

Codes = npt.NDArray[np.uint8]

LONGEST = 2400
"""Longer side of a strip in pixels."""
PREVIEW = 800
"""Longer side of a preview in pixels."""
CLEAR = "clear"
"""Column of the clear picture."""
GAP, BAR, LETTERS = 6, 30, 17
"""Pixels: gap between images, height of the labels, font size."""
QUALITY = 90


class Previews:
    """Previews of restored images, stored until the strips are selected.

    Without a folder nothing is stored.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def keep(
        self, group: str, image: str, column: str, key: str, codes: Callable[[], Codes]
    ) -> None:
        """Write a preview of an image (h, w, C) in 8 bits, computed only if it is missing.

        `key` distinguishes images of one column from other pixels or settings.
        """
        if self._folder is None or self.has(group, image, column, key):
            return
        path = self.path(group, image, column, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = _shown(codes())
        picture.thumbnail((PREVIEW, PREVIEW), Image.Resampling.LANCZOS, reducing_gap=3.0)
        with replacing(path) as part:
            picture.save(part, "JPEG", quality=QUALITY, subsampling=0)

    def has(self, group: str, image: str, column: str, key: str) -> bool:
        """Return whether a preview exists, or none is needed."""
        return self._folder is None or self.path(group, image, column, key).is_file()

    def path(self, group: str, image: str, column: str, key: str) -> Path:
        """Return the path of a preview."""
        assert self._folder is not None
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        return self._folder / file_name(group, image) / f"{file_name(column)}.{digest}.jpg"

    def strip(
        self, group: str, image: str, columns: Sequence[tuple[str, str, str]], target: Path
    ) -> bool:
        """Write a strip of the previews of an image; return False if there are none.

        `columns` are names, keys and labels of the previews.
        """
        if self._folder is None:
            return False
        pictures = []
        for name, key, text in columns:
            path = self.path(group, image, name, key)
            if path.is_file():
                with Image.open(path) as file:
                    pictures.append((file.convert("RGB"), text))
        if not pictures:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part:
            beside(pictures).save(part, "JPEG", quality=QUALITY, subsampling=0)
        return True


def beside(pictures: Sequence[tuple[Image.Image, str]]) -> Image.Image:
    """Arrange images of one size in a row with labels; at most `LONGEST` a side."""
    count = len(pictures)
    width, height = pictures[0][0].size
    available = (LONGEST - GAP * (count + 1)) // count
    scale = min(1.0, available / width, (LONGEST - BAR - GAP) / height)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    sheet = Image.new("RGB", (GAP + count * (w + GAP), BAR + h + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    for number, (picture, text) in enumerate(pictures):
        x = GAP + number * (w + GAP)
        shown = (
            picture if picture.size == (w, h) else picture.resize((w, h), Image.Resampling.LANCZOS)
        )
        sheet.paste(shown, (x, BAR))
        draw.text((x, BAR // 2), _fitting(text, w, draw, font), "black", font, anchor="lm")
    return sheet


def select_extremes(gains: Mapping[Any, float], count: int) -> dict[Any, str]:
    """Return the `count` worst, median and best keys, with a label such as ``worst_1``."""
    order = sorted((key for key in gains if gains[key] == gains[key]), key=lambda key: gains[key])
    middle = max(0, (len(order) - count) // 2)
    parts = {
        "worst": order[:count],
        "best": order[::-1][:count],
        "median": order[middle : middle + count],
    }
    files: dict[Any, str] = {}
    for word, keys in parts.items():
        for number, key in enumerate(keys, start=1):
            files.setdefault(key, f"{word}_{number}")
    return files


def file_name(*parts: str) -> str:
    """Return a unique file name for parts, of letters, digits and a few signs."""
    nonempty = [part for part in parts if part]
    plain = [re.sub(r"[^\w.=-]+", "_", part).strip(".")[:80] for part in nonempty]
    name = "+".join(plain)
    if plain == nonempty:
        return name
    return f"{name}_{hashlib.sha256(repr(parts).encode()).hexdigest()[:6]}"


def _shown(codes: Codes) -> Image.Image:
    """Return three bands as colour, else the first band as grey."""
    if codes.shape[2] == 3:
        return Image.fromarray(np.ascontiguousarray(codes))
    return Image.fromarray(np.ascontiguousarray(codes[..., 0])).convert("RGB")


def _fitting(text: str, width: int, draw: ImageDraw.ImageDraw, font: Any) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
