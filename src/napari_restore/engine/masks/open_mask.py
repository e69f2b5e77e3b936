"""Opens the masks that users name: rasters, GeoJSON and WKT, in files or as text."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.masks.mask_level import mask_at_level, on_grid_of
from napari_restore.engine.masks.mask_strength import (
    MaskStrength,
    PolygonMask,
    RasterMask,
    box_around,
    codes_of,
    feathered,
    pieces_of,
    short_digest,
)
from napari_restore.errors import BadMask, UnreadableImage, option
from napari_restore.images import (
    VECTOR_SUFFIXES,
    Flags,
    Image,
    Match,
    auxiliary_role,
    band_named,
    flags_of,
    is_inline,
    is_vector,
    layers_of,
    matches_of,
    needed_bands,
    open_codes,
    open_image,
    parts_of,
    read_gradient,
    read_polygons,
)
from napari_restore.questions import Reading

VECTORS = VECTOR_SUFFIXES | {".parquet", ".wkt", ".csv", ".zip", ".svg"}
"""Suffixes of files that may have shapes, those that are read among them."""
MOST = 0.9
"""Share of an image beyond which excluding it is noted."""
LEAST_BITS = 64
"""Unsigned codes from here up are bits: classes and labels count from 1."""
SAMPLE_PIXELS = 1 << 22
SAMPLES, SAMPLE_SIDE = 16, 128
"""Boxes across and down an image, and their side in pixels."""


@dataclass(frozen=True)
class _Choice:
    """What of a mask is meant; nothing: all that it marks."""

    values: str | None = None
    bits: str | None = None
    where: str | None = None
    use: str = "exclude"

    @property
    def of_raster(self) -> bool:
        return self.values is not None or self.bits is not None


def open_mask(mask: str | Path, image: Image, feather: int = 0) -> MaskStrength:
    """Return the strengths of `mask`: a raster, or polygons or one line of two points.

    Polygons and line are in a GeoJSON file, or `mask` is itself GeoJSON or WKT; polygons may be in
    another vector file, too. ``FILE:PART`` is a band of a raster or a layer of a vector file,
    ``:BAND`` one of `image` itself.

    Of an image that was resampled it is a mask on the original, sampled on its grid, and `feather`
    counts pixels of that. Raises `BadMask` if it cannot be placed on `image`, `UnreadableImage`.
    """
    if image.original is not None:
        return on_grid_of(image, open_mask(mask, image.original, feather))
    return feathered(_open(os.fspath(mask), image, _Choice(use="mask")), feather, image)


def open_exclude(reading: Reading, image: Image) -> MaskStrength | None:
    """Return the strengths of what `reading` excludes of `image`, checked that it says so; or None.

    Raises `BadMask` for several bands, for bits or classes without a choice of them, and for a choice
    that the mask does not allow.
    """
    choice = _Choice(reading.exclude_values, reading.exclude_bits, reading.exclude_where)
    if image.original is not None and reading.exclude is not None:
        original = open_exclude(reading, image.original)
        return None if original is None else on_grid_of(image, original)
    if reading.exclude is None:
        if choice != _Choice():
            raise BadMask(
                "Values, bits or attributes to exclude by are given, but no mask.",
                f"Name it by {option('exclude', 'FILE:BAND')}.",
            )
        return None
    return _open(reading.exclude, image, choice)


def note_of_share(mask: MaskStrength, exclude: str, image: Image) -> str | None:
    """Return the note for a mask that leaves out more than `MOST` of the image, or None."""
    share = _share(mask, image)
    if share <= MOST:
        return None
    # Most of these are of what to keep.
    name = "The mask to exclude" if is_inline(exclude) else _name_of(exclude, image)
    return (
        f"{name} leaves out {100 * share:.3g} % of the image: if it shows what to keep, "
        f"{option('exclude_values', 0)} leaves out the rest."
    )


def _open(mask: str, image: Image, choice: _Choice) -> MaskStrength:
    if image.full is not None:
        full = image.full
        level = image.scale.bit_length() - 1
        return mask_at_level(_open(mask, full, choice), level, (full.height, full.width))
    if is_inline(mask):
        _refuse_choice(choice, "The mask", raster=False, attributes=False)
        return _drawn_mask(mask, image)
    file, part = parts_of(mask)
    path = Path(file)
    if file and (path.suffix.lower() in (".geojson", ".json") or is_vector(path)):
        # A GeoPackage may have a raster.
        raster = _raster_of(path) if path.suffix.lower() == ".gpkg" else None
        if raster is None:
            _refuse_choice(choice, path.name, raster=False, attributes=True)
            polygons_only = part is not None or choice.where is not None or is_vector(path)
            if not polygons_only:
                return _drawn_mask(path, image)
            polygons = read_polygons(path, image, part, choice.where)
            return PolygonMask(polygons, image.height, image.width)
    _refuse_choice(choice, _name_of(mask, image), raster=True, attributes=False)
    opened = image.all_bands or image
    if file:
        opened = _opened(path, codes=choice.of_raster)
    name = Path(opened.path or opened.name).name
    chosen = None
    if part is not None:
        number = band_named(part, opened.descriptions)
        if number is None:
            known = ", ".join(filter(None, opened.descriptions)) or "without names"
            raise BadMask(f"{name} has no band {part!r}.", f"It has {opened.bands} bands: {known}.")
        opened = opened.with_bands([number])
        name = f"{name}:{part}"
    if choice.of_raster:
        chosen = _chosen(opened, name, choice, image.sensor)
    else:
        opened = _checked(opened, _name_of(mask, image), choice.use)
    return RasterMask(opened, image, chosen)


def _name_of(mask: str, image: Image) -> str:
    file, part = parts_of(mask)
    return f"Band {part} of {image.name}" if not file else Path(mask).name


def _refuse_choice(choice: _Choice, name: str, *, raster: bool, attributes: bool) -> None:
    """Raise `BadMask` for a choice among values or attributes that the mask has not."""
    if choice.of_raster and not raster:
        raise BadMask(
            f"{name} has shapes, and no values or bits to choose among.",
            f"Leave them out; {option('exclude_where')} chooses by attributes.",
        )
    if choice.where is not None and not attributes:
        raise BadMask(
            f"{name} has no attributes to choose by.", "Only features of a vector file have some."
        )


class MaskChoices(NamedTuple):
    """What there is to choose of a mask."""

    parts: tuple[str, ...] = ()
    """Bands of a raster, by name or number, or layers of a vector file, where there are several."""
    names: tuple[str, ...] = ()
    """Of classes, bits or bands of a known product."""
    product: str = ""
    is_raster: bool = False
    has_attributes: bool = False


def choices_of(mask: str, image: Image) -> MaskChoices:
    """Return what there is to choose of `mask` on `image`; raises `BadMask`, `UnreadableImage`."""
    if is_inline(mask):
        return MaskChoices()
    file, part = parts_of(mask)
    path = Path(file)
    if file and path.suffix.lower() in (".geojson", ".json"):
        return MaskChoices(has_attributes=True)
    if file and is_vector(path) and (path.suffix.lower() != ".gpkg" or _raster_of(path) is None):
        layers = layers_of(path)
        return MaskChoices(tuple(layers) if len(layers) > 1 else (), has_attributes=True)
    opened = _opened(path, codes=True) if file else image.all_bands or image
    parts = [text or str(number) for number, text in enumerate(opened.descriptions, 1)]
    several = bool(file) and opened.bands > 1
    if part is not None and (number := band_named(part, opened.descriptions)) is not None:
        opened = opened.with_bands([number])
    flags = flags_of_raster(opened, image.sensor)
    names, title = ((), "") if flags is None else (tuple(flags.names), flags.title)
    return MaskChoices(tuple(parts) if several else (), names, title, is_raster=True)


def flags_of_raster(raster: Image, sensor: str | None = None) -> Flags | None:
    """Return the product whose flags a raster has, by the name of its band or its file; else None."""
    if raster.bands == 1:
        (own,) = raster.descriptions
        stem = Path(raster.path or raster.name).stem
        # A band of several is not what its file is called.
        known = flags_of(own) or (None if raster.all_bands else flags_of(stem))
        return known or flags_of(None, None if own or not raster.all_bands else sensor)
    known = flags_of(Path(raster.path or raster.name).stem)
    names = {each.strip().lower().replace(" ", "_") for each in raster.descriptions if each}
    if known is None and {"cloud", "shadow", "confidence"} <= names:
        known = flags_of("udm2")
    return known if known is not None and known.bands else None


def _chosen(
    raster: Image, name: str, choice: _Choice, sensor: str | None
) -> list[tuple[int, Match]]:
    """Return which values of which band are chosen; raises `BadMask`."""
    flags = flags_of_raster(raster, sensor)
    matches = matches_of(flags, name, values=choice.values, bits=choice.bits)
    in_bands = needed_bands(matches)
    plain = [match for match in matches if match.band is None]
    if plain and raster.bands > 1 and not _is_grey(raster):
        raise _several_bands(raster, name, "exclude")
    numbers: dict[str, int] = {}
    for wanted in in_bands:
        assert flags is not None
        order = flags.bands.index(wanted)
        number = band_named(wanted, raster.descriptions)
        if number is None and raster.bands == len(flags.bands):
            number = order
        if number is None:
            raise BadMask(
                f"{name} has no band {wanted!r}, which {flags.title} should have.",
                f"Name one of its {raster.bands} bands: {option('exclude', f'{name}:1')}.",
            )
        numbers[wanted] = number
    return [(0 if match.band is None else numbers[match.band], match) for match in matches]


def _several_bands(raster: Image, name: str, use: str) -> BadMask:
    flags = flags_of_raster(raster)
    line = option(use, f"{name}:1")
    if flags is not None and use == "exclude":
        line += f", or {option('exclude_bits', 'cloud,shadow')} of {flags.title}"
    return BadMask(
        f"{name} has {raster.bands} bands, and which of them to {use} by is not known.",
        f"Name one: {line}.",
    )


def _one_band(raster: Image, name: str, use: str) -> Image:
    """Return a mask of one band, or of equal ones, or a palette's numbers; raises `BadMask` for others."""
    if min(raster.bands, len(raster.data_bands)) <= 1 or _is_grey(raster):
        return raster
    coded = None if raster.path is None else _opened(raster.path, codes=True)
    if coded is None or coded.bands > 1:
        raise _several_bands(raster, name, use)
    if use == "mask" and (largest := codes_of(coded).largest) > 1:
        raise BadMask(
            f"{name} shows numbers up to {largest} as colours, and how strong each is is not known.",
            "Save a mask without a palette, 0 where nothing is restored and 255 where all is.",
        )
    return coded


