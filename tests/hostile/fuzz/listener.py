"""A server on this computer that hostile files name: whoever connects is counted."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path


class Listener:
    """A process that answers everybody 404, and writes a line for each."""

    def __init__(self, folder: Path) -> None:
        self._log = Path(tempfile.mkstemp(dir=folder)[1])
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._counted = 0

    def __enter__(self) -> Listener:
        self._child = os.fork()
        if self._child == 0:
            self._serve()
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

    def _serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with open(self._log, "ab") as log:
                log.write(b"x")
            with connection:
                try:
                    connection.settimeout(1)
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    continue
