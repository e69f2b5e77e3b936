"""Thumbnails in the layer list show what the canvas shows, at any bit depth."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from rasterio.enums import ColorInterp

import napari_restore as nr
from napari_restore.plugin.layers.reader import layer_of

RGB = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Values from 600 to 3600, whatever the type, growing from left to right; red, mostly."""
    dtype = getattr(request, "param", "uint16")
    ramp = np.broadcast_to(np.linspace(600, 3600, 320), (240, 320))
    pixels = np.stack([ramp, ramp / 2 + 300, np.full_like(ramp, 600)]).astype(dtype)
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=320, height=240, count=3, dtype=dtype
    ) as file:
        file.write(pixels)
        file.colorinterp = RGB
    return path


def expected(layer: ImageLayer) -> np.ndarray:
    """The middle row of the thumbnail, (32, 3) in [0, 255], by the layer's contrast limits."""
    low, high = layer.contrast_limits
    level = layer.data[-1] if layer.multiscale else layer.data
    row = np.asarray(level)[120, 5::10, :3].astype(float)
    return 255 * np.clip((row - low) / (high - low), 0, 1) ** layer.gamma


def check(layer: ImageLayer) -> None:
    assert layer.rgb and layer.dtype != np.uint8
    drawn = layer.thumbnail[16, :, :3]
    np.testing.assert_allclose(drawn, expected(layer), atol=2)
    # No colour is lost: it saturates in the last columns at most.
    assert len(np.unique(drawn[:, 0])) > 25


@pytest.mark.nightly
@pytest.mark.viewer
def test_a_deep_image_and_its_result(panel: Any, scene: Path, finished_run: Any):
    (source,) = panel.viewer.open(scene, plugin="napari-restore")
    check(source)
    panel.models.choose("identity")
    result = finished_run().layer
    check(result)
    np.testing.assert_array_equal(result.thumbnail, source.thumbnail)


@pytest.mark.parametrize("scene", ["uint16", "float32"], indirect=True)
def test_it_follows_contrast_gamma_and_opacity(scene: Path):
    viewer = ViewerModel()
    data, arguments, _ = layer_of(nr.open_image(scene), viewer)
    layer = viewer.add_image(data, **arguments)
    check(layer)
    drawn = [layer.thumbnail]
    layer.contrast_limits = (0, 8000)
    check(layer)
    drawn.append(layer.thumbnail)
    layer.gamma = 0.5
    check(layer)
    drawn.append(layer.thumbnail)
    layer.opacity = 0.5
    drawn.append(layer.thumbnail)
    for before, after in itertools.pairwise(drawn):
        assert (before != after).any()
    np.testing.assert_allclose(drawn[3][16, :, :3], expected(layer) / 2, atol=3)
