"""Changes files: bytes anywhere, and what the structure of known formats says to be worth changing."""

from __future__ import annotations

import random
import re

from structures import STRUCTURES

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
NUMBERS = (
    b"0", b"-1", b"1", b"65535", b"65536", b"2147483647", b"4294967296", b"9223372036854775808",
    b"99999999999999999999", b"1e308", b"1e999", b"nan", b"-inf", b"0.5", b"", b"x",
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
HEAD = 2048
"""Bytes in front that are changed as often as all others together."""


def mutate(data: bytes, name: str, rng: random.Random) -> tuple[bytes, str]:
    """`data` with one to three changes, and what they were; `name` tells the format of text."""
    told = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data, change = _once(data, name, rng)
        told.append(change)
    return data, ", ".join(told)


def _once(data: bytes, name: str, rng: random.Random) -> tuple[bytes, str]:
    for fits, change in STRUCTURES:
        if fits(data, name) and rng.random() < 0.7:
            try:
                return change(data, rng, mutate)
            except Exception:
                break  # changed before, so that its structure is gone
    change = rng.choice(_BYTES)
    return bytes(change(bytearray(data), rng)), change.__name__.strip("_")


def _place(data: bytearray, rng: random.Random) -> int:
    if not data:
        return 0
    return rng.randrange(min(len(data), HEAD) if rng.random() < 0.5 else len(data))


def _flipped(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 4, 64))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def _extreme(data: bytearray, rng: random.Random) -> bytearray:
    """A whole number of 1, 2, 4 or 8 bytes becomes the smallest, the largest, or a power of two."""
    size = rng.choice((1, 2, 4, 4, 8))
    at = _place(data, rng) & ~rng.choice((0, 1, 3))
    value = rng.choice((*EXTREMES, 1 << rng.randrange(64))) & ((1 << 8 * size) - 1)
    if rng.random() < 0.2:
        value = (1 << 8 * size) - 1 - rng.randrange(16) % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
    return data


def _truncated(data: bytearray, rng: random.Random) -> bytearray:
    return data[: _place(data, rng)]


def _longer(data: bytearray, rng: random.Random) -> bytearray:
    return data + rng.choice((b"\0", b"\xff", b" ")) * rng.choice((1, 100, 10000))


def _block(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = _place(data, rng)
    return start, start + rng.choice((1, 4, 12, 64, 1024))


def _duplicated(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _block(data, rng)
    at = _place(data, rng)
    return data[:at] + data[start:end] * rng.choice((1, 1, 16)) + data[at:]


def _removed(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _block(data, rng)
    return data[:start] + data[end:]


def _overwritten(data: bytearray, rng: random.Random) -> bytearray:
    """A block becomes zeros, ones, noise, or another block."""
    start, end = _block(data, rng)
    end = min(end, len(data))
    other = _place(data, rng)
    fill = rng.choice((bytes(end - start), b"\xff" * (end - start), rng.randbytes(end - start)))
    data[start:end] = fill if rng.random() < 0.7 else data[other : other + end - start]
    return data


def _number(data: bytearray, rng: random.Random) -> bytearray:
    """A number that is written as text, as in the headers of ENVI, PNM and XML."""
    found = list(_NUMBER.finditer(bytes(data[: 4 * HEAD])))
    if not found:
        return _extreme(data, rng)
    start, end = rng.choice(found).span()
    return data[:start] + rng.choice(NUMBERS) + data[end:]


_BYTES = (
    _flipped, _flipped, _extreme, _extreme, _truncated, _longer, _duplicated, _removed,
    _overwritten, _number, _number,
)  # fmt: skip
