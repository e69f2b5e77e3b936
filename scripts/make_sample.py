"""Makes src/napari_restore/sample/hazy_town_synthetic.tif from a clear aerial mosaic.

    python scripts/make_sample.py oam_urban_z21_mosaic.jpg

The mosaic is 12 × 8 XYZ tiles of 256 px at zoom 21, x 1238448 … 1238459 and
y 1046528 … 1046535, so its place on the ground follows from the tile numbers.
The haze is made here, with a fixed seed: I = J t + A (1 - t) in linear light.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.shutil import copy
from rasterio.transform import Affine

TARGET = Path(__file__).parents[1] / "src/napari_restore/sample/hazy_town_synthetic.tif"
ZOOM, TILE_X, TILE_Y, TILE = 21, 1238448, 1046528, 256
SEED = 2026
AIRLIGHT = (0.86, 0.88, 0.91)  # linear light, a bluish white
DEPTH = (0.10, 0.75)  # smallest and largest optical depth at 550 nm
WAVELENGTHS = (650, 550, 450)  # nm of R, G, B
ANGSTROM = 0.5  # exponent of the optical depth's growth towards blue
HALF_WORLD = 20037508.342789244  # m, half the equator in EPSG:3857
TAGS = {
    "IMAGEDESCRIPTION": "Aerial photo of a town with SYNTHETIC haze; not a real observation of haze.",
    "ARTIST": "OpenAerialMap contributors (photo); napari-restore (haze)",
    "COPYRIGHT": "CC-BY-4.0, OpenAerialMap contributors",
    "SOFTWARE": "napari-restore scripts/make_sample.py",
    "HAZE": "synthetic, I = J t + A (1 - t) in linear light, t = exp(-depth (550 nm / wavelength)^0.5), "
    f"depth {DEPTH[0]} to {DEPTH[1]}, five octaves of noise, A {AIRLIGHT}, seed {SEED}",
}


def smooth_noise(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Five octaves of low-pass noise over the image, from 0 to 1."""
    total = np.zeros((height, width))
    for octave in range(5):
        cells = 2 * 2**octave
        grid = rng.random((cells + 1, cells * width // height + 1)).astype(np.float32)
        layer = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer) * 0.5**octave
    return (total - total.min()) / np.ptp(total)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def add_haze(clear: np.ndarray) -> np.ndarray:
    """`clear` (H, W, 3) uint8 sRGB, seen through the synthetic haze."""
    rng = np.random.default_rng(SEED)
    noise = smooth_noise(*clear.shape[:2], rng)
    depth = DEPTH[0] + (DEPTH[1] - DEPTH[0]) * noise
    spectral = (550 / np.array(WAVELENGTHS)) ** ANGSTROM
    t = np.exp(-depth[..., None] * spectral)
    hazy = to_linear(clear / 255) * t + np.array(AIRLIGHT) * (1 - t)
    return np.round(to_srgb(hazy) * 255).clip(0, 255).astype(np.uint8)


def write(pixels: np.ndarray) -> None:
    """As a cloud-optimised GeoTIFF, JPEG compressed."""
    metres = 2 * HALF_WORLD / 2**ZOOM / TILE
    left, top = TILE_X * TILE * metres - HALF_WORLD, HALF_WORLD - TILE_Y * TILE * metres
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 3,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "crs": "EPSG:3857",
        "transform": Affine(metres, 0, left, 0, -metres, top),
        "photometric": "RGB",
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(np.moveaxis(pixels, -1, 0))
            dataset.update_tags(
                **{f"TIFFTAG_{k}" if k != "HAZE" else k: v for k, v in TAGS.items()}
            )
        with memory.open() as dataset:
            copy(
                dataset,
                TARGET,
                driver="COG",
                compress="JPEG",
                quality=93,
                blocksize=512,
                overview_resampling=Resampling.average.name,
                overview_quality=85,
            )


def main(source: str) -> None:
    with rasterio.open(source) as dataset:
        clear = np.moveaxis(dataset.read(), 0, -1)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    write(add_haze(clear))
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1])
