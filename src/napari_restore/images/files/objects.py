"""Objects of buckets, and files of web servers, through obstore; its errors as one sentence."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from napari_restore.errors import UnreadableImage
from napari_restore.images.files import remote
from napari_restore.images.files.buckets import FOLDERS, access_to
from napari_restore.images.files.proxy import proxy_for, reason_of
from napari_restore.images.files.remote import (
    HEAD_BYTES,
    Answer,
    RemotePath,
    ask_server,
    no_answer,
    refusal,
    whole_files_only,
)

_STATUS = re.compile(r"status code: (\d{3})")


def obstore_for(path: RemotePath) -> Any:
    """Return the module obstore; raises `UnreadableImage` where it is not installed."""
    try:
        import obstore
    except ImportError:
        raise UnreadableImage(
            f"{path} is read by obstore, which is not installed.",
            'Install it: pip install "napari-restore[buckets]".',
        ) from None
    return obstore


def store_of(path: RemotePath, *, below: bool = False) -> Any:
    """Return the obstore store of a bucket or server, or of what lies `below` a path; raises `UnreadableImage`."""
    obstore_for(path)
    from obstore import store

    is_web = path.scheme not in FOLDERS
    pause = timedelta(seconds=remote.PAUSE)
    settings: dict[str, Any] = {
        "client_options": {
            # An endpoint of the user's may be http.
            "allow_http": True,
            **({"proxy_url": proxy_for(path.address, remote.PATIENCE)} if is_web else {}),
            "connect_timeout": timedelta(seconds=remote.PATIENCE / 2),
            "read_timeout": timedelta(seconds=remote.PATIENCE / 2),
            "timeout": timedelta(seconds=remote.LONGEST),
        },
        "retry_config": {
            "max_retries": remote.ATTEMPTS,
            "backoff": {"init_backoff": pause, "max_backoff": 8 * pause, "base": 2},
            # Who is silent is asked once more.
            "retry_timeout": timedelta(seconds=0.9 * remote.PATIENCE),
        },
    }
    if is_web:
        return store.HTTPStore.from_url(path.address.rstrip("/"), **settings)
    kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[path.scheme]
    prefix = path.key if below else None
    try:
        return kind(path.bucket, prefix=prefix, config=access_to(path.scheme).store, **settings)
    except UnreadableImage:
        raise
    except Exception:
        # Its message may quote a key.
        raise UnreadableImage(
            f"The credentials for {path.scheme}:// are not valid.",
            "Check the variables and files that set them.",
        ) from None


def ask(path: RemotePath) -> Answer:
    """Return the first bytes of a file and what identifies it; raises `UnreadableImage`."""
    if path.scheme not in FOLDERS:
        return ask_server(path)
    obstore, store = obstore_for(path), store_of(path)
    try:
        answer = obstore.get(store, path.key, options={"range": (0, HEAD_BYTES)})
        head = bytes(answer.bytes())
    except Exception as error:
        raise failure(path, error) from None
    return Answer(head, int(answer.meta["size"]), tag_of(answer.meta))


def tag_of(meta: Any) -> str:
    """Return the ETag of an object, or the time of its last change."""
    return str(meta["e_tag"] or meta["last_modified"])


def is_from_server(error: BaseException) -> bool:
    """Return whether obstore raised `error`, for a server that fails or refuses."""
    return type(error).__module__.startswith("obstore") or isinstance(error, PermissionError)


def is_refusal(error: BaseException) -> bool:
    """Return whether a server refused to send an object that may or may not exist."""
    return isinstance(error, PermissionError) or type(error).__name__ in (
        "PermissionDeniedError",
        "UnauthenticatedError",
    )


def failure(path: RemotePath, error: Exception) -> UnreadableImage:
    """Return the sentence for an error of obstore, without the address that it asked."""
    if reason := reason_of(path.address):
        return no_answer(path, reason)
    if isinstance(error, FileNotFoundError):
        return refusal(path, 404)
    if is_refusal(error):
        return refusal(path, 403)
    if "non-partial" in str(error) or type(error).__name__ == "NotSupportedError":
        return whole_files_only(path)
    found = _STATUS.search(str(error))
    if found is None:
        return UnreadableImage(
            f"The server of {path} does not answer, or sends to another one.",
            "Check the address and the connection.",
        )
    code = int(found[1])
    if code == 416:
        return UnreadableImage(f"{path} is empty.", "Upload it again.")
    if path.scheme == "s3" and code in (301, 307, 400):
        return UnreadableImage(
            f"The bucket of {path} is not in this region, or refuses the request (HTTP {code}).",
            "Set AWS_REGION to its region.",
        )
    return refusal(path, code)
