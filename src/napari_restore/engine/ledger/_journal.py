"""Journal of finished tiles: one JSON entry per line, each with a checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_restore._json_shapes import parse_json
from napari_restore.engine._region import Region

JOURNAL = "tiles.jsonl"
DIGEST = "digest"
"""Key of an entry's checksum."""


class DamagedJournal(ValueError):
    """An entry was changed, or belongs to another run."""


class Journal:
    """Entries of JSON, one a line, each with a checksum keyed by the header of its store.

    The checksum of an entry of another run, or of one that was changed, does not match. The last
    line may be torn by a crash: that is no damage, its tile is restored again.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], name: str = JOURNAL) -> None:
        self._path = folder / name
        self._key = hashlib.sha256(json.dumps(header, sort_keys=True).encode()).digest()
        self._height, self._width = header["shape"][:2]

    def read(self) -> list[dict[str, Any]]:
        """Return the entries, as they were passed to `append`.

        Raises `DamagedJournal` where the checksum of a complete entry does not match.
        """
        return [self._parse(entry) for entry in self._whole().splitlines()]

    def mend(self) -> None:
        """Cut off an incomplete last line, left by a crash or a full disk."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self._path, len(self._whole()))

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append an entry; it must have ``region``, the box of its tile."""
        whole = {**entry, DIGEST: self._digest(entry)}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(whole) + "\n")

    def clear(self) -> None:
        """Remove all entries."""
        self._path.unlink(missing_ok=True)

    def _whole(self) -> bytes:
        """Return all complete lines."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        return content[: content.rfind(b"\n") + 1]

    def _parse(self, text: bytes) -> dict[str, Any]:
        try:
            entry = parse_json(text)
            digest = entry.pop(DIGEST)
            box = Region(*entry["region"])
            is_inside = box == box.intersect(Region(0, 0, self._height, self._width))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedJournal(f"{self._path} contains an unreadable entry") from error
        if digest != self._digest(entry) or not is_inside:
            raise DamagedJournal(f"{self._path} contains an entry of another run")
        return dict(entry)

    def _digest(self, entry: Mapping[str, Any]) -> str:
        # As JSON reads it: a tuple has become a list by then.
        text = json.dumps(json.loads(json.dumps(entry)), sort_keys=True)
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=16).hexdigest()
