"""Atomic replacement of files."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from napari_restore.errors import DiskFull, is_disk_full


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` atomically.

    On failure `path` is unchanged and the temporary file removed. Raises `DiskFull` on a full disk.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"No space is left for {path}.", "Free some, then continue.") from error
        raise
    finally:
        part.unlink(missing_ok=True)
