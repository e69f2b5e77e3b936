"""What writing an image takes, found by writing a few of its blocks, and what decoding takes."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from napari_restore.errors import RestoreError
from napari_restore.images._image import Image
from napari_restore.images.export import _geotiff, _photo, _zarr
from napari_restore.images.export._job import BLOCK, ExportJob, ExportOptions
from napari_restore.images.export._write import file_dtype, format_of
from napari_restore.images.values import in_16_bits

SIDE = 2 * BLOCK
"""Side in pixels of the larger file that is tried."""
MOST_CHUNK_BYTES = 8 << 20
"""Largest chunk that is decoded for a sample."""
MOST_BYTES = 16 << 20
"""Most bytes of pixels that are tried to be written."""
MOST_SECONDS = 0.05
"""Seconds after which no further chunk is decoded."""


@dataclass(frozen=True)
class ImageSample:
    """Pixels from some places of an image, and what decoding them took."""

    pixels: npt.NDArray[Any] | None
    """(`SIDE`, `SIDE`, C); None where nothing of the image can be read in a moment."""
    decode_seconds: float | None
    """Seconds of one processor per byte of pixels; None where none were decoded."""


@dataclass(frozen=True)
class WritingCost:
    """Seconds of processor time per pixel."""

    serial: float
    """Of the thread that writes."""
    total: float
    """Of all threads."""

    def seconds(self, pixels: int, workers: int) -> float:
        """Return the seconds that writing so many pixels takes with so many threads."""
        return pixels * max(self.serial, self.total / workers)


_SAMPLES: WeakKeyDictionary[Image, ImageSample] = WeakKeyDictionary()


def sample_of(image: Image) -> ImageSample:
    """Return a sample of `image`, which is kept for it.

    Nothing is read from a server, of files that are decoded as a whole, and of arrays, which may be
    computed when they are read.
    """
    if image not in _SAMPLES:
        _SAMPLES[image] = _sampled(image)
    return _SAMPLES[image]


def _sampled(image: Image) -> ImageSample:
    level, pixel = image.source.levels[0], image.bands * image.dtype.itemsize
    rows, columns = level.chunk_height, level.chunk_width
    largest = max(rows * columns * pixel, image.block_bytes)
    if not (_is_of_files(image) and image.is_prepared) or largest > MOST_CHUNK_BYTES:
        return ImageSample(None, None)
    # Those at the right and at the bottom may be small.
    down, across = max(1, image.height // rows), max(1, image.width // columns)
    blocks: list[npt.NDArray[Any]] = []
    decoded, began = 0, time.process_time()
    try:
        for share in (0.5, 0.2, 0.8, 0.35):
            chunk = image.source.read_chunk(0, int(share * down), int(share * across))
            decoded += chunk.nbytes
            if _tried_bytes(image) <= MOST_BYTES:
                blocks.append(_as_block(chunk))
            if time.process_time() - began > MOST_SECONDS:
                break
    except (RestoreError, OSError):
        # The run will say what is wrong.
        return ImageSample(None, None)
    seconds = (time.process_time() - began) / max(1, decoded)
    if not blocks:
        return ImageSample(None, seconds)
    four = [blocks[number % len(blocks)] for number in range(4)]
    return ImageSample(np.block([[[four[0]], [four[1]]], [[four[2]], [four[3]]]]), seconds)


def _tried_bytes(image: Image) -> int:
    return SIDE**2 * image.bands * image.dtype.itemsize


def _is_of_files(image: Image) -> bool:
    """Return whether pixels are decoded from files here: arrays may be computed, others be fetched."""
    files = image.reader.files()
    return bool(files) and not image.is_served and all(file.exists() for file in files)


def _as_block(chunk: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a block (`BLOCK`, `BLOCK`, C) of the pixels of a chunk, which may be a flat strip."""
    columns = np.arange(BLOCK) % chunk.shape[1]
    parts = [chunk[:, x + columns] for x in range(0, max(1, chunk.shape[1] - BLOCK + 1), BLOCK)]
    stacked = np.concatenate(parts[: -(-BLOCK // chunk.shape[0])])
    return stacked[np.arange(BLOCK) % len(stacked)]


def _noise(image: Image) -> npt.NDArray[Any]:
    """Return pixels as smooth as those of a usual image."""
    rng = np.random.default_rng(0)
    waves = np.add.outer(*(np.cos(np.linspace(0, 9, SIDE, dtype=np.float32)) for _ in range(2)))
    values = 0.02 * rng.standard_normal((SIDE, SIDE, image.bands), dtype=np.float32)
    values += 0.5 + 0.15 * waves[..., None]
    top = min(np.iinfo(image.dtype).max, 10_000) if image.dtype.kind in "iu" else 1
    return (values.clip(0, 1) * top).astype(image.dtype)


def _in_16_bits(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Return pixels as a result of 16 bits has them: not only multiples of 257."""
    low = np.random.default_rng(0).integers(-128, 129, pixels.shape, np.int32)
    wide: npt.NDArray[np.uint16] = (in_16_bits(pixels) + low).clip(0, 65535).astype(np.uint16)
    return wide


def writing_cost(image: Image, path: Path, options: ExportOptions) -> WritingCost | None:
    """Return what writing pixels like those of `image` takes in the format of `path`.

    The writer itself writes two small files, which takes about a tenth of a second. None for OME-Zarr,
    which waits more than it computes, for many bands, and where writing fails: the run will say why.
    """
    module = format_of(path).module
    # A picture is encoded row by row, on one thread; a TIFF in blocks.
    few = BLOCK if module is _geotiff else BLOCK // 4
    many, columns = min(few * 4, SIDE, image.height), min(SIDE, image.width)
    if module is _zarr or many <= few or _tried_bytes(image) > MOST_BYTES:
        return None
    pixels = sample_of(image).pixels
    if pixels is None:
        pixels = _noise(image)
    if pixels.dtype == np.uint8 and file_dtype(path, image, image.dtype, options) == np.uint16:
        pixels = _in_16_bits(pixels)
    spent: list[tuple[float, float]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="napari-restore-") as folder:
            # The first time libraries are loaded.
            for rows in (few, few, many):
                target = Path(folder, f"{len(spent)}{path.suffix}")
                began = time.process_time(), time.thread_time()
                job = _job(image, pixels, (rows, columns), options, target)
                module.write(job, target)
                if module is _photo:
                    # Of the others only a few blocks are read again.
                    module.check(job, target)
                spent.append((time.process_time() - began[0], time.thread_time() - began[1]))
    except (RestoreError, OSError):
        return None
    _, (total, serial), (more, more_serial) = spent
    pixels_more = (many - few) * columns
    return WritingCost(
        max(0.0, more_serial - serial) / pixels_more, max(0.0, more - total) / pixels_more
    )


def _job(
    like: Image,
    pixels: npt.NDArray[Any],
    size: tuple[int, int],
    options: ExportOptions,
    target: Path,
) -> ExportJob:
    """Return the export of the first (height, width) of `pixels`, like one of a result of `like`."""
    return ExportJob(
        like=like,
        box=(0, 0, *size),
        bands=like.bands,
        given_dtype=like.dtype,
        dtype=file_dtype(target, like, like.dtype, options),
        read=lambda box: pixels[box[0] : box[2], box[1] : box[3]],
        read_valid=lambda box: np.ones((box[2] - box[0], box[3] - box[1]), bool),
        options=replace(options, threads=2, clip=None),
        tags={},
        target=target,
    )
