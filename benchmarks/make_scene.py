"""Writes a large georeferenced scene of real aerial images under synthetic haze.

    python benchmarks/make_scene.py OUT.tif --side 30000 --data ../shared/data

The images are repeated with flips; haze is smooth over the whole scene (a few
octaves of cosines), so that no two places see the same transmission. The file is
tiled without overviews, as scenes often come.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

NAMES = ("oam_urban_z21_mosaic.jpg", "oam_dense_z21_mosaic.jpg", "caliterra_9380.jpg")
AIRLIGHT = np.array([0.86, 0.88, 0.92])


def texture(data: Path, side: int = 2048) -> np.ndarray:
    """(side, 3 * side, 3) uint8 of clear real images, side by side."""
    from PIL import Image

    parts = []
    for name in NAMES:
        image = Image.open(data / "aerial_clean" / name).convert("RGB")
        parts.append(np.asarray(image.resize((side, side))))
    return np.concatenate(parts, axis=1)


def transmission(y0: int, rows: int, side: int) -> np.ndarray:
    """(rows, side) float32 in 0.35 … 0.95, smooth over the whole scene."""
    y = (np.arange(y0, y0 + rows) / side)[:, None]
    x = (np.arange(side) / side)[None, :]
    field = np.zeros((rows, side), np.float32)
    for octave, (fy, fx, phase) in enumerate([(1.3, 0.7, 0.4), (2.9, 3.4, 1.9), (7.1, 6.3, 0.2)]):
        field += np.cos(2 * np.pi * (fy * y + fx * x) + phase).astype(np.float32) / 2**octave
    return 0.65 + 0.3 * field / 1.75


def make(out: Path, side: int, data: Path, dtype: str, compress: str) -> None:
    """Write the scene, one row of tiles at a time."""
    import rasterio
    from rasterio.transform import from_origin

    clear = texture(data)
    height, width = clear.shape[:2]
    scale = np.iinfo(dtype).max / 255 if dtype == "uint8" else 40.0
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": dtype,
        "crs": "EPSG:32633", "transform": from_origin(500000, 5_000_000, 0.5, 0.5),
        "tiled": True, "blockxsize": 512, "blockysize": 512, "photometric": "RGB",
        "compress": compress, "BIGTIFF": "IF_SAFER", "num_threads": "ALL_CPUS",
        "interleave": "pixel",
    }  # fmt: skip
    if compress in ("deflate", "zstd", "lzw"):
        profile["predictor"] = 2
    if compress in ("deflate", "zstd"):
        profile[f"{'z' if compress == 'deflate' else 'zstd_'}level"] = 1
    rng = np.random.default_rng(0)
    with rasterio.open(out, "w", **profile) as file:
        for y in range(0, side, 512):
            rows = min(512, side - y)
            source = clear[np.arange(y, y + rows) % height]
            shift = int(rng.integers(0, width))
            columns = (np.arange(side) + shift) % width
            j = source[:, columns].astype(np.float32) / 255
            t = transmission(y, rows, side)[..., None]
            hazy = j * t + AIRLIGHT.astype(np.float32) * (1 - t)
            values = np.rint(hazy * 255 * scale).astype(dtype)
            file.write(values.transpose(2, 0, 1), window=((y, y + rows), (0, side)))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=30000)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--dtype", choices=("uint8", "uint16"), default="uint8")
    parser.add_argument("--compress", default="deflate")
    arguments = parser.parse_args()
    make(arguments.out, arguments.side, arguments.data, arguments.dtype, arguments.compress)


if __name__ == "__main__":
    main()
