"""A proxy on this machine through which all clients reach the server of an address, and no other.

GDAL and obstore follow redirects wherever they lead, wait for a byte a second, and have no setting against
either; but they ask a proxy for each server, and it sees each byte.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import secrets
import select
import socket
import socketserver
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import ProxyHandler, Request, getproxies, proxy_bypass

from napari_restore._addresses import without_queries

Server = tuple[str, str, int]
LEAST = 1024
"""Bytes a second."""
IDLE_SECONDS, LATELY = 60.0, 10.0


@dataclass
class Client:
    """Whoever asks a server, by its key."""

    name: str
    server: Server | None
    patience: float
    """Seconds in which `LEAST` bytes a second must come."""
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    reason: str = ""
    """Why an answer was cut off; the latest one, at `time`."""
    time: float = 0.0

    def cut_off(self, reason: str) -> None:
        self.reason, self.time = reason, time.monotonic()


_clients: dict[Server | None, Client] = {}


def server_of(address: str) -> Server | None:
    """Return scheme, host and port; None for what is no address of the web."""
    with contextlib.suppress(ValueError, KeyError):
        parts = urlsplit(address)
        return (
            parts.scheme,
            parts.hostname or "",
            parts.port or {"http": 80, "https": 443}[parts.scheme],
        )
    return None


def proxy_for(address: str, patience: float) -> str:
    """Return the proxy, with user and password, by which a client asks the server of `address`."""
    name, server = urlsplit(address).netloc.rpartition("@")[2], server_of(address)
    own = _clients.setdefault(server, Client(name, server, patience))
    # Answers end that are slower than `LEAST` for `patience` seconds.
    own.patience = patience
    return f"http://client:{own.key}@127.0.0.1:{_listener().server_address[1]}"


class OurProxy(ProxyHandler):
    """Asks for every address by `proxy_for`, also those that NO_PROXY names: it is for the proxies of users."""

    def proxy_open(self, req: Request, proxy: str, type: str) -> object:
        login, _, place = proxy.removeprefix("http://").partition("@")
        req.add_header("Proxy-Authorization", f"Basic {_login(login)}")
        req.set_proxy(place, "http")
        return self.parent.open(req, timeout=req.timeout) if type == "ftp" else None


def reason_of(address: str, since: float | None = None) -> str:
    """Return why an answer of the server of `address` was cut off `since` then, or just now; or nothing."""
    own = _clients.get(server_of(address))
    since = time.monotonic() - LATELY if since is None else since
    return own.reason if own and own.reason and own.time >= since else ""


@functools.cache
def _listener() -> socketserver.ThreadingTCPServer:
    listener = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler)
    listener.daemon_threads = True
    threading.Thread(target=listener.serve_forever, name="proxy", daemon=True).start()
    return listener


class _Handler(socketserver.StreamRequestHandler):
    """Passes one request, or one tunnel, on; whoever has no key gets no answer."""

    def handle(self) -> None:
        self.connection.settimeout(IDLE_SECONDS)
        with contextlib.suppress(OSError, ValueError, TypeError):
            lines = [self.rfile.readline(1 << 16).decode("latin-1").strip()]
            while lines[-1] and len(lines) < 100:
                lines.append(self.rfile.readline(1 << 16).decode("latin-1").strip())
            given = next((x for x in lines if x.lower().startswith("proxy-authorization:")), "")
            for own in list(_clients.values()):
                if secrets.compare_digest(given.rpartition(" ")[2], _login(f"client:{own.key}")):
                    method, target, _ = lines[0].split(" ", 2)
                    self._forward(own, method, target, lines[1:])

    def _forward(self, own: Client, method: str, target: str, lines: list[str]) -> None:
        is_tunnel = method == "CONNECT"
        goal = f"https://{target}" if is_tunnel else target
        if own.server is None or server_of(goal) != own.server:
            own.cut_off(f"{own.name} sends to another address, {without_queries(goal)[:200]}")
            self.wfile.write(b"HTTP/1.1 421 Elsewhere\r\nContent-Length: 0\r\n\r\n")
            return
        scheme, host, port = own.server
        lines = [x for x in lines if x and not x.lower().startswith(("proxy-", "connection:"))]
        theirs = "" if proxy_bypass(host) else getproxies().get(scheme, "")
        if theirs:
            proxy = urlsplit(theirs if "://" in theirs else f"http://{theirs}")
            host, port = proxy.hostname or "", proxy.port or 80
            if proxy.username:
                login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
                lines.append(f"Proxy-Authorization: Basic {_login(login)}")
        elif not is_tunnel:
            target = f"/{target.partition('://')[2].partition('/')[2]}"
        with socket.create_connection((host, port), own.patience) as there:
            if is_tunnel and not theirs:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                # Of one request: the next one may be for another server.
                lines += [] if is_tunnel else ["Connection: close"]
                head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""])
                there.sendall(head.encode("latin-1"))
            self._copy(own, there, is_tunnel)

    def _copy(self, own: Client, there: socket.socket, is_tunnel: bool) -> None:
        """Copy both ways until one end closes, or the other is too slow."""
        since, got = time.monotonic(), 0
        while True:
            for source in select.select([there, self.connection], [], [], 0.1)[0]:
                if not (data := source.recv(1 << 16)):
                    return
                (self.connection if source is there else there).sendall(data)
                got += len(data) if source is there else 0
            if (seconds := time.monotonic() - since) > own.patience:
                if got < LEAST * seconds:
                    if got or not is_tunnel:  # one that is silent may have nothing to send
                        own.cut_off(
                            f"{own.name} does not answer: it sent {got} bytes in {seconds:.0f} seconds"
                        )
                    return
                since, got = time.monotonic(), 0


def _login(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
