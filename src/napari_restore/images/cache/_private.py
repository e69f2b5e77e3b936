"""Folders that only their user may write to, as their content determines pixels."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from napari_restore.errors import BadOutput

OWNER_ONLY = 0o700
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make_private(path: Path) -> None:
    """Create the folder `path`, open to its user alone, or check the existing one.

    Missing parent folders are created as well. Raises `BadOutput` where the folder belongs to
    another user or others may write to it, `OSError` where it cannot be created.
    """
    path.parent.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
    try:
        path.mkdir(mode=OWNER_ONLY)
    except FileExistsError:
        check_private(path)


def check_private(path: Path) -> None:
    """Raise `BadOutput` where another user could write files into the folder `path`.

    Systems without owners and modes, such as Windows, protect a user's folders themselves.
    """
    if not hasattr(os, "getuid"):
        return
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise BadOutput(f"{path} is no folder, or a link to one.", "Name another folder.")
    if status.st_uid != os.getuid():
        raise BadOutput(
            f"The folder {path} belongs to another user, who could change results in it.",
            "Name a folder of your own.",
        )
    if status.st_mode & WRITABLE_BY_OTHERS:
        raise BadOutput(
            f"Other users may write to the folder {path} and could change results in it.",
            f"Forbid it with: chmod go-w {path}, or name another folder.",
        )
