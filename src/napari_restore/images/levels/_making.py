"""Planning of the levels of an image, and building those that its file lacks."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from napari_restore.images._base import ImageBase
from napari_restore.images._reader import Reader
from napari_restore.images._source import Level
from napari_restore.images.levels._cached import LevelsFrom, OnLanded
from napari_restore.images.levels._pyramid import PyramidSource
from napari_restore.images.levels._reduce import level_sizes
from napari_restore.images.levels._streaming import StreamedSource

CHUNK = 512
ENOUGH = 2048
"""Files whose smallest level is no longer than this on its long side need no further levels."""

_running: weakref.WeakKeyDictionary[ImageBase, StreamedSource] = weakref.WeakKeyDictionary()
"""Streams of images that are not complete yet, and those that became their source."""


def planned_levels(reader: Reader) -> tuple[Level, ...]:
    """Return the file's own levels, and those to be built below its smallest."""
    stored = reader.levels
    smallest = stored[-1]
    if reader.random_access and max(smallest.height, smallest.width) <= ENOUGH:
        return stored
    sizes = level_sizes(smallest.height, smallest.width)[1:]
    return (*stored, *(Level(h, w, min(h, CHUNK), min(w, CHUNK)) for h, w in sizes))


def build_pyramid(
    image: ImageBase,
    on_chunk: OnLanded | None = None,
    cancelled: Callable[[], bool] | None = None,
    centre: tuple[float, float] | None = None,
) -> None:
    """Give `image` the levels it plans but does not store, building what the cache lacks.

    They can be read at once, as zeros where nothing is written yet. An untiled file is streamed
    instead, which makes all levels.
    """
    if not image.source.random_access:
        stream(image, on_chunk, cancelled)
        return
    if len(image.source.levels) >= len(image.planned_levels):
        return
    shown = image.pyramid
    if not isinstance(shown, LevelsFrom) or not isinstance(shown.source, PyramidSource):
        added = PyramidSource(image.source, image.fingerprint, nodata=image.nodata)
        shown = image.pyramid = LevelsFrom(added, len(image.source.levels))
    pyramid = shown.source
    assert isinstance(pyramid, PyramidSource)
    pyramid.build(on_chunk, cancelled, centre)


def attach_pyramid(image: ImageBase) -> bool:
    """Give `image` the levels it does not store if the cache has all of them; build nothing."""
    if image.pyramid is not None or len(image.source.levels) >= len(image.planned_levels):
        return True
    pyramid = PyramidSource(
        image.source, image.fingerprint, nodata=image.nodata, only_if_complete=True
    )
    if pyramid.missing:
        return False
    image.pyramid = LevelsFrom(pyramid, len(image.source.levels))
    return True


def stream(
    image: ImageBase,
    on_band: OnLanded | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Stream the untiled file behind `image` unless the cache has it, then read from there.

    While it runs, the coarser levels can be read, and `stream_of` has the part of level 0 decoded
    so far. Raises `Cancelled`, `DiskFull`, `UnreadableImage`.
    """
    running = _stream_behind(image)
    image.pyramid = LevelsFrom(running, 1) if len(running.levels) > 1 else None
    running.build(on_band, cancelled)
    image.source, image.pyramid = running, None


def is_streamed(image: ImageBase) -> bool:
    """Return whether `stream` has nothing to do: the file is tiled, or completely in the cache."""
    return image.source.random_access or _stream_behind(image).complete


def _stream_behind(image: ImageBase) -> StreamedSource:
    """Return the stream of the untiled file behind `image`, begun or not."""
    running = _running.get(image)
    if running is None:
        new = StreamedSource(image.reader, image.fingerprint, nodata=image.nodata)
        # The caller may be another thread than the one that streams.
        running = _running.setdefault(image, new)
    return running


def stream_of(image: ImageBase) -> StreamedSource | None:
    """Return the stream of the untiled file behind `image`; None before it begins."""
    return _running.get(image)
