"""Packs in one compact file, for transfer to other machines."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter, InputError
from napari_restore.training._replacing import replacing
from napari_restore.training.data._pack import (
    INDEX,
    SMALLEST,
    VERSION,
    Pack,
    existing_pack,
    scene_from_dict,
    scene_to_dict,
    write_pack,
)
from napari_restore.training.data._pictures import Picture
from napari_restore.training.data._scenes import Scene

Codes = npt.NDArray[np.uint8]

COMPACT_BYTES = 40 << 20
"""Default size limit of a compact pack in bytes."""


def compact(
    packed: Pack, path: Path, *, limit: int = COMPACT_BYTES, quality: int = 92
) -> tuple[int, int]:
    """Write the images of a pack into a zip of JPEGs of at most `limit` bytes.

    Where they do not fit, all are reduced by the same factor. Returns bytes and longest side.
    Raises `BadParameter` where images would be smaller than `SMALLEST`, and `DiskFull`.
    """
    longest = max(max(entry.shape) for entry in packed.entries)
    while len(data := _zipped(packed, longest, quality)) > limit:
        if longest <= SMALLEST:
            raise BadParameter(
                f"{len(packed)} pictures do not fit into {limit} bytes.",
                "Give a larger limit, or fewer pictures.",
            )
        shorter = int(longest * min(0.93, max(0.5, (limit * 0.95 / len(data)) ** 0.6)))
        longest = max(SMALLEST, shorter)
    with replacing(path) as part:
        part.write_bytes(data)
    return len(data), longest


def expand(path: Path, folder: Path) -> Pack:
    """Write a pack to `folder` from a zip of `compact`; needs only Pillow and numpy.

    An existing pack of the same file is opened, any other replaced. Raises
    `InputError` for another file, and `DiskFull`.
    """
    path, folder = Path(path), Path(folder)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}).", "Name a compact pack.") from error
    fingerprint = hashlib.sha256(data).hexdigest()
    if (pack := existing_pack(folder, fingerprint)) is not None:
        return pack
    return write_pack(_unzipped(data, path), folder, fingerprint)


def _zipped(packed: Pack, longest: int, quality: int) -> bytes:
    """Return a compact pack of images of at most `longest` pixels a side, as bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        # Paths of this machine are omitted.
        rows = [
            {
                **scene_to_dict(entry.scene),
                "path": entry.scene.name,
                "distance": None,
                "is_light": entry.is_light,
            }
            for entry in packed.entries
        ]
        file.writestr(INDEX, json.dumps({"version": VERSION, "scenes": rows}))
        for number in range(len(packed)):
            for name, blob in _members(packed, number, longest, quality).items():
                file.writestr(name, blob)
    return out.getvalue()


def _unzipped(data: bytes, path: Path) -> Iterator[tuple[Scene, Picture]]:
    """Yield the scenes of the compact pack `data` of the file `path`."""
    from PIL import Image

    def read(name: str) -> Codes:
        with Image.open(io.BytesIO(file.read(name))) as picture:
            return np.asarray(picture)

    def picture(number: int, is_light: bool) -> Picture:
        rgb = read(f"{number}.jpg")
        valid, distance = np.ones(rgb.shape[:2], np.bool_), None
        if f"{number}.valid.png" in names:
            valid = read(f"{number}.valid.png") > 0
        if f"{number}.distance.png" in names:
            distance = read(f"{number}.distance.png").astype(np.float32) / np.float32(255)
        return Picture(rgb, valid, distance, is_light)

    try:
        file = zipfile.ZipFile(io.BytesIO(data))
        rows = json.loads(file.read(INDEX))["scenes"]
        names = set(file.namelist())
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise _no_pack(path, error) from error
    for number, row in enumerate(rows):
        try:
            is_light = row.pop("is_light", False)
            scene_and_picture = scene_from_dict(row), picture(number, is_light)
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
            raise _no_pack(path, error) from error
        # Outside of the `try`: errors of the consumer are not errors of the file.
        yield scene_and_picture


def _members(packed: Pack, number: int, longest: int, quality: int) -> dict[str, bytes]:
    """Return the files of one image in a compact pack by name."""
    from PIL import Image

    entry = packed.entries[number]
    scale = min(1.0, longest / max(entry.shape))
    size = (max(1, round(entry.shape[1] * scale)), max(1, round(entry.shape[0] * scale)))

    def written(values: Codes, form: str, resample: Image.Resampling) -> bytes:
        picture = Image.fromarray(np.ascontiguousarray(values))
        if picture.size != size:
            picture = picture.resize(size, resample)
        out = io.BytesIO()
        picture.save(out, form, quality=quality, subsampling=0)
        return out.getvalue()

    fine = Image.Resampling.LANCZOS
    members = {f"{number}.jpg": written(packed.view(entry.levels[0]), "JPEG", fine)}
    if entry.valid:
        mask = packed.view(entry.valid[0]) * np.uint8(255)
        members[f"{number}.valid.png"] = written(mask, "PNG", Image.Resampling.NEAREST)
    if entry.distance:
        codes = packed.view(entry.distance[0])
        members[f"{number}.distance.png"] = written(codes, "PNG", Image.Resampling.BILINEAR)
    return members


def _no_pack(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is not a compact pack ({error}).", "Create it again.")
