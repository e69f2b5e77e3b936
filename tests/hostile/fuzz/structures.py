"""Changes that keep a file's structure, or break it in one place: entries, chunks, members, keys."""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePath

from json_trees import change_json, change_lines
from programs import (
    CRS,
    change_crs,
    change_onnx,
    change_toml,
    is_crs,
    is_onnx,
    is_toml,
)

Mutate = Callable[[bytes, str, random.Random], tuple[bytes, str]]
PNG = b"\x89PNG\r\n\x1a\n"
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
TAGS = (
    254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330,
    338, 339, 347, 530, 700, 33550, 33922, 34264, 34665, 34675, 34735, 34736, 34737, 42112, 42113,
    50714, 50717, 50844,
)  # fmt: skip
"""Tags of TIFF, EXIF, GeoTIFF, GDAL and DNG that readers act upon."""


def _wide(rng: random.Random, bits: int, old: int) -> int:
    """An extreme number of so many bits, or one near the old."""
    top = (1 << bits) - 1
    return rng.choice(
        (0, 1, 2, 3, top, top - 1, top >> 1, (top >> 1) + 1, old + 1, old - 1, old * 2, old // 2,
         old * 1000, 65535, 65536, 1 << rng.randrange(bits))
    ) & top  # fmt: skip


# -- TIFF --------------------------------------------------------------------------------


def is_tiff(data: bytes, name: str) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def change_tiff(data: bytes, rng: random.Random, mutate: Mutate) -> tuple[bytes, str]:
    """One field of one entry of a directory, the way to the next one, or the entry's values."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    number, width = ("Q", 8) if big else ("I", 4)
    entry_size, head = (20, 8) if big else (12, 2)
    entries, links = [], []
    at = 8 if big else 4
    for _ in range(50):
        links.append(at)
        (start,) = struct.unpack_from(order + number, data, at)
        if not 0 < start < len(data) - head or start in [e[0] for e in entries]:
            break
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        for i in range(min(count, 200)):
            entries.append((start, start + head + i * entry_size))
        at = start + head + count * entry_size
        if at + width > len(data):
            break
    content = bytearray(data)
    if not entries or rng.random() < 0.1:
        at = rng.choice(links)
        target = rng.choice((0, 8, len(data) - 1, len(data), rng.randrange(len(data)), 2**31))
        struct.pack_into(order + number, content, at, target)
        return bytes(content), "next directory"
    start, at = rng.choice(entries)
    tag, kind = struct.unpack_from(order + "HH", data, at)
    (count,) = struct.unpack_from(order + number, data, at + 4)
    (value,) = struct.unpack_from(order + number, data, at + 4 + width)
    what = rng.choice(("tag", "type", "count", "value", "value", "values", "double", "swap"))
    if what == "tag":
        struct.pack_into(order + "H", content, at, rng.choice(TAGS))
    elif what == "type":
        struct.pack_into(order + "H", content, at + 2, rng.choice((*range(19), 65535)))
    elif what == "count":
        struct.pack_into(order + number, content, at + 4, _wide(rng, 8 * width, count))
    elif what == "value" and kind == 3 and not big:
        struct.pack_into(order + "H", content, at + 8, _wide(rng, 16, value & 0xFFFF))
    elif what in ("double", "swap"):
        _, other = rng.choice(entries)
        content[at : at + entry_size] = data[other : other + entry_size]
        if what == "swap":
            content[other : other + entry_size] = data[at : at + entry_size]
    elif what == "values" and SIZES.get(kind, 1) * count > width and value < len(data):
        size = SIZES.get(kind, 1)
        place = value + size * rng.randrange(count)
        content[place : place + size] = _wide(rng, 8 * size, 7).to_bytes(size, "little")
        if kind in (11, 12):
            special = rng.choice(
                (float("nan"), float("inf"), 0.0, -1.0, 1e300 if kind == 12 else 1e38)
            )
            struct.pack_into(order + ("f" if kind == 11 else "d"), content, place, special)
    else:
        struct.pack_into(order + number, content, at + 4 + width, _wide(rng, 8 * width, value))
    return bytes(content), f"{what} of tag {tag}"


# -- PNG, JPEG ---------------------------------------------------------------------------


def is_png(data: bytes, name: str) -> bool:
    return data.startswith(PNG)


def change_png(data: bytes, rng: random.Random, mutate: Mutate) -> tuple[bytes, str]:
    """Chunks changed with a good checksum, removed, doubled, moved or renamed."""
    chunks, at = [], len(PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(chunks))
    kind, body = chunks[number]
    what = rng.choice(("body", "body", "header", "inflated", "remove", "double", "move", "name"))
    if what == "header":
        number, (kind, body) = 0, chunks[0]
        width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", body)
        field = rng.randrange(4)
        values = [width, height, depth, colour]
        values[field] = _wide(rng, 32 if field < 2 else 8, values[field])
        chunks[0] = kind, struct.pack(">IIBBBBB", *values, *rest)
    elif what == "inflated":
        packed = b"".join(body for kind, body in chunks if kind == b"IDAT")
        rows, _ = mutate(zlib.decompress(packed), "", rng)
        first = next(i for i, (kind, _) in enumerate(chunks) if kind == b"IDAT")
        chunks = [each for each in chunks if each[0] != b"IDAT"]
        chunks.insert(first, (b"IDAT", zlib.compress(rows)))
    elif what == "remove":
        del chunks[number]
    elif what == "double":
        chunks[number:number] = [chunks[number]] * rng.choice((1, 1, 200))
    elif what == "move":
        rng.shuffle(chunks)
    elif what == "name":
        names = (b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"acTL", b"IDAT")
        chunks[number] = rng.choice(names), body
    else:
        chunks[number] = kind, mutate(body, "", rng)[0]
    whole = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return PNG + whole, f"{what} of {kind.decode('latin-1')}"


def is_jpeg(data: bytes, name: str) -> bool:
    return data.startswith(b"\xff\xd8\xff")


def change_jpeg(data: bytes, rng: random.Random, mutate: Mutate) -> tuple[bytes, str]:
    """A segment's length, its content (with its length put right), or its place."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        segments.append((data[at : at + 2], data[at + 4 : at + 2 + length]))
        at += 2 + length
    rest = data[at:]
    number = rng.randrange(len(segments))
    marker, body = segments[number]
    what = rng.choice(("body", "body", "length", "remove", "double", "move", "marker", "frame"))
    if what == "frame":
        number = next(i for i, (m, _) in enumerate(segments) if m[1] in (0xC0, 0xC1, 0xC2))
        marker, body = segments[number]
        fields = list(struct.unpack(">BHHB", body[:6]))
        field = rng.randrange(4)
        fields[field] = _wide(rng, 8 if field in (0, 3) else 16, fields[field])
        segments[number] = marker, struct.pack(">BHHB", *fields) + body[6:]
    elif what == "remove":
        del segments[number]
    elif what == "double":
        segments[number:number] = [segments[number]] * rng.choice((1, 1, 100))
    elif what == "move":
        rng.shuffle(segments)
    elif what == "marker":
        segments[number] = (
            bytes((0xFF, rng.choice((0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xE1, 0xE2, 0xFE)))),
            body,
        )
    elif what == "body":
        segments[number] = marker, mutate(body, "", rng)[0][:65533]
    lengths = [len(body) + 2 for _, body in segments]
    if what == "length":
        lengths[number] = _wide(rng, 16, lengths[number])
    whole = b"".join(
        marker + struct.pack(">H", length) + body
        for (marker, body), length in zip(segments, lengths, strict=True)
    )
    return data[:2] + whole + rest, f"{what} of segment {marker.hex()}"


