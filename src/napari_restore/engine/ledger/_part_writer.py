"""Tiles that one of several processes writes into a store that they share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._journal import Journal
from napari_restore.engine._region import Region
from napari_restore.engine.ledger._chunk_files import write_chunks
from napari_restore.engine.ledger._store_files import (
    PARTS,
    disk_full_named,
    open_arrays,
    read_header,
    tile_journal,
)
from napari_restore.errors import ResourceError, option
from napari_restore.images import check_private


class PartWriter:
    """Writes whole chunks of the store at `path`, and names its tiles in journals of its own.

    The store belongs to another process, which adds the lines of those journals to its own: nobody
    else writes the same chunks or the same file. Raises `ResourceError` where there is no such
    store on this machine.
    """

    def __init__(self, path: Path, key: str) -> None:
        if path.exists():
            check_private(path)
        header = read_header(path)
        if header is None or header["key"] != key:
            raise ResourceError(
                f"The folder {path.parent} of the result is not visible there.",
                f"Name a folder that all workers share with {option('scratch')}.",
            )
        self._path, self._header = path, header
        self._arrays = open_arrays(path, header)

    def part(self, name: str, within: str = "") -> Part:
        """Return the part `name`, continued where an earlier process has begun it.

        Of the result, or of the folder `within`.
        """
        parts = self._path / within / PARTS
        parts.mkdir(exist_ok=True)
        return Part(self._path, self._arrays, tile_journal(parts / name, self._header))


class Part:
    """A range of tiles of a store; `lines` are those of its journal so far."""

    def __init__(self, path: Path, arrays: dict[str, Any], journal: Journal) -> None:
        self._path, self._arrays, self._journal = path, arrays, journal
        journal.mend()
        self.lines = journal.read()

    def write(
        self,
        box: Region,
        pixels: npt.NDArray[Any],
        maps: dict[str, npt.NDArray[np.generic]],
        entries: Mapping[Region, Mapping[str, Any]],
    ) -> None:
        """Write a box of whole chunks, and note its tiles, with their entries, as finished."""
        with disk_full_named(self._path):
            for name, values in {"0": pixels, **{f"map_{k}": v for k, v in maps.items()}}.items():
                write_chunks(self._arrays[name], self._path / name, box, values)
        for core, entry in entries.items():
            self.note(core, entry)

    def note(self, core: Region, entry: Mapping[str, Any]) -> None:
        """Note a tile as finished, with an entry for the journal."""
        line = {"region": list(core), **entry}
        with disk_full_named(self._path):
            self._journal.append(line)
        self.lines.append(line)
