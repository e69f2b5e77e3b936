"""Photos with the EXIF of a camera, and folders of brackets of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from tests.models.test_mertens import frames

DIRECTORY = 0x8769
TAGS = {"seconds": 0x829A, "iso": 0x8827, "bias": 0x9204, "mode": 0xA402}


def shoot(folder: Path, name: str, at: float | None, ev: float | None = None, **more: Any) -> Path:
    """Write a small photo, taken `at` seconds after noon with the exposure of `ev`."""
    size = more.pop("size", (24, 16))
    exif = Pillow.Exif()
    exif[0x0110] = more.pop("camera", "One")
    tags = exif.get_ifd(DIRECTORY)
    if at is not None:
        second, fraction = divmod(at, 1)
        tags[0x9003] = f"2026:06:01 12:{int(second) // 60:02d}:{int(second) % 60:02d}"
        tags[0x9291] = f"{round(fraction * 100):02d}"
    if ev is not None:
        tags |= {TAGS["seconds"]: 0.01 * 2**ev, TAGS["iso"]: 100}
    tags |= {TAGS[tag]: value for tag, value in more.items()}
    light = np.full((size[1], size[0], 3), 90, np.uint8)
    Pillow.fromarray(light).save(folder / name, exif=exif)
    return folder / name


def two_brackets(tmp_path: Path) -> Path:
    """Write a folder of two brackets of three frames: a0 … a2, b0 … b2, two stops apart."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for scene, start in (("a", 0), ("b", 60)):
        for number, frame in enumerate(frames(150, 170)):
            path = shoot(folder, f"{scene}{number}.jpg", start + number, 2 * number - 2)
            with Pillow.open(path) as photo:
                exif = photo.getexif()
            pixels = (frame if scene == "a" else frame[::-1]) * 255
            Pillow.fromarray(pixels.astype(np.uint8)).save(path, exif=exif, quality=95)
    return folder
