"""Uniform haze on a 16-bit scene and on the same scene in 8 bit: what models gain.

    python benchmarks/uniform_haze.py DATA

DATA is the folder of test images. The haze is I = J t + A (1 - t) above the
sensor's physical zero; gains are in dB of PSNR over the hazy input, both measured
in units of the range from black to white.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

SCENE = "geotiff/landsat8_tokyo_b432_uint16.tif"
ROLES = "red=1,green=2,blue=3"
AIRLIGHT = np.array([0.86, 0.9, 0.96])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


MODELS = ("dcp", "atmosphere", "atmosphere-aerial")


def gain(model: str, clear: np.ndarray, t: float, black: float, white: float, dtype: str) -> float:
    """What restoring the hazy scene gains, in dB; `clear` (H, W, 3) in [0, 1]."""
    import napari_restore as nr

    span = white - black
    hazy = clear * t + AIRLIGHT * (1 - t)
    stored = np.rint(black + hazy * span).astype(dtype)
    image = nr.open_image(stored, bands=ROLES)
    result = nr.restore(image, nr.load_model(model), black=black, white=white, exposure=0)
    restored = (result.read(result.region).astype(float) - black) / span
    before = (stored.astype(float) - black) / span
    return psnr(restored, clear) - psnr(before, clear)


def main() -> None:
    """Command line."""
    import os

    import rasterio

    with tempfile.TemporaryDirectory() as cache:
        os.environ["NAPARI_RESTORE_CACHE"] = cache
        with rasterio.open(Path(sys.argv[1]) / SCENE) as file:
            values = np.moveaxis(file.read(), 0, 2).astype(float)
        black, white = 5000.0, float(np.percentile(values, 99.9))
        clear = np.clip((values - black) / (white - black), 0, 1)
        print("| model | t | uint16 | 8 bit | difference |\n| --- | --- | ---: | ---: | ---: |")
        for model in MODELS:
            for t in (0.8, 0.6, 0.4):
                wide = gain(model, clear, t, black, white, "uint16")
                narrow = gain(model, clear, t, 0.0, 255.0, "uint8")
                cells = (f"{wide:+.2f} dB", f"{narrow:+.2f} dB", f"{wide - narrow:+.2f} dB")
                print(f"| {model} | {t} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
