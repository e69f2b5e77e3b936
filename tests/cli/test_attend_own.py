"""`attend` and `models` with networks of the user's own: `FILE.py:factory`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attending_networks
import numpy as np
import pytest
import torch

from napari_restore.models import load

from ._scenes import read

FILE = Path(attending_networks.__file__)


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["windows", "blocks"])
@pytest.mark.ids("nightly", "windows")
def test_attend_gives_the_rows_of_the_network(
    cli: Any, scene: Path, tmp_path: Path, factory: str
) -> None:
    out, name = tmp_path / "rows.npz", f"{FILE}:{factory}"
    run = cli("attend", scene, "--model", name, "--yes", "--query", 70, 50, "-o", out)
    assert run.code == 0, run.err
    found = np.load(out)
    model = load(name, trust=True)
    pixels = torch.from_numpy(read(scene).astype(np.float32) / 255)
    with torch.inference_mode():
        names = frozenset(site.name for site in model.attention_sites())
        # The image is one tile.
        (rows,) = model.tile_attention_rows(pixels[None], {}, [(50, 70)], names)
    for site, row in rows.items():
        np.testing.assert_allclose(found[f"0/{site}/weights"], row.weights, atol=1e-6)
        np.testing.assert_array_equal(found[f"0/{site}/cells"], row.cells)
    record = json.loads(str(found["record"]))
    assert [layer["name"] for layer in record["attention"]["layers"]] == sorted(names)


@pytest.mark.slow
def test_models_lists_the_layers_of_a_file(cli: Any) -> None:
    run = cli("models", f"{FILE}:windows", "--yes")
    assert run.code == 0, run.err
    assert "attention.2 (window, 2 heads, 4 px a cell, windows of 8 cells, shifted by 4)" in run.out
    run = cli("models", f"{FILE}:unplaced", "--yes")
    assert "No layer of attention of attending_networks can be placed in the image" in run.out


@pytest.mark.slow
def test_what_cannot_be_shown_ends_in_a_sentence(cli: Any, scene: Path, tmp_path: Path) -> None:
    given = ("--query", 70, 50, "-o", tmp_path / "rows.npz")
    run = cli("attend", scene, "--model", f"{FILE}:unplaced", "--yes", *given)
    assert run.code == 2
    assert "attention.1 is not shown: its tokens come from sort" in run.err
    assert "move them by reshape, permute, roll, pad, unfold or indices" in run.err
    assert not (tmp_path / "rows.npz").exists()
