"""Makers of small image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def _noise(height: int, width: int, bands: int, dtype: Any, seed: int = 0) -> np.ndarray:
    """Seeded noise (H, W, C) over a type's usual range."""
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.random((height, width, bands)).astype(kind)
    limits = np.iinfo(kind)
    values = random.integers(limits.min, limits.max, (height, width, bands), endpoint=True)
    return values.astype(kind)


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """`noise(height, width, bands, dtype, seed=0)`."""
    return _noise


@pytest.fixture
def make_tiff(tmp_path: Path) -> Callable[..., Path]:
    """`make_tiff(pixels, name=…, **profile)` writes a GeoTIFF in EPSG:32633, 10 m pixels.

    Keywords of its own: `setup(dataset)` is called before it is closed.
    """
    import rasterio
    from rasterio.transform import Affine

    def make(pixels: np.ndarray, name: str = "scene.tif", **options: Any) -> Path:
        setup = options.pop("setup", None)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {
            "driver": "GTiff",
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "count": pixels.shape[2],
            "dtype": pixels.dtype,
            "crs": "EPSG:32633",
            "transform": Affine(10, 0, 400000, 0, -10, 5000000),
            **options,
        }
        with rasterio.open(path, "w", **{k: v for k, v in profile.items() if v is not None}) as new:
            new.write(pixels.transpose(2, 0, 1))
            if setup:
                setup(new)
        return path

    return make
