"""The segments of a JPEG file."""

from __future__ import annotations

from typing import BinaryIO


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
