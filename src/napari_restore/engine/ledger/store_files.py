"""Files and arrays of a result store on disk."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from napari_restore._journal import Journal
from napari_restore._json_shapes import mismatches, read_json
from napari_restore.engine._region import Region
from napari_restore.errors import disk_full_as, option
from napari_restore.images import Image, level_sizes

FORMAT = 5
"""Increased when the layout on disk changes."""
HEADER = "header.json"
"""File of a store that describes its arrays."""
JOURNAL = "tiles.jsonl"
"""Journal of a store: an entry for each finished tile."""
PIXELS = "pixels"
"""Folder of a store for its arrays: it can be renamed, as the locks lie beside it."""
CHUNK = 512
"""Side of the chunks of all arrays of a store."""
STAGED = "staged"
"""Folder of a store for the tokens and maps of a swept model."""
PARTS = "parts"
"""Folder of a store for the journals of workers on a cluster."""
LEVELS_MISSING = "levels.missing"
"""File of a store whose tiles were written by workers on a cluster, without further levels."""
SHARED = "shared.safetensors"
"""File of a store with the statistics of the whole image, for workers on a cluster."""


class Header(TypedDict):
    """Description of a store's content; all of it enters the checksums of its journal."""

    format: int
    key: str
    names: str
    """Digest of what the user has named, whatever it contains."""
    fingerprint: str
    shape: Annotated[list[int], Len(3, 3)]
    """[height, width, bands]."""
    dtype: str
    kept: NotRequired[str]
    """Dtype of the finest level, where it is another: uint16 for values of uint8."""
    exposure: NotRequired[float]
    """EV that makes up for what the model's restoration darkens, where the model says it."""
    levels: list[Annotated[list[int], Len(2, 2)]]
    maps: dict[str, int]


def arrays_of(header: dict[str, Any]) -> dict[str, tuple[tuple[int, int], int, str]]:
    """Return array name → (height, width), bands, dtype."""
    height, width, bands = header["shape"]
    sizes = [(height, width), *(tuple(size) for size in header["levels"])]
    names = {str(i): (size, bands, header["dtype"]) for i, size in enumerate(sizes)}
    names["0"] = ((height, width), bands, header.get("kept", header["dtype"]))
    for name, count in header["maps"].items():
        dtype = "|u1" if name == "quality" else "<f4"
        names[f"map_{name}"] = ((height, width), count, dtype)
    return names


def result_levels(image: Image) -> tuple[tuple[int, int], ...]:
    """Return the sizes of the result's further pyramid levels, down to a long side ≤ 512."""
    # No more than seven: a tile begins on a whole pixel of those, whatever its size.
    return tuple(level_sizes(image.height, image.width)[1:8])


def open_arrays(
    path: Path, header: dict[str, Any], mode: Literal["r", "r+"] = "r"
) -> dict[str, Any]:
    """Return the arrays of a store by name, of the zarr group at `path`."""
    import zarr

    group = zarr.open_group(str(path), mode=mode)
    return {name: group[name] for name in arrays_of(header)}


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of the store at `path`; None where there is none that can be read."""
    try:
        header = read_json(path / HEADER)
    except (OSError, ValueError):
        return None
    return None if mismatches(header, Header, "header") else header


def tile_journal(path: Path, header: dict[str, Any]) -> Journal:
    """Return a journal of tiles; every entry must have ``region``, a box within the image."""
    height, width = header["shape"][:2]

    def is_inside(entry: dict[str, Any]) -> bool:
        box = Region(*entry["region"])
        return box == box.intersect(Region(0, 0, height, width))

    return Journal(path, header, is_inside)


def disk_full_named(path: Path) -> AbstractContextManager[None]:
    """Raise `DiskFull` in place of the error of a full disk."""
    return disk_full_as(
        f"No space left on the disk of {os.fspath(path)}; finished tiles are kept.",
        f"Free space or point {option('scratch')} elsewhere, then run the same command again.",
    )
