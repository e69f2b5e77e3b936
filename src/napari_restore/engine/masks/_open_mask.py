"""Opens the masks that users name: rasters, GeoJSON and WKT, in files or as text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.masks._mask_level import mask_at_level
from napari_restore.engine.masks._mask_strength import (
    MaskStrength,
    PolygonMask,
    RasterMask,
    codes_of,
    feathered,
    pieces_of,
)
from napari_restore.errors import BadMask, UnreadableImage, option
from napari_restore.images import (
    VECTOR_SUFFIXES,
    Image,
    auxiliary_role,
    is_inline,
    open_image,
    read_gradient,
    read_polygons,
)

VECTORS = VECTOR_SUFFIXES | {".parquet", ".wkt", ".csv", ".zip", ".svg"}
"""Suffixes of files that may have shapes."""
MOST = 0.9
"""Share of an image that may be excluded."""
LEAST_BITS = 64
"""Unsigned codes from here up are bits: classes and labels count from 1."""
SAMPLE_PIXELS = 1 << 22
SAMPLES, SAMPLE_SIDE = 16, 128
"""Boxes across and down an image, and their side in pixels."""


def open_mask(mask: str | Path, image: Image, feather: int = 0) -> MaskStrength:
    """Return the strengths of `mask`: a raster, or polygons or one line of two points.

    Polygons and line are in a GeoJSON file, or `mask` is itself GeoJSON or WKT. Other vector files
    are named as such.

    Raises `BadMask` if it cannot be placed on `image`, `UnreadableImage`.
    """
    if image.full is not None:
        full = image.full
        level = image.scale.bit_length() - 1
        return mask_at_level(open_mask(mask, full, feather), level, (full.height, full.width))
    strength: MaskStrength
    path = Path(mask)
    if is_inline(mask):
        strength = _drawn_mask(str(mask), image)
    elif path.suffix.lower() in (".geojson", ".json"):
        strength = _drawn_mask(path, image)
    else:
        strength = RasterMask(_opened(path), image)
    return feathered(strength, feather, image)


def open_exclude(mask: str, image: Image) -> MaskStrength:
    """Return `open_mask` of a mask of what to leave out, checked that it is one.

    Raises `BadMask` for several bands, for bits or classes without a choice of them, and for a mask
    that leaves out more than `MOST` of the image: most of these are of what to keep.
    """
    strength = open_mask(mask, image.full or image)
    if isinstance(strength, RasterMask):
        _check_codes(strength.raster)
    share = _share(strength, image.full or image)
    if share > MOST:
        name = "The mask to exclude" if is_inline(mask) else Path(mask).name
        raise BadMask(
            f"{name} leaves out {100 * share:.3g} % of the image.",
            "If it shows what to keep, exchange 0 and 1 in it; else leave it out, and name what is "
            f"to be restored by {option('mask')}.",
        )
    return strength if image.full is None else open_mask(mask, image)


def _check_codes(raster: Image) -> None:
    """Raise `BadMask` for a raster whose values are no yes or no."""
    name = Path(raster.path or raster.name).name
    bands = len(raster.data_bands)
    if bands > 1 and not _is_grey(raster):
        raise BadMask(
            f"{name} has {bands} bands, and which of them to exclude by is not known.",
            f"Write that one alone, for instance: gdal_translate -b 1 {name} mask.tif.",
        )
    if raster.dtype.kind not in "iu":
        return
    codes = codes_of(raster)
    if codes.least == codes.largest or codes.largest == np.iinfo(raster.dtype).max:
        return
    role = auxiliary_role(raster.descriptions[0]) or auxiliary_role(Path(name).stem)
    if role not in (None, "mask", "label") or (
        raster.dtype.kind == "u" and codes.least >= LEAST_BITS
    ):
        raise BadMask(
            f"{name} holds codes from {codes.least} to {codes.largest}, and which of them to exclude "
            "is not known.",
            'Write those as 1, the others as 0: gdal_calc.py --calc="(A & 24) > 0" --outfile mask.tif '
            f"-A {name} takes bits 3 and 4, cloud and shadow of Landsat; A == 9 takes one class.",
        )


def _is_grey(raster: Image) -> bool:
    """Return whether all bands are equal, as in a painted picture."""
    boxes = pieces_of(Region(0, 0, raster.height, raster.width))
    bands = list(raster.data_bands)
    pixels = (raster.read(box)[..., bands] for box in boxes)
    return all(bool((part == part[..., :1]).all()) for part in pixels)


_shares: dict[str, float] = {}
"""By the mask's digest and the image's size; the window plans again and again."""


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


def _opened(path: Path) -> Image:
    """Return the raster at `path`; raises `BadMask` for a vector file."""
    if path.suffix.lower() not in VECTORS or not path.exists():
        return open_image(path)
    try:
        # A GeoPackage may have a raster.
        return open_image(path)
    except UnreadableImage as error:
        raise BadMask(
            f"{path.name} is a vector file, and masks are rasters or GeoJSON.",
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
        text = json.dumps([list(start), list(end)])
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
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
        x0, y0 = np.floor(np.min(reached, axis=0)).astype(int)
        x1, y1 = np.ceil(np.max(reached, axis=0)).astype(int)
        return Region(int(y0), int(x0), int(y1), int(x1)).intersect(Region(0, 0, height, width))
