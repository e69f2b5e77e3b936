"""Clear scenes: index or folder, kind, source and licence."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_restore.extension import InputError, read_text
from napari_restore_lab._questions import SceneKind

KINDS: dict[str, SceneKind] = {
    "aerial": "aerial",
    "satellite": "aerial",
    "natural": "natural",
    "rgbd_rgb": "natural",
}
"""Kinds of an index that are clear scenes, with their geometry of haze."""
DISTANCES = ("rgbd_depth", "rgbd_disparity")
"""Kinds of an index that are distances of scenes of kind `rgbd_rgb`."""

FREE = re.compile(r"(cc0(-1\.0)?|public domain|cc-by-[234]\.[05]|mit|bsd(-[234]-clause)?)( repo)?")
"""Licences permitted for training shipped weights; the MIT licence of a repository covers its
pictures."""
REPOSITORY_LICENCE = re.compile(r"; repo [al]?gpl-[\d.]+")
"""Licence of the accompanying code, which may follow that of a picture."""
GOVERNMENT_WORK = re.compile(r"(public domain \(usgs [^)]*); (carrying )?repo states no licence\)")
"""A work of a US agency is in the public domain by law, whatever the repository that carries it
states."""
DOUBT = re.compile(
    r"probably|unknown|unclear|not stated|states no licence|package|contains modified|copernicus"
    r"|\bcode\b|\bn[cd]\b|\bsa\b|non[- ]?commercial|share[- ]?alike|no[- ]?deriv|\b[al]?gpl|\bmpl\b"
    r"|all rights|proprietary|editorial|research only|academic|not for"
)
"""Words that exclude a licence: that of a package or of code does not cover pictures, share-alike and
restricted uses are not free, and Copernicus data has terms of its own."""

PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
"""Suffixes that Pillow reads, without the other readers."""
PICTURES = (*PHOTOS, ".tif", ".tiff", ".jp2")
"""Suffixes of pictures in a plain folder."""

NO_DISTANCE = frozenset(
    # The subject fills the picture: no depth.
    "flowers periwinkle anemones spice spices leaf leaves moss bird wren cat otters zoo macro"
    # Indoor or looking up.
    " indoor indoors interior hallway torii mila framed facade roof"
    # Night: no scattered light.
    " night stars star trails startrails milky milkyway nebula".split()
)
"""Words in names and notes of natural pictures for which haze by distance would be wrong."""
OFF_DISTRIBUTION = frozenset({"nir", "bluemarble"})
"""Words for pictures that are not in visible light."""


@dataclass(frozen=True)
class Scene:
    """A clear image and its metadata."""

    path: Path
    kind: SceneKind
    """`aerial`: view from above, haze is a layer. `natural`: haze grows with distance."""
    source: str
    """Origin: images of one source are similar, so sources are balanced."""
    name: str = ""
    """Name in indices and cards; by default the file's name."""
    split: str = "train"
    licence: str = ""
    note: str = ""
    distance: Path | None = None
    """A file of distances of the same size, or None."""
    distance_kind: str = ""
    """`rgbd_depth`: grows with distance. `rgbd_disparity`: its inverse does. Empty: unknown."""
    distance_licence: str | None = None
    """Licence of the distances; None if unknown."""

    @property
    def file(self) -> str:
        """Its name, by default that of the file."""
        return self.name or self.path.name

    @property
    def no_haze_depth(self) -> bool:
        """Whether haze by distance would be wrong for it, so that it serves only as a clear example."""
        # In a pack the kind of distances is known while their file is not.
        if self.kind == "aerial" or self.distance is not None or self.distance_kind:
            return False
        return not NO_DISTANCE.isdisjoint(_words(f"{Path(self.name).stem} {self.note}"))


def scenes_of(path: Path, *, split: str | None = None) -> list[Scene]:
    """Return the scenes of an index or a folder.

    Parameters
    ----------
    path
        A CSV file, or a folder with an INDEX.csv: columns file (relative to it), kind,
        split, licence, note; rows of other kinds than `KINDS` are no scenes. Any other
        folder: every picture in it is a scene of kind natural, the folder it lies in
        its source; georeferenced pictures, and those below a folder whose name
        begins with "aerial", are aerial.
    split
        Only scenes of this split. A folder without an index has none: all of it
        belongs to the requested split.

    Raises
    ------
    InputError
        There is no such file, it lacks a column, or it contains no scene.
    """
    path = Path(path)
    index = path / "INDEX.csv" if path.is_dir() else path
    if not path.exists():
        raise InputError(f"There is no {path}.", "Name an index or a folder of pictures.")
    scenes_found = _of_index(index) if has_splits(path) else _of_folder(path, split or "train")
    kept = [scene for scene in scenes_found if split is None or scene.split == split]
    if not kept:
        split_text = f" of split {split}" if split is not None and scenes_found else ""
        raise InputError(f"{path} contains no scene{split_text}.", "Name another index or folder.")
    return kept


