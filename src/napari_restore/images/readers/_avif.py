"""Reader of AVIF photos: 8 bits through Pillow, 10 and 12 through imagecodecs."""

from __future__ import annotations

import io
import struct
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import open_file
from napari_restore.images._reader import first_of
from napari_restore.images.files.exif import orientation_of
from napari_restore.images.files.raw import boxes_in
from napari_restore.images.files.xmp import sidecar_xmp
from napari_restore.images.readers._heif import COLOURS, coded_colours, whole_exif
from napari_restore.images.readers._whole import Picture, WholeReader

MOST_PROPERTIES, MOST_BYTES = 0x7FFF, 64
"""Of an item: how many an index can name, and the bytes of one that are read."""
HIGH, TWELVE = 0x40, 0x20
"""Flags of a codec's configuration (AV1 in ISOBMFF): more than 8 bits a value, and then 12."""
MOST_TABLE = 1 << 20
"""Bytes of the table of which item has which."""


class AvifReader(WholeReader):
    """A photo (H, W, 1, 3 or 4) before its orientation, uint8, or uint16 over the full range of 10 and 12 bits."""

    KIND = "an AVIF photo"
    REPAIR = "Check the file, or copy it again."

    def _header(self) -> Picture:
        with _opened(self.path) as photo:
            width, height = photo.size
            info, pictures = dict(photo.info), int(getattr(photo, "n_frames", 1))
            colours = COLOURS[len(photo.getbands())]
            # With the file's own turns, which Pillow adds to it.
            exif = photo.getexif().tobytes() if photo.getexif() else b""
        coding = _coding_of(self.path)
        self._bits = coding.bits if _reads_deep() else 8
        self.notes += first_of(pictures)
        if coding.bits > self._bits:
            self.notes.append(
                f"It has {coding.bits} bits a value, of which 8 are read: this imagecodecs has no AVIF."
            )
        icc, notes = coded_colours(
            info.get("icc_profile"), coding.primaries, coding.curve, len(colours)
        )
        self.notes += notes
        about = {
            "driver": "AVIF",
            "icc": icc,
            "exif": whole_exif(info.get("exif") or exif),
            "xmp": sidecar_xmp(self.path) or info.get("xmp") or None,
            "orientation": orientation_of(exif),
            "is_display": True,
        }
        return Picture(height, width, np.uint16 if self._bits > 8 else np.uint8, colours, about)

    def _decode(self) -> npt.NDArray[Any]:
        if self._bits > 8:
            return self._decode_deep()
        with _opened(self.path) as photo:
            return np.asarray(photo)

    def _decode_deep(self) -> npt.NDArray[np.uint16]:
        import imagecodecs

        stored = np.asarray(imagecodecs.avif_decode(self.path.read_bytes(), index=0))
        if stored.ndim == 3 and stored.shape[2] == 2:
            # Pillow shows grey with alpha as colours.
            stored = stored[..., (0, 0, 0, 1)]
        elif stored.ndim == 2 and self.bands == 3:
            # Before version 12 grey alone, too.
            stored = stored[..., None].repeat(3, axis=2)
        top = 2**self._bits - 1
        wide = ((np.arange(top + 1) * 65535 + top // 2) // top).astype(np.uint16)
        pixels: npt.NDArray[np.uint16] = wide[np.minimum(stored, top)]
        return pixels


class _Coding(NamedTuple):
    """What the file says of the values of its main picture."""

    bits: int = 8
    primaries: int = 2
    curve: int = 2
    """From light to values; both by their numbers in ITU-T H.273, where 2 is "unspecified"."""


def _coding_of(path: Path) -> _Coding:
    """Return how values are coded, by the properties of the main item (ISO/IEC 23008-12)."""
    found = _Coding()
    with open_file(path) as file:
        try:
            for kind, data in _properties(file):
                if kind == b"pixi" and len(data) > 5:
                    found = found._replace(bits=max(data[5 : 5 + data[4]]))
                elif kind == b"av1C" and data[2] & HIGH:
                    # Said of every picture; "pixi" may be missing, but is all that a grid of pictures has.
                    found = found._replace(bits=12 if data[2] & TWELVE else 10)
                elif kind == b"colr" and data[:4] == b"nclx":
                    primaries, curve = struct.unpack_from(">HH", data, 4)
                    found = found._replace(primaries=primaries, curve=curve)
        except (struct.error, ValueError, IndexError):  # the decoder says what is wrong
            return _Coding()
    return found if found.bits in (10, 12) else found._replace(bits=8)


def _properties(file: BinaryIO) -> list[tuple[bytes, bytes]]:
    """Return type and content of the properties of the main item."""
    meta = _children(file, 0, file.seek(0, io.SEEK_END)).get(b"meta")
    if meta is None:
        return []
    # After version and flags.
    items = _children(file, meta[0] + 4, meta[1])
    main = _content(file, items[b"pitm"], MOST_BYTES) if b"pitm" in items else b""
    parts = _children(file, *items[b"iprp"]) if b"iprp" in items else {}
    if not main or not {b"ipco", b"ipma"} <= parts.keys():
        return []
    (number,) = struct.unpack_from(">I" if main[0] else ">H", main, 4)
    boxes = islice(boxes_in(file, *parts[b"ipco"]), MOST_PROPERTIES)
    shared = [(kind, _content(file, (start, end), MOST_BYTES)) for kind, start, end in boxes]
    table = _content(file, parts[b"ipma"], MOST_TABLE)
    named, wide = (">IB" if table[0] else ">HB"), table[3] & 1
    (count,), at = struct.unpack_from(">I", table, 4), 8
    for _ in range(count):
        item, links = struct.unpack_from(named, table, at)
        at += struct.calcsize(named)
        associations = struct.unpack_from(f">{links}{'H' if wide else 'B'}", table, at)
        at += links * (1 + wide)
        if item == number:
            # The highest bit says whether a reader must know the property.
            numbers = [each & (0x7FFF if wide else 0x7F) for each in associations]
            return [shared[number - 1] for number in numbers if number]
    return []


def _children(file: BinaryIO, start: int, end: int) -> dict[bytes, tuple[int, int]]:
    return {kind: (first, after) for kind, first, after in boxes_in(file, start, end)}


def _content(file: BinaryIO, place: tuple[int, int], most: int) -> bytes:
    start, end = place
    file.seek(start)
    return file.read(min(end - start, most))


def _reads_deep() -> bool:
    """Return whether this imagecodecs has a decoder of AVIF."""
    import imagecodecs

    return bool(imagecodecs.AVIF.available)


def _opened(path: Path) -> Any:
    """Return Pillow's picture, not decoded yet."""
    from PIL.AvifImagePlugin import AvifImageFile

    # The class itself, not Image.open: that refuses large images by their size.
    return AvifImageFile(path)
