"""Clear pictures to make haze on: what they are, where they come from, under what licence."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_restore.errors import InputError

Kind = Literal["aerial", "natural"]

KINDS: dict[str, Kind] = {
    "aerial": "aerial",
    "satellite": "aerial",
    "natural": "natural",
    "rgbd_rgb": "natural",
}
"""Kinds of an index that show a clear scene, and how haze lies in it."""
DISTANCES = ("rgbd_depth", "rgbd_disparity")
"""Kinds of an index that hold the distance of a scene of kind `rgbd_rgb`."""

FREE = re.compile(r"(cc0(-1\.0)?|public domain|cc-by-[234]\.[05]|mit|bsd(-[234]-clause)?)( repo)?")
"""Licences that weights to be shipped may be trained under; MIT of a repository counts for its
pictures."""
TOLD_OF_REPO = re.compile(r"; repo [al]?gpl-[\d.]+")
"""What may follow the licence of a picture: that of the code it was found beside."""
DOUBT = re.compile(
    r"probably|unknown|unclear|not stated|states no licence|package|contains modified|copernicus"
    r"|\bcode\b|\bn[cd]\b|\bsa\b|non[- ]?commercial|share[- ]?alike|no[- ]?deriv|\b[al]?gpl|\bmpl\b"
    r"|all rights|proprietary|editorial|research only|academic|not for"
)
"""Words that raise a doubt: the licence of a package or of code is not that of a picture in it,
what is share-alike or for some uses only is not free, and Copernicus data keep terms of their
own."""

PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
"""Suffixes that Pillow reads, where the other readers may be missing."""
PICTURES = (*PHOTOS, ".tif", ".tiff", ".jp2")
"""Suffixes taken for pictures in a plain folder."""

NO_DISTANCE = frozenset(
    # The subject fills the picture: nothing recedes.
    "flowers periwinkle anemones spice spices leaf leaves moss bird wren cat otters zoo macro"
    # Inside, or straight up.
    " indoor indoors interior hallway torii mila framed facade roof"
    # No light to be scattered.
    " night stars star trails startrails milky milkyway nebula".split()
)
"""Words in names and notes of natural pictures on which haze that grows with distance would lie."""
OFF_DISTRIBUTION = frozenset({"nir", "bluemarble"})
"""Words for pictures that show no scene as an eye or a camera of visible light sees it."""


@dataclass(frozen=True)
class Scene:
    """A clear picture and what is known of it."""

    path: Path
    kind: Kind
    """`aerial`: seen from above, haze is a layer. `natural`: haze grows with distance."""
    source: str
    """Whoever took it: pictures of one source look alike, so sources are balanced."""
    name: str = ""
    """How it is called in indices and cards; by default the file's name."""
    split: str = "train"
    licence: str = ""
    note: str = ""
    distance: Path | None = None
    """A file of distances of the same size, or None."""
    distance_kind: str = ""
    """`rgbd_depth`: grows with distance. `rgbd_disparity`: its inverse does. Empty: not known."""
    distance_licence: str | None = None
    """Of the file of distances; None: nobody has told of it."""

    @property
    def file(self) -> str:
        """Its name, by default that of the file."""
        return self.name or self.path.name

    @property
    def no_haze_depth(self) -> bool:
        """Whether haze that grows with distance would be wrong here: an example of clear air only."""
        # The kind of distances stays known where only they themselves travel, as in a pack.
        if self.kind == "aerial" or self.distance is not None or self.distance_kind:
            return False
        return not NO_DISTANCE.isdisjoint(_words(f"{Path(self.name).stem} {self.note}"))


def scenes_of(path: Path, *, split: str | None = None) -> list[Scene]:
    """The scenes of an index or a folder.

    Parameters
    ----------
    path
        A CSV file, or a folder with an INDEX.csv: columns file (relative to it), kind,
        split, licence, note; rows of other kinds than `KINDS` are no scenes. Any other
        folder: every picture in it is a scene of kind natural, the folder it lies in
        its source; with a place on a map, or below a folder whose name begins with
        "aerial", it is aerial.
    split
        Only scenes of this split. A folder without an index knows none: all of it
        belongs to the split that is asked for.

    Raises
    ------
    InputError
        There is no such file, it lacks a column, or it holds no scene.
    """
    path = Path(path)
    index = path / "INDEX.csv" if path.is_dir() else path
    if not path.exists():
        raise InputError(f"There is no {path}.", "Name an index or a folder of pictures.")
    found = _of_index(index) if has_splits(path) else _of_folder(path, split or "train")
    kept = [scene for scene in found if split is None or scene.split == split]
    if not kept:
        told = f" of split {split}" if split is not None and found else ""
        raise InputError(f"{path} holds no scene{told}.", "Name another index or folder.")
    return kept


def has_splits(path: Path) -> bool:
    """Whether `path` is an index, or a folder with one; else all in it is of one split."""
    return path.is_file() or (path / "INDEX.csv").is_file()


def shippable(scene: Scene) -> bool:
    """Whether weights to be shipped may be trained on it.

    The picture's own licence counts, the first that is named (up to a bracket, a
    semicolon or a slash): CC0, public domain, CC-BY (with a version), MIT or BSD, and
    nothing in licence or note raises a doubt. Its distances must be as free.
    """
    licences = [scene.licence]
    if scene.distance_licence is not None:
        licences.append(scene.distance_licence)
    return all(map(_is_free, licences)) and DOUBT.search(scene.note.lower()) is None


def _is_free(licence: str) -> bool:
    text = licence.strip().lower()
    first = re.split(r"\s*[(;/]", text, maxsplit=1)[0]
    return bool(FREE.fullmatch(first)) and DOUBT.search(TOLD_OF_REPO.sub("", text)) is None


def stems_of(scenes: Sequence[Scene]) -> list[str]:
    """A name for each, without suffix: its file's, with its folders' where two are equal.

    Equal are names that differ in case only: some disks do not tell them apart. Raises
    `InputError` where folders do not help.
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
    """The leading part of a file's name, up to the first `_`, `-` or digit after letters.

    `caliterra_9354.jpg` → `caliterra`.
    """
    found = re.match(r"[^\W\d_]+", Path(name).stem)
    return found.group().lower() if found else Path(name).stem.lower()


def by_source(scenes: Iterable[Scene]) -> dict[str, list[Scene]]:
    """Source → its scenes, both in the order of first mention."""
    groups: dict[str, list[Scene]] = {}
    for scene in scenes:
        groups.setdefault(scene.source, []).append(scene)
    return groups


def _of_index(index: Path) -> list[Scene]:
    try:
        with index.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{index} cannot be read ({error}).", "Name a CSV file.") from error
    missing = {"file", "kind"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(
            f"{index} lacks the column {sorted(missing)[0]}.",
            "Its columns are file, kind, split, licence, note.",
        )
    # A distance has the name of its picture up to the last word, as motorcycle_left and _depth_m.
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
    """The row of distances of a picture: in the same folder, of the same first word."""
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
    # "." has no name of its own.
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
                kind="aerial" if aerial or _has_place(path) else "natural",
                source=above[-1],
                name="/".join(parts),
                split=split,
            )
        )
    return scenes


def _has_place(path: Path) -> bool:
    """Whether a raster tells where it lies on a map."""
    if path.suffix.lower() in PHOTOS:
        return False
    from napari_restore.images import open_image

    try:
        image = open_image(path)
    except InputError:
        return False  # told when its turn comes
    try:
        return image.georeference is not None
    finally:
        image.close()


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))