def _checked(raster: Image, name: str, use: str) -> Image:
    """Return the one band of a raster; raises `BadMask` where values to exclude by are no yes or no."""
    raster = _one_band(raster, name, use)
    if use == "mask" and raster.dtype.kind == "f" and codes_of(raster).largest >= 2:
        # Little above 1 is what resampling leaves.
        raise BadMask(
            f"{name} has strengths up to {codes_of(raster).largest:g}, where floats are 0 to 1.",
            "Divide them by their largest value, or save them in 8 bits.",
        )
    if use == "mask" or raster.dtype.kind not in "iu":
        return raster
    codes = codes_of(raster)
    if codes.least == codes.largest or codes.largest == np.iinfo(raster.dtype).max:
        return raster
    flags = flags_of_raster(raster)
    role = auxiliary_role(raster.descriptions[0]) or auxiliary_role(
        Path(raster.path or raster.name).stem
    )
    if (
        flags is not None
        or role not in (None, "mask", "label")
        or (raster.dtype.kind == "u" and codes.least >= LEAST_BITS)
    ):
        kind = "" if flags is None else f" of {flags.title}"
        line = option("exclude_bits", "3,4")
        if flags is not None:
            names = [known for known in ("cloud", "shadow", "cirrus") if known in flags.names]
            line = option("exclude_bits", ",".join(names))
        raise BadMask(
            f"{name} holds codes{kind} from {codes.least} to {codes.largest}, and which of them to "
            "exclude is not known.",
            f"Name the bits, {line}, or the values, {option('exclude_values', '3,8,9')}.",
        )
    return raster


