"""The segments of a JPEG file."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from napari_restore._plain_files import open_file

SIGNATURE, END = b"\xff\xd8\xff", b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)
_SCAN = 0xDA


class JpegFrame(NamedTuple):
    """What the headers of a JPEG say of its picture."""

    marker: int
    bits: int
    height: int
    width: int
    components: int
    in_rows: bool
    """Whether pixels are coded from top to bottom: in one scan, and not progressive."""


def frame_of(path: Path, start: int = 0) -> JpegFrame | None:
    """Return the frame of the JPEG that begins at `start`, None where its headers are incomplete."""
    frame = None
    with open_file(path) as file:
        file.seek(start)
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return None
        file.seek(start + 2)
        while (marker := next_segment(file)) is not None:
            start, head = file.tell(), file.read(8)
            if len(head) < 8:
                return None
            length, bits, height, width, components = struct.unpack(">HBHHB", head)
            if marker in _FRAMES and frame is None:
                frame = JpegFrame(marker, bits, height, width, components, marker in _SEQUENTIAL)
            elif marker == _SCAN and frame is not None:
                # Its first byte is the number of components in the scan.
                return frame._replace(in_rows=frame.in_rows and bits == frame.components)
            file.seek(start + max(2, length))
    return None


def next_segment(file: BinaryIO) -> int | None:
    """Read on to the next marker with a segment: its code, or None at the end of the file."""
    while True:
        byte = file.read(1)
        while byte and byte != b"\xff":
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if not byte:
            return None
        code = byte[0]
        # TEM, SOI and the restart markers have no segment.
        if code not in (0x01, 0xD8) and not 0xD0 <= code <= 0xD7:
            return code
