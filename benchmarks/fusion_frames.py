"""What a fusing network owes to each frame: its scores with frames replaced by the middle one.

    python benchmarks/fusion_frames.py INDEX.csv [--model ipl-small] [--weights FILE] [--split dev]
        [--longest 512] [--seed 7]

Brackets are those of `napari-restore evaluate --degradation bracket`, natural scenes. Printed are the
means over scenes of PSNR after the best monotone curve, of all pixels and of those that the middle
frame clips, and the smallest loss of a scene.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import napari_restore as nr
from napari_restore.metrics import psnr_clipped, psnr_matched
from napari_restore_lab.data import read_picture, scenes_of
from napari_restore_lab.degradation import degraded_scene

CASES = {"all frames": (0, 1, 2), "without the dark": (1, 1, 2), "without the bright": (0, 1, 1)}
CASES["the middle alone"] = (1, 1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--model", default="ipl-small")
    parser.add_argument("--weights")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--longest", type=int, default=512)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    model = nr.load_model(options.model, weights=options.weights)
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for scene in scenes_of(options.index, split=options.split):
        if scene.kind != "natural":
            continue
        clear = read_picture(scene, options.longest).rgb.astype(np.float32) / 255
        taken, truth = degraded_scene(clear, scene.file, "bracket", 2.0, options.seed)
        frames = [taken[..., n : n + 3] for n in (0, 3, 6)]
        for name, chosen in CASES.items():
            shown = np.concatenate([frames[n] for n in chosen], axis=2)
            x = torch.from_numpy(shown).permute(2, 0, 1)[None].contiguous()
            with torch.inference_mode():
                y = model(x)[0].permute(1, 2, 0).clamp(0, 1).numpy()
            clipped = psnr_clipped(y, truth, 1, frames=frames)
            scores[name].append((psnr_matched(y, truth, 1), clipped))
    whole = np.array(scores["all frames"])
    print(f"{len(whole)} scenes of {options.split}")
    print("| frames | PSNR, tones matched | clipped pixels | least loss |")
    for name, values in scores.items():
        own = np.array(values)
        least = (whole - own)[:, 0].min()
        print(f"| {name} | {own[:, 0].mean():.2f} | {np.nanmean(own[:, 1]):.2f} | {least:.2f} |")


if __name__ == "__main__":
    main()
