"""A cluster and a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore.engine import Cluster

CHUNKED = (
    *("planning.layout", "ledger.store", "ledger.store_files"),
    *("executors.ranges", "executors._dask", "executors._range_run"),
)
"""Modules of the engine that know how large a chunk of a result is."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two workers on threads of this process: a real scheduler, but no start of Python."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            dashboard_address=":0",
            protocol="tcp",
        ) as own,
        distributed.Client(own) as client,
    ):
        yield nr.connect(client)


@pytest.fixture
def make_scene(tmp_path: Path) -> Callable[..., Path]:
    """Writes a GeoTIFF of noise with nodata."""

    def make(height: int, width: int, shrunk: int = 1) -> Path:
        path = tmp_path / "scene.tif"
        pixels = np.random.default_rng(0).integers(1, 200, (3, height, width), np.uint8)
        pixels[:, : 300 // shrunk, : 500 // shrunk] = 0
        pixels[:, 900 // shrunk : 1000 // shrunk, 700 // shrunk : 1300 // shrunk] = 0
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=3,
            dtype="uint8",
            nodata=0,
            crs="EPSG:32633",
            transform=from_origin(500000, 5000000, shrunk, shrunk),
            tiled=True,
            photometric="RGB",
        ) as file:
            file.write(pixels)
        return path

    return make


@pytest.fixture
def scene(make_scene: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """350 × 425 pixels of 4 m with nodata; sides are no multiple of a chunk, here of 128 pixels."""
    for module in CHUNKED:
        monkeypatch.setattr(f"napari_restore.engine.{module}.CHUNK", 128)
    return make_scene(1400 // 4, 1700 // 4, shrunk=4)
