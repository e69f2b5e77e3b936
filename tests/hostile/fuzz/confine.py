"""A process that runs one case: no network, no programs, limits of time and memory; and who watches it."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECONDS = 10
"""Of the processor; on the clock it may take three times as long, where the machine is busy."""
PEAK = int((0.5 + 0.6) * 2**30)
"""Bytes of memory that a case may add: the budget of its run and 0.6 GiB."""
ADDRESSES = 6 << 30
"""Bytes of addresses that it may add: libraries reserve more than they use."""
FILE_SIZE = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    problem: str
    """"" where it ended with a result or a sentence."""
    output: str
    seconds: float
    """On the clock."""
    peak: int
    """Bytes that it added to the memory of the process it was forked from."""


def run_confined(work: Callable[[], None], log: Path) -> Outcome:
    """Run `work` in a fork of this process, which must have one thread; its output goes to `log`."""
    reader, writer = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_child(work, log, writer)
    os.close(writer)
    late = _wait(child, reader, start)
    told = b"" if late else os.read(reader, 1 << 16)
    os.close(reader)
    try:
        # Whatever it has started goes as well.
        os.killpg(child, signal.SIGKILL)
    except OSError:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - start
    output = log.read_text("utf-8", "replace")
    idle, _, problem = told.decode("utf-8", "replace").partition("\n")
    peak = usage.ru_maxrss * 1024 - int(idle or usage.ru_maxrss * 1024)
    if late:
        problem = f"hang: {late}"
    elif not idle.isdecimal() or not told.endswith(b"\n"):
        code = os.waitstatus_to_exitcode(status)
        what = "connection" if code == -signal.SIGSYS else "crash"
        problem = f"{what}: the process ended with {code}"
    elif peak > PEAK and not problem.strip():
        problem = f"peak: {peak / 2**30:.2f} GiB"
    if not problem.strip() and "Traceback (most recent call last)" in output:
        problem = "traceback: in another thread"
    return Outcome(problem.strip(), output, seconds, peak)


def _wait(child: int, reader: int, start: float) -> str:
    """Wait until the child has told how it ended; otherwise what it was busy with."""
    while True:
        elapsed = time.monotonic() - start
        ready, _, _ = select.select([reader], [], [], max(0.1, SECONDS - elapsed))
        if ready:
            return ""
        elapsed, busy = time.monotonic() - start, _busy(child)
        if elapsed >= 3 * SECONDS or busy >= SECONDS:
            return f"{elapsed:.0f} s on the clock, {busy:.0f} s of the processor"


def _busy(child: int) -> float:
    """Seconds of the processor that a process has had."""
    try:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _be_child(work: Callable[[], None], log: Path, writer: int) -> None:
    problem, idle = "", 0
    try:
        os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number in (1, 2):
            os.dup2(output, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        idle = _pages()[1]
        confine()
        try:
            work()
        except BaseException as error:
            traceback.print_exc()
            problem = _named(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os.write(writer, f"{idle}\n{problem}\n".encode("utf-8", "replace"))
        # Without clearing up: threads may still be at work.
        os._exit(0)


def _named(error: BaseException) -> str:
    """One line that is the same for the same bug: the error, and where in the package it arose."""
    last = "?"
    for frame in traceback.extract_tb(error.__traceback__):
        if "napari_restore" in frame.filename:
            last = f"{frame.filename.rpartition('napari_restore/')[2]}:{frame.name}"
    text = " ".join(str(error).split())[:200]
    return f"traceback: {type(error).__name__} in {last}: {text}"


def _pages() -> tuple[int, int]:
    """Addresses and memory of this process, in bytes."""
    size, resident = Path("/proc/self/statm").read_text().split()[:2]
    page = os.sysconf("SC_PAGE_SIZE")
    return int(size) * page, int(resident) * page


def confine() -> None:
    """From now on this process has no network, starts no program, and has limits."""
    limits = {
        resource.RLIMIT_AS: _pages()[0] + ADDRESSES,
        resource.RLIMIT_CPU: 3 * SECONDS,
        resource.RLIMIT_FSIZE: FILE_SIZE,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))
    sys.addaudithook(_refuse)
    _forbid_sockets()


class Forbidden(BaseException):
    """Not an `Exception`: nobody may take it for a failure of a file."""


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise Forbidden(f"connection: {arguments[-1]!r}")
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile"):
        raise Forbidden(f"program: {event} {arguments[:1]!r}")


def _forbid_sockets() -> None:
    """Where Linux allows it, the kernel ends a process that wants a socket of the internet.

    Also one that was asked for in C, by GDAL for instance.
    """
    calls = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
    if sys.platform != "linux" or platform.machine() not in calls:
        return
    machine, call = calls[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    allow, kill = 0x7FFF0000, 0x80000000
    program = [
        (load, 0, 0, 4), (equal, 0, 5, machine),
        (load, 0, 0, 0), (equal, 0, 3, call),
        (load, 0, 0, 16), (equal, 2, 0, socket.AF_INET), (equal, 1, 0, socket.AF_INET6),
        (answer, 0, 0, allow), (answer, 0, 0, kill),
    ]  # fmt: skip
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    new_privileges, seccomp = 38, 22
    libc.prctl(new_privileges, 1, 0, 0, 0)
    libc.prctl(seccomp, 2, ctypes.byref(Program(len(program), ctypes.addressof(buffer))), 0, 0)
