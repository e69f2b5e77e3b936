"""The process that waits with its libraries loaded: it forks for each command that comes.

See `_standby`, which starts it and sends it commands.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from napari_restore._garbage import collection_paused
from napari_restore.commands._main import run_and_exit, set_environment
from napari_restore.commands._standby import PASSED, PROCESS, address_of, is_own, state_of

MOST = 3
"""Processes of a user that may wait at a time, each for another environment."""
LONGEST_MS = 2**31 - 1


def wait(address: str, minutes: float, directory: str, modules: Sequence[str]) -> None:
    """Import `modules`, then run commands that come to `address`, until none does for so long.

    `directory` is that of the command that left this process behind.
    """
    began, before = time.time_ns(), dict(os.environ)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as place:
        # Before `listen` nobody can connect, and nobody waits. Who is second ends, or one too many.
        places = [f"napari-restore-{os.getuid()}-{number}" for number in range(MOST)]
        if not (_bound(listener, [address]) and _bound(place, places)):
            return
        # Another installation may have been found from here.
        if address_of(before, directory) != address:
            return
        _load(modules)
        sources = _sources()
        is_edited = any(changed > began for changed, _ in sources.values())
        # A fork has only one thread.
        if is_edited or threading.active_count() > 1 or address_of(before, directory) != address:
            return
        added = {name: text for name, text in os.environ.items() if before.get(name) != text}
        listener.listen()
        _Waiting(listener, minutes, added, sources).wait()


def _bound(listener: socket.socket, addresses: Sequence[str]) -> bool:
    """Bind a socket to the first of the addresses that is free; return whether one was."""
    for address in addresses:
        with contextlib.suppress(OSError):
            listener.bind("\0" + address)
            return True
    return False


def _load(modules: Sequence[str]) -> None:
    """Import `modules`, in the order in which they were; those that only exist at a time are left out."""
    set_environment()
    with collection_paused():
        for name in modules:
            if name != "__main__":
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        gc.freeze()


def _sources() -> dict[str, tuple[int, int]]:
    """Return time and size of loaded files that are edited where they are, as by developers."""
    installed = (sys.prefix, sys.base_prefix)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {file: state_of(file) for file in files if file and not file.startswith(installed)}


class _Waiting:
    """Accepts commands and runs each in a fork."""

    def __init__(
        self,
        listener: socket.socket,
        minutes: float,
        added: Mapping[str, str],
        sources: Mapping[str, tuple[int, int]],
    ) -> None:
        self._listener = listener
        self._milliseconds = min(60_000 * minutes, LONGEST_MS)
        self._added, self._sources = added, sources
        self._running: dict[int, socket.socket] = {}
        """Connections of the commands by their processes."""
        self._ends, self._wakes = socket.socketpair()
        self._ends.setblocking(False)
        self._wakes.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes.fileno())
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._poll.register(self._ends, select.POLLIN)

    def wait(self) -> None:
        """Run commands until none comes for so long."""
        while events := self._poll.poll(None if self._running else self._milliseconds):
            for number, _ in events:
                if number == self._ends.fileno():
                    self._ends.recv(1 << 12)
                elif number != self._listener.fileno():
                    self._abandon(number)
                elif not self._accept():
                    # The next command starts as usual, and leaves another process.
                    self._poll.unregister(number)
                    self._listener.close()
                    self._milliseconds = 0
            self._report()

    def _accept(self) -> bool:
        """Run a command that comes; return False where its code is not what is loaded."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return True
        if any(state_of(file) != state for file, state in self._sources.items()):
            connection.close()
            return False
        if is_own(connection):
            self._fork(connection)
        else:
            connection.close()
        return True

    def _fork(self, connection: socket.socket) -> None:
        """Let a fork become the process of the command that comes by `connection`."""
        parent = os.getpid()
        # A signal that comes early waits until the fork can handle it.
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED)
        try:
            process = os.fork()
        except OSError:
            process = -1
        if not process:
            self._become(connection, parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)
        if process < 0:
            connection.close()
            return
        self._running[process] = connection
        self._poll.register(connection, select.POLLRDHUP)

    def _abandon(self, number: int) -> None:
        """End a command whose user's process is gone."""
        self._poll.unregister(number)
        for process, connection in self._running.items():
            if connection.fileno() == number:
                os.kill(process, signal.SIGTERM)
                # Also one that was stopped.
                os.kill(process, signal.SIGCONT)

    def _report(self) -> None:
        """Send the exit codes of commands that have ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                process, status = os.waitpid(-1, os.WNOHANG)
                if not process:
                    return
                connection = self._running.pop(process)
                with contextlib.suppress(KeyError):
                    self._poll.unregister(connection)
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))

    def _become(self, connection: socket.socket, parent: int) -> NoReturn:
        """Become the process of the command that comes by `connection`.

        Where that fails nothing is answered, and the command starts as usual.
        """
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _end_with(parent)
            for each in (self._listener, self._ends, self._wakes, *self._running.values()):
                each.close()
            command = _received(connection)
            for number in PASSED:
                usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                ignored = number in command["ignored"]
                signal.signal(number, signal.SIG_IGN if ignored else usual)
            os.environ.clear()
            os.environ.update({**self._added, **command["environment"]})
            os.umask(command["umask"])
            os.chdir(command["directory"])
            sys.argv = [command["program"], *command["arguments"]]
            sys.path[:] = command["path"]
            importlib.invalidate_caches()
            connection.sendall(f"{PROCESS}{os.getpid()}\n".encode())
        except BaseException:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)
        run_and_exit(command["arguments"])


def _received(connection: socket.socket) -> Any:
    """Receive a command and take over its standard streams."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding=sys.stdin.encoding, errors=sys.stdin.errors, closefd=False)
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    through = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout = open(
        1, "w", 1 if os.isatty(1) else -1, encoding=encoding, errors=errors, closefd=False
    )
    sys.stdout.reconfigure(write_through=through)
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(1 << 16)
        if not part:
            raise ConnectionError
        line += part
    return json.loads(line)


def _end_with(parent: int) -> None:
    """Ask the system to end this process when `parent`, the one that waits, is killed."""
    import ctypes

    PR_SET_PDEATHSIG = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise ProcessLookupError


if __name__ == "__main__":
    wait(sys.argv[1], float(sys.argv[2]), sys.argv[3], json.load(sys.stdin))
