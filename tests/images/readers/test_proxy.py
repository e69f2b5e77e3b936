"""What a server may do to whoever reads from it: nothing elsewhere, and nothing for ever."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import made_products
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import zarr
from points import patience
from range_server import RangeServer

import napari_restore as nr
from napari_restore.errors import UnreadableImage
from napari_restore.images.files.proxy import proxy_for

SIDE = 300


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with x.tif, x.zarr, item.json and, of its asset, files of that name."""
    folder = tmp_path_factory.mktemp("web")
    pixels = np.random.default_rng(0).integers(1, 200, (3, 4 * SIDE, 4 * SIDE), np.uint8)
    shape = {"height": 4 * SIDE, "width": 4 * SIDE, "count": 3, "dtype": "uint8"}
    with rasterio.open(folder / "plain.tif", "w", photometric="RGB", **shape) as file:
        file.write(pixels)
    rasterio.shutil.copy(folder / "plain.tif", folder / "x.tif", driver="COG", compress="deflate")
    group = zarr.open_group(folder / "x.zarr", mode="w", zarr_format=2)
    array = group.create_array("0", shape=pixels.shape, chunks=(3, SIDE, SIDE), dtype="uint8")
    array[:] = pixels
    axes = [{"name": name} for name in "cyx"]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    made_products.write_stac(folder)
    return folder


