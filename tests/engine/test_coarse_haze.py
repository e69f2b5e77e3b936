"""A method that judges haze on an overview says how coarsely, where that is coarser than haze can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore.models import context_of, load
from napari_restore.models.atmosphere.network import STRIDE


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """1800 × 3600 pixels of 10 m."""
    path = tmp_path / "scene.tif"
    form = {"width": 3600, "height": 1800, "count": 3, "dtype": "uint8", "photometric": "rgb"}
    place = {"crs": "EPSG:32653", "transform": from_origin(4e5, 384e4, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, **form, **place) as file:
        file.write(np.full((3, 1800, 3600), 90, np.uint8))
    return path


@pytest.mark.slow
def test_the_cell_is_that_of_the_statistics() -> None:
    model = load("atmosphere-aerial")
    for height, width in ((40, 60), (300, 2100)):
        pixels = np.random.default_rng(1).random((height, width, 3), np.float32)
        with torch.no_grad():
            found = model.prepare(context_of(pixels, None, (0, 1, 2)), lambda x: x, (0, 1, 2))
        rows, columns = found["cells"].shape[2:]
        side = model.haze_cell(height, width)
        assert side % STRIDE == 0 and (-(-height // side), -(-width // side)) == (rows, columns)
    assert load("dcp").haze_cell(300, 2100) == 0


@pytest.mark.slow
def test_a_note_says_where_cells_are_coarse_on_the_ground(scene: Path) -> None:
    (note,) = (n for n in nr.plan(scene, "atmosphere-aerial").notes if "cells" in n)
    assert "32 × 32 pixels (320 m)" in note
    part = nr.open_image(scene)
    region = nr.Region(0, 0, 900, 1800)
    plan = nr.plan(part, "atmosphere-aerial", region=region, extent="region")
    assert plan.haze_cell == 16 and not any("cells" in n for n in plan.notes)
    assert not any("cells" in n for n in nr.plan(part, "dcp").notes)
