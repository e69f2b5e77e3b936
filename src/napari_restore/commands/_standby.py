"""A process that waits with its libraries loaded, to run the next command at once.

For a small picture most of the time goes into importing PyTorch. Where ``NAPARI_RESTORE_STANDBY`` is
set, a command leaves such a process behind. It imports what that command had imported, and opens no
image, loads no model and starts no thread. The next command with the same environment sends it its
arguments, directory and standard streams; a fork of the process runs it as a new process would. Signals
are passed on, and the exit code comes back. See docs/decisions/0066-process-on-standby.md.
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
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from napari_restore._garbage import collection_paused
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
MOST = 3
"""Processes of a user that may wait at a time, each for another environment."""
LONGEST_MS = 2**31 - 1
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
        self._address = _address(self._environment, self._directory)

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
                    *("-m", __name__, self._address, str(self._minutes), self._directory),
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


def _address(environment: Mapping[str, str], directory: str) -> str:
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
        [(path, _state(path)[0]) for path in folders],
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


def _state(file: str) -> tuple[int, int]:
    """Return the time of the last change and the size of a file; zeros where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _is_own(connection: socket.socket) -> bool:
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


# -- the process that waits ------------------------------------------------------------


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
        if _address(before, directory) != address:
            return
        _load(modules)
        sources = _sources()
        is_edited = any(changed > began for changed, _ in sources.values())
        # A fork has only one thread.
        if is_edited or threading.active_count() > 1 or _address(before, directory) != address:
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
    from napari_restore.commands._main import set_environment

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
    return {file: _state(file) for file in files if file and not file.startswith(installed)}


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
        if any(_state(file) != state for file, state in self._sources.items()):
            connection.close()
            return False
        if _is_own(connection):
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
        from napari_restore.commands._main import run_and_exit

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
