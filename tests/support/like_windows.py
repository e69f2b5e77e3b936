"""A process that lacks what Windows lacks, for tests that run elsewhere; to be imported first of all.

The libraries are loaded as they are, then the modules and names of POSIX go, `sys.platform` says
``win32``, and a file that is open or mapped in this process or a child of it can be neither removed nor
replaced, nor a folder renamed in which one lies.
"""

from __future__ import annotations

import asyncio  # noqa: F401
import concurrent.futures  # noqa: F401
import importlib
import mmap
import multiprocessing.spawn  # noqa: F401
import os
import shutil
import signal
import stat
import subprocess  # noqa: F401
import sys
import tempfile
import types

import psutil

LIBRARIES = (
    "dask.array", "imagecodecs", "lazy_loader", "numcodecs", "numpy", "PIL.Image", "platformdirs", "psutil",
    "pydantic", "rasterio", "rasterio.warp", "rawpy", "safetensors.torch", "tifffile", "torch", "tqdm", "zarr",
    "captum.attr", "distributed", "matplotlib.pyplot", "obstore", "onnx", "onnxruntime", "skimage", "sklearn",
    "torch.export", "urllib.request", "xarray", "zarr.storage", "rasterio.vrt", "rasterio.features", "scipy.ndimage",
    "scipy.fft", "torch.utils.data", "torch.onnx", "OpenEXR", "pi_heif", "pyogrio", "napari", "magicgui", "qtpy.QtWidgets", "superqt", "napari._qt",
    "napari.layers", "vispy.scene", "napari.qt.threading",
)  # fmt: skip
MODULES = (
    "fcntl",
    "resource",
    "pwd",
    "grp",
    "termios",
    "tty",
    "pty",
    "readline",
    "syslog",
    "spwd",
    "crypt",
)
NAMES = {
    os: (
        "getuid geteuid getgid getegid getgroups fork forkpty nice sched_getaffinity sched_setaffinity "
        "posix_fadvise posix_fallocate pread preadv pwrite pwritev readv writev killpg getpgid getpgrp setsid "
        "setpgid sync fdatasync uname getloadavg mkfifo chown lchown fchown fchmod "
        "getpriority setpriority wait waitid WNOHANG O_DIRECTORY O_CLOEXEC O_NOFOLLOW O_SYNC O_DSYNC "
        "O_NONBLOCK O_TMPFILE O_DIRECT sendfile copy_file_range memfd_create getxattr setxattr listxattr "
        "register_at_fork confstr sysconf posix_spawn"
    ),
    signal: "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGPIPE SIGCHLD SIGSTOP pthread_kill pthread_sigmask alarm setitimer sigwait",
    mmap: "MAP_ANONYMOUS MAP_ANON MAP_PRIVATE MAP_SHARED PROT_READ PROT_WRITE MADV_DONTNEED MADV_SEQUENTIAL",
}  # fmt: skip


class msvcrt(types.ModuleType):
    """Locks of bytes as Windows has them: of a process, and exclusive."""

    LK_LOCK, LK_NBLCK, LK_UNLCK = 1, 2, 0

    @staticmethod
    def locking(handle: int, mode: int, size: int) -> None:
        try:
            _flock(handle, _LOCK)
        except BlockingIOError as error:
            raise PermissionError(13, "Permission denied") from error


class _Mapped(mmap.mmap):
    """A memory map without advice."""

    @property
    def madvise(self):
        raise AttributeError("madvise")


def _open_files() -> tuple[set[tuple[int, int]], set[str]]:
    """Device and inode of all open and mapped files, and their paths."""
    paths = {}
    for process in (
        "self",
        *(str(child.pid) for child in psutil.Process().children(recursive=True)),
    ):
        try:
            names = os.listdir(f"/proc/{process}/fd")
        except OSError:
            continue
        for name in names:
            try:
                path = os.readlink(f"/proc/{process}/fd/{name}")
                paths[path] = os.stat(f"/proc/{process}/fd/{name}")
            except OSError:
                continue
    with open("/proc/self/maps", encoding="utf-8") as maps:
        mapped = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "/" in line}
    for path in mapped - paths.keys():
        try:
            paths[path] = os.stat(path)
        except OSError:
            continue
    # An open folder stops nothing: rmtree and iterators have them.
    files = {path: each for path, each in paths.items() if stat.S_ISREG(each.st_mode)}
    return {(each.st_dev, each.st_ino) for each in files.values()}, set(files)


def _refuse_open(function, count):
    def checked(*args, **kwargs):
        if not {"dir_fd", "src_dir_fd"} & kwargs.keys():
            opened, paths = _open_files()
            for path in map(os.fspath, args[:count]):
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                within = os.path.realpath(path) + os.sep
                if (status.st_dev, status.st_ino) in opened or (
                    stat.S_ISDIR(status.st_mode) and any(each.startswith(within) for each in paths)
                ):
                    refused.append(path)
                    raise PermissionError(13, "The process cannot access the file", path)
        return function(*args, **kwargs)

    return checked


refused: list[str] = []
"""Files, and folders of files, that were open when they were to be removed or replaced."""

for name in LIBRARIES:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
import fcntl  # noqa: E402

_flock, _LOCK = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB
for name in MODULES:
    sys.modules[name] = None
for module, names in NAMES.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
mmap.mmap = _Mapped
sys.modules["msvcrt"] = msvcrt("msvcrt")
for name, count in (("replace", 2), ("rename", 2), ("unlink", 1), ("remove", 1)):
    setattr(os, name, _refuse_open(getattr(os, name), count))
shutil._use_fd_functions = False
# There a temporary file has a name until it is closed.
tempfile.TemporaryFile = tempfile.NamedTemporaryFile
sys.platform = "win32"
