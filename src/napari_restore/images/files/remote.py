"""Images at an address: what is asked of a web server, and under which settings GDAL reads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException, IncompleteRead
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, getproxies

from napari_restore._addresses import without_queries
from napari_restore._confined import awaited
from napari_restore.errors import UnreadableImage
from napari_restore.images.files.buckets import FOLDERS, access_to
from napari_restore.images.files.cancelling import check_cancelled
from napari_restore.images.files.proxy import LEAST, OurProxy, proxy_for, reason_of

T = TypeVar("T")
HEAD_BYTES = 16384
PATIENCE = 8.0
"""Seconds without an answer, or without a byte, after which a request is given up."""
LONGEST = 600
"""Seconds after which a request is given up even if bytes still come."""
ATTEMPTS = 3
PAUSE = 0.5
"""Seconds before a request is repeated, doubled each time."""
DRIVERS = ("GTiff", "JP2OpenJPEG")
"""Formats of which a region can be read by ranges, and that refer to no other file."""
_ADDRESS = re.compile(r"(https?|s3|gs|az)://", re.IGNORECASE)
GDAL_FOLDERS = ("/vsicurl/", *FOLDERS.values())


class RemotePath(PurePosixPath):
    """The address of a file; as text without a query, which may be a signature."""

    address: str
    scheme: str
    bucket: str
    """The bucket or container, or the host of a web server."""
    key: str
    """The name within the bucket; the path at a web server, as it is in the address."""

    @classmethod
    def of(cls, address: str) -> RemotePath:
        """Return the path of an address; raises `UnreadableImage` where it names no object."""
        scheme, _, rest = address.partition("://")
        scheme = scheme.lower()
        if scheme in FOLDERS:
            bucket, _, key = rest.partition("/")
            key = key.strip("/")
            if not bucket or not key or "?" in rest or "@" in bucket:
                form = f"{scheme}://{'CONTAINER' if scheme == 'az' else 'BUCKET'}/NAME"
                raise UnreadableImage(
                    f"{without_queries(address)} names no object of a bucket.", f"Write {form}."
                )
            path = cls(f"{bucket}/{key}")
        else:
            parts = urlsplit(address)
            bucket, key = parts.netloc, parts.path
            path = cls(f"{bucket}{unquote(key)}")
        path.address, path.scheme, path.bucket, path.key = address, scheme, bucket, key
        return path

    @property
    def in_gdal(self) -> str:
        """The name under which GDAL reads it."""
        folder = FOLDERS.get(self.scheme)
        return f"/vsicurl/{self.address}" if folder is None else f"{folder}{self.bucket}/{self.key}"

    def __str__(self) -> str:
        address = getattr(self, "address", None)
        return super().__str__() if address is None else without_queries(address)

    def __fspath__(self) -> str:
        return str(self)


class Answer(NamedTuple):
    """What a server answers about a file."""

    head: bytes
    size: int
    tag: str
    """ETag, or time of the last change."""


def is_address(text: str) -> bool:
    """Return whether `text` is an address that can be read."""
    return _ADDRESS.match(text) is not None


def names_address(source: Any) -> bool:
    """Return whether `source`, or one of several, is the address of an image."""
    sources = source if isinstance(source, (list, tuple)) else [source]
    return any(isinstance(each, str) and is_address(each) for each in sources)


class Reply(NamedTuple):
    """What a server sends."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask_server(path: RemotePath) -> Answer:
    """Return the first bytes of a file and what identifies it; raises `UnreadableImage`."""
    reply = fetch(path, HEAD_BYTES, f"0-{HEAD_BYTES - 1}")
    if reply.status != 206:
        raise whole_files_only(path)
    total = reply.headers.get("Content-Range", "").rpartition("/")[2]
    tag = reply.headers.get("ETag") or reply.headers.get("Last-Modified") or ""
    return Answer(reply.body, int(total) if total.isdecimal() else 0, tag)


