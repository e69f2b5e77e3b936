"""Sizes that a header claims, checked against the bytes of the file before anything is allocated.

No coder shrinks without limit. A header that claims more than its coder could have packed into the
file is damaged or malicious, which libtiff and GDAL assume as well.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from napari_restore._plain_files import open_file
from napari_restore.errors import UnreadableImage
from napari_restore.images.files.jpeg import SIGNATURE, frame_of

LARGEST_BLOCK = 512 * 2**20
"""Bytes of the largest tile, strip or chunk that is decoded as one."""
LARGEST_WHOLE = 2 * 2**30
"""Bytes of the largest picture whose format can only be decoded as a whole."""
UNQUESTIONED = 32 * 2**20
"""Bytes that any header may claim without a check."""

MOST_BANDS = 4096

JPEG_RATIO = 1024
"""Pixels per byte: a block of 64 takes one bit at least, two where the coding is sequential."""
ARITHMETIC_RATIO = 65536
# Two bits stand for 258 bytes at most.
DEFLATE_RATIO = 1032
# No code of a table of 4096 stands for more bytes.
LZW_RATIO = 4096
RUNS_RATIO = 256


def check_claims(path: Path, head: bytes) -> None:
    """Raise `UnreadableImage` if a picture that is decoded as a whole cannot be in `path`."""
    size = path.stat().st_size
    if head.startswith(SIGNATURE):
        frame = frame_of(path)
        if frame is not None:
            height, width = frame.height, frame.width
            ratio = ARITHMETIC_RATIO if frame.marker >= 0xC9 else JPEG_RATIO
            check_ratio(path.name, height * width, size, ratio, f"{height} × {width} pixels")
    elif head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 29:
        width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", head, 16)
        samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 4)
        claimed = height * (width * bits * samples + 7) // 8
        check_ratio(path.name, claimed, size, DEFLATE_RATIO, f"{height} × {width} pixels")
        if interlaced:
            check_whole_size(path.name, claimed)
    elif head.startswith(b"GIF8"):
        width, height = struct.unpack_from("<HH", head.ljust(10, b"\0"), 6)
        check_ratio(path.name, height * width, size, LZW_RATIO, f"{height} × {width} pixels")
    elif head.startswith(b"CDF"):
        _check_netcdf(path, size)


def check_ratio(name: str, claimed: int, available: int, ratio: int, what: str) -> None:
    """Raise `UnreadableImage` if `claimed` bytes cannot be in `available` ones by `ratio`."""
    if claimed > max(UNQUESTIONED, available * ratio):
        raise UnreadableImage(
            f"{name} claims {what}, which its {available} bytes cannot contain.",
            "It seems damaged or truncated; copy or download it again.",
        )


def check_block(name: str, what: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Raise `UnreadableImage` if a block (tile, strip or chunk) is too large to decode."""
    total = itemsize * math.prod(max(1, int(length)) for length in shape)
    if total > LARGEST_BLOCK:
        sizes = " × ".join(map(str, shape))
        raise UnreadableImage(
            f"{name} has a {what} of {sizes}, {total / 2**30:.1f} GiB when decoded, "
            f"and it can only be decoded as one.",
            "Save it with tiles of 512 × 512, for example with gdal_translate -co TILED=YES.",
        )


def check_bands(name: str, count: int) -> None:
    """Raise `UnreadableImage` for more bands than any sensor has."""
    if count > MOST_BANDS:
        raise UnreadableImage(
            f"{name} claims {count} bands.",
            f"At most {MOST_BANDS} are read; take out those you need with gdal_translate -b.",
        )


def check_whole_size(name: str, claimed: int) -> None:
    """Raise `UnreadableImage` if a picture of `claimed` bytes is too large to decode at once."""
    if claimed > LARGEST_WHOLE:
        raise UnreadableImage(
            f"{name} is {claimed / 2**30:.1f} GiB when decoded, and its format has no parts.",
            "Save it as a TIFF with tiles.",
        )


# -- netCDF, classic ----------------------------------------------------------------

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_MOST_ITEMS = 65536


def _check_netcdf(path: Path, size: int) -> None:
    """Check that every list and text of the header lies in the file."""
    # The library allocates them first.
    try:
        with open_file(path) as file:
            _NetcdfHeader(file, size).check()
    except (struct.error, ValueError, OverflowError) as error:
        raise UnreadableImage(
            f"{path.name} has a damaged netCDF header.", "Copy or download it again."
        ) from error


class _NetcdfHeader:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        version = file.read(4)[3]
        if version not in (1, 2, 5):
            raise ValueError("unknown version")
        self.count_format = ">q" if version == 5 else ">i"
        self.offset_format = ">i" if version == 1 else ">q"

    def check(self) -> None:
        records = self.number(self.count_format)
        lengths = []
        for _ in range(self.list_length(10)):
            self.text()
            lengths.append(self.number(self.count_format))
        if min([*lengths, 0]) < 0:
            raise ValueError("negative dimension")
        self.attributes()
        for _ in range(self.list_length(11)):
            self.text()
            dimensions = [self.number(self.count_format) for _ in range(self.bounded())]
            if any(not 0 <= number < len(lengths) for number in dimensions):
                raise ValueError("no such dimension")
            self.attributes()
            kind = self.number(">i")
            self.number(self.count_format)
            begin = self.number(self.offset_format)
            needed = _TYPE_BYTES[kind] if kind in _TYPE_BYTES else -1
            if needed < 0 or not 0 <= begin <= self.size:
                raise ValueError("damaged variable")
            for number in dimensions:
                needed *= lengths[number] or max(1, records)
            if needed > 2 * self.size + UNQUESTIONED:
                raise ValueError("variable beyond the end")

    def attributes(self) -> None:
        for _ in range(self.list_length(12)):
            self.text()
            kind = self.number(">i")
            if kind not in _TYPE_BYTES:
                raise ValueError("unknown type")
            self.skip(self.number(self.count_format) * _TYPE_BYTES[kind])

    def list_length(self, tag: int) -> int:
        claim = self.number(">i")
        if claim not in (0, tag):
            raise ValueError("no list")
        return self.bounded()

    def bounded(self) -> int:
        count = self.number(self.count_format)
        if not 0 <= count <= _MOST_ITEMS:
            raise ValueError("a list too long")
        return count

    def text(self) -> None:
        self.skip(self.number(self.count_format))

    def skip(self, length: int) -> None:
        place = self.file.tell() + -(-length // 4) * 4
        if length < 0 or place > self.size:
            raise ValueError("beyond the end")
        self.file.seek(place)

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.file.read(struct.calcsize(form)))
        return int(value)
