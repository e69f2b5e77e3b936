"""Haze is removed along nodata as it is inside, whatever the file's edge is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models._scenes import hazed, land

import napari_restore as nr

from ._whole import model

BANDS = "red=1,green=2,blue=3"
COLLAR = 60


def scene(edge: str) -> np.ndarray:
    """(260, 300, 3) uint16 under even haze, the left `COLLAR` columns nodata (0)."""
    pixels = hazed(land(260, 300, seed=5), 0.55)[0].permute(1, 2, 0).numpy()
    pixels = np.rint(pixels * 20000 + 1000).astype(np.uint16)
    pixels[:, :COLLAR] = 0
    if edge == "staggered":
        for band in range(3):
            pixels[:, : COLLAR + 3 * band, band] = 0
    elif edge == "resampled":
        for column, share in enumerate((0.1, 0.5, 0.9)):
            mixed = pixels[:, COLLAR + column].astype(float) * share
            pixels[:, COLLAR + column] = np.maximum(1, mixed)
    return pixels


def opened(edge: str, folder: Path) -> Any:
    import rasterio

    path, made = folder / f"{edge}.tif", {"driver": "GTiff", "count": 3, "dtype": "uint16"}
    with rasterio.open(path, "w", width=300, height=260, nodata=0, **made) as file:
        file.write(scene(edge).transpose(2, 0, 1))
    return nr.open_image(path, bands=BANDS)


def removed(edge: str, folder: Path) -> np.ndarray:
    """(H, W) what `dcp` took away, mean over bands in source units."""
    result = np.asarray(nr.restore(opened(edge, folder), model(), scratch=folder / f"of-{edge}"))
    assert not result[:, :COLLAR].any()
    return (scene(edge).astype(float) - result).mean(axis=2)


@pytest.mark.parametrize("edge", ["staggered", "resampled"])
def test_no_hazy_belt_is_left_along_nodata(edge: str, tmp_path: Path) -> None:
    expected, found = removed("clean", tmp_path), removed(edge, tmp_path)
    belt, inside = np.s_[:, COLLAR + 10 : COLLAR + 40], np.s_[:, 200:]
    assert expected[belt].mean() > 1000
    assert found[inside].mean() == pytest.approx(expected[inside].mean(), rel=0.02)
    assert found[belt].mean() == pytest.approx(expected[belt].mean(), rel=0.05)


@pytest.mark.parametrize("edge", ["staggered", "resampled"])
def test_pixels_at_the_edge_are_restored_and_tiles_do_not_show(edge: str, tmp_path: Path) -> None:
    image = opened(edge, tmp_path)
    whole, tiled = (
        np.asarray(nr.restore(image, model(), tile=tile, scratch=tmp_path / str(tile)))
        for tile in (512, 64)
    )
    np.testing.assert_array_equal(whole, tiled)
    at_edge = np.s_[:, COLLAR : COLLAR + 3]
    assert (whole[at_edge] != scene(edge)[at_edge]).any(axis=2).mean() > 0.9
