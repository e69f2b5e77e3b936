"""A small index of made-up pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_restore_lab.data import Pack, pack, scenes_of

COLUMNS = ("file", "kind", "split", "licence", "note")
ROWS = (
    *((f"aerial/drone_{n}.png", "aerial", "train", "CC0-1.0", "meadow") for n in range(4)),
    ("aerial/coast_1.png", "aerial", "train", "MIT (repo)", "sand and surf, black border"),
    ("aerial/coast_2.png", "aerial", "dev", "MIT (repo)", "sand and surf"),
    ("natural/hill_1.png", "natural", "train", "CC-BY-4.0 (A. Painter)", "valley, blue sky"),
    ("natural/wren_1.png", "natural", "train", "CC0-1.0", "small bird"),
    ("rgbd/room_left.png", "rgbd_rgb", "train", "CC-BY-3.0 (Lab)", "room"),
    ("rgbd/room_depth_m.tif", "rgbd_depth", "train", "CC-BY-3.0 (Lab)", "metres"),
    ("text/notes.txt", "other", "train", "", ""),
)


def texture(seed: int, shape=(150, 180)) -> np.ndarray:
    """(h, w, 3) uint8: patches with fine grain, neither black nor white."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(30, 200, (shape[0] // 25 + 1, shape[1] // 25 + 1, 3))
    values = cells.repeat(25, axis=0).repeat(25, axis=1)[: shape[0], : shape[1]]
    return (values + rng.integers(-12, 13, values.shape)).astype(np.uint8)


@pytest.fixture(scope="session")
def index(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, (name, *_) in enumerate(ROWS):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        pixels = texture(number)
        if name == "aerial/coast_1.png":
            pixels[:40] = 0
        if path.suffix == ".tif":
            far = np.linspace(8, 2, 150, dtype=np.float32)[:, None].repeat(180, axis=1)
            far[60:70, 60:70] = 0
            tifffile.imwrite(path, far)
        elif path.suffix == ".png":
            Image.fromarray(pixels).save(path)
    with (folder / "INDEX.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *ROWS])
    return folder


@pytest.fixture(scope="session")
def packed(index, tmp_path_factory) -> Pack:
    return pack(scenes_of(index, split="train"), tmp_path_factory.mktemp("pack"))
