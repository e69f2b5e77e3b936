"""Texts by which microscopy programs describe the pages of a TIFF: OME-XML, ImageJ's, tifffile's.

They count pages, so a copy with other pages must not carry them: it gets one that fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

from napari_restore.images._profile import PhysicalGrid, Profile
from napari_restore.images.files._xml import parse_xml

_UNITS = {
    "nanometer": ("nm", "nanometre"),
    "micrometer": ("µm", "μm", "um", "micron", "microns", "\\u00b5m", "micrometre"),
    "millimeter": ("mm", "millimetre"),
    "centimeter": ("cm", "centimetre"),
    "meter": ("m", "metre"),
    "angstrom": ("Å",),
    "inch": ("in", "inches"),
}
"""Unit as OME-Zarr names it → how else it is written, OME-XML's symbol first."""
_INCHES = {
    "nanometer": 1 / 25.4e6, "micrometer": 1 / 25400, "millimeter": 1 / 25.4, "centimeter": 1 / 2.54,
    "meter": 1 / 0.0254, "angstrom": 1 / 254e6, "inch": 1.0,
}  # fmt: skip
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_OME_TYPES = {"float32": "float", "float64": "double"}


def is_structure(text: bytes | str) -> bool:
    """Return whether a description is about pages."""
    if isinstance(text, bytes):
        text = text[:4096].decode("utf-8", "replace")
    return is_ome(text) or text.lstrip().startswith(("ImageJ=", '{"shape"'))


def planes_in(text: bytes) -> int:
    """Return the planes that ImageJ names; above 4 GiB they have one directory together."""
    words = text.split(b"\0")[0].decode("utf-8", "replace")
    lines = dict(line.split("=", 1) for line in words.splitlines() if "=" in line)
    number = lines.get("images", "1").strip() if words.startswith("ImageJ=") else "1"
    return int(number) if number.isdecimal() else 1


def is_ome(text: str) -> bool:
    """Return whether a description is OME-XML."""
    return "<OME" in text[:4096] or "<ome:OME" in text[:4096]


def unit_named(text: str | None) -> str | None:
    """Return OME-Zarr's name of a unit of length, None for what is none."""
    word = (text or "").strip()
    return next((u for u, others in _UNITS.items() if word.lower() == u or word in others), None)


def dots_per_inch(grid: PhysicalGrid | None) -> tuple[float, float] | None:
    """Return the resolution (across, down) of pixels of a physical size."""
    if grid is None or grid.unit not in _INCHES:
        return None
    down, across = (1 / (side * _INCHES[grid.unit]) for side in grid.size)
    return across, down


def resolution_in(tags: Mapping[str, str]) -> tuple[float, float] | None:
    """Return the dots per inch (across, down) in GDAL's tags of a TIFF."""
    scale = {"2": 1.0, "3": 2.54}.get(tags.get("TIFFTAG_RESOLUTIONUNIT", "")[:1])
    dots = dots_in(tags)
    return None if scale is None or dots is None else (dots[0] * scale, dots[1] * scale)


def dots_in(tags: Mapping[str, str]) -> tuple[float, float] | None:
    """Return the pixels per unit (across, down) in GDAL's tags of a TIFF."""
    try:
        across, down = (float(tags[f"TIFFTAG_{side}RESOLUTION"]) for side in "XY")
    except (KeyError, ValueError):
        return None
    return (across, down) if across > 0 and down > 0 else None


def grid_in(text: str, resolution: tuple[float, float] | None = None) -> PhysicalGrid | None:
    """Return the physical size of pixels in OME-XML, or in ImageJ's text with its `resolution`.

    `resolution` is in pixels per unit (across, down).
    """
    if is_ome(text):
        return _ome_grid(text)
    if not text.startswith("ImageJ=") or resolution is None or min(resolution) <= 0:
        return None
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    unit = unit_named(lines.get("unit"))
    return None if unit is None else PhysicalGrid((1 / resolution[1], 1 / resolution[0]), unit)


def _ome_grid(text: str) -> PhysicalGrid | None:
    try:
        pixels = next(e for e in parse_xml(text).iter() if e.tag.rpartition(":")[2] == "Pixels")
        x, y = (float(pixels.get(f"PhysicalSize{side}", "")) for side in "XY")
        unit = unit_named(pixels.get("PhysicalSizeXUnit", "µm"))
    except (ValueError, StopIteration):
        return None
    if unit is None or not (0 < x < math.inf and 0 < y < math.inf):
        return None
    plane = next((e for e in pixels if e.tag.rpartition(":")[2] == "Plane"), None)
    try:
        values = plane.attrib if plane is not None else {}
        left, top = (float(values.get(f"Position{side}", 0)) for side in "XY")
        same = unit_named(values.get("PositionXUnit")) == unit
    except ValueError:
        same = False
    return PhysicalGrid((y, x), unit, (top, left) if same else (0.0, 0.0))


def fitting(
    text: str, profile: Profile, shape: tuple[int, int, int], dtype: str, grid: PhysicalGrid | None
) -> str | None:
    """Return the description of a TIFF of one page, (H, W, C), in place of its source's `text`.

    None where the page needs none.
    """
    if is_ome(text):
        return _ome_xml(profile, shape, dtype, grid)
    if text.startswith("ImageJ=") and (shape[2] == 1 or (shape[2], dtype) == (3, "uint8")):
        kept = [line for line in text.splitlines() if line.startswith(("ImageJ=", "unit="))]
        return "\n".join(kept) + "\n"
    return None if is_structure(text) else text


def _ome_xml(
    profile: Profile, shape: tuple[int, int, int], dtype: str, grid: PhysicalGrid | None
) -> str:
    height, width, bands = shape
    sizes, plane = "", ""
    if grid is not None:
        unit = quoteattr(_UNITS[grid.unit][0])
        (down, across), (top, left) = grid.size, grid.origin
        sizes = (
            f' PhysicalSizeX="{across!r}" PhysicalSizeXUnit={unit}'
            f' PhysicalSizeY="{down!r}" PhysicalSizeYUnit={unit}'
        )
        plane = (
            f'<Plane TheZ="0" TheT="0" TheC="0" PositionX="{left!r}" PositionXUnit={unit}'
            f' PositionY="{top!r}" PositionYUnit={unit}/>'
        )
    channel = ""
    if bands == 1 and profile.descriptions[:1] not in ((), (None,)):
        channel += f" Name={quoteattr(str(profile.descriptions[0]))}"
    if bands == 1 and profile.channel_colours[:1] not in ((), (None,)):
        red_green_blue = int(str(profile.channel_colours[0]), 16)
        value = red_green_blue << 8 | 255
        channel += f' Color="{value - (1 << 32) if value >> 31 else value}"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{_OME}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_OME} {_OME}/ome.xsd"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="{_OME_TYPES.get(dtype, dtype)}" '
        f'SizeX="{width}" SizeY="{height}" SizeC="{bands}" SizeZ="1" SizeT="1"{sizes}>'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="{bands}"{channel}/>'
        f'<TiffData IFD="0" PlaneCount="1"/>{plane}</Pixels></Image></OME>'
    )