def has_splits(path: Path) -> bool:
    """Return whether `path` is an index, or a folder with one."""
    return path.is_file() or (path / "INDEX.csv").is_file()


def shippable(scene: Scene) -> bool:
    """Return whether shipped weights may be trained on a scene.

    The picture's own licence counts, the first that is named (up to a bracket, a
    semicolon or a slash): CC0, public domain, CC-BY (with a version), MIT or BSD, and
    no word of `DOUBT` in licence or note. The licence of its distances must be free, too.
    """
    licences = [scene.licence]
    if scene.distance_licence is not None:
        licences.append(scene.distance_licence)
    return all(map(_is_free, licences)) and DOUBT.search(scene.note.lower()) is None


def _is_free(licence: str) -> bool:
    text = licence.strip().lower()
    first = re.split(r"\s*[(;/]", text, maxsplit=1)[0]
    own = GOVERNMENT_WORK.sub(r"\1)", REPOSITORY_LICENCE.sub("", text))
    return bool(FREE.fullmatch(first)) and DOUBT.search(own) is None


def stems_of(scenes: Sequence[Scene]) -> list[str]:
    """Return a unique name without suffix for each: the file name, with folders where needed.

    Names that differ in case only are equal, as on some file systems. Raises `InputError` where
    folders do not make them unique.
    """
    parts = [Path(scene.file).with_suffix("").parts for scene in scenes]
    own = Counter(names[-1].casefold() for names in parts)
    stems = [names[-1] if own[names[-1].casefold()] == 1 else "_".join(names) for names in parts]
    times = Counter(stem.casefold() for stem in stems)
    for stem in stems:
        if times[stem.casefold()] > 1:
            raise InputError(f"Two pictures are called {stem}.", "Rename one of them.")
    return stems


def source_of(name: str) -> str:
    """Return the leading part of a file's name, up to the first `_`, `-` or digit after letters.

    `caliterra_9354.jpg` → `caliterra`.
    """
    scenes_found = re.match(r"[^\W\d_]+", Path(name).stem)
    return scenes_found.group().lower() if scenes_found else Path(name).stem.lower()


def by_source(scenes: Iterable[Scene]) -> dict[str, list[Scene]]:
    """Group scenes by source, in the order of first occurrence."""
    groups: dict[str, list[Scene]] = {}
    for scene in scenes:
        groups.setdefault(scene.source, []).append(scene)
    return groups


def _of_index(index: Path) -> list[Scene]:
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(index), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{index} cannot be read ({error}).", "Name a CSV file.") from error
    missing = {"file", "kind"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(
            f"{index} lacks the column {sorted(missing)[0]}.",
            "Its columns are file, kind, split, licence, note.",
        )
    # Distances share the first word of their picture's name, as motorcycle_left and _depth_m.
    distances = [row for row in rows if row["kind"] in DISTANCES]
    scenes = []
    for row in rows:
        name = row["file"]
        kind = KINDS.get(row["kind"])
        if kind is None or not OFF_DISTRIBUTION.isdisjoint(_words(Path(name).stem)):
            continue
        paired = _distance_of(name, distances) if row["kind"] == "rgbd_rgb" else None
        parent = Path(name).parent.name
        scenes.append(
            Scene(
                path=index.parent / name,
                kind=kind,
                source=source_of(name) if not Path(name).stem.isdigit() else source_of(parent),
                name=name,
                split=row.get("split") or "train",
                licence=row.get("licence") or "",
                note=row.get("note") or "",
                distance=index.parent / paired["file"] if paired else None,
                distance_kind=paired["kind"] if paired else "",
                distance_licence=(paired.get("licence") or "") if paired else None,
            )
        )
    return scenes


def _distance_of(name: str, rows: Sequence[dict[str, str]]) -> dict[str, str] | None:
    """Return the row of distances of a picture: same folder, same first word; else None."""
    picture = Path(name)
    for row in rows:
        other = Path(row["file"])
        if other.parent == picture.parent and _subject(other) == _subject(picture):
            return row
    return None


def _subject(path: Path) -> str:
    return path.stem.partition("_")[0]


def _of_folder(folder: Path, split: str) -> list[Scene]:
    scenes = []
    # Resolved, as "." has no name.
    own = Path(os.path.abspath(folder)).name
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() not in PICTURES or any(part.startswith(".") for part in parts):
            continue
        above = (own, *parts[:-1])
        aerial = any(part.lower().startswith("aerial") for part in above)
        scenes.append(
            Scene(
                path=path,
                kind="aerial" if aerial or _is_georeferenced(path) else "natural",
                source=above[-1],
                name="/".join(parts),
                split=split,
            )
        )
    return scenes


def _is_georeferenced(path: Path) -> bool:
    """Return whether a raster is georeferenced."""
    if path.suffix.lower() in PHOTOS:
        return False
    from napari_restore.extension import open_image

    try:
        image = open_image(path)
    except InputError:
        return False  # reported when it is read
    try:
        return image.georeference is not None
    finally:
        image.close()


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))
