"""A file of records of equal length that survives a crash: each is complete or absent."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_restore._format import format_size
from napari_restore._journal import Journal
from napari_restore._json_shapes import parse_json
from napari_restore.errors import DiskFull, is_disk_full, option

Bytes: TypeAlias = npt.NDArray[np.uint8]
Checksums: TypeAlias = tuple[int, ...]
"""Of the parts of a record."""
_FORMAT = 2
HEADER, RECORD, CHECKSUMS = "header", "record", "crc32c"
"""Keys of the journal's entries: what the file is made as; a record, and its checksums."""
_AT_ONCE = 1 << 30
"""Most bytes of one call: Linux moves no more than 2 GiB."""
_NOT_OFFERED = {
    errno.EINVAL,
    getattr(errno, "EOPNOTSUPP", errno.EINVAL),
    errno.ENOSYS,
}
"""Errors of file systems that cannot allocate space in advance."""


@dataclass(frozen=True)
class Slots:
    """Tiles on each tier, in the order of encoding; those after them are recomputed."""

    device: int = 0
    ram: int = 0
    disk: int = 0

    @property
    def total(self) -> int:
        """Tiles that are kept."""
        return self.device + self.ram + self.disk

    def first(self, tiles: int) -> Slots:
        """Return these tiers for no more than so many tiles."""
        device = min(self.device, tiles)
        ram = min(self.ram, tiles - device)
        return Slots(device, ram, min(self.disk, tiles - device - ram))

    def of(self, slot: int) -> str | None:
        """Return ``"device"``, ``"ram"`` or ``"disk"``; None for a tile that is recomputed."""
        end = 0
        for name, count in (("device", self.device), ("ram", self.ram), ("disk", self.disk)):
            end += count
            if 0 <= slot < end:
                return name
        return None


