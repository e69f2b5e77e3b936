"""Packs: clear images at several scales in one memory-mapped file, shared by all workers.

They travel to other machines in a compact file, a zip of JPEGs.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.extension import BadParameter, InputError
from napari_restore_lab._replacing import replacing
from napari_restore_lab.data._pictures import Picture, read_picture
from napari_restore_lab.data._resample import halved
from napari_restore_lab.data._scenes import Scene
from napari_restore_lab.synthetic_haze import LUMA

Codes = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]

VERSION = 1
READER_VERSION = 3
"""Version of the readers of images and distances: packs of another version are created again."""
LONG_SIDE = 2048
"""Longest side of a packed image in pixels."""
LEVELS = 4
"""Scales of each image: 1, 1/2, 1/4, 1/8."""
SMALLEST = 64
"""Shortest side of a stored level in pixels."""
BLOB, INDEX = "pictures.npy", "pictures.json"


@dataclass(frozen=True)
class ArrayPosition:
    """Position of an array in the file: uint8, C order."""

    offset: int
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class PackedScene:
    """One packed scene."""

    scene: Scene
    levels: tuple[ArrayPosition, ...]
    """(H, W, 3) codes at 1, 1/2, 1/4 …"""
    valid: tuple[ArrayPosition, ...]
    """(H, W) 0 or 1 for each level; empty if all pixels are valid."""
    distance: tuple[ArrayPosition, ...]
    """(H, W) 0 near to 255 far for each level; empty if unknown."""
    median: float
    """Median luma of the valid pixels, 0 to 1."""
    bright: float
    """99th percentile of the luma."""
    is_light: bool = False
    """As `Picture.is_light`."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of level 0."""
        return self.levels[0].shape[0], self.levels[0].shape[1]


class Pack:
    """Packed images, read only; pickled as the folder, so that workers open it themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            record = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
            if record["version"] != VERSION:
                raise InputError(f"{folder} was packed by another version.", "Pack it again.")
            self.fingerprint: str = record["fingerprint"]
            self.entries: tuple[PackedScene, ...] = tuple(
                _entry_of(item) for item in record["entries"]
            )
            self._blob: Codes = np.load(self.folder / BLOB, mmap_mode="r")
            last = max(p.offset + p.bytes for e in self.entries for p in _parts(e))
            if self._blob.dtype != np.uint8 or last > self._blob.size:
                raise ValueError("the pictures are not those of the index")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} contains no packed pictures.", "Pack them again."
            ) from error

    def __reduce__(self) -> tuple[Callable[[Path], Pack], tuple[Path]]:
        return Pack, (self.folder,)

    def __len__(self) -> int:
        return len(self.entries)

    def view(self, part: ArrayPosition) -> Codes:
        """Return the array of `part` as a view of the file."""
        return self._blob[part.offset : part.offset + part.bytes].reshape(part.shape)

    @property
    def bytes(self) -> int:
        """Bytes of the file."""
        return int(self._blob.size)


def pack(
    scenes: Sequence[Scene],
    folder: Path,
    *,
    long_side: int = LONG_SIDE,
    progress: Progress | None = None,
) -> Pack:
    """Pack `scenes` into two files of `folder`, or open an existing pack of the same files.

    Images are reduced to `long_side` pixels and take about 4 bytes per pixel. `progress` is called
    with finished and total scenes. Raises `InputError` and `DiskFull`.
    """
    if not scenes:
        raise InputError("There is no scene to pack.", "Name another index or folder.")
    folder = Path(folder)
    fingerprint = _fingerprint(scenes, long_side)
    if (existing := existing_pack(folder, fingerprint)) is not None:
        return existing

    def pictures() -> Iterator[tuple[Scene, Picture]]:
        for number, scene in enumerate(scenes):
            yield scene, read_picture(scene, long_side)
            if progress is not None:
                progress(number + 1, len(scenes))

    return write_pack(pictures(), folder, fingerprint)


def existing_pack(folder: Path, fingerprint: str) -> Pack | None:
    """Return the pack in `folder` if it has this fingerprint, else None."""
    if not (folder / INDEX).is_file():
        return None
    try:
        existing = Pack(folder)
    except InputError:
        return None
    return existing if existing.fingerprint == fingerprint else None


def write_pack(pictures: Iterable[tuple[Scene, Picture]], folder: Path, fingerprint: str) -> Pack:
    """Write both files of a pack, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    with replacing(folder / INDEX) as index:
        with replacing(folder / BLOB) as blob:
            offset = 0
            with blob.open("wb") as file:
                file.write(_header(0))

                def put(values: npt.NDArray[Any]) -> ArrayPosition:
                    nonlocal offset
                    part = ArrayPosition(offset, tuple(int(side) for side in values.shape))
                    file.write(np.ascontiguousarray(values, np.uint8).data)
                    offset += part.bytes
                    return part

                for scene, picture in pictures:
                    entries.append(_write_levels(scene, picture, put))
                file.seek(0)
                file.write(_header(offset))
            # The index refers to the pictures: it is removed first and written last.
            (folder / INDEX).unlink(missing_ok=True)
        record = {"version": VERSION, "fingerprint": fingerprint, "entries": entries}
        index.write_text(json.dumps(record), encoding="utf-8")
    return Pack(folder)


