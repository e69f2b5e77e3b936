"""Whether heads look where the result comes from: rank correlation of attention and attribution.

    python benchmarks/attention_attribution.py DATA --model inf-dehaze-small --side 256 --scenes 20

Scenes and haze are those of benchmarks/attention_heads.py, as 8-bit pictures. The box has 32 pixels a side
in the middle of the scene; its attribution is by integrated gradients with `--steps` points, of the trained
network and of the same network with `random:0`, each beside its own attention. `rank` is `attribution_rank`
(docs/lab/heads.md), the mean over a layer's heads, `most` its largest. Prints a Markdown table: means over
scenes with 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attention_heads import Scene, cell, hazy, scenes
from PIL import Image

import napari_restore as nr
from napari_restore import Region

BOX = 32
COLUMNS = {"rank": "{:.2f}", "most": "{:.2f}"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of test images")
    parser.add_argument("--model", default="inf-dehaze-small")
    parser.add_argument("--side", type=int, default=256, help="pixels of the longer side, at most")
    parser.add_argument("--scenes", type=int, default=20, help="half of them aerial")
    parser.add_argument("--steps", type=int, default=17)
    options = parser.parse_args()
    torch.set_num_threads(1)
    by_weights: list[dict[str, list[dict[str, float]]]] = []
    for weights in (None, "random:0"):
        model = nr.load_model(options.model, weights=weights)
        by_layer: dict[str, list[dict[str, float]]] = defaultdict(list)
        for scene in scenes(options.data, options.scenes):
            for layer, ranks in ranks_of(scene, model, options).items():
                by_layer[layer].append({"rank": float(np.mean(ranks)), "most": max(ranks)})
        by_weights.append(by_layer)
    titles = [*COLUMNS, *(f"{name}, random weights" for name in COLUMNS)]
    print("| layer |", " | ".join(titles), "|")
    print("| --- |", " ---: |" * len(titles), sep="")
    for layer in by_weights[0]:
        found = [
            cell([row[name] for row in by_layer[layer]], text)
            for by_layer in by_weights
            for name, text in COLUMNS.items()
        ]
        print(f"| `{layer}` |", " | ".join(found), "|", flush=True)


def ranks_of(scene: Scene, model: Any, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the rank correlations of the heads of every layer that has one."""
    pixels = (hazy(scene, options.side) * 255).round().astype(np.uint8)
    middle = (pixels.shape[0] - BOX) // 2, (pixels.shape[1] - BOX) // 2
    box = Region(*middle, middle[0] + BOX, middle[1] + BOX)
    with tempfile.TemporaryDirectory() as folder:
        picture, why = Path(folder) / "scene.png", Path(folder) / "why.tif"
        Image.fromarray(pixels).save(picture)
        quiet = {"device": "cpu", "progress": False}
        nr.attribute(picture, model, box, steps=options.steps, **quiet).save(why)
        found = nr.attend(picture, model, [box], attribution=why, **quiet)
    ranks: dict[str, list[float]] = {}
    for layer, heads in found.queries[0].measures.items():
        given = [
            head["attribution_rank"] for head in heads if head.get("attribution_rank") is not None
        ]
        if given:
            ranks[layer] = given
    return ranks


if __name__ == "__main__":
    main()