class SlabFile:
    """`count` records of `record_bytes` bytes in one preallocated file.

    A record is written first and then entered, with its checksum, in a journal beside the file
    (PATH.journal). After the process was killed the journal names exactly the complete records;
    after a power cut the checksum reveals those that never reached the disk. The file is read and
    written, not mapped, so its pages do not count as the process's memory.

    An earlier file is reused when it was made with the same `key`, `record_bytes` and `count`, and
    created again otherwise. Raises `DiskFull` where there is no space for all records. One thread
    writes, any may read; all must have finished before `close`.
    """

    def __init__(
        self,
        path: Path,
        record_bytes: int,
        count: int,
        *,
        key: str,
        what: str = "records",
        parts: Sequence[int] = (),
    ) -> None:
        """Open or create the file; `parts` are the bytes of parts of a record read by themselves."""
        if record_bytes <= 0 or count < 0:
            raise ValueError(f"{count} records of {record_bytes} bytes make no file")
        ends = list(itertools.accumulate(parts or (record_bytes,)))
        if ends[-1] != record_bytes:
            raise ValueError(f"parts of {ends[-1]} bytes make no record of {record_bytes}")
        self._parts = list(zip([0, *ends[:-1]], ends, strict=True))
        self.path = path
        self._what = what
        self.record_bytes = record_bytes
        self.count = count
        self._positioned = hasattr(os, "preadv") and hasattr(os, "pwrite")
        self._seeking = threading.Lock()
        self._writing = threading.Lock()
        self._checksums: dict[int, Checksums] = {}
        header = {"format": _FORMAT, "key": key, "record_bytes": record_bytes, "count": count}
        header["parts"] = [high - low for low, high in self._parts]
        self.made = made_of(header)
        """Checksum of what describes the file: entries of another one are not of this."""
        self._journal = _open_journal(path, header)
        if not self._take_over(header):
            self._make(header)
        self._file = open(path, "r+b", buffering=0)

    # -- state --------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes of the file, written or not."""
        return self.record_bytes * self.count

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Mask of the records that are written, (count,)."""
        done = np.zeros(self.count, bool)
        done[list(self._checksums)] = True
        return done

    def has(self, index: int) -> bool:
        return index in self._checksums

    # -- records -----------------------------------------------------------------

    def put(self, index: int, record: memoryview | npt.NDArray[Any]) -> None:
        """Write record `index`, of `record_bytes`, over an earlier one; raises `DiskFull`."""
        self._check(index)
        # Some file systems allocate space only when it is written.
        content = np.ascontiguousarray(np.asarray(record)).reshape(-1).view(np.uint8)
        if content.nbytes != self.record_bytes:
            raise ValueError(f"a record has {self.record_bytes} bytes, not {content.nbytes}")
        checksums = tuple(_checksum(content[low:high]) for low, high in self._parts)
        with self._writing:
            try:
                if self._checksums.pop(index, None) is not None:
                    # Killed half-way, neither the old record nor the new one is valid.
                    self._note({RECORD: index})
                self._write(content, index * self.record_bytes)
                self._note({RECORD: index, CHECKSUMS: checksums})
            except OSError as error:
                if not is_disk_full(error):
                    raise
                raise _disk_full(self.path, self.record_bytes, self._what, error) from error
            self._checksums[index] = checksums

    def enter(self, entry: Mapping[str, Any]) -> None:
        """Note a record that another process has written, by its entry of the journal."""
        self._check(entry[RECORD])
        with self._writing:
            self._note(entry)
            self._checksums |= _records_in([entry])

    def get(self, index: int, out: Bytes | None = None) -> Bytes | None:
        """Return record `index`, (record_bytes,); None if never written or damaged.

        With `out`, a contiguous (record_bytes,) array, the record is read into it; its content is
        undefined when None is returned.
        """
        self._check(index)
        if index not in self._checksums:
            return None
        buffer = np.empty(self.record_bytes, np.uint8) if out is None else out
        return buffer if self._fill(buffer, index, range(len(self._parts))) else None

    def get_part(self, index: int, part: int, out: Bytes) -> bool:
        """Read one part of record `index` into `out`; False if it was never written or is damaged."""
        self._check(index)
        return self._fill(out, index, range(part, part + 1))

    def _fill(self, buffer: Bytes, index: int, parts: range) -> bool:
        """Read neighbouring parts of a record; return whether they were written, and are whole."""
        checksums = self._checksums.get(index)
        if checksums is None:
            return False
        first, last = self._parts[parts[0]][0], self._parts[parts[-1]][1]
        if buffer.shape != (last - first,) or not buffer.flags.c_contiguous:
            raise ValueError(f"{last - first} contiguous bytes are needed")
        if self._read(buffer, index * self.record_bytes + first) and all(
            _checksum(buffer[low - first : high - first]) == checksums[part]
            for part, (low, high) in zip(parts, self._parts[parts.start : parts.stop], strict=True)
        ):
            return True
        with self._writing:
            # It is damaged, unless it was only being rewritten at that moment.
            if self._checksums.get(index) == checksums:
                del self._checksums[index]
        return False

    def close(self) -> None:
        """Close the file; what was written stays on disk."""
        self._file.close()

    def remove(self) -> None:
        """Delete the file and its journal."""
        self.close()
        discard_slab(self.path)

    # -- opening -----------------------------------------------------------------

    def _take_over(self, header: dict[str, Any]) -> bool:
        """Read the journal of an earlier file that `header` describes; False if there is none."""
        self._mend()
        entries = self._journal.read_known()
        if not entries or HEADER not in entries[0]:
            return False
        if not self.path.is_file() or self.path.stat().st_size != self.nbytes:
            return False
        self._checksums = _records_in(entries)
        return True

    def _mend(self) -> None:
        """Cut off an entry that a crash tore."""
        self._journal.mend()

    def _make(self, header: dict[str, Any]) -> None:
        """Preallocate the file."""
        # Its journal is written last, so where it exists the file is complete.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._journal.clear()
        self.path.unlink(missing_ok=True)
        try:
            with open(self.path, "wb", buffering=0) as file:
                _preallocate(file.fileno(), self.path, self.nbytes)
            self._journal.rewrite({HEADER: header})
        except OSError as error:
            self.path.unlink(missing_ok=True)
            if not is_disk_full(error):
                raise
            raise _disk_full(self.path, self.nbytes, self._what, error) from error

    # -- bytes -------------------------------------------------------------------

    def _check(self, index: int) -> None:
        if not 0 <= index < self.count:
            raise IndexError(f"record {index} of {self.count}")

    def _note(self, entry: Mapping[str, Any]) -> None:
        """Add an entry to the journal."""
        self._journal.append(entry)

    def _write(self, content: Bytes, offset: int) -> None:
        view = content.data
        while len(view):
            part = view[:_AT_ONCE]
            if self._positioned:
                written = os.pwrite(self._file.fileno(), part, offset)
            else:
                with self._seeking:
                    self._file.seek(offset)
                    written = self._file.write(part)
            view, offset = view[written:], offset + written

    def _read(self, buffer: Bytes, offset: int) -> bool:
        """Fill `buffer` from `offset`; return False where the file or the disk fails."""
        view = buffer.data
        while len(view):
            part = view[:_AT_ONCE]
            try:
                if self._positioned:
                    read = os.preadv(self._file.fileno(), [part], offset)
                else:
                    with self._seeking:
                        self._file.seek(offset)
                        read = self._file.readinto(part)
            except OSError:
                return False
            if not read:
                return False
            view, offset = view[read:], offset + read
        return True


def journal_of(path: Path) -> Path:
    """Return the path of the journal of the slab file `path`."""
    return path.with_name(f"{path.name}.journal")


def _open_journal(path: Path, header: Mapping[str, Any]) -> Journal:
    """Return the journal of a slab file: its header, then an entry for each change of a record."""

    def is_valid(entry: Mapping[str, Any]) -> bool:
        if HEADER in entry:
            return bool(entry[HEADER] == header)
        parts = len(entry.get(CHECKSUMS, header["parts"]))
        return 0 <= entry[RECORD] < header["count"] and parts == len(header["parts"])

    return Journal(journal_of(path), header, is_valid)


def _records_in(entries: Iterable[Mapping[str, Any]]) -> dict[int, Checksums]:
    """Return the checksums of the records that were written and not dropped since."""
    checksums: dict[int, Checksums] = {}
    for entry in entries:
        if CHECKSUMS in entry:
            checksums[entry[RECORD]] = tuple(entry[CHECKSUMS])
        elif RECORD in entry:
            checksums.pop(entry[RECORD], None)
    return checksums


def _header_of(path: Path) -> dict[str, Any] | None:
    """Return what the slab file `path` was made as; None where there is no such file."""
    try:
        with open(journal_of(path), "rb") as journal:
            header = parse_json(journal.readline())[HEADER]
            return dict(header) if {"key", "count", "parts"} <= set(header) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def key_of(path: Path) -> str | None:
    """Return the key that the slab file `path` was made with; None where there is no such file."""
    header = _header_of(path)
    return str(header["key"]) if header is not None and path.exists() else None


def written(path: Path) -> int:
    """Return how many records of the slab file `path` are written; 0 where there is no such file."""
    header = _header_of(path)
    return 0 if header is None else len(_records_in(_open_journal(path, header).read_known()))


def discard_slab(path: Path) -> None:
    """Delete the slab file `path`, which no process has open, and its journal."""
    journal_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def enter_all(path: Path, made: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Note records that a process wrote which is gone; nothing where `path` was made anew since."""
    header = _header_of(path)
    if header is None or made_of(header) != made:
        return
    journal = _open_journal(path, header)
    journal.mend()
    for entry in entries:
        journal.append(entry)


def made_of(header: Mapping[str, Any]) -> str:
    """Return a checksum of what a slab file is made as, as text."""
    return f"{_checksum(np.frombuffer(json.dumps(header).encode(), np.uint8)):08x}"


def _checksum(content: Bytes) -> int:
    import google_crc32c

    return int(google_crc32c.value(content))


def _preallocate(handle: int, path: Path, size: int) -> None:
    """Allocate `size` bytes, so that a full disk shows before the work, not during it."""
    if size == 0:
        return
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, size)
            return
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(handle, size)


def _disk_full(path: Path, size: int, what: str, error: OSError) -> DiskFull:
    cause = (
        "The file system does not take a file as large as"
        if error.errno == errno.EFBIG
        else "There is no space for"
    )
    hint = f"Free some, or point {option('scratch')} elsewhere"
    if what == "residuals":
        hint += f", or use {option('residuals', 'recompute')}"
    return DiskFull(f"{cause} {format_size(size)} of {what} in {path.parent}.", f"{hint}.")
