"""Images at an address of the web: what is asked of their server, and under which settings of GDAL."""

from __future__ import annotations

import os
import re
import time
from http.client import HTTPException
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from napari_restore._addresses import without_queries
from napari_restore.errors import UnreadableImage

HEAD_BYTES = 16384
PATIENCE = 20.0
"""Seconds without an answer, or without a byte, after which a request is given up."""
ATTEMPTS = 3
PAUSE = 0.5
"""Seconds before a request is repeated, doubled each time."""
DRIVERS = ("GTiff", "JP2OpenJPEG")
"""Formats of which a region can be read by ranges, and that refer to no other file."""
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_BUCKET = re.compile(r"(s3|gs|az|abfs?)://", re.IGNORECASE)


class RemotePath(PurePosixPath):
    """The address of a file; as text without a query, which may be a signature."""

    address: str

    @classmethod
    def of(cls, address: str) -> RemotePath:
        parts = urlsplit(address)
        path = cls(f"{parts.netloc}{unquote(parts.path)}")
        path.address = address
        return path

    def __str__(self) -> str:
        address = getattr(self, "address", None)
        return super().__str__() if address is None else without_queries(address)

    def __fspath__(self) -> str:
        return str(self)


class Answer(NamedTuple):
    """What a server tells of a file."""

    head: bytes
    size: int
    tag: str
    """ETag, or time of the last change."""


def is_address(text: str) -> bool:
    """Return whether `text` is an address that can be read; raises `UnreadableImage` for buckets."""
    if _BUCKET.match(text):
        raise UnreadableImage(
            f"{text} is an address of a bucket, which is not read yet.",
            "Use the https:// address of the file.",
        )
    return _ADDRESS.match(text) is not None


def names_address(source: Any) -> bool:
    """Return whether `source`, or one of several, is the address of an image."""
    sources = source if isinstance(source, (list, tuple)) else [source]
    return any(isinstance(each, str) and _ADDRESS.match(each) for each in sources)


def ask(path: RemotePath) -> Answer:
    """Return the first bytes of a file and what identifies it; raises `UnreadableImage`."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return _answer(path)
        except HTTPError as error:
            failure = _refusal(path, error.code)
            if error.code < 500 and error.code != 429:
                break
        except (URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            failure = UnreadableImage(
                f"{urlsplit(path.address).netloc} does not answer: {reason}.",
                "Check the address and the connection.",
            )
    raise failure


def _answer(path: RemotePath) -> Answer:
    # Only https and http: `is_address`.
    request = Request(path.address, headers={"Range": f"bytes=0-{HEAD_BYTES - 1}"})  # noqa: S310
    with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        if answer.status != 206:
            raise UnreadableImage(
                f"The server of {path} sends whole files only.",
                "Download it first and open the copy.",
            )
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        return Answer(answer.read(HEAD_BYTES), int(total) if total.isdecimal() else 0, tag)


def _refusal(path: RemotePath, code: int) -> UnreadableImage:
    if code in (401, 403):
        return UnreadableImage(
            f"{path} may not be read (HTTP {code}).", "Ask its owner for an address that may be."
        )
    if code in (404, 410):
        return UnreadableImage(f"There is no file {path} (HTTP {code}).", "Check the address.")
    return UnreadableImage(f"The server of {path} fails (HTTP {code}).", "Try again later.")


def options_for(gdal_path: str) -> dict[str, Any]:
    """Return the settings under which GDAL reads `gdal_path`, ``/vsicurl/https://…``, and no other."""
    scheme = urlsplit(gdal_path.removeprefix("/vsicurl/")).scheme
    proxy = next(
        (
            os.environ[name]
            for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())
            if name in os.environ
        ),
        "",
    )
    return {
        "CPL_VSIL_CURL_ALLOWED_FILENAME": gdal_path,
        "GDAL_HTTP_PROXY": proxy,
        "GDAL_HTTPS_PROXY": proxy,
        "GDAL_HTTP_MAX_RETRY": str(ATTEMPTS),
        "GDAL_HTTP_RETRY_DELAY": str(PAUSE),
        "GDAL_HTTP_CONNECTTIMEOUT": str(int(PATIENCE)),
        "GDAL_HTTP_TIMEOUT": "600",
        "GDAL_HTTP_LOW_SPEED_TIME": str(int(PATIENCE)),
        "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        "GDAL_PAM_ENABLED": "NO",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_INGESTED_BYTES_AT_OPEN": str(HEAD_BYTES),
    }
