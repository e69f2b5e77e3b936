"""Reader of OME-Zarr at an address: its chunks are files of a web server or objects of a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, cast

from napari_restore.errors import UnreadableImage
from napari_restore.images._reader import Reader, of_plane
from napari_restore.images._suffixes import ZARR_MARKERS
from napari_restore.images.files.objects import (
    failure,
    is_from_server,
    is_refusal,
    obstore_for,
    store_of,
    tag_of,
)
from napari_restore.images.files.remote import RemotePath
from napari_restore.images.readers._zarr_bounds import METADATA_BYTES
from napari_restore.images.readers.ome_zarr import OmeZarrReader

_METADATA = (*ZARR_MARKERS, ".zmetadata")
_ASKED_CHUNKS = 16
"""Chunks of the first level whose ETag is part of the fingerprint."""


class RemoteZarrReader(OmeZarrReader):
    """A multiscale image that a server sends chunk by chunk; only those that are read are asked for."""

    # Nothing is listed, so that a plain web server will do. The fingerprint is over address, size
    # and ETag of the metadata and of some chunks.

    concurrent_reads = 16

    def __init__(self, address: str, *, plane: int = 0) -> None:
        remote = RemotePath.of(address)
        Reader.__init__(self, cast("Path", remote))
        self._remote = remote
        if "?" in address:
            raise UnreadableImage(
                f"The signature of {remote} holds for one file, and a zarr has many.",
                "Use an address that needs none.",
            )
        self._store = store_of(remote, below=True)
        self._zarr = _store_class()(self._store, read_only=True)
        self._open(self._zarr, plane)

    def fingerprint(self) -> str:
        """Return the hex digest of what the server answers; raises `OSError` if it is gone."""
        obstore = obstore_for(self._remote)

        def stamp(key: str) -> str:
            try:
                meta = obstore.head(self._store, key)
            except Exception as error:
                if isinstance(error, FileNotFoundError) or (
                    is_refusal(error) and _is_metadata(key)
                ):
                    return f"{key};"
                raise OSError(failure(self._remote, error).message) from None
            return f"{key};{meta['size']};{tag_of(meta)}"

        keys = list(self._identifying_keys())
        with ThreadPoolExecutor(self.concurrent_reads, "ask") as pool:
            answers = list(pool.map(stamp, keys))
        if all(answer.endswith(";") for answer in answers):
            raise OSError(f"{self._remote} is gone")
        stamps = "\n".join([str(self._remote), *answers])
        return of_plane(hashlib.sha256(stamps.encode()).hexdigest(), self.plane)

    def _identifying_keys(self) -> Iterator[str]:
        """Yield the metadata of the image and its levels, and chunks spread over the first level."""
        first = self._arrays[0]
        names = (
            ("zarr.json",) if first.metadata.zarr_format == 3 else (".zgroup", ".zarray", ".zattrs")
        )
        for folder in dict.fromkeys(["", *(array.path for array in self._arrays)]):
            yield from (f"{folder}/{name}".lstrip("/") for name in names)
        stored = getattr(first, "shards", None) or first.chunks
        counts = [-(-n // c) for n, c in zip(first.shape, stored, strict=True)]
        spread = [{*range(0, n, max(1, n // 4)), n - 1} for n in counts]
        indices = list(product(*map(sorted, spread)))
        for index in indices[:: -(-len(indices) // _ASKED_CHUNKS)]:
            yield f"{first.path}/{first.metadata.encode_chunk_key(index)}".lstrip("/")

    def _no_zarr(self, error: Exception) -> UnreadableImage:
        if is_from_server(error):
            return failure(self._remote, error)
        if isinstance(error, FileNotFoundError):
            if self._zarr.was_refused:
                return failure(self._remote, PermissionError())
            return UnreadableImage(
                f"There is no zarr at {self._remote}.", "Name the folder that contains zarr.json."
            )
        return super()._no_zarr(error)

    def _no_chunk(self, error: Exception) -> UnreadableImage:
        if is_from_server(error):
            return failure(self._remote, error)
        return super()._no_chunk(error)


def _is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] in _METADATA


@cache
def _store_class() -> Any:
    import obstore
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import ObjectStore

    class RemoteStore(ObjectStore):  # type: ignore[type-arg]  # a plain class before zarr 3.1.4
        """Store of the files below an address; none longer than a chunk is fetched."""

        longest = METADATA_BYTES
        was_refused = False

        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            prototype = prototype or default_buffer_prototype()
            if byte_range is not None:
                return await super().get(key, prototype, byte_range)
            try:
                answer = await obstore.get_async(self.store, key)
            except FileNotFoundError:
                return None
            except Exception as error:
                # A bucket that may not be listed refuses what it does not have, as the metadata of
                # the other version. A chunk that is refused must not be read as empty.
                if is_refusal(error) and _is_metadata(key):
                    self.was_refused = True
                    return None
                raise
            size = int(answer.meta["size"])
            if size > self.longest:
                raise ValueError(f"{key} has {size} bytes, more than a chunk can have")
            return prototype.buffer.from_bytes(await answer.bytes_async())

    return RemoteStore