_grey: dict[str, bool] = {}
"""By fingerprint; the window plans again and again."""


def _is_grey(raster: Image) -> bool:
    """Return whether all bands are equal, as in a painted picture."""
    key = raster.fingerprint
    if key not in _grey:
        boxes = pieces_of(Region(0, 0, raster.height, raster.width))
        pixels = (raster.read(box)[..., list(raster.data_bands)] for box in boxes)
        _grey[key] = all(
            np.array_equal(part, np.broadcast_to(part[..., :1], part.shape), equal_nan=True)
            for part in pixels
        )
    return _grey[key]


_shares: dict[str, float] = {}
"""By the mask's digest and the image's size."""


def _share(mask: MaskStrength, image: Image) -> float:
    """Return the share of the image's pixels that `mask` covers; of a large one by samples."""
    key = f"{mask.digest} {image.shape}"
    if key not in _shares:
        whole = Region(0, 0, image.height, image.width)
        boxes = [whole] if whole.pixels <= SAMPLE_PIXELS else _samples(whole)
        covered = sum(int((mask.read(box) > 0).sum()) for box in boxes)
        _shares[key] = covered / sum(box.pixels for box in boxes)
    return _shares[key]


def _samples(whole: Region) -> list[Region]:
    """Return boxes spread evenly over the image, of `SAMPLE_PIXELS` together."""
    high, wide = (min(SAMPLE_SIDE, length // SAMPLES) or 1 for length in whole.shape)
    tops = [(whole.height - high) * n // (SAMPLES - 1) for n in range(SAMPLES)]
    lefts = [(whole.width - wide) * n // (SAMPLES - 1) for n in range(SAMPLES)]
    return [Region(y, x, y + high, x + wide) for y in tops for x in lefts]


def _raster_of(path: Path) -> Image | None:
    """Return the raster of a GeoPackage; None for one of shapes only."""
    try:
        return open_image(path)
    except UnreadableImage:
        if not path.exists():
            raise
        return None


def _opened(path: Path, *, codes: bool = False) -> Image:
    """Return the raster at `path`; raises `BadMask` for a vector file that is not read."""
    try:
        return open_codes(path) if codes else open_image(path)
    except UnreadableImage as error:
        if path.suffix.lower() not in VECTORS or not path.exists():
            raise
        raise BadMask(
            f"{path.name} is a vector file of a kind that is not read.",
            f"Convert it: ogr2ogr -t_srs EPSG:4326 {path.stem}.geojson {path.name}.",
        ) from error


def _drawn_mask(source: Path | str, image: Image) -> MaskStrength:
    """Return the polygons of a file or text, or the gradient of its one line of two points."""
    line = read_gradient(source, image)
    if line is not None:
        return GradientMask(line[0], line[1], (image.height, image.width))
    return PolygonMask(read_polygons(source, image), image.height, image.width)


Point = tuple[float, float]
SHORTEST = 1e-3
"""Least distance in pixels between the two points."""


class GradientMask:
    """Strength 0 before the first point, 1 beyond the second, linear in between.

    `start` and `end` are (x, y) in pixels with edges at whole numbers; a pixel has the strength of
    the nearest point of the segment. Raises `BadMask`.
    """

    def __init__(self, start: Point, end: Point, size: tuple[int, int]) -> None:
        self._start = np.array(start, np.float64)
        along = np.array(end, np.float64) - self._start
        length = float(np.hypot(*along))
        if length < SHORTEST:
            raise BadMask(
                "The gradient's line has no length.", "Draw it from one place to another."
            )
        self._step = along / length**2
        """Growth of the strength per pixel in x and y."""
        self.digest = short_digest([start, end])
        self.bounds = self._reached(size)
        if self.bounds.is_empty:
            raise BadMask(
                "The gradient is 0 in the whole image.", "End its line inside or before the image."
            )

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """Return (h, w) strengths of `box`, at the middle of each pixel."""
        x = np.arange(box.x0, box.x1) + 0.5 - self._start[0]
        y = np.arange(box.y0, box.y1) + 0.5 - self._start[1]
        strength = (self._step[0] * x)[None, :] + (self._step[1] * y)[:, None]
        weight: npt.NDArray[np.float32] = np.clip(strength, 0, 1).astype(np.float32)
        return weight

    def _reached(self, size: tuple[int, int]) -> Region:
        """Return the box around the part of the image where the strength is above 0."""
        height, width = size
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
        strength = (corners - self._start) @ self._step
        reached = [corner for corner, value in zip(corners, strength, strict=True) if value > 0]
        for here in range(4):
            after = (here + 1) % 4
            if (strength[here] > 0) != (strength[after] > 0):
                share = strength[here] / (strength[here] - strength[after])
                reached.append(corners[here] + share * (corners[after] - corners[here]))
        if not reached:
            return Region(0, 0, 0, 0)
        return box_around(np.array(reached)).intersect(Region(0, 0, height, width))
