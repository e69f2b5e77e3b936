"""How much synthetic haze the classical methods remove: PSNR before and after.

Run as ``python benchmarks/classical_gain.py DATA`` with the folder of test images;
prints a Markdown table. The defaults of `dcp` were chosen on the scenes marked dev, so
the scenes marked train, which no classical method has seen, are the test. Haze is made in the file's values
as x = J·t + A·(1 − t), with t smooth: everywhere between two levels (full), or 1 on
part of the scene (uneven). Images are reduced to about 1000 pixels.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import torch

from napari_restore.models import card_of, load

Array = npt.NDArray[np.float32]
ROLES = ("red", "green", "blue")
PER_KIND = 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of test images")
    parser.add_argument("--split", default="train", choices=("train", "dev"))
    options = parser.parse_args()
    folder: Path = options.data
    print("| scenes | haze | n | hazy | dcp | hot | htm |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for kind in ("aerial", "natural"):
        scenes = [read(folder / name) for name in files(folder, kind, options.split)]
        for haze in ("full", "uneven"):
            hazy = [add_haze(scene, haze, seed) for seed, scene in enumerate(scenes)]
            cells = [f"{mean_psnr(hazy, scenes):.1f}"]
            cells += [
                f"{mean_psnr([restore(m, x) for x in hazy], scenes):.1f}"
                for m in ("dcp", "hot", "htm")
            ]
            print(f"| {kind} | {haze} | {len(scenes)} | {' | '.join(cells)} |", flush=True)


def files(folder: Path, kind: str, split: str) -> list[str]:
    """`PER_KIND` scenes of a kind, evenly spread over the index."""
    with (folder / "INDEX.csv").open(encoding="utf-8", newline="") as index:
        rows = [r["file"] for r in csv.DictReader(index) if r["split"] == split]
    names = [n for n in rows if n.startswith(f"{kind}_clean/") and "_nir_" not in n]
    return names[:: max(1, len(names) // PER_KIND)][:PER_KIND]


def read(path: Path) -> Array:
    """(H, W, 3) in [0, 1], averaged down to about 1000 pixels."""
    with rasterio.open(path) as file:
        pixels = np.moveaxis(file.read([1, 2, 3]), 0, 2).astype(np.float32) / 255
    step = max(1, max(pixels.shape[:2]) // 1000)
    height, width = pixels.shape[0] // step, pixels.shape[1] // step
    cells = pixels[: height * step, : width * step].reshape(height, step, width, step, 3)
    return cells.mean(axis=(1, 3))


def add_haze(scene: Array, kind: str, seed: int) -> Array:
    """The scene behind haze that follows from `seed`, bluish as thin haze is."""
    rng = np.random.default_rng(seed)
    field = smooth(*scene.shape[:2], rng)
    thin, thick = rng.uniform(0.7, 1.0), rng.uniform(0.25, 0.6)
    if kind == "uneven":
        thin, field = 1.0, np.clip((field - 0.4) / 0.6, 0, 1)
    t = (thin - (thin - thick) * field)[..., None]
    falloff = (550 / np.array([650.0, 550.0, 450.0])) ** rng.uniform(0, 1.3)
    airlight = np.clip(rng.uniform(0.78, 1.0) + rng.uniform(-0.04, 0.04, 3), 0, 1)
    hazy: Array = (scene * t**falloff + airlight * (1 - t**falloff)).astype(np.float32)
    return hazy


def smooth(height: int, width: int, rng: np.random.Generator) -> Array:
    """Four octaves of bicubic noise over all of [0, 1]."""
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        coarse = torch.from_numpy(rng.random((1, 1, 2 + 2**octave, 2 + 2**octave)))
        fine = torch.nn.functional.interpolate(
            coarse, (height, width), mode="bicubic", align_corners=True
        )
        total += fine[0, 0].numpy() * 0.6**octave
    return (total - total.min()) / (total.max() - total.min())


def restore(model_id: str, image: Array) -> Array:
    """One model with its defaults over the whole image."""
    named = [ROLES.index(r) for r in card_of(model_id).roles]
    order = [*named, *(b for b in range(3) if b not in named)]
    x = torch.from_numpy(image[..., order]).permute(2, 0, 1)[None]
    with torch.inference_mode():
        y = load(model_id)(x)[0].permute(1, 2, 0).numpy()
    result = np.empty_like(image)
    result[..., order] = y.clip(0, 1)
    return result


def mean_psnr(images: list[Array], references: list[Array]) -> float:
    pairs = zip(images, references, strict=True)
    return float(np.mean([-10 * np.log10(np.mean((a - b) ** 2)) for a, b in pairs]))


if __name__ == "__main__":
    main()
