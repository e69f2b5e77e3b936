"""How spread the attention of a network is, layer by layer, beside that of random weights.

    python benchmarks/attention_heads.py DATA
    python benchmarks/attention_heads.py DATA --side 4096 --scenes 6 --layer bottleneck.1 bottleneck.2

From the middle of scenes marked dev in DATA/INDEX.csv, the larger ones first, under synthetic haze
(benchmarks/haze_families.py): aerial ones under layers, natural ones under haze to the horizon. In each
scene the image is divided into 4 × 4 squares, with a pixel drawn in each. A number of a scene is the
mean over its pixels and the heads of a layer. Prints a Markdown table: means over scenes with 95 %
bootstrap intervals of `--model` and, below, of the same network with `random:0`. `equal weights` is
the distance that equal weights of the same candidates would have, `in runs` the share of candidates
that lie beside another one in the same row, `by parity` the share of the variance of a row's weights
that follows from whether row and column of a cell are even or odd.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from haze_families import draw
from PIL import Image
from scipy import stats

import napari_restore as nr
from napari_restore.explain.attention.head_maps import HeadMaps
from napari_restore.explain.attention.queries import Query
from napari_restore.explain.attention.session import AttentionSession

FOLDERS = {"aerial_clean": ("aerial", "smooth"), "natural_clean": ("natural", "horizon")}
SQUARES = 4
"""Squares along a side; one query in each."""
LEAST = 500
"""Shorter side from which a scene is taken."""
SEED = 0
WITHOUT_PLACES = ("routing", "gate", "channel")
COLUMNS = {
    "candidates": "{:.0f}",
    "entropy": "{:.4f}",
    "effective cells": "{:.1f}",
    "distance, px": "{:.1f}",
    "equal weights, px": "{:.1f}",
    "in own tile": "{:.3f}",
    "in runs": "{:.3f}",
    "by parity": "{:.2f}",
}


class Scene(NamedTuple):
    """A file of test images, and the haze that it is seen through."""

    path: Path
    kind: str
    family: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of test images")
    parser.add_argument("--model", default="inf-dehaze-small")
    parser.add_argument("--side", type=int, default=1024, help="pixels of the longer side, at most")
    parser.add_argument("--scenes", type=int, default=20, help="half of them aerial")
    parser.add_argument("--layer", nargs="+", help="default: all whose weights belong to places")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = scenes(options.data, options.scenes)
    print(f"{len(chosen)} scenes:", ", ".join(scene.path.stem for scene in chosen), flush=True)
    for weights in (None, "random:0"):
        by_layer: dict[str, list[dict[str, float]]] = defaultdict(list)
        for scene in chosen:
            image = nr.open_image(hazy(scene, options.side))
            model = nr.load_model(options.model, weights=weights)
            for layer, numbers in look(image, model, options.layer).items():
                by_layer[layer].append(numbers)
        print(f"\n{options.model}, {weights or 'its own weights'}\n", flush=True)
        print("| layer |", " | ".join(COLUMNS), "|")
        print("| --- |", " ---: |" * len(COLUMNS), sep="")
        for layer, rows in by_layer.items():
            cells = [cell([row[name] for row in rows], text) for name, text in COLUMNS.items()]
            print(f"| `{layer}` |", " | ".join(cells), "|", flush=True)


def scenes(data: Path, count: int) -> list[Scene]:
    """Return scenes marked dev, half of each kind, those with more pixels first."""
    found: dict[str, list[tuple[int, Scene]]] = {folder: [] for folder in FOLDERS}
    with open(data / "INDEX.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            folder = row["file"].partition("/")[0]
            if row["split"] != "dev" or folder not in FOLDERS:
                continue
            size = int(row["width"]), int(row["height"])
            if min(size) >= LEAST:
                scene = Scene(data / row["file"], *FOLDERS[folder])
                found[folder].append((size[0] * size[1], scene))
    taken = []
    for each in found.values():
        each.sort(key=lambda item: (-item[0], item[1].path))
        taken += [scene for _, scene in each[: count // len(found)]]
    return taken


def hazy(scene: Scene, side: int) -> np.ndarray:
    """Return the `middle` of a scene with haze."""
    return draw(middle(scene, side), scene.path.name, scene.kind, scene.family, 0).hazy


def middle(scene: Scene, side: int) -> np.ndarray:
    """Return the middle of a scene, at most `side` pixels long, (h, w, 3) in [0, 1]."""
    with Image.open(scene.path) as picture:
        width, height = (min(side, edge) for edge in picture.size)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        cut = picture.convert("RGB").crop((left, top, left + width, top + height))
    return np.asarray(cut, np.float32) / 255


def look(image: Any, model: Any, layers: list[str] | None) -> dict[str, dict[str, float]]:
    """Return the numbers of every layer in one image: means over queries and heads."""
    session = AttentionSession(image, model, device="cpu")
    names = layers or [site.name for site in session.sites if site.kind not in WITHOUT_PLACES]
    numbers: dict[str, list[dict[str, float]]] = defaultdict(list)
    with session.source:
        session.prepare()
        for query in queries(image.height, image.width):
            found = session.attend(query, names)
            for name, maps in found.maps.items():
                for head, measured in enumerate(found.measures[name]):
                    numbers[name].append(of_head(maps, head, measured))
    return {
        name: {key: float(np.mean([row[key] for row in rows])) for key in COLUMNS}
        for name, rows in numbers.items()
    }


def queries(height: int, width: int) -> Iterator[Query]:
    """Yield a pixel of each square of the image, seeded."""
    rng = np.random.default_rng(SEED)
    for row in range(SQUARES):
        for column in range(SQUARES):
            y, x = rng.random(2)
            yield Query.point(
                int((row + y) * height / SQUARES), int((column + x) * width / SQUARES)
            )


def of_head(maps: HeadMaps, head: int, measured: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of one head of a query, by the names of `COLUMNS`."""
    cells = maps.cells[head][maps.cells[head][:, 0] >= 0]
    known = {tuple(cell) for cell in cells.tolist()}
    beside = [((y, x - 1) in known) or ((y, x + 1) in known) for y, x in known]
    return {
        "candidates": len(cells),
        "entropy": measured["entropy"],
        "effective cells": measured["effective_cells"],
        "distance, px": measured["distance_px"],
        "equal weights, px": measured["equal_distance_px"],
        "in own tile": measured["tile_share"],
        "in runs": float(np.mean(beside)),
        "by parity": by_parity(maps.weights[head][maps.cells[head][:, 0] >= 0], cells),
    }


def by_parity(weights: np.ndarray, cells: np.ndarray) -> float:
    """Return the share of the variance of `weights` (K,) between the four parities of cells (K, 2)."""
    parity = 2 * (cells[:, 0] % 2) + cells[:, 1] % 2
    total = float(np.var(weights, dtype=np.float64))
    if total == 0:
        return 0.0
    between = 0.0
    for one in range(4):
        some = weights[parity == one].astype(np.float64)
        if len(some):
            between += (
                len(some) / len(weights) * (some.mean() - weights.mean(dtype=np.float64)) ** 2
            )
    return between / total


def cell(values: list[float], text: str) -> str:
    """Return the mean of a number over scenes, with its interval."""
    mean = text.format(float(np.mean(values)))
    if len(values) < 2:
        return mean
    found = stats.bootstrap((values,), np.mean, method="percentile", rng=SEED).confidence_interval
    least, most = text.format(found.low), text.format(found.high)
    return mean if least == most else f"{mean} ({least}–{most})"


if __name__ == "__main__":
    main()
