"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from napari_restore.errors import DiskFull

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new path beside `path` to write to; at the end it takes the place of `path`.

    Where the body or the renaming fails, `path` stays as it was and nothing is left
    beside it. Raises `DiskFull` where the disk is.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"No space is left for {path}.", "Free some, then go on.") from error
        raise
    finally:
        part.unlink(missing_ok=True)
