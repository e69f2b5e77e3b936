"""Reader of a JPEG 2000 file or GeoTIFF in a zip, without unpacking it."""

from __future__ import annotations

import itertools
from pathlib import Path

from napari_restore.errors import UnreadableImage
from napari_restore.images._reader import Reader
from napari_restore.images.files.exif import PhotoTags
from napari_restore.images.files.handles import DatasetKey, handles, open_dataset
from napari_restore.images.files.trees import ZipMember
from napari_restore.images.readers._gdal import GdalReader, gdal_errors

_numbers = itertools.count(1)


class ZippedReader(GdalReader):
    """A file in a zip, which is checked already (`ZipTree`). Files beside it are ignored.

    The fingerprint is that of the zip.
    """

    def __init__(self, member: ZipMember) -> None:
        Reader.__init__(self, member.path)
        self.photo, self._sidecars, self._allow_outside = PhotoTags(), False, False
        self._path = member.in_gdal
        # A zip that was replaced has other bytes under the same name.
        self._number = next(_numbers)
        self._start()
        with gdal_errors(self.path), self._environment():
            dataset = open_dataset(self._key(None))
            try:
                if set(dataset.files) - {self._path}:
                    raise UnreadableImage(
                        f"{self.path.name} takes pixels from another file.",
                        "Unpack the zip and open the folder.",
                    )
                self._describe(dataset)
            finally:
                dataset.close()
        self._files = (member.archive,)

    def _key(self, overview: int | None) -> DatasetKey:
        return DatasetKey(self._path, overview, self._sidecars, self._number)

    def close(self) -> None:
        handles.close(Path(self._path))
        super().close()
