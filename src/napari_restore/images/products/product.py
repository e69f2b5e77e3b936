"""What the metadata of a product says: its files, their bands, when and how it was taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_restore.errors import UnreadableImage
from napari_restore.images.files.trees import Location, Locations
from napari_restore.images.values.facts import OpeningNote
from napari_restore.images.values.roles import auxiliary_role

MASKS = ("class", "quality", "mask")
"""Roles of bands that a coarser file gives to a finer image: pixels are repeated, not mixed."""
_COLOURS = 3
"""Bands that make a resolution the usual one: red, green and blue are among them."""
_MOST_NAMED = 12


@dataclass(frozen=True)
class ProductFile:
    """One file of a product."""

    file: str
    """Its name in `locations`; without one its path or address."""
    bands: tuple[str, ...]
    """Names of its bands."""
    resolution: float | None = None
    """Side of a pixel in map units, mostly metres; None if it is not stated."""
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    """Reflectance, or what else a band shows, is scale × value + offset."""
    wavelengths: tuple[float | None, ...] = ()
    """Nanometres."""
    colours: tuple[str, ...] = ()
    """GDAL's colour interpretations."""
    locations: Locations | None = None

    @property
    def location(self) -> Location | str:
        """Where it is, a string being an address; raises `UnreadableImage` for a missing file."""
        return self.file if self.locations is None else self.locations.locate(self.file)

    @property
    def is_light(self) -> bool:
        """Whether its bands show light, by their names."""
        return auxiliary_role(self.bands[0]) is None

    @property
    def is_mask(self) -> bool:
        """Whether its bands are classes or bits, that mean the same at any resolution."""
        return auxiliary_role(self.bands[0]) in MASKS


@dataclass(frozen=True)
class Acquisition:
    """When and how a product was taken; "" or None where it does not say."""

    platform: str = ""
    time: str = ""
    """ISO 8601, UTC."""
    clouds: float | None = None
    """Percent."""
    sun_azimuth: float | None = None
    sun_elevation: float | None = None
    """Degrees."""

    def tags(self) -> dict[str, dict[str, str]]:
        """Return it as tags of an image, by namespace; IMAGERY is GDAL's for satellites."""
        imagery = {
            "SATELLITEID": self.platform,
            "ACQUISITIONDATETIME": self.time.replace("T", " ")[:19],
            "CLOUDCOVER": _text(self.clouds),
        }
        sun = {"SUN_AZIMUTH": _text(self.sun_azimuth), "SUN_ELEVATION": _text(self.sun_elevation)}
        spaces = {"IMAGERY": imagery, "": sun}
        return {name: {k: v for k, v in tags.items() if v} for name, tags in spaces.items()}


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"


@dataclass(frozen=True)
class Product:
    """A product whose metadata was read; nothing else of it was."""

    path: Path
    """What names it: the file of metadata, the folder or the zip."""
    name: str
    members: tuple[ProductFile, ...]
    acquisition: Acquisition = field(default_factory=Acquisition)
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: tuple[Path, ...] = ()
    """Files that say so."""
    nodata: float | None = None
    """Value of bands of light where nothing was seen; None: as each file says."""
    is_reflectance: bool = False
    """Whether it is surface reflectance."""
    notes: tuple[str, ...] = ()

    def resolution(self, asked: float | None = None) -> float | None:
        """Return the one that is opened: `asked`, or the finest with three bands of light; raises `UnreadableImage`."""
        counts: dict[float, int] = {}
        for member in self.members:
            if member.is_light and member.resolution is not None:
                counts[member.resolution] = counts.get(member.resolution, 0) + len(member.bands)
        if asked is not None:
            if asked in counts:
                return asked
            known = ", ".join(f"{each:g} m" for each in sorted(counts))
            raise UnreadableImage(
                f"{self.name} has no bands of {asked:g} m.",
                f"It has {known}." if known else "Leave the resolution out.",
            )
        usual = [each for each, count in counts.items() if count >= _COLOURS]
        if usual:
            return min(usual)
        return max(counts, key=lambda each: (counts[each], -each), default=None)

    def at(self, resolution: float | None) -> tuple[list[ProductFile], list[ProductFile]]:
        """Return the files of an image of that resolution, and coarser masks that fit it perhaps."""
        own = [m for m in self.members if m.resolution in (resolution, None)]
        have = {band for member in own for band in member.bands}
        masks: dict[str, ProductFile] = {}
        for member in sorted(self.members, key=lambda m: m.resolution or 0):
            coarser = (member.resolution or 0) > (resolution or 0)
            if coarser and member.is_mask and not have & set(member.bands):
                masks.setdefault(member.bands[0], member)
        # Light first, in the order of the metadata.
        return sorted(own, key=lambda m: not m.is_light), list(masks.values())

    def left_out(self, used: Sequence[ProductFile]) -> str:
        """Return the note on bands of other resolutions than that of `used`; "" for none."""
        have = {band for member in used for band in member.bands}
        others = [m for m in self.members if m.resolution is not None and not have & set(m.bands)]
        if not others:
            return ""
        side = min(member.resolution or 0 for member in others)
        return (
            f"Bands of other resolutions are not in it: {_named(others)}. "
            f"{self.path.name}:{side:g}m opens those of {side:g} m."
        )


def _named(members: Sequence[ProductFile]) -> str:
    """Return the bands of files by resolution: ``B05, B8A (20 m); B01 (60 m)``."""
    names: dict[float, list[str]] = {}
    for member in members:
        names.setdefault(member.resolution or 0, []).extend(member.bands)
    return "; ".join(
        f"{', '.join(bands[:_MOST_NAMED])} ({side:g} m)" for side, bands in sorted(names.items())
    )


def with_files(
    members: Sequence[ProductFile], has: Callable[[str], bool]
) -> tuple[tuple[ProductFile, ...], tuple[str, ...]]:
    """Return `members` without those that may be missing and are, and the note on these."""
    # They are what shows no light, and a resolution of which there is no band of light; but
    # something must be there.
    found = [member for member in members if has(member.file)]
    sides = {member.resolution for member in found if member.is_light}
    absent = [
        member for member in members
        if sides and member not in found and not (member.is_light and member.resolution in sides)
    ]  # fmt: skip
    kept = tuple(member for member in members if member not in absent)
    note = OpeningNote(f"Not there, though its metadata names them: {_named(absent)}.")
    return kept, (note,) if absent else ()


def number(text: str | None) -> float | None:
    """Return a finite number written as text; None for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
