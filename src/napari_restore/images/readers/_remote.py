"""Reader of GeoTIFF, COG and JPEG 2000 at an address, by ranges."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Any, cast

from napari_restore.errors import UnreadableImage
from napari_restore.images._reader import Reader, first_of
from napari_restore.images._source import chunk_box
from napari_restore.images.files.handles import handles, open_dataset
from napari_restore.images.files.objects import ask
from napari_restore.images.files.remote import RemotePath, interruptible
from napari_restore.images.files.tiff import TIFF_MAGIC
from napari_restore.images.readers._gdal import GdalReader, gdal_errors, numbers
from napari_restore.images.readers._gdal_description import tags_of

_tags: dict[str, str] = {}
"""What each address was last found to have, in this process."""

MAGIC = (*TIFF_MAGIC, b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")


class RemoteReader(GdalReader):
    """A file that a server sends in ranges: only those of the chunks that are read are asked for."""

    # Files beside it are ignored. The fingerprint is what the server says: address, size and ETag.

    concurrent_reads = 16
    run_bytes = 8 << 20

    def __init__(self, address: str, *, plane: int = 0) -> None:
        remote = RemotePath.of(address)
        path = cast("Path", remote)
        Reader.__init__(self, path)
        answer = ask(remote)
        self.served_bytes = answer.size
        if not answer.head.startswith(MAGIC):
            raise UnreadableImage(
                f"{path} is no GeoTIFF and no JPEG 2000.",
                "Other formats cannot be read by ranges: download it first and open the copy.",
            )
        # `options_for` lets no file beside it be read.
        self._sidecars = True
        self._path = remote.in_gdal
        self._number = next(numbers)
        if _tags.setdefault(self._path, answer.tag) != answer.tag:
            self._forget_bytes()
            _tags[self._path] = answer.tag
        interruptible(partial(self._open, self._check_alone))
        self.planes.check(self.name, plane)
        self._files = (path,)

    def _describe(self, dataset: Any) -> None:
        super()._describe(dataset)
        self.notes += first_of(len(dataset.subdatasets))

    def read_run(self, level: int, row: int, columns: range) -> list[Any]:
        boxes = [chunk_box(self.levels[level], row, column) for column in columns]
        (y0, x0, y1, _), x1 = boxes[0], boxes[-1][3]
        with gdal_errors(self.path), handles.lend(self._key(self._overviews[level])) as dataset:
            pixels = self._shown(self._read(dataset, y0, x0, y1, x1))
        # Copies: one that stays in the cache must not keep all of them.
        return [pixels[:, left - x0 : right - x0].copy() for _, left, _, right in boxes]

    def _forget_bytes(self) -> None:
        """Let GDAL forget the bytes of an earlier content, which it does when such a file is closed."""
        with (
            contextlib.suppress(UnreadableImage),
            gdal_errors(self.path),
            self._environment(CPL_VSIL_CURL_NON_CACHED=self._path),
        ):
            open_dataset(self._key(None)).close()

    def _check_alone(self, dataset: Any) -> None:
        """Raise `UnreadableImage` where the file names another one, before GDAL looks for overviews."""
        if tags_of(dataset, ns="OVERVIEWS") or set(dataset.files) - {self._path}:
            raise UnreadableImage(
                f"{self.path} takes pixels from another file.",
                "Download both first and open the copy.",
            )
