"""What is asked of the format of a file."""

from __future__ import annotations

from dataclasses import dataclass

from napari_restore.questions import parsing
from napari_restore.questions._field import asked


@dataclass(frozen=True)
class Format:
    """Options of a file's format."""

    cog: bool = asked(False, "write a cloud-optimised GeoTIFF", changes="file", record=True)
    compress: str = asked(
        "deflate",
        "of a TIFF: deflate (default), zstd, lzw, jpeg, none",
        changes="file",
        metavar="NAME",
        record=True,
    )
    bit_depth: int | None = asked(
        None,
        "bits per value of a photo",
        changes="file",
        parse=int,
        choices=(8, 16),
        record=True,
    )
    """The full range of photos is rescaled to it, and light shown by its `DisplayCurve`."""
    quality: int | None = asked(
        None,
        "of JPEG and WebP, 1 to 100",
        changes="file",
        parse=parsing.natural,
        metavar="Q",
        record=True,
    )
    overviews: bool = asked(True, "whether to write overviews", changes="file", has_flag=False)
    level: int | None = asked(
        None,
        "effort of the compression (default 1: with a predictor, more gains little)",
        changes="file",
        has_flag=False,
    )
    threads: int | None = asked(
        None,
        "threads that compress (default: as many as there are processors)",
        changes="machine",
        has_flag=False,
    )
