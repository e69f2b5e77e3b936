"""Zarr from untrusted sources.

The store stays in its folder, codecs stop where the chunk is full.
"""

from __future__ import annotations

import bz2
import contextlib
import lzma
import math
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np

from napari_restore.errors import UnreadableImage
from napari_restore.images.files.claims import LARGEST_WHOLE, check_block

COMPRESSORS = ("zlib", "gzip", "bz2", "lzma", "zstd", "blosc", "lz4")
FILTERS = (
    "delta", "shuffle", "fixedscaleoffset", "quantize", "bitround", "astype", "packbits",
    "crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3",
)  # fmt: skip
"""Accepted filters of zarr 2; all for numbers. Not "pickle", which runs what it decodes."""
CODECS = ("bytes", "transpose", "gzip", "zstd", "blosc", "sharding_indexed", "crc32c")
"""Accepted codecs of zarr 3."""
SLACK = 1024
LEAST_PIXELS = 256
"""Pixels of the smallest chunk, where there are more than `MANY_CHUNKS`."""
MANY_CHUNKS = 65536
METADATA_BYTES = 256 * 2**20


_opening = threading.Lock()


@contextlib.contextmanager
def opened(store: Any) -> Iterator[Any]:
    """Open the zarr group or array at the root of `store`."""
    # Arrays of a group are opened inside the block: their codecs depend on the configuration set
    # there.
    import zarr

    # zarr's configuration is one for all threads.
    with _opening, zarr.config.set(_register()):
        yield zarr.open(store=store, mode="r")


def folder_store(path: Path) -> Any:
    """Return the store of the folder `path`, of files below it only."""
    return _folder_class()(path, read_only=True)


@cache
def _folder_class() -> Any:
    from zarr.storage import LocalStore

    class FolderStore(LocalStore):
        """Store of the plain files below its folder; links out of it are not followed, pipes not opened."""

        longest = METADATA_BYTES
        """Bytes of the largest file that is read as a whole."""

        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            file = os.path.join(str(self.root), key)
            try:
                status = os.stat(file)
            except OSError:
                return None
            if not S_ISREG(status.st_mode):
                return None
            root = os.path.realpath(self.root)
            if os.path.commonpath((os.path.realpath(file), root)) != root:
                raise ValueError(f"{key} leads out of the folder")
            if byte_range is None and status.st_size > self.longest:
                raise ValueError(f"{key} has {status.st_size} bytes, more than a chunk can have")
            return await super().get(key, prototype, byte_range)

    return FolderStore


