"""Output files of a command, and the summary of a folder of outputs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from napari_restore import api
from napari_restore._addresses import is_remote, without_queries
from napari_restore._format import size_of
from napari_restore._journal import Journal
from napari_restore.errors import BadOutput, InputError
from napari_restore.records import read_json, strict_json, write_json, write_text

WRITABLE = frozenset({".tif", ".tiff", ".zarr", ".png", ".jpg", ".jpeg", ".webp"})
"""Suffixes kept for the output; everything else becomes .tif."""

_SEPARATORS = tuple(filter(None, (os.sep, os.altsep, "/")))
"""With one of these a name is that of a folder."""

FIRST = "first"
"""Value of `--context` for the statistics of the first image."""

SUMMARY = "restore_summary.json"
"""Summary of a folder, from which a second call knows what to skip."""


@dataclass(frozen=True)
class Item:
    """One image to restore."""

    sources: tuple[str, ...]
    """One path, or several files taken as one image."""
    output: Path
    record: Path | None
    maps: Path | None
    """Folder of the side maps."""
    plane: int | None = None
    """The plane of the one path, of several."""

    @property
    def name(self) -> str:
        """What messages call the image."""
        source = without_queries(self.sources[0])
        return source if self.plane is None else f"{source}, plane {self.plane}"


def is_folder(output: str, sources: Sequence[str], *, joined: bool) -> bool:
    """Return whether `-o output` names a folder rather than a file."""
    if len(sources) > 1 and not joined:
        return True
    path = Path(output)
    return output.endswith(_SEPARATORS) or (path.is_dir() and path.suffix.lower() != ".zarr")


def refuse_address(output: str) -> None:
    """Raise `BadOutput` for an address: outputs are files."""
    if is_remote(output):
        raise BadOutput(
            f"{output} is an address, and outputs are files.",
            "Write a file, and send it with a tool of the bucket.",
        )


def images_in(paths: Sequence[str]) -> list[str]:
    """Return `paths` with their images in place of folders.

    A product is one image, and no folder.

    Raises `InputError` for a folder without images.
    """
    images: list[str] = []
    folders = [
        path
        for path in paths
        if Path(path).is_dir() and not api.is_zarr(Path(path)) and not api.is_product(path)
    ]
    for path in paths:
        found = api.images_in_folder(Path(path)) if path in folders else [path]
        if not found:
            raise InputError(f"There is no image in {path}.", "Name another folder, or the files.")
        images += map(str, found)
    return images


def names_file(output: str) -> bool:
    """Return whether `-o output` has the name of a file in a format of outputs, and is no folder."""
    path = Path(output)
    if path.is_dir():
        return api.is_zarr(path)
    return path.suffix.lower() in WRITABLE and not output.endswith(_SEPARATORS)


def as_folder(output: str) -> str:
    """Return `output` with a separator at its end; raises `BadOutput` for the name of a file of a format."""
    if Path(output).is_dir() and api.is_zarr(Path(output)):
        raise BadOutput(
            f"{output} is an OME-Zarr image, but several images and folders need a folder.",
            "Name another folder after -o.",
        )
    if names_file(output) and not Path(output).is_file():
        raise BadOutput(
            f"{output} is the name of a file, but several images and folders need a folder.",
            f"Name a folder after -o; a slash behind the name makes it one: {output}/",
        )
    return os.path.join(output, "")


def without_outputs(items: Sequence[Item]) -> list[Item]:
    """Return `items` without those whose source is an output; raises `BadOutput` where it is its own."""
    # A folder may be restored into itself.
    # Links are followed: a folder may be reached by two names.
    sources = [os.path.realpath(item.sources[0]) for item in items]
    outputs = [os.path.realpath(item.output) for item in items]
    for item, source, output in zip(items, sources, outputs, strict=True):
        if source == output:
            raise BadOutput(
                f"{item.output} is an input, and would be replaced.",
                "Choose another --name, or another folder after -o.",
            )
    written = set(outputs)
    return [item for item, source in zip(items, sources, strict=True) if source not in written]


def items_of(
    groups: Sequence[tuple[str, ...]], options: Namespace, *, into_folder: bool
) -> list[Item]:
    """Assign an output to every group of files, which is named after the first of them.

    Raises `BadOutput` for equal names, before anything is read.
    """
    record, maps = options.record, options.maps
    if into_folder:
        folder = Path(options.output)
        if folder.is_file():
            raise BadOutput(
                f"{folder} is a file, but {len(groups)} images need a folder.",
                "Name a folder after -o.",
            )
        outputs = [folder / output_name(options.name, group[0]) for group in groups]
    else:
        outputs = [Path(options.output)]
    records = [_record_path(record, group[0], len(groups)) for group in groups]
    # Side maps have fixed names, so that several images need a folder each.
    folders = [
        Path(maps) / (Path(without_queries(group[0])).stem if len(groups) > 1 else "")
        if maps is not None
        else None
        for group in groups
    ]
    items = [Item(*each) for each in zip(groups, outputs, records, folders, strict=True)]
    _refuse_duplicates([item.output for item in items], "--name")
    _refuse_duplicates([item.record for item in items if item.record], "--record")
    return items


def output_name(pattern: str, source: str) -> str:
    """Return the name of the output of `source`; raises `BadOutput` for a pattern that gives none."""
    path = Path(without_queries(source))
    suffix = path.suffix if path.suffix.lower() in WRITABLE else ".tif"
    values = {"stem": path.stem, "suffix": suffix}
    try:
        fields = [field[1:] for field in Formatter().parse(pattern) if field[1] is not None]
    except ValueError:
        fields = [("", "", None)]
    # Neither attributes nor widths: a width of 10⁹ would allocate as many bytes.
    is_plain = all(field in values and not spec and not how for field, spec, how in fields)
    name = pattern.format(**values) if is_plain else ""
    if not name or "\0" in name or Path(name).name != name:
        raise BadOutput(
            f"--name {pattern!r} gives no file name.",
            "It may contain {stem} and {suffix}, for instance {stem}_clear{suffix}.",
        )
    return name


def _record_path(pattern: str | None, source: str, images: int) -> Path | None:
    if pattern is None:
        return None
    if images > 1 and "{stem}" not in pattern:
        raise BadOutput(
            f"{images} images cannot share the record {pattern}.",
            "Put {stem} in the name, for instance {stem}.json.",
        )
    return Path(pattern.replace("{stem}", Path(without_queries(source)).stem))


def _refuse_duplicates(paths: Sequence[Path], option: str) -> None:
    owners: dict[str, Path] = {}
    for path in paths:
        other = owners.setdefault(name_on_disk(path), path)
        if other is not path:
            raise BadOutput(
                f"Two images would be written to {path}.",
                f"Choose another {option}, or restore them into different folders.",
            )


def name_on_disk(path: Path) -> str:
    """Return a key that is equal for paths that may be one file, as A.tif and a.tif on Windows."""
    return os.path.abspath(path).casefold()


class Summary:
    """The summary of a folder: one entry per output, noted after each image, written by `close`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / SUMMARY
        self._journal = Journal(folder / f"{SUMMARY}l", {"of": SUMMARY})
        with suppress(OSError):
            self._journal.mend()
        self.entries = self._stored()

    def _stored(self) -> dict[str, dict[str, Any]]:
        """Return the entries on disk; where they are unreadable, no output counts as done."""
        stored: dict[str, dict[str, Any]] = {}
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            entries = read_json(self.path)["images"]
            stored = {str(name): dict(entry) for name, entry in entries.items()}
        with suppress(OSError, KeyError):
            # What a call had done that was killed.
            stored |= {line["name"]: line["entry"] for line in self._journal.read_known()}
        return stored

    def is_done(self, output: Path, key: str) -> bool:
        """Return whether the same command with the same input wrote `output`."""
        entry = self.entries.get(output.name, {})
        done = entry.get("status") == "done" and entry.get("key") == key
        return done and output.exists() and entry.get("bytes") == size_of(output)

    def is_unchanged(self, output: Path) -> bool:
        """Return whether a file is unchanged since it was written."""
        sha256 = (self.record_of(output).get("output") or {}).get("sha256")
        return output.is_file() and file_sha256(str(output)) == sha256

    def has_maps(self, item: Item) -> bool:
        """Return whether the requested side maps of `item` exist."""
        if item.maps is None:
            return True
        names: list[Any] = self.entries.get(item.output.name, {}).get("maps") or []
        return bool(names) and all((item.maps / str(name)).is_file() for name in names)

    def record_of(self, output: Path) -> dict[str, Any]:
        """Return the record of the run that wrote `output`."""
        return dict(self.entries.get(output.name, {}).get("record") or {})

    def add(self, output: Path, entry: dict[str, Any]) -> None:
        """Set the entry of `output`, on disk before this returns."""
        before = self.entries.get(output.name, {}).get("status")
        # A finished entry is replaced only by another finished run.
        if before == "done" and entry["status"] != "done":
            return
        self.entries[output.name] = entry
        self._journal.append(json.loads(strict_json({"name": output.name, "entry": entry})))

    def close(self) -> None:
        """Write the summary; where that fails, the next call has its entries nevertheless."""
        with suppress(OSError):
            write_json(self.path, {"images": self._stored()})
            self._journal.clear()

    def write_table(self, items: Sequence[Item], entries: Sequence[Mapping[str, Any]]) -> None:
        """Write a line for each of `items` to the table beside the summary.

        `entries` are those of the first of them; the others are ``waiting``.
        """
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("input", "output", "status", "seconds", "bytes", "error"))
        waiting: list[Mapping[str, Any]] = [{}] * (len(items) - len(entries))
        for item, entry in zip(items, [*entries, *waiting], strict=True):
            error = entry.get("error")
            sentence = "" if error is None else f"{error['message']} {error['hint']}".strip()
            table.writerow(
                (
                    item.name
                    if len(item.sources) == 1
                    else without_queries(" ".join(item.sources)),
                    item.output,
                    entry.get("status", "waiting"),
                    f"{entry['seconds']:.1f}" if "seconds" in entry else "",
                    entry.get("bytes", ""),
                    sentence,
                )
            )
        write_text(self.path.with_suffix(".csv"), text.getvalue())


def file_sha256(path: str) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(settings: Any) -> str:
    """Return a hash of JSON-able settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
