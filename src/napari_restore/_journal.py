"""Journals of what a run has finished: one JSON entry per line, each with a checksum."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from napari_restore._points import reached
from napari_restore._replacing import replacing

DIGEST = "digest"
"""Key of an entry's checksum."""


class DamagedJournal(ValueError):
    """An entry was changed, or belongs to another question."""


class Journal:
    """Entries of JSON, one a line, each with a checksum keyed by what the journal is about."""

    # An entry is appended after the data it speaks of. The checksum of an entry of another
    # question, or of one that was changed, does not match. The last line may be torn by a crash:
    # that is no damage, what it spoke of is done again. One process writes, after `mend`.
    def __init__(
        self,
        path: Path,
        about: Mapping[str, Any],
        is_valid: Callable[[dict[str, Any]], bool] = lambda entry: True,
    ) -> None:
        """Open the journal of the question `about`; an entry is refused that is not `is_valid`."""
        self.path = path
        self._key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).digest()
        self._is_valid = is_valid

    def read(self) -> list[dict[str, Any]]:
        """Return the entries, as they were passed to `append`; raises `DamagedJournal` for a wrong checksum."""
        entries = [self._parse(line) for line in self._whole().splitlines()]
        known = [entry for entry in entries if entry is not None]
        if len(known) < len(entries):
            raise DamagedJournal(f"{self.path} contains an entry that is damaged or not its own")
        return known

    def read_known(self) -> list[dict[str, Any]]:
        """Return the entries whose checksums match; the others count as missing."""
        entries = map(self._parse, self._whole().splitlines())
        return [entry for entry in entries if entry is not None]

    def mend(self) -> None:
        """Cut off an incomplete last line, left by a crash or a full disk."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.path, len(self._whole()))

    def append(self, entry: Mapping[str, Any], *, durable: bool = False) -> None:
        """Append an entry; a `durable` one is on the disk before this returns.

        Raises `OSError`, and leaves no torn line behind then.
        """
        line = self._line(entry)
        with open(self.path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if durable:
                    os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
        reached(f"{self.path.name} appended")

    def rewrite(self, entry: Mapping[str, Any]) -> None:
        """Replace all entries by this one, atomically."""
        with replacing(self.path) as part:
            part.write_bytes(self._line(entry))

    def clear(self) -> None:
        """Remove all entries."""
        self.path.unlink(missing_ok=True)

    def _whole(self) -> bytes:
        """Return all complete lines."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        return content[: content.rfind(b"\n") + 1]

    def _line(self, entry: Mapping[str, Any]) -> bytes:
        return json.dumps({**entry, DIGEST: self._digest(entry)}).encode() + b"\n"

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        """Return an entry; None where it is not as it was appended."""
        try:
            entry = json.loads(line)
            digest = entry.pop(DIGEST)
            is_known = digest == self._digest(entry) and self._is_valid(entry)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return entry if is_known else None

    def _digest(self, entry: Mapping[str, Any]) -> str:
        # As JSON reads it: a tuple has become a list by then.
        text = json.dumps(json.loads(json.dumps(entry)), sort_keys=True)
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=16).hexdigest()