def check_array(array: Any, name: str) -> None:
    """Raise `UnreadableImage` for chunks too large or too small to read; bound its codecs."""
    itemsize = np.dtype(array.dtype).itemsize
    check_block(name, "chunk", tuple(array.chunks), itemsize)
    if min(array.shape, default=0) < 1:
        raise UnreadableImage(f"{name} has no pixels (shape {array.shape}).", "Save it again.")
    counts = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
    if counts > MANY_CHUNKS and math.prod(array.chunks) < LEAST_PIXELS:
        sizes = " × ".join(map(str, array.chunks))
        raise UnreadableImage(
            f"{name} is cut into {counts} chunks of {sizes}, each a file of its own.",
            "Save it with chunks of 512 × 512.",
        )
    stored = tuple(getattr(array, "shards", None) or array.chunks)
    store = array.store
    if hasattr(store, "longest"):
        largest = min(math.prod(stored) * itemsize, LARGEST_WHOLE)
        store.longest = max(store.longest, largest + largest // 8)
    if array.metadata.zarr_format == 2:
        _bound_filters(array, name, math.prod(array.chunks) * itemsize)
    else:
        _check_codecs(array.metadata.codecs, name)


def _bound_filters(array: Any, name: str, size: int) -> None:
    compressor, filters = array.metadata.compressor, array.metadata.filters or ()
    for codec, known in [(compressor, COMPRESSORS), *((f, FILTERS) for f in filters)]:
        if codec is not None and codec.codec_id not in known:
            raise _unknown(name, codec.codec_id)
    if compressor is not None:
        # The output of filters may be wider than the chunk's pixels.
        limit = size * (16 if filters else 1) + SLACK
        decode = _bounded(compressor.codec_id, compressor, limit)
        compressor.decode = decode


def _check_codecs(codecs: Sequence[Any], name: str) -> None:
    for codec in codecs:
        codec_name = codec.to_dict().get("name")
        is_bounded = type(codec).__module__ == __name__
        if codec_name not in CODECS or (f"codecs.{codec_name}" in _register() and not is_bounded):
            raise _unknown(name, codec_name)
        _check_codecs(getattr(codec, "codecs", ()), name)


def _unknown(name: str, codec: object) -> UnreadableImage:
    return UnreadableImage(
        f"{name} is compressed with {codec!r}, which is not read.",
        f"Save it with one of {', '.join(COMPRESSORS)}.",
    )


# -- decoding no more than a chunk -----------------------------------------------------


def _bounded(kind: str, codec: Any, limit: int) -> Callable[..., Any]:
    """Return `codec.decode` that stops at `limit` bytes."""
    decode = codec.decode

    def bounded(data: Any, out: Any = None) -> Any:
        inflated = _inflate(kind, data, limit, codec)
        if inflated is None:
            return decode(data) if out is None else decode(data, out)
        return inflated

    return bounded


def _inflate(kind: str, data: Any, limit: int, codec: Any = None) -> bytes | None:
    """Return `data` decompressed to at most `limit` bytes; None if its header lets the codec itself do it."""
    view = memoryview(data).cast("B")
    if kind in ("zlib", "gzip"):
        return _until(view, limit, lambda: zlib.decompressobj(31 if kind == "gzip" else 15))
    if kind == "bz2":
        return _until(view, limit, bz2.BZ2Decompressor)
    if kind == "lzma":
        filters = codec.filters if codec.format == lzma.FORMAT_RAW else None
        memory = None if codec.format == lzma.FORMAT_RAW else 2**28
        return _until(view, limit, lambda: lzma.LZMADecompressor(codec.format, memory, filters))
    declared = _declared(kind, view)
    if declared is None:
        import imagecodecs

        return bytes(imagecodecs.zstd_decode(bytes(view), out=bytearray(limit)))
    if declared > limit:
        raise ValueError(f"a chunk unpacks to {declared} bytes, more than it has pixels for")
    return None


def _until(view: memoryview, limit: int, start: Callable[[], Any]) -> bytes:
    """Return all streams of `view` one after another."""
    parts: list[bytes] = []
    total, rest = 0, b""
    source: Any = view
    while True:
        stream = start()
        part = stream.decompress(source, limit + 1 - total)
        parts.append(part)
        total += len(part)
        if total > limit:
            raise ValueError(
                f"a chunk unpacks to more than {limit} bytes, more than it has pixels for"
            )
        if not stream.eof:
            raise ValueError("a chunk is cut off")
        rest = stream.unused_data
        if not rest.strip(b"\0"):
            return parts[0] if len(parts) == 1 else b"".join(parts)
        source = rest


def _declared(kind: str, view: memoryview) -> int | None:
    """Return the decompressed size in the header of a chunk; None if it has none."""
    data = bytes(view[:18])
    if kind == "lz4":
        return int.from_bytes(data[:4], "little")
    if kind == "blosc":
        if len(data) < 16:
            raise ValueError("a chunk is cut off")
        size, block, packed = struct.unpack_from("<III", data, 4)
        # Blosc trusts these and reads beyond the end where they are wrong.
        if packed != len(view) or (size and not 0 < block <= size) or data[3] == 0:
            raise ValueError("a chunk is damaged")
        return int(size)
    # Zstandard, RFC 8878: a descriptor, then window, dictionary and content size.
    if data[:4] != b"\x28\xb5\x2f\xfd" or len(data) < 6:
        return 0
    flags = data[4]
    single = flags >> 5 & 1
    start = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    width = (single, 2, 4, 8)[flags >> 6]
    size = int.from_bytes(data[start : start + width], "little")
    return (size + 256 if width == 2 else size) if width else None


@cache
def _register() -> dict[str, str]:
    """Register our versions of zarr 3's codecs, as named in its configuration."""
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
    from zarr.registry import register_codec

    bounded = {}
    for name, base in (("gzip", GzipCodec), ("zstd", ZstdCodec), ("blosc", BloscCodec)):
        kind = _bounded_class(name, base)
        register_codec(name, kind)
        bounded[f"codecs.{name}"] = f"{kind.__module__}.{kind.__qualname__}"
    return bounded


def _bounded_class(name: str, base: Any) -> Any:
    def inflated(chunk_bytes: Any, chunk_spec: Any) -> Any:
        """Return a chunk; None if its header lets the codec itself decompress it."""
        size = math.prod(chunk_spec.shape) * _itemsize(chunk_spec.dtype)
        # Checksums may follow the pixels.
        content = _inflate(name, chunk_bytes.as_numpy_array(), size + SLACK)
        return None if content is None else chunk_spec.prototype.buffer.from_bytes(content)

    async def decode_single(self: Any, chunk_bytes: Any, chunk_spec: Any) -> Any:
        chunk = inflated(chunk_bytes, chunk_spec)
        if chunk is not None:
            return chunk
        return await base._decode_single(self, chunk_bytes, chunk_spec)

    title = f"Bounded{base.__name__}"
    members = {"_decode_single": decode_single, "__module__": __name__, "__qualname__": title}
    if hasattr(base, "_decode_sync"):

        def decode_sync(self: Any, chunk_bytes: Any, chunk_spec: Any) -> Any:
            chunk = inflated(chunk_bytes, chunk_spec)
            return base._decode_sync(self, chunk_bytes, chunk_spec) if chunk is None else chunk

        members["_decode_sync"] = decode_sync
        # Zarr's own method runs on another thread and calls the one above.
        del members["_decode_single"]
    return type(title, (base,), members)


def _itemsize(dtype: Any) -> int:
    native = getattr(dtype, "to_native_dtype", None)
    return int(np.dtype(native() if native else dtype).itemsize)
