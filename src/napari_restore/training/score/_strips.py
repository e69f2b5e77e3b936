"""Pictures to look at: hazy, restored and clear side by side, with names and PSNR."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from napari_restore.training._replacing import replacing

Codes = npt.NDArray[np.uint8]

LONGEST = 2400
"""Pixels along the longer side of a strip."""
PREVIEW = 800
"""The same of one picture kept for it."""
CLEAR = "clear"
"""Column of the clear picture."""
GAP, BAR, LETTERS = 6, 30, 17
"""Pixels between pictures, of the line above them, of its letters."""
QUALITY = 90


class Previews:
    """Small copies of what was restored, kept until it is known which of them belong together.

    Without a folder nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def keep(
        self, group: str, image: str, column: str, key: str, codes: Callable[[], Codes]
    ) -> None:
        """Write a picture (h, w, C) in 8 bits, which is made only if it is not there.

        `key` tells pictures of one column apart that other pixels or settings made.
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
        """Whether a picture is there, or none is to be kept."""
        return self._folder is None or self.path(group, image, column, key).is_file()

    def path(self, group: str, image: str, column: str, key: str) -> Path:
        """Where a picture is kept."""
        assert self._folder is not None
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        return self._folder / file_name(group, image) / f"{file_name(column)}.{digest}.jpg"

    def strip(
        self, group: str, image: str, columns: Sequence[tuple[str, str, str]], target: Path
    ) -> bool:
        """Write the pictures of an image beside each other; False if none of them is there.

        `columns` are names and keys under which they were kept, and what is written above
        each.
        """
        if self._folder is None:
            return False
        found = [(self.path(group, image, name, key), text) for name, key, text in columns]
        panels = [(path, text) for path, text in found if path.is_file()]
        if not panels:
            return False
        pictures = []
        for path, text in panels:
            with Image.open(path) as file:
                pictures.append((file.convert("RGB"), text))
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part:
            beside(pictures).save(part, "JPEG", quality=QUALITY, subsampling=0)
        return True


def beside(pictures: Sequence[tuple[Image.Image, str]]) -> Image.Image:
    """Pictures of one size in a row, their texts above; at most `LONGEST` a side."""
    count = len(pictures)
    width, height = pictures[0][0].size
    room = (LONGEST - GAP * (count + 1)) // count
    scale = min(1.0, room / width, (LONGEST - BAR - GAP) / height)
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


def chosen(gains: Mapping[Any, float], count: int) -> dict[Any, str]:
    """The `count` worst, middle and best of many, each with a word for it; fewer if there are fewer."""
    order = sorted((key for key in gains if gains[key] == gains[key]), key=lambda key: gains[key])
    middle = max(0, (len(order) - count) // 2)
    parts = {
        "worst": order[:count],
        "best": order[::-1][:count],
        "median": order[middle : middle + count],
    }
    found: dict[Any, str] = {}
    for word, keys in parts.items():
        for number, key in enumerate(keys, start=1):
            found.setdefault(key, f"{word}_{number}")
    return found


def file_name(*parts: str) -> str:
    """A name for a file, of letters, digits and a few signs; other parts have other names."""
    given = [part for part in parts if part]
    plain = [re.sub(r"[^\w.=-]+", "_", part).strip(".")[:80] for part in given]
    name = "+".join(plain)
    if plain == given:
        return name
    return f"{name}_{hashlib.sha256(repr(parts).encode()).hexdigest()[:6]}"


def _shown(codes: Codes) -> Image.Image:
    """Of three bands in colour, of others the first in grey."""
    if codes.shape[2] == 3:
        return Image.fromarray(np.ascontiguousarray(codes))
    return Image.fromarray(np.ascontiguousarray(codes[..., 0])).convert("RGB")


def _fitting(text: str, width: int, draw: ImageDraw.ImageDraw, font: Any) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