class Odd:
    """A server of the files of a folder; `after` so many requests it answers as `how` does."""

    def __init__(self, folder: Path) -> None:
        self.how: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.after, self.requests, self.ended = 0, 0, threading.Event()
        odd = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                odd.requests += 1
                with contextlib.suppress(OSError):
                    if odd.how is not None and odd.requests > odd.after:
                        odd.how(self)
                    else:
                        odd.send(self, folder / self.path.partition("?")[0].lstrip("/"))

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def send(self, request: BaseHTTPRequestHandler, file: Path) -> None:
        data, span = file.read_bytes() if file.is_file() else None, request.headers.get("Range")
        if data is None:
            request.send_error(404)
            return
        low, high = 0, len(data)
        if span:
            first, last = span.removeprefix("bytes=").split("-")
            low, high = int(first), min(high, int(last or high) + 1)
        request.send_response(206 if span else 200)
        if span:
            request.send_header("Content-Range", f"bytes {low}-{high - 1}/{len(data)}")
        request.send_header("Content-Length", str(high - low))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(data[low:high])

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    # -- ways to answer ------------------------------------------------------------

    def redirect(self, goal: str) -> Callable[[BaseHTTPRequestHandler], None]:
        def how(request: BaseHTTPRequestHandler) -> None:
            request.send_response(302)
            request.send_header("Location", goal)
            request.send_header("Content-Length", "0")
            request.end_headers()

        return how

    def drip(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(206)
        request.send_header("Content-Range", "bytes 0-16383/1000000")
        request.send_header("Content-Length", "16384")
        request.end_headers()
        self._slowly(request, b" ")

    def drip_headers(self, request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 206 Partial\r\n")
        self._slowly(request, b"X-A: b\r\n")

    def hang(self, request: BaseHTTPRequestHandler) -> None:
        self.ended.wait(patience())

    def _slowly(self, request: BaseHTTPRequestHandler, part: bytes) -> None:
        for _ in range(300):
            request.wfile.write(part)
            request.wfile.flush()
            if self.ended.wait(0.1):
                return


@pytest.fixture
def odd(written: Path, short_patience: None) -> Iterator[Odd]:
    server = Odd(written)
    yield server
    server.close()


@pytest.fixture
def other(written: Path) -> Iterator[RangeServer]:
    with RangeServer(written) as running:
        yield running


def pixels_of(source: str) -> Any:
    image = nr.open_image(source)
    return image.read(nr.Region(0, 0, SIDE, SIDE))[..., :3]


NAMES = ["x.tif", "x.zarr", "item.json"]


@pytest.mark.parametrize("name", NAMES)
def test_a_redirect_within_the_server_is_followed(odd: Odd, written: Path, name: str) -> None:
    here = nr.open_image(written / name).read(nr.Region(0, 0, 9, 9))
    moved = odd.redirect

    def how(request: BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/moved/"):
            request.path = request.path.removeprefix("/moved")
            odd.send(request, written / request.path.lstrip("/"))
        else:
            moved(f"{odd.address}/moved{request.path}")(request)

    odd.how = how
    there = nr.open_image(f"{odd.address}/{name}").read(nr.Region(0, 0, 9, 9))
    np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("after", [0, 1, 2, 4, 6])
@pytest.mark.parametrize("name", NAMES)
def test_a_redirect_elsewhere_is_refused_at_any_request(
    odd: Odd, other: RangeServer, name: str, after: int
) -> None:
    goal = f"{other.address}/{name}"
    odd.how, odd.after = odd.redirect(f"{goal}?token=secret"), after
    try:
        pixels_of(f"{odd.address}/{name}")
        # All that it needed had come by then.
        assert odd.requests <= after
    except UnreadableImage as error:
        assert odd.address.partition("//")[2] in str(error)
        # Obstore asks elsewhere without the key, so that nobody can tell who sent it there.
        assert (other.address if name != "x.zarr" else "sends to another one") in str(error)
        assert "secret" not in str(error)
    assert other.requests == 0


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_an_exception_from_proxies_is_none_from_ours(
    odd: Odd, other: RangeServer, name: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of hosts in NO_PROXY the user's proxies are not asked; a redirect still leads nowhere else."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    box = nr.Region(0, 0, 9, 9)
    here = nr.open_image(f"{odd.address}/{name}").read(box)
    odd.how = odd.redirect(f"{other.address}/{name}")
    odd.requests, odd.after = 0, after
    with contextlib.suppress(UnreadableImage):
        there = nr.open_image(f"{odd.address}/{name}").read(box)
        np.testing.assert_array_equal(there, here)
    assert odd.requests > 0
    assert other.requests == 0


@pytest.mark.parametrize("goal", ["ftp://127.0.0.1:{port}/x.tif", "file:///etc/passwd"])
def test_other_schemes_are_not_followed(odd: Odd, goal: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        goal = goal.format(port=listening.getsockname()[1])
        for name in NAMES:
            odd.how = odd.redirect(goal)
            with pytest.raises(UnreadableImage):
                pixels_of(f"{odd.address}/{name}")
        listening.settimeout(0.01)
        with pytest.raises(TimeoutError):
            listening.accept()


@pytest.mark.parametrize("how", ["drip", "drip_headers", "hang"])
@pytest.mark.parametrize(("name", "after"), [("x.tif", 0), ("x.tif", 2), ("item.json", 0)])
def test_a_server_that_is_slow_is_given_up(odd: Odd, name: str, after: int, how: str) -> None:
    odd.how, odd.after = getattr(odd, how), after
    began = time.monotonic()
    with pytest.raises(UnreadableImage, match=r"sent \d+ bytes in \d+ seconds|cannot be read"):
        pixels_of(f"{odd.address}/{name}")
    assert time.monotonic() - began < patience()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["drip", "hang"])
@pytest.mark.ids("nightly", "drip")
def test_a_zarr_that_hangs_is_given_up(odd: Odd, how: str) -> None:
    odd.how = getattr(odd, how)
    with pytest.raises(UnreadableImage, match=r"sent \d+ bytes in \d+ seconds|does not answer"):
        pixels_of(f"{odd.address}/x.zarr")
    # Three files at once, each of them once more.
    assert odd.requests <= 6


def test_the_proxy_answers_nobody_without_its_key(odd: Odd, other: RangeServer) -> None:
    place = proxy_for(odd.address, 1.0)
    login, _, port = place.removeprefix("http://").partition("@127.0.0.1:")
    wrong = login.partition(":")[0] + ":" + "0" * 32

    def answer(login: str, address: str) -> bytes:
        line = f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n"
        with socket.create_connection(("127.0.0.1", int(port)), patience()) as asking:
            asking.sendall(f"GET {address}/x.tif HTTP/1.1\r\n{line if login else ''}\r\n".encode())
            return asking.recv(100)

    for address in (odd.address, other.address):
        assert answer("", address) == answer(wrong, address) == b""
    assert odd.requests == other.requests == 0
    assert b" 200 " in answer(login, odd.address)
    assert b" 421 " in answer(login, other.address)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="another way to send Ctrl-C")
@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.ids("nightly", "1", "2")
def test_ctrl_c_ends_the_wait_for_a_server(odd: Odd, after: int, own_cache: Path) -> None:
    asked = threading.Event()

    def how(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        odd.hang(request)

    odd.how, odd.after = how, after
    command = [sys.executable, "-m", "napari_restore", "info", f"{odd.address}/x.tif"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert asked.wait(patience())
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=patience())
    assert child.returncode == 3 and "Traceback" not in said


def test_no_secret_of_the_proxy_is_in_a_message(odd: Odd, written: Path, tmp_path: Path) -> None:
    shutil.copy(written / "item.json", tmp_path)
    key = proxy_for(odd.address, 1.0).partition("@")[0].rpartition(":")[2]
    odd.how = odd.redirect("http://127.0.0.1:9/")
    for name in NAMES:
        with pytest.raises(UnreadableImage) as raised:
            pixels_of(f"{odd.address}/{name}")
        assert key not in str(raised.value) + json.dumps(raised.value.args)
