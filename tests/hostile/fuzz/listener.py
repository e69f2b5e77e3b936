"""A server on this computer that hostile files name: whoever connects is counted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import NoReturn


class Listener:
    """A process that answers everybody 404, and counts them."""

    def __init__(self, folder: Path) -> None:
        self._log = Path(tempfile.mkstemp(dir=folder)[1])
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._counted = 0

    def __enter__(self) -> Listener:
        self._child = os.fork()
        if self._child == 0:
            serve(self._server, self._log)
        self._server.close()
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)

    def connections(self) -> int:
        """Those since it was last asked."""
        total = self._log.stat().st_size
        new, self._counted = total - self._counted, total
        return new


def serve(server: socket.socket, log: Path) -> NoReturn:
    """Answer everybody 404, and add a byte to `log` for each."""
    while True:
        connection, _ = server.accept()
        with log.open("ab") as file:
            file.write(b"x")
        with connection, contextlib.suppress(OSError):
            connection.settimeout(1)
            connection.recv(4096)
            connection.sendall(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    serve(listening, Path(sys.argv[1]))
