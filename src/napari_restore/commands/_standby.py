"""A process that waits with its libraries loaded, to run the next command at once.

For a small picture most of the time goes into importing PyTorch. Where ``NAPARI_RESTORE_STANDBY`` is
set, a command leaves such a process behind. It imports what that command had imported, and opens no image, loads no
model and starts no thread. The next command with the same environment sends it its arguments, directory and
standard streams; a fork of the process runs it as a new process would. Signals are passed on, and
the exit code comes back.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from napari_restore.errors import BadParameter

OF_TERMINALS = frozenset(
    "_ COLUMNS DISPLAY LINES LS_COLORS OLDPWD PS1 PWD SHLVL SSH_CLIENT SSH_CONNECTION SSH_TTY TERM "
    "TERMINFO VTE_VERSION WAYLAND_DISPLAY WINDOWID XDG_SESSION_ID".split()
)
"""Variables of a terminal or shell, which no library reads when it is loaded."""
OF_TERMINALS_BEGIN = ("KITTY_", "KONSOLE_", "TERM_", "TMUX", "WEZTERM_")
PASSED = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
]
"""Signals that are passed on to the process of the command."""
ENDED = "The process on standby ended before the command did."


class Standby:
    """The waiting process of this command's environment, which may not exist yet."""

    def __init__(self, minutes: float) -> None:
        self._minutes = minutes
        # Before libraries add variables of their own.
        self._environment = dict(os.environ)
        self._address = _address()

    def run(self, arguments: Sequence[str]) -> int | None:
        """Have a command run; return its exit code, or None where nobody is waiting."""
        # A window is not worth the risk: it is there for long, and its libraries have threads.
        if arguments[:1] == ["view"]:
            return None
        connection = self._connection()
        if connection is None:
            return None
        with connection, connection.makefile("r", encoding="ascii") as replies:
            # One that comes early waits until it can be passed on.
            signal.pthread_sigmask(signal.SIG_BLOCK, PASSED)
            try:
                _send(connection, arguments, self._environment)
                process = int(replies.readline())
            except (OSError, ValueError):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)
                return None
            with _passing_signals(process):
                status = replies.readline()
        if not status:
            sys.exit(f"napari-restore: {ENDED} Run it again.")
        code = int(status)
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        return code

    def leave(self) -> None:
        """Start a process that waits for the next command, unless one does."""
        if "torch" not in sys.modules or "qtpy" in sys.modules or self._connection() is not None:
            return
        with contextlib.suppress(OSError):
            process = subprocess.Popen(
                [
                    *(sys.executable, *subprocess._args_from_interpreter_flags()),  # type: ignore[attr-defined]
                    *("-m", __name__, self._address, str(self._minutes)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=self._environment,
                start_new_session=True,
            )
            assert process.stdin is not None
            with process.stdin:
                process.stdin.write(json.dumps(list(sys.modules)).encode())

    def _connection(self) -> socket.socket | None:
        """Return a connection to a waiting process of this user; None where there is none."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect("\0" + self._address)
            if _is_own(connection):
                return connection
        except OSError:
            pass
        connection.close()
        return None


def standby(minutes: str) -> Standby | None:
    """Return the process that ends after so many minutes without a command; None where there can be none.

    Raises `BadParameter` for what is no number.
    """
    # Others have no sockets without a file, or libraries that do not outlast a fork.
    if not sys.platform.startswith("linux"):
        return None
    try:
        limit = float(minutes)
    except ValueError:
        limit = -1.0
    if not 0 < limit < 1e6:
        raise BadParameter(
            f"NAPARI_RESTORE_STANDBY is {minutes!r}, which is no number of minutes.",
            "Set it to for instance 30, or not at all.",
        )
    return Standby(limit)


def _address() -> str:
    """Return the abstract address of processes that would load the same and may do the same.

    Whatever a library may read when it is loaded, and whatever limits a process, is part of it.
    """
    import resource

    package = Path(__file__).parent.parent
    limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
    variables = {
        name: value
        for name, value in os.environ.items()
        if name not in OF_TERMINALS and not name.startswith(OF_TERMINALS_BEGIN)
    }
    parts = (
        (sys.executable, sys.prefix, tuple(sys.flags), sys.warnoptions, sorted(sys._xoptions)),
        # Installing a package changes its folder.
        [(path, _changed(path)) for path in sys.path[1:]],
        max(map(_changed, map(str, package.rglob("*.py")))),
        sorted(variables.items()),
        (os.getresuid(), os.getresgid(), sorted(os.getgroups())),
        (sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)),
        [resource.getrlimit(limit) for limit in limits],
        _text("/proc/self/cgroup"),
        [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "pid", "user")],
    )
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()
    return f"napari-restore-{digest[:40]}"


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _is_own(connection: socket.socket) -> bool:
    """Return whether the process at the other end is one of this user."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())


def _send(connection: socket.socket, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Send a command: the standard streams, and a line of JSON."""
    umask = os.umask(0)
    os.umask(umask)
    command = {
        "arguments": list(arguments),
        "program": sys.argv[0],
        "path": sys.path,
        "environment": environment,
        "directory": os.getcwd(),
        "umask": umask,
        "ignored": [each for each in PASSED if signal.getsignal(each) == signal.SIG_IGN],
    }
    socket.send_fds(connection, [b" "], [0, 1, 2])
    connection.sendall(json.dumps(command).encode() + b"\n")


@contextlib.contextmanager
def _passing_signals(process: int) -> Iterator[None]:
    """Pass signals on to the process of the command inside the block, those that are blocked first."""

    def pass_on(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    def stop(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            # Goes on here once the shell continues it.
            signal.signal(number, stop)
            os.kill(process, signal.SIGCONT)

    numbers = (*PASSED, signal.SIGTSTP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, stop if number == signal.SIGTSTP else pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


# -- the process that waits ------------------------------------------------------------


def wait(address: str, minutes: float, modules: Sequence[str]) -> None:
    """Import `modules`, then run commands that come to `address`, until none does for so long."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            # Who is second ends. Before `listen` nobody can connect, and nobody waits.
            listener.bind("\0" + address)
        except OSError:
            return
        before = dict(os.environ)
        _load(modules)
        if threading.active_count() > 1:
            # A fork has only one of them.
            return
        added = {name: text for name, text in os.environ.items() if before.get(name) != text}
        listener.listen()
        _Waiting(listener, minutes, added).wait()


def _load(modules: Sequence[str]) -> None:
    """Import `modules`, in the order in which they were; those that only exist at a time are left out."""
    from napari_restore.commands._main import set_environment

    set_environment()
    gc.disable()
    for name in modules:
        if name != "__main__":
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.freeze()
    gc.enable()


class _Waiting:
    """Accepts commands and runs each in a fork."""

    def __init__(self, listener: socket.socket, minutes: float, added: dict[str, str]) -> None:
        self._listener = listener
        self._milliseconds = 60_000 * minutes
        self._added = added
        self._running: dict[int, socket.socket] = {}
        """Connections of the commands by their processes."""
        self._ends, ends = socket.socketpair()
        ends.setblocking(False)
        self._ends.setblocking(False)
        self._kept = ends
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ends.fileno())
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._poll.register(self._ends, select.POLLIN)

    def wait(self) -> None:
        """Run commands until none comes for so long."""
        while events := self._poll.poll(None if self._running else self._milliseconds):
            for number, _ in events:
                if number == self._listener.fileno():
                    self._accept()
                elif number == self._ends.fileno():
                    self._ends.recv(1 << 12)
                else:
                    self._abandon(number)
            self._report()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        if not _is_own(connection):
            connection.close()
            return
        process = os.fork()
        if not process:
            self._become(connection)
        with contextlib.suppress(OSError):
            connection.sendall(b"%d\n" % process)
        self._running[process] = connection
        self._poll.register(connection, select.POLLRDHUP)

    def _abandon(self, number: int) -> None:
        """End a command whose user's process is gone."""
        self._poll.unregister(number)
        for process, connection in self._running.items():
            if connection.fileno() == number:
                os.kill(process, signal.SIGTERM)

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

    def _become(self, connection: socket.socket) -> NoReturn:
        """Become the process of the command that comes by `connection`."""
        from napari_restore.commands._main import run_and_exit

        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _end_with_parent()
            for each in (self._listener, self._ends, self._kept, *self._running.values()):
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
        except BaseException:
            os._exit(1)
        run_and_exit(command["arguments"])


def _received(connection: socket.socket) -> Any:
    """Receive a command and take over its standard streams."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding=sys.stdin.encoding, errors=sys.stdin.errors, closefd=False)
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdout = open(
        1, "w", 1 if os.isatty(1) else -1, encoding=encoding, errors=errors, closefd=False
    )
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(1 << 16)
        if not part:
            raise ConnectionError
        line += part
    return json.loads(line)


def _end_with_parent() -> None:
    """Ask the system to end this process when the one that waits is killed."""
    import ctypes

    PR_SET_PDEATHSIG = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    wait(sys.argv[1], float(sys.argv[2]), json.load(sys.stdin))
