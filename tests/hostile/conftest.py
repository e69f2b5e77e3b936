"""Images that attack their reader, made here; and what tells whether they succeed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_restore.errors import RestoreError
from napari_restore.images import Image, open_image

_LISTENER = Path(__file__).parent / "fuzz" / "listener.py"


class Server:
    """A process of its own that answers 404 and counts who connected."""

    def __init__(self, port: int, log: Path) -> None:
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self._log = log

    @property
    def connections(self) -> int:
        return self._log.stat().st_size


@pytest.fixture(scope="session")
def _listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    log.touch()
    # GDAL asks while it holds Python's lock: a thread of this process could not answer.
    with subprocess.Popen(
        [sys.executable, str(_LISTENER), str(log)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), log)
        process.kill()


@pytest.fixture
def server(_listening: Server) -> Server:
    """The listening server, its log emptied."""
    _listening._log.write_bytes(b"")
    return _listening


def read_all(source: Path, **options: object) -> Image | RestoreError:
    """Open an image and read every pixel, level and validity: the image, or the error it ended in."""
    try:
        image = open_image(source, **options)
        image.build_pyramid()
        for number, (height, width) in enumerate(image.level_shapes):
            image.read((0, 0, height, width), number)
            image.read_valid((0, 0, height, width), number)
        image.close()
    except RestoreError as error:
        assert error.message.endswith(".") and "\n" not in error.message
        assert error.hint
        return error
    return image


@pytest.fixture
def tiff(tmp_path: Path) -> Callable[..., Path]:
    """`tiff(name="scene.tif", size=64, **options)` writes seeded noise in one band."""
    return tiff_in(tmp_path)


def tiff_in(folder: Path) -> Callable[..., Path]:
    """Return what the fixture `tiff` gives, for another folder."""
    import rasterio

    def make(name: str = "scene.tif", size: int = 64, **options: object) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        setup = options.pop("setup", None)
        pixels = np.random.default_rng(0).integers(1, 255, (1, size, size), np.uint8)
        profile = {"driver": "GTiff", "height": size, "width": size, "count": 1, "dtype": "uint8"}
        with rasterio.open(path, "w", **{**profile, **options}) as new:
            new.write(pixels)
            if setup is not None:
                setup(new)  # type: ignore[operator]
        return path

    return make


def vrt(source: str, *, relative: int = 0, within: str = "", size: int = 64) -> str:
    """A VRT of one band that takes its pixels from `source`, XML-escaped by the caller."""
    return (
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}">'
        f'<VRTRasterBand dataType="Byte" band="1">{within}<SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of change of all files below `folder`."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