def fetch(path: RemotePath, most: int, span: str = "") -> Reply:
    """Ask a web server for ≤ `most` bytes of a file or a `span`, and again; raises `UnreadableImage`, `Cancelled`."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        began, code, why, reply = time.monotonic(), 0, "", None
        try:
            reply = interruptible(lambda: _ask(path.address, most, span))
        except HTTPError as error:
            error.close()
            code, why = error.code, "" if error.code >= 400 else str(error.reason or error)
        except (HTTPException, OSError) as error:
            why = str(getattr(error, "reason", None) or error)
        reason = reason_of(path.address, began)
        if reply is not None and not reason:
            return reply
        failure = no_answer(path, reason or why) if reason or why else refusal(path, code)
        if reason or (0 < code < 500 and code != 429):
            break
    raise failure


def no_answer(path: RemotePath, why: str) -> UnreadableImage:
    """Return the error for a server that does not send what it was asked for; `why` may begin with its name."""
    host = urlsplit(path.address).netloc.rpartition("@")[2] or path.bucket
    text = f"{why}." if why.startswith(host) else f"{host} does not answer: {why}."
    return UnreadableImage(text, "Check the address and the connection.")


def _ask(address: str, most: int, span: str) -> Reply:
    proxy = OurProxy(dict.fromkeys(("http", "https", "ftp"), proxy_for(address, PATIENCE)))
    # Only https and http: `is_address`.
    request = Request(address, headers={"Range": f"bytes={span}"} if span else {})  # noqa: S310
    with build_opener(proxy, _Redirects).open(request, timeout=2 * PATIENCE) as answer:
        body = answer.read(most)
        if answer.length and len(body) < most:
            raise IncompleteRead(body, answer.length)
        return Reply(answer.status, answer.headers, body)


class _Redirects(HTTPRedirectHandler):
    def http_error_302(self, req: Request, fp: Any, code: int, msg: str, headers: Any) -> Any:
        # It would be read whole.
        fp.read = bytes
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def interruptible(work: Callable[[], T]) -> T:
    """Return what `work` returns, on a thread of its own: Ctrl-C and a cancelled opening end the wait."""
    return awaited(work, LONGEST, check=check_cancelled)


def whole_files_only(path: RemotePath) -> UnreadableImage:
    """Return the error for a server that sends no ranges."""
    return UnreadableImage(
        f"The server of {path} sends whole files only.", "Download it first and open the copy."
    )


def refusal(path: RemotePath, code: int) -> UnreadableImage:
    """Return the error for an answer with the HTTP status `code`."""
    if code in (401, 403):
        hint = "Ask its owner for an address that may be."
        if path.scheme in FOLDERS:
            hint = "Set the keys of someone who may, or ask its owner."
        return UnreadableImage(f"{path} may not be read (HTTP {code}).", hint)
    if code in (404, 410):
        return UnreadableImage(f"There is no file {path} (HTTP {code}).", "Check the address.")
    return UnreadableImage(f"The server of {path} fails (HTTP {code}).", "Try again later.")


def options_for(gdal_path: str) -> dict[str, Any]:
    """Return the settings under which GDAL reads `gdal_path`, a `RemotePath.in_gdal`, and no other."""
    scheme = next((name for name, folder in FOLDERS.items() if gdal_path.startswith(folder)), None)
    access = {} if scheme is None else access_to(scheme).gdal
    web = "http" if access.get("AWS_HTTPS") == "NO" else "https"
    theirs = getproxies().get(web, "")
    proxy = theirs if scheme else proxy_for(gdal_path.removeprefix("/vsicurl/"), PATIENCE)
    patience = str(max(1, round(PATIENCE)))
    return {
        "CPL_VSIL_CURL_ALLOWED_FILENAME": gdal_path,
        "GDAL_HTTP_PROXY": proxy,
        "GDAL_HTTPS_PROXY": proxy,
        "GDAL_HTTP_MAX_RETRY": str(ATTEMPTS),
        "GDAL_HTTP_RETRY_DELAY": str(PAUSE),
        "GDAL_HTTP_CONNECTTIMEOUT": patience,
        "GDAL_HTTP_TIMEOUT": str(LONGEST),
        "GDAL_HTTP_LOW_SPEED_TIME": patience,
        "GDAL_HTTP_LOW_SPEED_LIMIT": str(LEAST),
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        "GDAL_INGESTED_BYTES_AT_OPEN": str(HEAD_BYTES),
        "GDAL_PAM_ENABLED": "NO",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        **access,
    }
