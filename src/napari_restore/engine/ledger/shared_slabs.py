"""Slab files of a run on a cluster: workers write records, one process keeps the journals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from napari_restore.engine.ledger.slab import CHECKSUMS, SlabFile, enter_all
from napari_restore.errors import ResourceError, option

OpenSlab: TypeAlias = Callable[..., SlabFile]
"""`SlabFile`, or what opens one in its place."""
Entries: TypeAlias = Mapping[str, Sequence[Any]]
"""By name of a slab file: what it was made as (`SlabFile.made`), then entries of its journal."""


class PartSlab(SlabFile):
    """A slab file of another process, which keeps its journal; `taken` are entries for it. Raises `ResourceError`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.taken: list[Mapping[str, Any]] = []
        super().__init__(*arguments, **options)

    def _note(self, entry: Mapping[str, Any]) -> None:
        if CHECKSUMS in entry:
            self.taken.append(entry)

    def _mend(self) -> None:
        """Leave an entry that is just being written."""

    def _make(self, header: dict[str, Any]) -> None:
        raise ResourceError(
            f"The file {self.path} of this run is not visible there.",
            f"Name a folder that all workers share with {option('scratch')}.",
        )


class PartSlabs:
    """Opens the slab files of a run in one of its workers."""

    def __init__(self) -> None:
        self._open: dict[str, PartSlab] = {}

    def __call__(self, path: Path, *arguments: Any, **options: Any) -> PartSlab:
        slab = self._open[path.name] = PartSlab(path, *arguments, **options)
        return slab

    def take(self) -> Entries:
        """Return the entries of all records that were written since the last call."""
        found: dict[str, Sequence[Any]] = {}
        for name, slab in self._open.items():
            if slab.taken:
                found[name] = [slab.made, *slab.taken]
                slab.taken = []
        return found


class KeptSlabs:
    """Opens the slab files of a run in the process that keeps their journals."""

    def __init__(self) -> None:
        self._open: dict[str, SlabFile] = {}

    def __call__(self, path: Path, *arguments: Any, **options: Any) -> SlabFile:
        slab = self._open[path.name] = SlabFile(path, *arguments, **options)
        return slab

    def enter(self, entries: Entries) -> None:
        """Note what a worker has written."""
        for name, (made, *noted) in entries.items():
            slab = self._open.get(name)
            if slab is not None and slab.made == made:
                for entry in noted:
                    slab.enter(entry)


def enter_left(folder: Path, entries: Entries) -> None:
    """Note what workers of an earlier run wrote to slab files of `folder`, which are not open."""
    for name, (made, *noted) in entries.items():
        # A name alone: it must not lead out of the folder.
        if Path(name).name == name:
            enter_all(folder / name, made, noted)
