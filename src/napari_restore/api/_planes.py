"""Stacks: which planes are asked for, the file that they are joined in, and bands in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from napari_restore.images import (
    ExportOptions,
    bands_of_scene as bands_of_scene,
    check_stack as _check_stack,
    hint_of_bands as hint_of_bands,
    join_planes as join_planes,
    planes_asked as planes_asked,
)
from napari_restore.questions import Pathlike

if TYPE_CHECKING:
    from napari_restore.images import Image
    from napari_restore.questions import FormatKeywords


def check_stack(
    path: Pathlike, image: Image, *, overwrite: bool = False, **options: Unpack[FormatKeywords]
) -> None:
    """Raise `BadOutput` if planes like `image` cannot be joined in `path`."""
    _check_stack(Path(path), image, ExportOptions(**options, overwrite=overwrite))