# -- zip, safetensors, npy ---------------------------------------------------------------


def is_zip(data: bytes, name: str) -> bool:
    return data.startswith(b"PK\3\4")


def change_zip(data: bytes, rng: random.Random, mutate: Mutate) -> tuple[bytes, str]:
    """A member changed under a good checksum, removed, doubled or renamed."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = [(info.filename, file.read(info)) for info in file.infolist()]
    number = rng.randrange(len(members))
    name, body = members[number]
    what = rng.choice(("body", "body", "body", "remove", "double", "name"))
    if what == "body":
        members[number] = name, mutate(body, name, rng)[0]
    elif what == "remove":
        del members[number]
    elif what == "double":
        members.append(members[number])
    else:
        other = rng.choice(members)[0]
        members[number] = rng.choice((other, "../outside", "", "a" * 1000, name + "x")), body
    packed = io.BytesIO()
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w") as file:
        warnings.simplefilter("ignore")
        for each, content in members:
            file.writestr(zipfile.ZipInfo(each), content)
    return packed.getvalue(), f"{what} of {name}"


def is_safetensors(data: bytes, name: str) -> bool:
    return PurePath(name).suffix == ".safetensors"


def change_safetensors(data: bytes, rng: random.Random, mutate: Mutate) -> tuple[bytes, str]:
    """Keys of the header, with its length put right, or that length."""
    (length,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.1:
        return struct.pack("<Q", _wide(rng, 64, length)) + data[8:], "length of the header"
    header, told = change_json(header, rng, mutate)
    return struct.pack("<Q", len(header)) + header + rest, f"header: {told}"


def is_npy(data: bytes, name: str) -> bool:
    return data.startswith(b"\x93NUMPY")


def change_npy(data: bytes, rng: random.Random, mutate: Mutate) -> tuple[bytes, str]:
    """What its header says of type and shape."""
    (length,) = struct.unpack_from("<H", data, 8)
    header = data[10 : 10 + length]
    new = rng.choice(
        (
            re.sub(rb"'descr': '[^']*'", b"'descr': '" + rng.choice((b"|O", b"<f8", b">i2", b"<U9", b"|V7", b"<c16")) + b"'", header),
            re.sub(rb"'shape': \([^)]*\)", b"'shape': " + rng.choice((b"()", b"(0,)", b"(-1,)", b"(99999999999,)", b"(3, 3)", b"5")), header),
            header.replace(b"False", b"True"),
            header[: len(header) // 2],
        )
    )  # fmt: skip
    return data[:8] + struct.pack("<H", len(new)) + new + data[10 + length :], "npy header"


# -- text --------------------------------------------------------------------------------

_ELEMENT = re.compile(rb"<(\w+)[^<>]*?(?:/>|>[^<>]*</\1>)")
_WORD = re.compile(rb"=\"[^\"]*\"|>[^<>]+<")
_TEXTS = (
    b"", b"-1", b"0", b"1e999", b"nan", b"999999999999", b"../../victim/secret.tif", b"/etc/passwd",
    b"/@ROOT@/victim/secret.tif", b"/vsicurl/@SERVER@/a.tif", b"@SERVER@/a.tif", b"WMS:@SERVER@",
    b"/vsizip/a.zip/b", b"a" * 5000, b"\xff\xfe", b"&amp;", b"&x;", b"CInt16", b"Int64", b"VRTRawRasterBand",
    b"VRTPansharpenedDataset", b"mosaic.vrt", b"<VRTDataset/>",
    *(text.encode().replace(b'"', b"&quot;") for text in CRS),
)  # fmt: skip


def is_xml(data: bytes, name: str) -> bool:
    return PurePath(name).suffix in (".vrt", ".xml")


def change_xml(data: bytes, rng: random.Random, mutate: Mutate) -> tuple[bytes, str]:
    """An element removed, doubled or nested; an attribute or a text changed."""
    what = rng.choice(("value", "value", "value", "remove", "double", "nest"))
    found = list((_WORD if what == "value" else _ELEMENT).finditer(data))
    start, end = rng.choice(found).span()
    old = data[start:end]
    new = {
        "value": old[: 2 if old[:1] == b"=" else 1] + rng.choice(_TEXTS) + old[-1:],
        "remove": b"",
        "double": old * rng.choice((2, 2, 500)),
        "nest": b"<SimpleSource>" * 300 + old + b"</SimpleSource>" * 300,
    }[what]
    return data[:start] + new + data[end:], f"{what} of {old[:30].decode('latin-1')}"


def is_table(data: bytes, name: str) -> bool:
    return PurePath(name).suffix == ".csv"


_CELLS = (
    b"", b"-1", b"0", b"1e9", b"99999999999999999999", b"nan", b"x", b'"', b"\0", b"../victim/secret.tif",
    b"@SERVER@/a.tif", b"=1+1", b"a" * 200000, b"\xff", b"8.5",
)  # fmt: skip


def change_table(data: bytes, rng: random.Random, mutate: Mutate) -> tuple[bytes, str]:
    """A cell, or a line, of a table."""
    lines = data.split(b"\n")
    number = rng.randrange(len(lines))
    mark = b";" if b";" in data else b","
    cells = lines[number].split(mark)
    what = rng.choice(("cell", "cell", "cell", "column", "line", "doubled"))
    if what == "cell":
        cells[rng.randrange(len(cells))] = rng.choice(_CELLS)
        lines[number] = mark.join(cells)
    elif what == "column":
        cells.insert(rng.randrange(len(cells) + 1), rng.choice((*_CELLS, cells[0])))
        lines[number] = mark.join(cells)
    elif what == "line":
        del lines[number]
    else:
        lines[number:number] = [lines[number]] * rng.choice((1, 30))
    return b"\n".join(lines), f"{what} of line {number}"


def is_json(data: bytes, name: str) -> bool:
    # Files of zarr have no ending.
    return PurePath(name).suffix in (".json", ".geojson") or PurePath(name).name.startswith(".z")


def is_lines(data: bytes, name: str) -> bool:
    return PurePath(name).suffix == ".jsonl"


STRUCTURES: tuple[tuple[Callable[[bytes, str], bool], Callable[..., tuple[bytes, str]]], ...] = (
    (is_tiff, change_tiff),
    (is_png, change_png),
    (is_jpeg, change_jpeg),
    (is_zip, change_zip),
    (is_npy, change_npy),
    (is_safetensors, change_safetensors),
    (is_xml, change_xml),
    (is_table, change_table),
    (is_lines, change_lines),
    (is_json, change_json),
    (is_onnx, change_onnx),
    (is_crs, change_crs),
    (is_toml, change_toml),
)
