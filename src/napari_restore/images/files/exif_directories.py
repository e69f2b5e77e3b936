"""Directories of TIFF and EXIF as they are: every value by its type and bytes, texts in any encoding.

Pillow takes texts for Latin-1 and writes them as ASCII, which would lose all other letters.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Collection, Mapping
from typing import BinaryIO, NamedTuple

EXIF_HEADER = b"Exif\0\0"
ORIENTATION = 0x0112
CAMERA_SETTINGS, GPS = 0x8769, 0x8825
"""Tags of the main directory that refer to others: exposure, lens and time; place."""
_COMMENT, _UTF16 = 0x9286, b"UNICODE\0"
WIDTH, HEIGHT = 0xA002, 0xA003
"""Tags of the camera's settings: columns and rows of the picture."""
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
SIZES |= {16: 8, 17: 8, 18: 8}
"""Type of a value → its bytes."""
_WORDS = {5: 4, 10: 4}
"""Bytes of what the byte order applies to, where it is not the whole value."""
_NUMBERS = {3: "H", 4: "I", 5: "I", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d", 13: "I"}
SUB_IFDS, _MOST_PICTURES = 0x014A, 64
_MOST = 1 << 20


class Flavour(NamedTuple):
    """Layout of numbers in a TIFF: byte order, and 32 or 64 bits (BigTIFF)."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        """Format of an offset."""
        return self.order + ("Q" if self.big else "I")

    @property
    def number(self) -> str:
        """Format of the number of a directory's entries."""
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        """Format of an entry but for its last part: tag, type, number of values."""
        return self.order + ("HHQ" if self.big else "HHI")

    @property
    def room(self) -> int:
        """Bytes of the last part of an entry: its values, or their offset where they do not fit."""
        return 8 if self.big else 4

    @property
    def first(self) -> int:
        """Offset of the header's link to the first directory."""
        return 8 if self.big else 4


def flavour_of(file: BinaryIO) -> Flavour:
    """Return byte order and width of an open TIFF."""
    file.seek(0)
    head = file.read(4)
    return Flavour("<" if head[:2] == b"II" else ">", head[2:4] in (b"+\0", b"\0+"))


def unpack_at(file: BinaryIO, layout: str, place: int) -> tuple[int, ...]:
    """Return the numbers at `place`; raises `struct.error` where the file ends."""
    file.seek(place)
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


class Field(NamedTuple):
    """A value: its TIFF type and its bytes, least significant first."""

    kind: int
    data: bytes

    @property
    def items(self) -> int:
        return len(self.data) // SIZES[self.kind]

    def ordered(self, order: str) -> bytes:
        """Return its bytes in a byte order, "<" or ">"."""
        return self.data if order == "<" else swapped(self.kind, self.data)


Directory = dict[int, Field]
EXIF_FLAVOUR = Flavour("<", big=False)
"""Of the blocks that are made here."""


class _Place(NamedTuple):
    """Where a field of a directory lies: its entry, and its value."""

    entry: int
    field: Field
    start: int


class _Reader:
    """Directories of a TIFF or BigTIFF. Raises `ValueError` or `struct.error` where damaged."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        if file.read(2) not in (b"II", b"MM"):
            raise ValueError("no directory")
        self.file, self.flavour = file, flavour_of(file)
        (self.first,) = unpack_at(file, self.flavour.offset, self.flavour.first)

    def directory(self, place: int) -> tuple[dict[int, _Place], int]:
        """Return the fields of a directory by tag, and where the offset of the next one stands."""
        file, flavour = self.file, self.flavour
        (count,) = unpack_at(file, flavour.number, place)
        start, step = file.tell(), struct.calcsize(flavour.entry) + flavour.room
        if count > 4096:
            raise ValueError("no directory")
        found = {}
        for entry in range(start, start + count * step, step):
            tag, kind, number = unpack_at(file, flavour.entry, entry)
            at, size = file.tell(), SIZES.get(kind, 0) * number
            if not 0 < size <= _MOST:
                continue
            if size > flavour.room:
                (at,) = unpack_at(file, flavour.offset, at)
            file.seek(at)
            data = file.read(size)
            if len(data) == size:
                found[tag] = _Place(entry, Field(kind, self._little(tag, kind, data)), at)
        return found, start + count * step

    def fields(self, place: int) -> Directory:
        """Return the fields of a directory by tag."""
        return {tag: found.field for tag, found in self.directory(place)[0].items()}

    def _little(self, tag: int, kind: int, data: bytes) -> bytes:
        if self.flavour.order == "<":
            return data
        if tag == _COMMENT and data.startswith(_UTF16):
            # Of no type, and yet in the file's byte order.
            return _UTF16 + swapped(3, data[8:])
        return swapped(kind, data)


def swapped(kind: int, data: bytes) -> bytes:
    """Return the bytes of values in the other byte order."""
    word = _WORDS.get(kind, SIZES[kind])
    return b"".join(data[i : i + word][::-1] for i in range(0, len(data), word))


def number_of(field: Field | None) -> int | None:
    """Return the first number of a field of integers."""
    if field is None or field.kind not in (3, 4, 13, 16):
        return None
    return int.from_bytes(field.data[: SIZES[field.kind]], "little")


def numbers_of(field: Field | None) -> tuple[float, ...]:
    """Return the numbers of a field, fractions divided; none where one is not finite, or it has none."""
    layout = None if field is None else _NUMBERS.get(field.kind)
    if field is None or layout is None:
        return ()
    numbers = [number for (number,) in struct.iter_unpack(f"<{layout}", field.data)]
    if field.kind in _WORDS:
        numbers = [a / b if b else 0 for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
    return tuple(numbers) if all(map(math.isfinite, numbers)) else ()


def pictures_in(file: BinaryIO) -> list[Directory]:
    """Return the main directory of a TIFF, and those of the pictures below it."""
    reader = _Reader(file)
    main = reader.fields(reader.first)
    below = numbers_of(main.get(SUB_IFDS))[:_MOST_PICTURES]
    return [main, *(reader.fields(int(place)) for place in below)]


def directories_in(file: BinaryIO) -> tuple[Directory, dict[int, Directory]]:
    """Return the main directory of a TIFF, and those of `CAMERA_SETTINGS` and `GPS` it refers to."""
    reader = _Reader(file)
    main = reader.fields(reader.first)
    others = {}
    for tag in (CAMERA_SETTINGS, GPS):
        place = number_of(main.pop(tag, None))
        if place:
            others[tag] = reader.fields(place)
    return main, others


def directories_of(exif: bytes) -> tuple[Directory, dict[int, Directory]]:
    """Return `directories_in` of an EXIF block."""
    return directories_in(io.BytesIO(exif.removeprefix(EXIF_HEADER)))


def block_of(main: Directory, others: Mapping[int, Directory]) -> bytes:
    """Return an EXIF block of these directories."""
    pointers = {tag: Field(4, bytes(4)) for tag in others}
    end = 8 + len(serialised({**main, **pointers}, 8))
    parts = b""
    for tag, directory in others.items():
        pointers[tag] = Field(4, struct.pack("<I", end))
        part = serialised(directory, end)
        parts, end = parts + part, end + len(part)
    return EXIF_HEADER + b"II*\0\x08\0\0\0" + serialised({**main, **pointers}, 8) + parts


def serialised(directory: Directory, place: int, flavour: Flavour = EXIF_FLAVOUR) -> bytes:
    """Return the bytes of a directory that stands at `place` of a file, the last one there."""
    after = place + len(packed(flavour, [], 0)) + len(directory) * (4 + 2 * flavour.room)
    entries, values = laid_out(flavour, after, dict(sorted(directory.items())), {}, 2)
    whole = packed(flavour, entries.values(), 0) + values
    return whole + b"\0" * (-len(whole) % 2)


class DirectoryEntry(NamedTuple):
    """One entry of a directory; `value` is its raw last part: the value or its offset."""

    tag: int
    kind: int
    length: int
    value: bytes


def packed(flavour: Flavour, entries: Collection[DirectoryEntry], following: int) -> bytes:
    """Return the bytes of a directory's entries, and of the link to the next one behind them."""
    table = b"".join(struct.pack(f"{flavour.entry}{flavour.room}s", *entry) for entry in entries)
    return b"".join(
        (struct.pack(flavour.number, len(entries)), table, struct.pack(flavour.offset, following))
    )


def laid_out(
    flavour: Flavour,
    start: int,
    main: Directory,
    directories: Mapping[int, Directory],
    multiple: int,
) -> tuple[dict[int, DirectoryEntry], bytes]:
    """Return entries for fields by tag, and the values and directories behind them, from `start`.

    Each begins at a `multiple` of so many bytes.
    """
    values, entries = b"", {}

    def place() -> int:
        nonlocal values
        values += b"\0" * (-(start + len(values)) % multiple)
        return start + len(values)

    for tag, directory in directories.items():
        at = place()
        values += serialised(directory, at, flavour)
        kind, layout = (16, "<Q") if flavour.big else (4, "<I")
        main = {**main, tag: Field(kind, struct.pack(layout, at))}
    for tag, field in main.items():
        value = field.ordered(flavour.order)
        if len(value) > flavour.room:
            at, content = place(), value
            values, value = values + content, struct.pack(flavour.offset, at)
        value = value.ljust(flavour.room, b"\0")
        entries[tag] = DirectoryEntry(tag, field.kind, field.items, value)
    return entries, values


def upright_block(exif: bytes) -> bytes:
    """Return an EXIF block with orientation 1 and without the thumbnail; nothing else moves."""
    # The camera's private data contains offsets, which stay right.
    block = bytearray(exif.removeprefix(EXIF_HEADER))
    reader = _Reader(io.BytesIO(bytes(block)))
    main, link = reader.directory(reader.first)
    if ORIENTATION in main:
        place = main[ORIENTATION]
        if place.field.kind not in (3, 4):
            raise ValueError("no orientation")
        layout = reader.flavour.order + "HI"[place.field.kind == 4]
        struct.pack_into(layout, block, place.start, 1)
    (second,) = struct.unpack_from(reader.flavour.offset, block, link)
    struct.pack_into(reader.flavour.offset, block, link, 0)
    if second:
        thumbnail = reader.directory(second)[0]
        start, size = (
            number_of(found.field) if (found := thumbnail.get(tag)) else None
            for tag in (_THUMBNAIL, _THUMBNAIL_BYTES)
        )
        if start and size and start < len(block):
            # At the end, where programs put it, it is cut off.
            end = min(start + size, len(block))
            block[start:end] = bytes(0 if end == len(block) else end - start)
    return EXIF_HEADER + bytes(block)


def block_with(exif: bytes, numbers: Mapping[int, int]) -> bytes:
    """Return an EXIF block with other numbers in its camera's settings, where it has these tags."""
    block = bytearray(exif.removeprefix(EXIF_HEADER))
    reader = _Reader(io.BytesIO(bytes(block)))
    place = number_of(reader.fields(reader.first).get(CAMERA_SETTINGS))
    settings = {} if place is None else reader.directory(place)[0]
    for tag, value in numbers.items():
        found = settings.get(tag)
        if found is not None and found.field.kind in (3, 4):
            is_long = found.field.kind == 4
            number = min(value, (1 << (32 if is_long else 16)) - 1)
            layout = reader.flavour.order + "HI"[is_long]
            struct.pack_into(layout, block, found.start, number)
    return EXIF_HEADER + bytes(block)
