"""Reader of a JPEG 2000 file or GeoTIFF in a zip, without unpacking it."""

from __future__ import annotations

from typing import Any

from napari_restore.errors import UnreadableImage
from napari_restore.images._reader import Reader
from napari_restore.images.files.trees import ZipMember
from napari_restore.images.readers._gdal import GdalReader, numbers


class ZippedReader(GdalReader):
    """A file in a zip, which is checked already (`ZipTree`). Files beside it are ignored.

    The fingerprint is that of the zip.
    """

    def __init__(self, member: ZipMember) -> None:
        Reader.__init__(self, member.path)
        self._path = member.in_gdal
        # A zip that was replaced has other bytes under the same name.
        self._number = next(numbers)
        self._open(self._check_alone)
        self._files = (member.archive,)

    def _check_alone(self, dataset: Any) -> None:
        if set(dataset.files) - {self._path}:
            raise UnreadableImage(
                f"{self.path.name} takes pixels from another file.",
                "Unpack the zip and open the folder.",
            )
