"""`evaluate` on a cluster, with blocks that are too large, and with code that changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli._scenes import hazy, write_tiff
from tests.cli.test_cluster import address
from tests.cli.test_identity import code, edit
from tests.hostile.test_blocks import SIDE, one_tile

import napari_restore_lab
from napari_restore.commands import main


@pytest.mark.slow
def test_scores_equal_those_without_a_cluster(cli, tmp_path, address):
    for kind, seed in (("clear", 1), ("hazy", 2)):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        for name in ("a.tif", "b.tif"):
            write_tiff(tmp_path / "pairs" / kind / name, hazy(60, 80) // seed)
    words = ("evaluate", "--pairs", tmp_path / "pairs", "--model", "dcp", "--no-baselines")
    assert cli(*words, "-o", tmp_path / "alone").code == 0
    run = cli(*words, "-o", tmp_path / "spread", "--cluster", address)
    assert run.code == 0 and "images: 2 of 2" in run.err
    alone, spread = (tmp_path / name for name in ("alone", "spread"))
    one, other = (json.loads((each / "summary.json").read_text()) for each in (alone, spread))
    # As text, in which numbers that are none are equal.
    figures = [[m["metrics"] for m in each["evaluation"]["methods"]] for each in (one, other)]
    assert str(figures[0]) == str(figures[1])
    for name in one["strips"]:
        assert (alone / "strips" / name).read_bytes() == (spread / "strips" / name).read_bytes()


@pytest.mark.parametrize("kind", ["hazy", "clear"])
def test_evaluate(
    kind: str, one_tile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import rasterio

    for name in ("hazy", "clear"):
        (tmp_path / name).mkdir()
    large = tmp_path / kind / "scene.tif"
    large.write_bytes(one_tile.read_bytes())
    small = tmp_path / ("clear" if kind == "hazy" else "hazy") / "scene.tif"
    shape = {"height": SIDE, "width": SIDE, "count": 1, "dtype": "uint8", "tiled": True}
    # Tiles of 256 × 256, of which none is written.
    with rasterio.open(small, "w", driver="GTiff", sparse_ok=True, **shape):
        pass
    words = ["evaluate", "--pairs", str(tmp_path), "--model", "identity", "--memory", "70MiB"]
    assert main([*words, "--no-baselines", "--progress", "off"]) == 4
    assert "blocks of 72.2 MiB" in capsys.readouterr().err


@pytest.mark.slow
def test_scores_follow_code_and_options(code: Path, tmp_path: Path) -> None:
    for kind in ("clear", "hazy"):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        pixels = np.moveaxis(hazy(60, 80, seed=3), 0, 2).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pairs" / kind / "a.png")

    def score(**options: Any) -> float:
        settings = {"baselines": False, "metrics": ["psnr"], "strips": 0, "trust": True}
        told = napari_restore_lab.evaluate(
            [f"{code / 'mine.py'}:make"],
            tmp_path / "pairs",
            output=tmp_path / "scores",
            options=options,
            **settings,
        )
        return told["evaluation"]["mean"]["psnr"]

    first = score()
    assert score() == first and score(strength=0.5) != first and score() == first
    edit(code / "helper.py", "0.5", "0.75")
    assert score() != first
