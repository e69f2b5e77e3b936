"""What the haze methods do to scenes without haze: change of each band's median, and of NDVI.

Run as ``python benchmarks/clear_scene_bias.py DATA`` with the folder of test images;
prints a Markdown table. Models run with their defaults on the whole image; near
infrared, which `dcp` and `atmosphere` do not see, is corrected with the transmission they found.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
import torch

from napari_restore.models import context_of, correct_band, load

WAVELENGTHS = {"red": 650.0, "green": 560.0, "blue": 480.0, "nir": 840.0}
"""Centres of the bands, nm."""
MODELS = ("dcp", "hot", "htm", "atmosphere", "atmosphere-aerial")


class Scene(NamedTuple):
    """A clear file, the roles of its bands, and the value of no light."""

    path: str
    roles: tuple[str, ...]
    black: float = 0.0


RGB = ("red", "green", "blue")
SCENES = (
    Scene("aerial_clean/naip_20180716_rgb.png", RGB),
    Scene("geotiff/naip_4band.tif", (*RGB, "nir")),
    Scene("aerial_clean/oam_urban_z21_mosaic.jpg", RGB),
    Scene("aerial_clean/neon_2019_BLAN_3_751000_4330000_i.png", RGB),
    Scene("aerial_clean/caliterra_9418.jpg", RGB),
    Scene("aerial_clean/coast_222226-2.jpg", RGB),
    # Landsat 8: reflectance 0 is digital number 5000.
    Scene("geotiff/rgb16_rio_color.tif", RGB, 5000),
    Scene("geotiff/landsat8_tokyo_b432_uint16.tif", RGB, 5000),
)


class Outcome(NamedTuple):
    """Medians over valid pixels, relative change in percent; NDVI before and after."""

    medians: dict[str, float]
    ndvi: tuple[float, float] | None
    unchanged: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of test images")
    folder: Path = parser.parse_args().data
    roles = list(WAVELENGTHS)
    print("| scene | model |", " | ".join(roles), "| NDVI | pixels unchanged |")
    print("| --- | --- |", " | ".join(["---:"] * (len(roles) + 2)), "|")
    for scene in SCENES:
        with rasterio.open(folder / scene.path) as file:
            source = np.moveaxis(file.read(list(range(1, len(scene.roles) + 1))), 0, 2)
        for model_id in MODELS:
            print(row(Path(scene.path).stem, model_id, measure(model_id, source, scene)))


def measure(model_id: str, source: npt.NDArray[np.generic], scene: Scene) -> Outcome:
    """Run one model over `source` (H, W, C)."""
    valid = source.min(axis=2) > 0
    small = source.dtype == np.uint8
    white = 255.0 if small else float(np.percentile(source[valid], 99.9))

    def to_model(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        return (np.asarray(values, np.float64) - scene.black) / (white - scene.black)

    visible = tuple(scene.roles.index(r) for r in RGB)
    context = context_of(source, valid, visible)
    model = load(model_id)
    first = [scene.roles.index(r) for r in model.card.roles]
    rest = range(source.shape[2]) if first and model.card.bands is None else visible
    bands = (*first, *(b for b in rest if b not in first))
    x = to_model(source).astype(np.float32)
    y = x.copy()
    with torch.inference_mode():
        statistics = model.prepare(context, to_model, bands)
        there = torch.from_numpy(x[..., list(bands)]).permute(2, 0, 1)[None]
        out, maps = model.forward_with_maps(there, statistics, torch.from_numpy(valid)[None, None])
    y[..., list(bands)] = out[0].permute(1, 2, 0).numpy()
    if "nir" in scene.roles and "transmission" in maps:
        nir = scene.roles.index("nir")
        mean = sum(WAVELENGTHS[r] for r in RGB) / len(RGB)
        reference = model.card.transmission_wavelength or mean
        airlight = float(statistics["airlight_all"][nir])
        t = maps["transmission"][0, 0].numpy()
        own = {"exponent": float(statistics["exponent"])} if "exponent" in statistics else {}
        y[..., nir] = correct_band(x[..., nir], t, airlight, reference, WAVELENGTHS["nir"], **own)
    before, after = np.median(x[valid], axis=0), np.median(y[valid], axis=0)
    change = dict(zip(scene.roles, 100 * (after / before - 1), strict=True))
    ndvi = (index(x[valid], scene.roles), index(y[valid], scene.roles))
    return Outcome(change, ndvi if "nir" in scene.roles else None, float((x == y)[valid].mean()))


def index(values: npt.NDArray[np.float32], roles: tuple[str, ...]) -> float:
    """Median normalised difference of near infrared and red."""
    if "nir" not in roles:
        return float("nan")
    nir, red = (values[:, roles.index(r)].clip(0) for r in ("nir", "red"))
    return float(np.median((nir - red) / (nir + red).clip(1e-6)))


def row(name: str, model_id: str, outcome: Outcome) -> str:
    """One line of the table."""
    cells = [f"{outcome.medians[r]:+.1f} %" if r in outcome.medians else "" for r in WAVELENGTHS]
    ndvi = f"{outcome.ndvi[0]:.2f} → {outcome.ndvi[1]:.2f}" if outcome.ndvi else ""
    return f"| {name} | {model_id} | {' | '.join(cells)} | {ndvi} | {outcome.unchanged:.0%} |"


if __name__ == "__main__":
    main()
