"""Sending a finished file, or OME-Zarr, to a bucket.

An object appears whole or not at all. The root metadata of an OME-Zarr comes last, so that nobody opens
one of which chunks are missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from napari_restore._addresses import without_queries
from napari_restore.errors import BadOutput, Cancelled, UnreadableImage, option
from napari_restore.images.cache import cache_dir, make_private
from napari_restore.images.export._write import format_of
from napari_restore.images.files import (
    FOLDERS,
    RemotePath,
    failure,
    is_absent,
    is_refusal,
    obstore_for,
    store_of,
)

ROOT = "zarr.json"
_AT_ONCE = 16


def file_before_upload(address: str, scratch: str | Path | None = None) -> Path:
    """Return the path in the scratch folder of what will be sent to `address`; its folder is made.

    Raises `BadOutput` where no output can be sent there.
    """
    remote = _remote_of(address)
    folder = Path(scratch) if scratch is not None else cache_dir()
    own = folder / "uploads" / hashlib.sha256(str(remote).encode()).hexdigest()[:16]
    try:
        make_private(own)
    except OSError as error:
        raise BadOutput(
            f"The folder {own} cannot be made ({error.strerror}).",
            f"Choose another {option('scratch')} folder.",
        ) from error
    return own.absolute() / remote.name


def check_upload(address: str, overwrite: bool = False) -> None:
    """Raise `BadOutput` if there is something at `address` already, or the bucket does not answer."""
    remote = _remote_of(address)
    try:
        exists = _exists(remote)
    except UnreadableImage as error:
        raise BadOutput(error.message.marked, error.hint.marked) from None
    if exists and not overwrite:
        raise BadOutput(
            f"{remote} exists already.", f"Choose another name, or {option('overwrite', True)}."
        )


def upload(
    path: Path,
    address: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Send the file, with its masks, or OME-Zarr `path` to `address`; what was there is replaced.

    `progress` is called with objects sent and objects in all. Raises `BadOutput`, with `path` in the
    message, and `Cancelled`; both leave `path` as it is.
    """
    remote = _remote_of(address)
    try:
        obstore, store = obstore_for(remote), store_of(remote)
        *others, last = _files_of(path)
        if path.is_dir():
            _clear(remote)

        def send(file: tuple[Path, str]) -> None:
            if cancelled is not None and cancelled():
                raise Cancelled("Sending the file was cancelled.", f"It is in {path}.")
            obstore.put(store, f"{remote.key}{file[1]}", file[0])

        total = len(others) + 1
        with ThreadPoolExecutor(_AT_ONCE, "upload") as pool:
            for number, _ in enumerate(pool.map(send, others), 1):
                if progress is not None:
                    progress(number, total)
        send(last)
        if progress is not None:
            progress(total, total)
    except Cancelled:
        raise
    except Exception as error:
        cause = error if isinstance(error, UnreadableImage) else failure(remote, error)
        raise BadOutput(
            f"The result could not be sent to {remote} and is in {path}: {cause.message.marked}",
            "Send it yourself, or run the same command again.",
        ) from None


def _remote_of(address: str) -> RemotePath:
    scheme = address.partition("://")[0].lower()
    if scheme not in FOLDERS:
        raise BadOutput(
            f"{without_queries(address)} cannot be written to.",
            "Write to a file, or to s3://, gs:// or az://.",
        )
    try:
        remote = RemotePath.of(address)
    except UnreadableImage as error:
        raise BadOutput(error.message.marked, error.hint.marked) from None
    format_of(Path(PurePosixPath(remote.key).name))
    return remote


def _files_of(path: Path) -> list[tuple[Path, str]]:
    """Return what to send, with the end of its name; the file, or the root metadata, comes last."""
    if not path.is_dir():
        masks = path.with_name(f"{path.name}.msk")
        return [(masks, ".msk"), (path, "")] if masks.is_file() else [(path, "")]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file != path / ROOT]
    return [(file, f"/{file.relative_to(path).as_posix()}") for file in [*files, path / ROOT]]


def _exists(remote: RemotePath) -> bool:
    obstore, store = obstore_for(remote), store_of(remote)
    try:
        if remote.suffix.lower() == ".zarr":
            _check_bucket(remote)
            return bool(_objects_below(remote))
        obstore.head(store, remote.key)
    except UnreadableImage:
        raise
    except Exception as error:
        if not isinstance(error, FileNotFoundError):
            raise failure(remote, error) from None
        _check_bucket(remote)
        return False
    return True


def _check_bucket(remote: RemotePath) -> None:
    """Raise `UnreadableImage` if there is no such bucket; one that may not be listed may be there."""
    try:
        next(
            iter(obstore_for(remote).list(store_of(remote), prefix=remote.key, chunk_size=1)), None
        )
    except Exception as error:
        if is_absent(error):
            raise UnreadableImage(
                f"There is no {remote.scheme}://{remote.bucket}.",
                "Make it first, or check the name.",
            ) from None
        if not is_refusal(error):
            raise failure(remote, error) from None


def _objects_below(remote: RemotePath) -> list[str]:
    """Return the objects of the OME-Zarr, the root metadata first."""
    listed: list[Any] = (
        obstore_for(remote).list(store_of(remote), prefix=f"{remote.key}/").collect()
    )
    root = f"{remote.key}/{ROOT}"
    return sorted((str(each["path"]) for each in listed), key=lambda name: (name != root, name))


def _clear(remote: RemotePath) -> None:
    """Remove an OME-Zarr, or what a failed upload has left: a chunk of it would be read as one of ours."""
    obstore, store = obstore_for(remote), store_of(remote)
    names = _objects_below(remote)
    for part in (names[:1], names[1:]):
        if part:
            obstore.delete(store, part)
