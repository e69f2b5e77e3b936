"""A web server on this machine that sends files in ranges, and fails on demand.

To clients of S3, Google Cloud Storage and Azure its folders are buckets.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no client that is gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class RangeServer:
    """Serves the files of `folder` from ``.address``; use it as a context manager.

    `codes` are answered instead of the next files, `delay` is in seconds per request; the next `breaks`
    answers end after half of what is asked for, the next `hangs` do so and stay silent; without
    `ranges` whole files are sent. With `key` only requests that are signed with it are answered.
    Objects may be written, listed and deleted as with S3. `absent` is the code for what is not there;
    answers wait until `together` requests have come.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.codes: list[int] = []
        self.delay, self.ranges, self.tag = 0.0, True, '"1"'
        self.breaks, self.hangs = 0, 0
        self.absent, self.together = 404, 0
        self._ended, self._arrived = threading.Event(), threading.Condition()
        self.sent, self.requests = 0, 0
        self.asked: list[str] = []
        """Paths of the requests."""
        self.key = ""
        self.writable = True
        self.written: list[str] = []
        """Paths of objects in the order in which they were written or deleted."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def do_HEAD(self) -> None:
                server._answer(self)

            def do_PUT(self) -> None:
                server._write(self)

            def do_POST(self) -> None:
                server._write(self)

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> RangeServer:
        # Its end waits until it looks up.
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        time.sleep(self.delay)
        self._wait_for_others()
        name = unquote(request.path.partition("?")[0]).lstrip("/")
        self.asked.append(name)
        if "list-type=" in request.path:
            self._list(request, name)
            return
        path = self.folder / name
        code = self.codes.pop(0) if self.codes else 200 if path.is_file() else self.absent
        if self.key not in request.headers.get("Authorization", ""):
            code = 403
        if code != 200:
            request.send_response(code)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        size, asked = path.stat().st_size, request.headers.get("Range")
        part = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "") if self.ranges else None
        low, high = 0, size
        if part is not None and not part[1]:
            low = max(0, size - int(part[2]))
        elif part is not None:
            low, high = int(part[1]), min(size, int(part[2] or size - 1) + 1)
        with path.open("rb") as file:
            file.seek(low)
            body = file.read(high - low)
        request.send_response(206 if part is not None else 200)
        if part is not None:
            request.send_header("Content-Range", f"bytes {low}-{high - 1}/{size}")
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Accept-Ranges", "bytes" if self.ranges else "none")
        request.send_header("ETag", self.tag)
        request.send_header("Last-Modified", "Sun, 01 Nov 2026 12:00:00 GMT")
        request.end_headers()
        if request.command == "HEAD":
            return
        breaks = self._take("breaks")
        if breaks or self._take("hangs"):
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            request.close_connection = True
            if not breaks:
                self._ended.wait()
            return
        self.sent += len(body)
        try:
            request.wfile.write(body)
        except OSError:
            request.close_connection = True  # the client wanted no more

    def _write(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        name = unquote(request.path.partition("?")[0]).lstrip("/")
        path = self.folder / name
        allowed = self.writable and self.key in request.headers.get("Authorization", "")
        answer = b""
        if allowed and request.command == "PUT":
            self.written.append(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        elif allowed:  # a list of objects to delete
            keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            answer = f"<DeleteResult>{deleted}</DeleteResult>".encode()
            for key in keys:
                self.written.append(f"{name}/{key}".replace("//", "/"))
                (path / key).unlink()
        request.send_response(200 if allowed else 403)
        request.send_header("ETag", self.tag)
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _list(self, request: BaseHTTPRequestHandler, bucket: str) -> None:
        root = self.folder / bucket
        if not root.is_dir():
            request.send_response(404)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start = unquote(parse_qs(urlsplit(request.path).query)["prefix"][0])
        names = [f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file()]
        entries = "".join(
            f"<Contents><Key>{name}</Key><LastModified>2026-11-01T12:00:00.000Z</LastModified>"
            f"<Size>1</Size><ETag>1</ETag></Contents>"
            for name in names
            if name.startswith(start)
        )
        body = f"<ListBucketResult>{entries}</ListBucketResult>".encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _wait_for_others(self) -> None:
        with self._arrived:
            self.together -= 1
            if self.together <= 0:
                self._arrived.notify_all()
            self._arrived.wait_for(lambda: self.together <= 0)

    def _take(self, name: str) -> bool:
        """Return whether this answer is one of those to come that `name` counts."""
        with self._arrived:
            left = getattr(self, name)
            setattr(self, name, max(0, left - 1))
        return left > 0
