"""A process that waits with its libraries loaded, to run the next command at once.

For a small picture most of the time goes into importing PyTorch. Where ``NAPARI_RESTORE_STANDBY`` is
set, a command leaves such a process behind. It imports what that command had imported, and opens no
image, loads no model and starts no thread. The next command with the same environment sends it its
arguments, directory and standard streams; a fork of the process runs it as a new process would. Signals
are passed on, and the exit code comes back. See docs/decisions/0066-process-on-standby.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from napari_restore.errors import BadParameter

OF_TERMINALS = frozenset(
    "_ COLUMNS DISPLAY INVOCATION_ID JOURNAL_STREAM LINES LS_COLORS OLDPWD PS1 PWD SHLVL SSH_CLIENT "
    "SSH_CONNECTION SSH_TTY TERM TERMINFO VTE_VERSION WAYLAND_DISPLAY WINDOWID XDG_SESSION_ID".split()
)
"""Variables of a terminal, shell or job, which no library reads when it is loaded …"""
OF_TERMINALS_BEGIN = ("KITTY_", "KONSOLE_", "PARALLEL_", "TERM_", "TMUX", "WEZTERM_")
"""… and how others begin."""
PASSED = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
]
"""Signals that are passed on to the process of the command."""
WAITING = "napari_restore.commands._waiting"
"""The module that the waiting process runs."""
PROCESS = "process "
"""Begins the first answer to a command: the number of its process. The second one is its exit status."""
ENDED = "The process on standby ended before the command did."


class Standby:
    """The waiting process of this command's environment, which may not exist yet."""

    def __init__(self, minutes: float) -> None:
        self._minutes = minutes
        # Before libraries add variables of their own.
        self._environment = dict(os.environ)
        self._directory = os.getcwd()
        self._address = address_of(self._environment, self._directory)

    def run(self, arguments: Sequence[str]) -> int | None:
        """Have a command run; return its exit code, or None where nobody is waiting."""
        # A closed stream cannot be sent, and a fork has not the descriptors of this process.
        closed = None in (sys.stdin, sys.stdout, sys.stderr)
        own = any(word.startswith(("/dev/fd/", "/proc/self/")) for word in arguments)
        # A window is not worth the risk: it is there for long, and its libraries have threads.
        if closed or own or arguments[:1] == ["view"]:
            return None
        connection = self._connection()
        if connection is None:
            return None
        with connection, connection.makefile("r", encoding="ascii") as replies:
            # One that comes early waits until it can be passed on.
            signal.pthread_sigmask(signal.SIG_BLOCK, PASSED)
            try:
                self._send(connection, arguments)
                process = int(replies.readline().partition(PROCESS)[2])
            except (OSError, ValueError):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)
                return None
            with _passing_signals(process):
                status = replies.readline()
        if not status:
            sys.exit(f"napari-restore: {ENDED} Run it again.")
        code = int(status)
        if code >= 0:
            return code
        with contextlib.suppress(OSError):
            # Nobody handles SIGKILL.
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        return 128 - code

    def leave(self) -> None:
        """Start a process that waits for the next command; where one does already, it ends at once."""
        if "torch" not in sys.modules or "qtpy" in sys.modules:
            return
        with contextlib.suppress(OSError):
            process = subprocess.Popen(
                [
                    *(sys.executable, *subprocess._args_from_interpreter_flags()),  # type: ignore[attr-defined]
                    *("-m", WAITING, self._address, str(self._minutes), self._directory),
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
            if is_own(connection):
                return connection
        except OSError:
            pass
        connection.close()
        return None

    def _send(self, connection: socket.socket, arguments: Sequence[str]) -> None:
        """Send a command: the standard streams, and a line of JSON."""
        umask = os.umask(0)
        os.umask(umask)
        command = {
            "arguments": list(arguments),
            "program": sys.argv[0],
            "path": sys.path,
            "environment": self._environment,
            "directory": self._directory,
            "umask": umask,
            "ignored": [each for each in PASSED if signal.getsignal(each) == signal.SIG_IGN],
        }
        socket.send_fds(connection, [b" "], [0, 1, 2])
        connection.sendall(json.dumps(command).encode() + b"\n")


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
    try:
        return Standby(limit)
    except OSError:
        # Without /proc nobody knows who may use a process.
        return None


def address_of(environment: Mapping[str, str], directory: str) -> str:
    """Return the abstract address of processes that would load the same and may do the same.

    Whatever a library may read when it is loaded, and what limits a process, is part of it, but not the
    user's directory: there, pictures change with every result.
    """
    import resource

    limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
    variables = {
        name: value
        for name, value in environment.items()
        if name not in OF_TERMINALS and not name.startswith(OF_TERMINALS_BEGIN)
    }
    folders = [path for path in sys.path[1:] if path not in ("", directory)]
    parts = (
        (__file__, sys.executable, sys.prefix, tuple(sys.flags), sys.warnoptions),
        sorted(sys._xoptions),
        # Installing a package changes its folder.
        [(path, state_of(path)[0]) for path in folders],
        sorted(variables.items()),
        (os.getresuid(), os.getresgid(), sorted(os.getgroups())),
        (sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)),
        (os.sched_getscheduler(0), [resource.getrlimit(limit) for limit in limits]),
        Path("/proc/self/cgroup").read_text(),
        _place("self"),
    )
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()
    return f"napari-restore-{digest[:40]}"


def _place(process: int | str) -> list[str]:
    """Return where a process is: its root folder and namespaces. Raises `OSError`."""
    links = ("root", "ns/mnt", "ns/pid", "ns/user")
    return [os.readlink(f"/proc/{process}/{link}") for link in links]


def state_of(file: str) -> tuple[int, int]:
    """Return the time of the last change and the size of a file; zeros where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def is_own(connection: socket.socket) -> bool:
    """Return whether the process at the other end is one of this user, in the same container.

    Containers may share the network, and with it abstract addresses.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    process, user, _ = struct.unpack("3i", credentials)
    try:
        return bool(user == os.getuid() and process and _place(process) == _place("self"))
    except OSError:
        return False


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
