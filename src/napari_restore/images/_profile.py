"""Metadata that an export carries besides pixels and georeference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from napari_restore.images._display_curve import DisplayCurve

Masks = Literal["none", "nodata", "alpha", "mask", "bands"]
"""How a file marks invalid pixels; ``bands``: each band has nodata or a mask of its own."""
Tags = Mapping[str, Mapping[str, str]]
"""Namespace ("" is the default one) → name → text."""


class PhysicalGrid(NamedTuple):
    """Size and place of the pixels of a picture without a map, as microscopes record them."""

    size: tuple[float, float]
    """Of a pixel, down and across."""
    unit: str
    """Of length, as OME-Zarr names it: "micrometer" …; empty if unknown."""
    origin: tuple[float, float] = (0.0, 0.0)
    """Position (y, x) of the first pixel."""

    def shifted(self, rows: int, columns: int) -> PhysicalGrid:
        """Return the grid of the part that begins so many pixels further down and across."""
        (y, x), (down, across) = self.origin, self.size
        return self._replace(origin=(y + rows * down, x + columns * across))


PER_BAND: Mapping[str, Any] = {
    "descriptions": None,
    "colorinterp": "undefined",
    "wavelengths": None,
    "scales": 1.0,
    "offsets": 0.0,
    "units": None,
    "band_tags": {},
    "channel_colours": None,
}
"""Fields of `Profile` with one item per band, and that of a band of which nothing is known."""
NO_GRID = PhysicalGrid((1.0, 1.0), "")
"""Pixels of which nothing is known."""


@dataclass(frozen=True)
class Profile:
    r"""A file's metadata, after palette, CMYK and orientation were applied.

    Per-band tuples have one item per band of the image as it is read. Binary blocks are as in the
    file; `exif` begins with ``Exif\0\0``, `iptc` is the payload of APP13 (``Photoshop 3.0\0`` …) in
    a JPEG and bare IIM in a TIFF.
    """

    driver: str = ""
    """GDAL's short name, or "OME-TIFF", "Zarr", "RAW", "Radiance", "HEIF", "array"."""
    nodata: float | None = None
    colorinterp: tuple[str, ...] = ()
    descriptions: tuple[str | None, ...] = ()
    wavelengths: tuple[float | None, ...] = ()
    """Nanometres, as in the file."""
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    units: tuple[str | None, ...] = ()
    tags: Tags = field(default_factory=dict)
    band_tags: tuple[Tags, ...] = ()
    masks: Masks = "none"
    premultiplied: bool = False
    """Whether the file has colours multiplied by alpha; pixels are read without that."""
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: tuple[bytes, ...] = ()
    """Texts of a JPEG's COM segments, of any encoding, or of a PNG, in UTF-8."""
    orientation: int = 1
    """The file's EXIF or TIFF orientation (1 … 8); pixels are upright already."""
    compression: str | None = None
    tiled: bool = False
    block: tuple[int, int] | None = None
    """The file's own (rows, columns) per tile or strip."""
    interleave: str | None = None
    photometric: str | None = None
    bits: int | None = None
    """Significant bits where they are fewer than those of the dtype: 1 for masks, 12 …"""
    resolution: tuple[float, float] | None = None
    """Dots per inch, across and down."""
    grid: PhysicalGrid | None = None
    channel_colours: tuple[str | None, ...] = ()
    """Of the channels of a microscope, as RRGGBB."""
    is_display: bool = False
    """Values are for a screen whatever their type: there is a colour profile or EXIF, and no georeference."""
    light: DisplayCurve | None = None
    """Pixels are linear light, which a screen shows by this curve."""
    is_reflectance: bool = False
    """A surface-reflectance product, by its tags or its name."""
    sensor: str | None = None
    """Sensor named in tags or file name; applied only on request."""

    def of_bands(self, numbers: Sequence[int]) -> Profile:
        """Return the metadata of a picture of the bands `numbers` (from 0), in that order."""
        chosen: dict[str, Any] = {
            name: tuple(values[number] for number in numbers)
            for name in PER_BAND
            if len(values := getattr(self, name)) > max(numbers, default=-1)
        }
        return replace(self, **chosen)

    def scaled(self, scale: int | Fraction) -> Profile:
        """Return the metadata of a picture whose pixels are `scale` times as large."""
        dots, grid = self.resolution, self.grid
        if dots is not None:
            dots = float(dots[0] / scale), float(dots[1] / scale)
        if grid is not None:
            # A pixel's position is that of its centre.
            shift = tuple(float(scale - 1) / 2 * side for side in grid.size)
            origin = grid.origin[0] + shift[0], grid.origin[1] + shift[1]
            size = float(grid.size[0] * scale), float(grid.size[1] * scale)
            grid = PhysicalGrid(size, grid.unit, origin)
        return replace(self, resolution=dots, grid=grid)
