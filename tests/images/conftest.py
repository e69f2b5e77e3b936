"""Makers of small image files, and a server of buckets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from range_server import RangeServer

from napari_restore.images.files import buckets, remote
from napari_restore.images.levels import (
    making,
    reduce,
    row_pyramid,
)

SETTINGS = ("AWS_", "GOOGLE_", "GS_", "CPL_GS_", "AZURE_", "STORAGE_EMULATOR")
"""Beginnings of the variables that describe buckets."""


def _noise(height: int, width: int, bands: int, dtype: Any, seed: int = 0) -> np.ndarray:
    """Seeded noise (H, W, C) over a type's usual range."""
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.random((height, width, bands)).astype(kind)
    limits = np.iinfo(kind)
    values = random.integers(limits.min, limits.max, (height, width, bands), endpoint=True)
    return values.astype(kind)


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """`noise(height, width, bands, dtype, seed=0)`."""
    return _noise


@pytest.fixture
def make_tiff(tmp_path: Path) -> Callable[..., Path]:
    """`make_tiff(pixels, name=…, **profile)` writes a GeoTIFF in EPSG:32633, 10 m pixels.

    Keywords of its own: `setup(dataset)` is called before it is closed.
    """
    import rasterio
    from rasterio.transform import Affine

    def make(pixels: np.ndarray, name: str = "scene.tif", **options: Any) -> Path:
        setup = options.pop("setup", None)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {
            "driver": "GTiff",
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "count": pixels.shape[2],
            "dtype": pixels.dtype,
            "crs": "EPSG:32633",
            "transform": Affine(10, 0, 400000, 0, -10, 5000000),
            **options,
        }
        with rasterio.open(path, "w", **{k: v for k, v in profile.items() if v is not None}) as new:
            new.write(pixels.transpose(2, 0, 1))
            if setup:
                setup(new)
        return path

    return make


@pytest.fixture(scope="session")
def random_cog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COG of 1500 × 1100 pixels that hardly compress, to be copied."""
    import rasterio.shutil

    folder = tmp_path_factory.mktemp("random")
    size = {"width": 1500, "height": 1100, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.open(folder / "plain.tif", "w", driver="GTiff", **size) as file:
        file.write(np.random.default_rng(0).integers(1, 200, (3, 1100, 1500), np.uint8))
    cog = {"driver": "COG", "compress": "deflate", "blocksize": 256}
    rasterio.shutil.copy(folder / "plain.tif", folder / "random.tif", **cog)
    return folder / "random.tif"


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that fails is asked again soon."""
    monkeypatch.setattr(remote, "PAUSE", 0.01)


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stalls is not waited for for long."""
    monkeypatch.setattr(remote, "PATIENCE", 1)
    monkeypatch.setattr(remote, "PAUSE", 0.05)


@pytest.fixture
def small_levels(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets sizes of levels: of the smallest, of chunks, of what is read at once."""

    def small_levels(
        smallest: int | None = None,
        chunk: int | None = None,
        band: int | None = None,
        block: int | None = None,
    ) -> None:
        for module, name, value in (
            (reduce, "SMALLEST", smallest),
            (row_pyramid, "CHUNK", chunk),
            (making, "CHUNK", chunk),
            (row_pyramid, "BAND_BYTES", band),
            (making, "BLOCK_SIDE", block),
        ):
            if value is not None:
                monkeypatch.setattr(module, name, value)

    return small_levels


@pytest.fixture
def bucket_server(
    tmp_path: Path, short_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RangeServer]:
    """A server whose buckets are the folders of "web", as the environment describes, without keys.

    To Azure they are those of "web/account".
    """
    pytest.importorskip("obstore")
    monkeypatch.setattr(buckets, "_MAKER", tmp_path / "nothing")
    for name in filter(lambda name: name.startswith(SETTINGS), list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "web").mkdir(exist_ok=True)
    with RangeServer(tmp_path / "web") as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.address)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.address)
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING",
            f"AccountName=account;AccountKey=c2VjcmV0;BlobEndpoint={running.address}/account",
        )
        yield running