def _header(count: int) -> bytes:
    """Return the header of a .npy file of `count` bytes, of constant length."""
    file = io.BytesIO()
    record = {"descr": "|u1", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, record)
    header = file.getvalue()
    assert len(header) == 128
    return header


def _write_levels(
    scene: Scene, picture: Picture, put: Callable[[Any], ArrayPosition]
) -> dict[str, Any]:
    """Write all levels of an image; return their entry of the index."""
    rgb, valid = picture.rgb, picture.valid
    luma = (rgb[valid] if valid.any() else rgb.reshape(-1, 3))[::16].astype(np.float32) @ LUMA / 255
    distance = picture.distance
    all_valid = bool(valid.all())
    levels, masks, distances = [], [], []
    for _ in range(LEVELS):
        levels.append(asdict(put(rgb)))
        if not all_valid:
            masks.append(asdict(put(valid)))
        if distance is not None:
            distances.append(asdict(put(np.rint(distance * 255))))
        if min(rgb.shape[:2]) < 2 * SMALLEST:
            break
        rgb, valid = halved(rgb), halved(valid)
        distance = None if distance is None else halved(distance)
    return {
        "scene": scene_to_dict(scene),
        "levels": levels,
        "valid": masks,
        "distance": distances,
        "median": round(float(np.median(luma)), 4),
        "bright": round(float(np.percentile(luma, 99)), 4),
        "is_light": picture.is_light,
    }


def _fingerprint(scenes: Sequence[Scene], long_side: int) -> str:
    record: list[Any] = [VERSION, READER_VERSION, long_side, LEVELS]
    for scene in scenes:
        files = [scene.path] if scene.distance is None else [scene.path, scene.distance]
        stats = []
        for file in files:
            try:
                stat = file.stat()
            except OSError as error:
                raise InputError(f"There is no {file}.", "The index names it.") from error
            stats.append((stat.st_size, stat.st_mtime_ns))
        record.append((scene_to_dict(scene), stats))
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def scene_to_dict(scene: Scene) -> dict[str, Any]:
    record = asdict(scene)
    record["path"] = str(scene.path)
    record["distance"] = None if scene.distance is None else str(scene.distance)
    return record


def scene_from_dict(record: dict[str, Any]) -> Scene:
    distance = record["distance"]
    return Scene(
        **{
            **record,
            "path": Path(record["path"]),
            "distance": None if distance is None else Path(distance),
        }
    )


def _parts(entry: PackedScene) -> tuple[ArrayPosition, ...]:
    return (*entry.levels, *entry.valid, *entry.distance)


def _entry_of(record: dict[str, Any]) -> PackedScene:
    def parts(name: str) -> tuple[ArrayPosition, ...]:
        return tuple(ArrayPosition(item["offset"], tuple(item["shape"])) for item in record[name])

    return PackedScene(
        scene_from_dict(record["scene"]),
        parts("levels"),
        parts("valid"),
        parts("distance"),
        record["median"],
        record["bright"],
        record.get("is_light", False),
    )


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
