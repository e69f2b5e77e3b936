"""Small hazy scenes, and what a call of the command line answers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image as Picture
from rasterio.transform import from_origin


class Run:
    """The answer of one call of the command line."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out, parse_constant=pytest.fail)


def hazy(height=160, width=200, bands=3, dtype="uint8", seed=7) -> np.ndarray:
    """A small scene with texture under haze, (bands, height, width)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(10, 200, (bands, height // 20 + 1, width // 20 + 1))
    scene = coarse.repeat(20, axis=1).repeat(20, axis=2)[:, :height, :width]
    scene = 0.5 * scene + 110 + rng.integers(-6, 7, scene.shape)
    scale = 1 if dtype == "uint8" else 40
    return (scene * scale).astype(dtype)


def write_tiff(path: Path, pixels: np.ndarray, **profile) -> Path:
    bands, height, width = pixels.shape
    settings = {
        "driver": "GTiff",
        "count": bands,
        "height": height,
        "width": width,
        "dtype": pixels.dtype,
        "crs": "EPSG:32636",
        "transform": from_origin(500_000, 40_000, 2, 2),
    }
    if bands in (3, 4) and "photometric" not in profile:
        settings["photometric"] = "RGB"
    with rasterio.open(path, "w", **(settings | profile)) as dataset:
        dataset.write(pixels)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def picture(mode: str, kind: str) -> bytes:
    data = io.BytesIO()
    size = (64, 48)
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    Picture.fromarray(noise).resize(size).convert(mode).save(data, kind)
    return data.getvalue()
