"""Outputs at an address: where they lie before, what is checked, and how they get there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_restore.questions import Pathlike


def is_address(output: str) -> bool:
    """Return whether an output is an address rather than a file."""
    from napari_restore import images

    return images.names_address(output)


def file_before_upload(address: str, scratch: Pathlike | None = None) -> Path:
    """Return the file, in the scratch folder, that is to be sent to `address`.

    Raises `BadOutput` where no output can be sent there.
    """
    from napari_restore import images

    return images.file_before_upload(address, None if scratch is None else Path(scratch))


def check_upload(address: str, overwrite: bool = False) -> None:
    """Raise `BadOutput` if there is something at `address` already, or the bucket does not answer."""
    from napari_restore import images

    images.check_upload(address, overwrite)


def upload(
    path: Path,
    address: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Send a file or OME-Zarr to `address`, and remove it here; see `images.upload`."""
    import shutil

    from napari_restore import images

    images.upload(path, address, progress=progress, cancelled=cancelled)
    shutil.rmtree(path.parent, ignore_errors=True)
