"""Result of a run on disk, readable while it grows."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._journal import DamagedJournal, Journal
from napari_restore._replacing import DamagedFile, replacing
from napari_restore.engine._region import CELL, Region
from napari_restore.engine.ledger._chunk_files import create_array, write_chunks
from napari_restore.engine.ledger.folder import in_use, lock_shared, lock_writer, remove_unused
from napari_restore.engine.ledger.store_files import (
    CHUNK,
    FORMAT,
    HEADER,
    JOURNAL,
    LEVELS_MISSING,
    PARTS,
    PIXELS,
    arrays_of,
    disk_full_named,
    open_arrays,
    read_header,
    tile_journal,
)
from napari_restore.errors import ResourceError, option
from napari_restore.images import (
    check_private,
    in_8_bits,
    in_16_bits,
    is_locked,
    is_used,
    is_whole,
    mark_entry,
    remove_folder,
    remove_path,
    users_of,
)


class ResultStore:
    """A sparse zarr (c, y, x) of the source's full extent with a journal of finished tiles.

    Only finished tiles take space, so a region and the whole image share one store. A tile's chunks
    are written first, then one journal entry; after a crash the journal names exactly the complete
    tiles. One thread writes, any may read.
    """

    def __init__(
        self,
        path: Path,
        arrays: dict[str, Any],
        header: dict[str, Any],
        *,
        unlock: Callable[[], None] | None = None,
    ) -> None:
        """Open the store, for writing where `unlock` ends the lock that the caller has."""
        self.path = path
        self.pixels = path / PIXELS
        """The zarr group of the arrays."""
        self._unlock = unlock or lock_shared(self, path)
        self.header = header
        self._arrays = arrays
        height, width = header["shape"][:2]
        self._done = np.zeros((-(-height // CELL), -(-width // CELL)), bool)
        self._journal = tile_journal(path / JOURNAL, header)
        self.journal: list[dict[str, Any]] = []
        """An entry for each finished tile: its ``region`` and the `entry` passed to `write`."""
        self.rebuilt = False
        """Whether finished tiles were dropped because the store was damaged."""
        self.set_aside: SetAside | None = None
        """The unfinished store of the same names, of which nothing could be taken."""
        try:
            self._read_all()
        except BaseException:
            if unlock is None:
                self.close()
            raise
        if unlock is not None:
            self._journal.mend()
            # What workers of an earlier run had finished when that run ended.
            for name, lines in self.parts():
                self.add(lines)
                self.remove_part(name)

    # -- opening -----------------------------------------------------------------

    @classmethod
    def attach(cls, path: Path) -> ResultStore:
        """Return the store at `path` for reading, while another may write to it; raises `FileNotFoundError`."""
        header = read_header(path)
        if header is None:
            raise FileNotFoundError(errno.ENOENT, "there is no result store", str(path))
        return cls(path, open_arrays(path / PIXELS, header), header)

    @classmethod
    def open(  # noqa: PLR0913 - what a store is, all of it in its header
        cls,
        path: Path,
        *,
        key: str,
        names: str = "",
        fingerprint: str = "",
        shape: tuple[int, int, int],
        dtype: npt.DTypeLike,
        in_16: bool = False,
        exposure: float | None = None,
        levels: tuple[tuple[int, int], ...] = (),
        maps: dict[str, int] | None = None,
    ) -> ResultStore:
        """Return the store at `path` for writing.

        It is created if missing, rebuilt if corrupt or of another key. Raises `ResourceError` while
        another run writes to it. Where it is created, an unfinished one beside it that has the same
        `names` and another `key` is `set_aside`. `levels` are the sizes of further pyramid levels to
        keep current, `maps` the names and band counts of side maps. With `in_16`, pixels of uint8
        are written as uint16, see `in_16_bits`; only the finest level keeps that. `exposure`: see `Header`.
        """
        header = {
            "format": FORMAT,
            "key": key,
            "names": names,
            "fingerprint": fingerprint,
            "shape": list(shape),
            "dtype": np.dtype(dtype).str,
            "levels": [list(size) for size in levels],
            "maps": dict(maps or {}),
        }
        if in_16:
            header["kept"] = np.dtype(np.uint16).str
        if exposure is not None:
            header["exposure"] = exposure
        with disk_full_named(path):
            # First of all: of several that begin at once, one makes it.
            unlock = lock_writer(path)
            try:
                store = cls._reopen(path, header, unlock) or cls._create(path, header, unlock)
            except BaseException:
                unlock()
                raise
        store._unlock = weakref.finalize(store, unlock)
        return store

    @classmethod
    def _reopen(
        cls, path: Path, header: dict[str, Any], unlock: Callable[[], None]
    ) -> ResultStore | None:
        existing = read_header(path)
        # Devices round the exposure differently.
        taken = {k: v for k, v in (existing or {}).items() if k in ("names", "exposure")}
        if existing is None or existing != {**header, **taken}:
            return None
        # The journal's checksums are of the header as it is.
        header = existing
        try:
            arrays = open_arrays(path / PIXELS, header, "r+")
        except Exception:
            # Any error of zarr about metadata that another program has written.
            return None
        for name, (size, count, dtype) in arrays_of(header).items():
            if (arrays[name].shape, arrays[name].dtype) != ((count, *size), np.dtype(dtype)):
                return None
        try:
            store = cls(path, arrays, header, unlock=unlock)
        except DamagedJournal:
            return None
        if is_whole(path, {"key": header["key"]}):
            mark_entry(path, {"key": header["key"]}, complete=False)
        return store

    @classmethod
    def _create(cls, path: Path, header: dict[str, Any], unlock: Callable[[], None]) -> ResultStore:
        import zarr

        damaged = (path / JOURNAL).exists()
        if users_of(path) > 1:
            raise _still_in_use()
        for name in os.listdir(path):
            if not is_locked(path / name):
                remove_path(path / name)
        # Marked, so that the cache may list and remove what was left behind.
        mark_entry(path, {"key": header["key"]}, complete=False)
        group = zarr.open_group(str(path / PIXELS), mode="a", zarr_format=3)
        arrays = {
            name: create_array(group, name, (count, *size), CHUNK, dtype)
            for name, (size, count, dtype) in arrays_of(header).items()
        }
        # Written last: where there is a header, there are arrays.
        with replacing(path / HEADER) as part:
            part.write_text(json.dumps(header), encoding="utf-8")
        store = cls(path, arrays, header, unlock=unlock)
        store.rebuilt = damaged
        store.set_aside = _unfinished_beside(path, header)
        return store

    # -- reading -----------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, bands = self.header["shape"]
        return height, width, bands

    def array(self, name: str = "0") -> Any:
        """Return the zarr array (C, H, W) of a level (``"0"``, ``"1"`` …) or map (``"map_…"``)."""
        return self._arrays[name]

    @property
    def level_count(self) -> int:
        return 1 + len(self.header["levels"])

    @property
    def map_names(self) -> tuple[str, ...]:
        return tuple(self.header["maps"])

    def read(self, box: tuple[int, int, int, int], name: str = "0") -> npt.NDArray[Any]:
        """Return pixels (h, w, C) of `box` of a level or map in the store's dtype; zeros where none are finished."""
        # They lie band by band in memory, as they are stored.
        pixels = self._stored(box, name)
        return in_8_bits(pixels) if name == "0" and self._in_16 else pixels

    def read_16(self, box: tuple[int, int, int, int]) -> npt.NDArray[np.uint16]:
        """Return pixels (h, w, C) of `box` of the finest level of a store of uint8, in 16 bits."""
        pixels = self._stored(box, "0")
        # Where it keeps 8 they are exact multiples of 257.
        return pixels if self._in_16 else in_16_bits(pixels)

    @property
    def _in_16(self) -> bool:
        return "kept" in self.header

    def _stored(self, box: tuple[int, int, int, int], name: str) -> npt.NDArray[Any]:
        y0, x0, y1, x1 = box
        try:
            planes: npt.NDArray[Any] = self._arrays[name][:, y0:y1, x0:x1]
        except (ValueError, RuntimeError, OSError) as error:
            raise self._damaged() from error
        return planes.transpose(1, 2, 0)

    def is_done(self, region: Region) -> bool:
        """Return whether every pixel of `region` is finished."""
        rows, columns = self._cells(region)
        return bool(self._done[rows, columns].all())

    def done_at(
        self, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.bool_]:
        """Return whether the level-0 pixels at the crossings of `rows` and `columns` are finished."""
        return self._done[np.ix_(rows // CELL, columns // CELL)]

    def finished_pixels(self, region: Region) -> int:
        """Return how many pixels of `region` are finished."""
        rows, columns = self._cells(region)
        heights, widths = (
            np.clip(np.arange(cells.start, cells.stop + 1) * CELL, low, high)
            for cells, low, high in (
                (rows, region.y0, region.y1),
                (columns, region.x0, region.x1),
            )
        )
        areas = np.diff(heights)[:, None] * np.diff(widths)
        return int(areas[self._done[rows, columns]].sum())

    # -- writing -----------------------------------------------------------------

    def write(
        self,
        core: Region,
        pixels: npt.NDArray[Any],
        maps: dict[str, npt.NDArray[Any]],
        entry: dict[str, Any],
        levels: Sequence[npt.NDArray[Any]] = (),
    ) -> None:
        """Write one tile and mark it finished; `entry` is kept in the journal.

        `pixels` are in the dtype that is kept, `levels` the tile's pixels halved once, twice … for the further levels.
        """
        try:
            with disk_full_named(self.path):
                self._put("0", core, pixels)
                for name, values in maps.items():
                    self._put(f"map_{name}", core, values)
                self.write_levels(core, levels)
        except DamagedFile as error:
            raise self._damaged() from error
        line = {"region": list(core), **entry}
        self._append(line)
        self._mark(line)

    def add(self, lines: Iterable[dict[str, Any]]) -> list[Region]:
        """Mark tiles that a `PartWriter` has written as finished; return those that were not yet."""
        added = []
        for line in lines:
            region = Region(*line["region"])
            if not self.is_done(region):
                self._append(line)
                self._mark(line)
                added.append(region)
        return added

    def parts(self, within: str = "") -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield name and lines of all parts, those of the result or of the folder `within`."""
        for path in sorted((self.path / within / PARTS).glob("*.jsonl")):
            yield path.name, self.part(path.name, within)

    def part(self, name: str, within: str = "") -> list[dict[str, Any]]:
        """Return what a worker has noted in a part; nothing where it is of another run, or damaged."""
        with contextlib.suppress(DamagedJournal):
            return tile_journal(self.path / within / PARTS / name, self.header).read()
        return []

    def remove_part(self, name: str, within: str = "") -> None:
        """Remove the journal of a part, whose lines were added."""
        (self.path / within / PARTS / name).unlink(missing_ok=True)

    @property
    def lacks_levels(self) -> bool:
        """Whether finished tiles are missing in the further levels; see `write_levels`."""
        return (self.path / LEVELS_MISSING).exists()

    @lacks_levels.setter
    def lacks_levels(self, lacks: bool) -> None:
        mark = self.path / LEVELS_MISSING
        if lacks:
            mark.touch()
        else:
            mark.unlink(missing_ok=True)

    def write_levels(self, core: Region, levels: Sequence[npt.NDArray[Any]]) -> None:
        """Write a finished tile, halved once, twice and so on, to the further levels."""
        with disk_full_named(self.path):
            sizes = self.header["levels"]
            for level, (pixels, (height, width)) in enumerate(
                zip(levels, sizes, strict=True), start=1
            ):
                y, x = core.y0 >> level, core.x0 >> level
                h, w = min(pixels.shape[0], height - y), min(pixels.shape[1], width - x)
                if h > 0 and w > 0:
                    self._put(str(level), Region(y, x, y + h, x + w), pixels[:h, :w])

    def finish(self) -> None:
        """Note that the run which writes to it is complete."""
        with contextlib.suppress(OSError):
            mark_entry(self.path, {"key": self.header["key"]})

    def forget(self) -> None:
        """Mark all tiles as unfinished."""
        for name, _ in self.parts():
            self.remove_part(name)
        self._journal.clear()
        self.journal.clear()
        self._done[:] = False

    def moved(self, path: Path) -> None:
        """Continue reading at `path`, the new name of `pixels`; the rest of the store is removed."""
        self._arrays = open_arrays(path, self.header)
        self.remove()
        self.path = self.pixels = path

    def close(self) -> None:
        """Release the locks, so that other processes may write to the store or remove it."""
        self._unlock()

    def remove(self) -> None:
        """Delete the store from disk, unless another process still uses it."""
        self.close()
        remove_unused(self.path)

    def _append(self, line: dict[str, Any]) -> None:
        with disk_full_named(self.path):
            self._journal.append(line)

    def _put(self, name: str, box: Region, pixels: npt.NDArray[Any]) -> None:
        write_chunks(self._arrays[name], self.pixels / name, box, pixels)

    def _damaged(self) -> ResourceError:
        return ResourceError(
            f"The unfinished result in {self.path} is damaged.",
            f"Use {option('fresh', True)} to discard it.",
        )

    def _mark(self, line: dict[str, Any]) -> None:
        self.journal.append(line)
        rows, columns = self._cells(Region(*line["region"]))
        self._done[rows, columns] = True

    def _cells(self, region: Region) -> tuple[slice, slice]:
        cells = region.align(CELL)
        return (
            slice(cells.y0 // CELL, cells.y1 // CELL),
            slice(cells.x0 // CELL, cells.x1 // CELL),
        )

    def _read_all(self) -> None:
        """Mark the tiles that the journal names and whose pixels are really there as finished."""
        self._done[:] = False
        for line in self._journal.read():
            self._mark(line)
        height, width = self.header["shape"][:2]
        rows, columns = min(CHUNK, height), min(CHUNK, width)
        folder = self.pixels / "0" / "c" / "0"
        for row in range(-(-height // rows)):
            try:
                present = {int(name) for name in os.listdir(folder / str(row)) if name.isdigit()}
            except OSError:
                present = set()
            for column in set(range(-(-width // columns))) - present:
                y, x = row * rows, column * columns
                cells = self._cells(Region(y, x, min(y + rows, height), min(x + columns, width)))
                self._done[cells] = False


@dataclass(frozen=True)
class SetAside:
    """An unfinished store of a run of the same names, whose image, model or settings have changed."""

    path: Path
    of_image: bool
    """Whether it was the image that has changed."""


def _unfinished_beside(path: Path, header: dict[str, Any]) -> SetAside | None:
    for file in path.parent.glob(f"*{path.suffix}/{HEADER}"):
        # There may be thousands: few are parsed.
        with contextlib.suppress(OSError):
            if header["names"].encode() not in file.read_bytes():
                continue
        other, found = file.parent, read_header(file.parent)
        if found is None or found["key"] == header["key"] or found["names"] != header["names"]:
            continue
        about = {"key": found["key"]}
        if (other / JOURNAL).exists() and not is_whole(other, about) and not is_used(other):
            return SetAside(other, found["fingerprint"] != header["fingerprint"])
    return None


def free_path(path: Path) -> Path:
    """Return `path` without a store, or a path beside it where somebody uses that store."""
    number, free = 1, path
    while in_use(free):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    discard_store(free)
    return free


def discard_store(path: Path) -> None:
    """Remove the store at `path`; raise `ResourceError` while it is in use."""
    if path.exists() and not remove_folder(path, in_use):
        raise _still_in_use()


def _still_in_use() -> ResourceError:
    return ResourceError(
        "The earlier result of this run is still in use.",
        f"Close the window or program that uses it, or give another {option('scratch')} folder.",
    )


class PartWriter:
    """Writes whole chunks of the store at `path`, and names its tiles in own journals; raises `ResourceError`."""

    # The store belongs to another process, which adds the lines of those journals to its own:
    # nobody else writes the same chunks or the same file.
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
        self._arrays = open_arrays(path / PIXELS, header)

    def part(self, name: str, within: str = "") -> Part:
        """Return the part `name` of the result, or of the folder `within`, continued where one was begun."""
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
                write_chunks(self._arrays[name], self._path / PIXELS / name, box, values)
        for core, entry in entries.items():
            self.note(core, entry)

    def note(self, core: Region, entry: Mapping[str, Any]) -> None:
        """Note a tile as finished, with an entry for the journal."""
        line = {"region": list(core), **entry}
        with disk_full_named(self._path):
            self._journal.append(line)
        self.lines.append(line)
