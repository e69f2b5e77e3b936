"""Clear pictures at several scales in one memory-mapped file that all workers share."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import InputError
from napari_restore.training._replacing import replacing
from napari_restore.training.data._pictures import Picture, read_picture
from napari_restore.training.data._resample import halved
from napari_restore.training.data._scenes import Scene
from napari_restore.training.haze import LUMA

Codes = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]

VERSION = 1
READING = 2
"""Of how pictures and distances are read: packs made of files by another are made anew."""
LONG_SIDE = 2048
"""Pixels that a packed picture has at most along a side."""
LEVELS = 4
"""Scales kept of each picture: 1, 1/2, 1/4, 1/8."""
SMALLEST = 64
"""A level shorter than this is not kept."""
BLOB, INDEX = "pictures.npy", "pictures.json"


@dataclass(frozen=True)
class Part:
    """Where an array lies in the file: uint8, C order."""

    offset: int
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Entry:
    """One packed scene."""

    scene: Scene
    levels: tuple[Part, ...]
    """(H, W, 3) codes at 1, 1/2, 1/4 …"""
    valid: tuple[Part, ...]
    """(H, W) 0 or 1 for each level; empty: all is valid."""
    distance: tuple[Part, ...]
    """(H, W) 0 near to 255 far for each level; empty: not known."""
    median: float
    """Median luma of the valid pixels, 0 to 1."""
    bright: float
    """99th percentile of it."""
    is_light: bool = False
    """As `Picture.is_light`."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of level 0."""
        return self.levels[0].shape[0], self.levels[0].shape[1]


class Pack:
    """Packed pictures, read only; pickles as its folder, so that workers open it themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            told = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
            if told["version"] != VERSION:
                raise InputError(f"{folder} was packed by another version.", "Pack it anew.")
            self.fingerprint: str = told["fingerprint"]
            self.entries: tuple[Entry, ...] = tuple(_entry_of(item) for item in told["entries"])
            self._blob: Codes = np.load(self.folder / BLOB, mmap_mode="r")
            last = max(p.offset + p.bytes for e in self.entries for p in _parts(e))
            if self._blob.dtype != np.uint8 or last > self._blob.size:
                raise ValueError("the pictures are not those of the index")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder} holds no packed pictures.", "Pack them anew.") from error

    def __reduce__(self) -> tuple[Callable[[Path], Pack], tuple[Path]]:
        return Pack, (self.folder,)

    def __len__(self) -> int:
        return len(self.entries)

    def view(self, part: Part) -> Codes:
        """The array `part`, a view of the file."""
        return self._blob[part.offset : part.offset + part.bytes].reshape(part.shape)

    @property
    def bytes(self) -> int:
        """Of the file."""
        return int(self._blob.size)


def pack(
    scenes: Sequence[Scene],
    folder: Path,
    *,
    long_side: int = LONG_SIDE,
    progress: Progress | None = None,
) -> Pack:
    """Pack `scenes` into `folder`, or open what lies there if it was made of the same files.

    Parameters
    ----------
    scenes
        Read one after the other; none is kept in memory.
    folder
        Made; two files in it, about 4 bytes per pixel.
    long_side
        Larger pictures are reduced to so many pixels a side.
    progress
        Called with scenes done and scenes in all.

    Raises
    ------
    InputError
        A picture cannot be read, or there is none.
    DiskFull
    """
    if not scenes:
        raise InputError("There is no scene to pack.", "Name another index or folder.")
    folder = Path(folder)
    mark = _fingerprint(scenes, long_side)
    if (found := made_before(folder, mark)) is not None:
        return found

    def pictures() -> Iterator[tuple[Scene, Picture]]:
        for number, scene in enumerate(scenes):
            yield scene, read_picture(scene, long_side)
            if progress is not None:
                progress(number + 1, len(scenes))

    return write_pack(pictures(), folder, mark)


def made_before(folder: Path, mark: str) -> Pack | None:
    """The pack in `folder` if it was made of what `mark` tells; None: to be made."""
    if not (folder / INDEX).is_file():
        return None
    try:
        found = Pack(folder)
    except InputError:
        return None
    return found if found.fingerprint == mark else None


def write_pack(pictures: Iterable[tuple[Scene, Picture]], folder: Path, mark: str) -> Pack:
    """Both files, written beside and then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    with replacing(folder / INDEX) as index:
        with replacing(folder / BLOB) as blob:
            offset = 0
            with blob.open("wb") as file:
                file.write(_header(0))

                def put(values: npt.NDArray[Any]) -> Part:
                    nonlocal offset
                    part = Part(offset, tuple(int(side) for side in values.shape))
                    file.write(np.ascontiguousarray(values, np.uint8).data)
                    offset += part.bytes
                    return part

                for scene, picture in pictures:
                    entries.append(_put(scene, picture, put))
                file.seek(0)
                file.write(_header(offset))
            # The index names the pictures, so it goes first and comes last.
            (folder / INDEX).unlink(missing_ok=True)
        told = {"version": VERSION, "fingerprint": mark, "entries": entries}
        index.write_text(json.dumps(told), encoding="utf-8")
    return Pack(folder)


def _header(count: int) -> bytes:
    """Of a .npy file of `count` bytes; as long for any number of them that a disk holds."""
    file = io.BytesIO()
    told = {"descr": "|u1", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, told)
    header = file.getvalue()
    assert len(header) == 128
    return header


def _put(scene: Scene, picture: Picture, put: Callable[[Any], Part]) -> dict[str, Any]:
    """Write all levels of a picture; what the index tells of them."""
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
        "scene": told_of(scene),
        "levels": levels,
        "valid": masks,
        "distance": distances,
        "median": round(float(np.median(luma)), 4),
        "bright": round(float(np.percentile(luma, 99)), 4),
        "is_light": picture.is_light,
    }


def _fingerprint(scenes: Sequence[Scene], long_side: int) -> str:
    told: list[Any] = [VERSION, READING, long_side, LEVELS]
    for scene in scenes:
        files = [scene.path] if scene.distance is None else [scene.path, scene.distance]
        stats = []
        for file in files:
            try:
                stat = file.stat()
            except OSError as error:
                raise InputError(f"There is no {file}.", "The index names it.") from error
            stats.append((stat.st_size, stat.st_mtime_ns))
        told.append((told_of(scene), stats))
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def told_of(scene: Scene) -> dict[str, Any]:
    told = asdict(scene)
    told["path"] = str(scene.path)
    told["distance"] = None if scene.distance is None else str(scene.distance)
    return told


def scene_of(told: dict[str, Any]) -> Scene:
    distance = told["distance"]
    return Scene(
        **{
            **told,
            "path": Path(told["path"]),
            "distance": None if distance is None else Path(distance),
        }
    )


def _parts(entry: Entry) -> tuple[Part, ...]:
    return (*entry.levels, *entry.valid, *entry.distance)


def _entry_of(told: dict[str, Any]) -> Entry:
    def parts(name: str) -> tuple[Part, ...]:
        return tuple(Part(item["offset"], tuple(item["shape"])) for item in told[name])

    return Entry(
        scene_of(told["scene"]),
        parts("levels"),
        parts("valid"),
        parts("distance"),
        told["median"],
        told["bright"],
        told.get("is_light", False),
    )
