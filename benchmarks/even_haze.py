"""What the haze methods do to clear scenes, and under even haze of known transmission.

    python benchmarks/even_haze.py INDEX.csv dcp atmosphere atmosphere-aerial
        [--split unseen] [--scenes 24] [--side 512]

Clear: the change of each band's median in percent, signed for the mean of the bands and without
sign for the worst band; over scenes the median, the 90th percentile and the worst. Even haze:
x = J t + A (1 - t) in display values with one t and one airlight for the whole picture; PSNR less
that of the hazy picture. Scenes are those of haze_matrix.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from haze_families import FAMILIES
from haze_matrix import Scene, chosen, score, tensors

from napari_restore.models import load_named

TRANSMISSIONS = (0.8, 0.6, 0.4)
AIRLIGHT = np.array([0.86, 0.9, 0.96], np.float32)
DARKEST = 4 / 255
"""Medians below this are left out: one level would be a change of a quarter."""


@torch.no_grad()
def restored(model: torch.nn.Module, picture: np.ndarray, scene: Scene) -> torch.Tensor:
    x, valid = tensors(picture, scene.valid)
    return model(x, None, valid)


def changes(model: torch.nn.Module, scene: Scene) -> np.ndarray:
    """Percent by which the median of each band changes (3,); NaN for bands that are black."""
    y = restored(model, scene.clear, scene)[0].permute(1, 2, 0).clamp(0, 1).numpy()
    before, after = (np.median(p[scene.valid], axis=0) for p in (scene.clear, y))
    return np.where(before >= DARKEST, 100 * (after / np.maximum(before, DARKEST) - 1), np.nan)


def gain(model: torch.nn.Module, scene: Scene, t: float) -> float:
    hazy = scene.clear * np.float32(t) + AIRLIGHT * np.float32(1 - t)
    before = score(tensors(hazy, scene.valid)[0], scene)
    return score(restored(model, hazy, scene), scene) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("models", nargs="+", help="as evaluate takes them")
    parser.add_argument("--split", default="unseen")
    parser.add_argument("--scenes", type=int, default=24, help="of each kind")
    parser.add_argument("--side", type=int, default=512, help="longer side in pixels")
    given = parser.parse_args()
    models = load_named(given.models)
    for kind in FAMILIES:
        scenes = chosen(given.index, given.split, kind, given.scenes, given.side)
        print(
            f"\n{kind}, {len(scenes)} scenes: clear, change of medians in % | even haze, gain in dB"
        )
        heads = ["mean band", "worst band", "90 % of scenes", "worst scene"]
        heads += [f"t {t}" for t in TRANSMISSIONS]
        print("| | " + " | ".join(heads) + " |\n| --- |" + " ---: |" * len(heads))
        for name, model in models:
            each = np.array([changes(model, scene) for scene in scenes])
            signed, worst = np.nanmean(each, axis=1), np.nanmax(np.abs(each), axis=1)
            cells = [f"{np.median(signed):+.1f}", f"{np.median(worst):.1f}"]
            cells += [f"{np.quantile(worst, 0.9):.1f}", f"{worst.max():.1f}"]
            for t in TRANSMISSIONS:
                cells.append(f"{np.mean([gain(model, scene, t) for scene in scenes]):+.2f}")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
