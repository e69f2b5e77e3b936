"""How alike the heads of a layer are, and how much the result changes without one.

    python benchmarks/attention_redundancy.py DATA --model inf-dehaze-small --side 512 --scenes 10
        [--ablate bottleneck.1 bottleneck.2] [--noise 25] [--weights FILE random:0]

Scenes, haze and queries are those of benchmarks/attention_heads.py; with `--noise` the scenes have
noise of that standard deviation in 255ths in place of haze. `alike` is the mean linear CKA over
all pairs of heads of a layer, over the tiles of the queries, `least` and `most` its extremes. With
`--ablate` the network is run without each head of these layers around the middle of the scene: `without`
is the PSNR of that result to the result, the smallest of the layer's heads and the mean over them. Prints
a Markdown table for each of the `--weights`: means over scenes with 95 % bootstrap intervals. By default
these are the model's own and `random:0`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attention_heads import Scene, cell, hazy, middle, queries, scenes

import napari_restore as nr
from napari_restore.explain.attention.queries import Query
from napari_restore.explain.attention.redundancy import mean_of_pairs
from napari_restore.explain.attention.session import AttentionSession
from napari_restore_lab.degradation import degraded_scene

CKA = {"alike": "{:.2f}", "least": "{:.2f}", "most": "{:.2f}"}
WITHOUT = {"smallest": "{:.0f}", "mean": "{:.0f}"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of test images")
    parser.add_argument("--model", default="inf-dehaze-small")
    parser.add_argument("--side", type=int, default=512, help="pixels of the longer side, at most")
    parser.add_argument("--scenes", type=int, default=10, help="half of them aerial")
    parser.add_argument("--ablate", nargs="*", default=[], metavar="LAYER")
    parser.add_argument("--noise", type=float, metavar="SIGMA")
    parser.add_argument("--weights", nargs="+", default=[None, "random:0"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for weights in options.weights:
        alike: dict[str, list[dict[str, float]]] = defaultdict(list)
        without: dict[str, list[dict[str, float]]] = defaultdict(list)
        for scene in scenes(options.data, options.scenes):
            image = nr.open_image(degraded(scene, options.side, options.noise))
            model = nr.load_model(options.model, weights=weights)
            session = AttentionSession(image, model, device="cpu")
            with session.source:
                session.prepare()
                asked = list(queries(image.height, image.width))
                names = session.with_heads([site.name for site in session.sites])
                for layer, found in session.compared_heads(asked, names).items():
                    alike[layer].append(of_pairs(found.matrix()))
                centre = Query.point(image.height // 2, image.width // 2)
                for layer in options.ablate:
                    without[layer].append(of_heads(session, centre, layer))
        print(f"\n{options.model}, {weights or 'its own weights'}\n")
        table(alike, CKA)
        if without:
            table(without, WITHOUT)


def degraded(scene: Scene, side: int, noise: float | None) -> np.ndarray:
    """Return the middle of a scene, (h, w, 3) in [0, 1], with haze or noise."""
    if noise is None:
        return hazy(scene, side)
    return degraded_scene(middle(scene, side), scene.path.name, "noise", noise, 0)[0]


def of_pairs(matrix: np.ndarray) -> dict[str, float]:
    """Return the numbers of a matrix (heads, heads) by the names of `CKA`."""
    pairs = matrix[~np.eye(len(matrix), dtype=bool)]
    return {
        "alike": mean_of_pairs(matrix),
        "least": float(np.nanmin(pairs)),
        "most": float(np.nanmax(pairs)),
    }


def of_heads(session: Any, query: Query, layer: str) -> dict[str, float]:
    """Return the numbers of leaving out each head of a layer by the names of `WITHOUT`."""
    heads = next(site.heads for site in session.sites if site.name == layer)
    effects = [session.without_head(query, layer, head).to_dict() for head in heads]
    decibels = [effect["without_db"] for effect in effects if effect["without_db"] is not None]
    return {"smallest": min(decibels), "mean": float(np.mean(decibels))}


def table(by_layer: dict[str, list[dict[str, float]]], columns: dict[str, str]) -> None:
    """Print means and intervals over scenes."""
    print("| layer |", " | ".join(columns), "|")
    print("| --- |", " ---: |" * len(columns), sep="")
    for layer, rows in by_layer.items():
        cells = [cell([row[name] for row in rows], text) for name, text in columns.items()]
        print(f"| `{layer}` |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
