"""Texts by which microscopy programs describe the pages of a TIFF: OME-XML, ImageJ's, tifffile's.

They count pages, so a copy with other pages must not carry them: it gets one that fits.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

from napari_restore.images._planes import ONE, PlaneAxis, Planes
from napari_restore.images._profile import PhysicalGrid, Profile
from napari_restore.images.files.xml import elements_named, parse_xml

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


def planes_of_pages(text: bytes, pages: int) -> Planes:
    """Return the planes of a TIFF with so many pages, in ImageJ's axes where its description fits."""
    # There are more than pages where ImageJ has one directory for all: above 4 GiB.
    lines = _lines(text.split(b"\0")[0].decode("utf-8", "replace"))
    # As many digits as no file has planes are no number.
    counts = {k: int(v) for k, v in lines.items() if v.isdecimal() and len(v) < 10}
    total = max(pages, counts.get("images", 1))
    named = (("t", "frames"), ("z", "slices"), ("c", "channels"))
    axes = [PlaneAxis(name, counts[key]) for name, key in named if counts.get(key, 1) > 1]
    if math.prod(axis.length for axis in axes) != total:
        axes = [PlaneAxis("z" if lines else "page", total)] if total > 1 else []
    planes = Planes(tuple(axes), " ".join(axis.name for axis in axes))
    with contextlib.suppress(ValueError):
        if (unit := unit_named(lines.get("unit"))) is not None:
            planes = planes.measured({"z": (float(lines.get("spacing", "")), unit)})
    return planes


def _lines(text: str) -> dict[str, str]:
    """Return the values that ImageJ's description names; none where it is not ImageJ's."""
    if not text.startswith("ImageJ="):
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


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
    """Return the physical size of pixels in OME-XML, or in ImageJ's text with its pixels per unit (across, down)."""
    if is_ome(text):
        return _ome_grid(text)
    unit = unit_named(_lines(text).get("unit"))
    if unit is None or resolution is None or min(resolution) <= 0:
        return None
    return PhysicalGrid((1 / resolution[1], 1 / resolution[0]), unit)


def _ome_grid(text: str) -> PhysicalGrid | None:
    try:
        pixels = next(elements_named(parse_xml(text), "Pixels"))
        x, y = (float(pixels.get(f"PhysicalSize{side}", "")) for side in "XY")
        unit = unit_named(pixels.get("PhysicalSizeXUnit", "µm"))
    except (ValueError, StopIteration):
        return None
    if unit is None or not (0 < x < math.inf and 0 < y < math.inf):
        return None
    plane = next(elements_named(pixels, "Plane"), None)
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
    """Return the description of a TIFF of one page, (H, W, C), in place of its source's `text`; None: none."""
    if is_ome(text):
        return _ome_xml(profile, shape, dtype, grid)
    if text.startswith("ImageJ=") and (shape[2] == 1 or (shape[2], dtype) == (3, "uint8")):
        kept = [line for line in text.splitlines() if line.startswith(("ImageJ=", "unit="))]
        return "\n".join(kept) + "\n"
    return None if is_structure(text) else text


def fitting_stack(
    text: str,
    planes: Planes,
    profile: Profile,
    shape: tuple[int, int, int],
    dtype: str,
    grid: PhysicalGrid | None,
) -> str | None:
    """Return the description of a TIFF whose pages are `planes` of (H, W, C); None: it needs none.

    `text` is that of the source: OME-XML, ImageJ's and tifffile's are kept in kind. Planes of a
    zarr, which has none, get OME-XML where their axes are those of OME.
    """
    if text.startswith("ImageJ="):
        lines = {key: value for key, value in _lines(text).items() if key in _IMAGEJ}
        sizes = {axis.name: axis.length for axis in planes.axes}
        named = {"channels": "c", "slices": "z", "frames": "t"}
        lines["images"] = str(planes.count)
        for key, name in named.items():
            lines.pop(key, None)
            if name in sizes:
                lines[key] = str(sizes[name])
        if len(sizes) < 2:
            lines.pop("hyperstack", None)
        return "".join(f"{key}={value}\n" for key, value in lines.items())
    if text.lstrip().startswith('{"shape"'):
        picture = [*shape[:2], shape[2]] if shape[2] > 1 else [*shape[:2]]
        return json.dumps({"shape": [*planes.shape, *picture]})
    is_microscopy = is_ome(text) or not text
    if is_microscopy and {a.name for a in planes.axes} <= {"t", "z"} and planes.order:
        return _ome_xml(profile, shape, dtype, grid, planes)
    return None if is_structure(text) else text or None


_IMAGEJ = ("ImageJ", "images", "hyperstack", "mode", "unit", "spacing", "finterval", "fps", "loop")


def _ome_xml(
    profile: Profile,
    shape: tuple[int, int, int],
    dtype: str,
    grid: PhysicalGrid | None,
    planes: Planes = ONE,
) -> str:
    height, width, bands = shape
    order = planes.order.split()
    # Channels with pages of their own; else those of a page are its samples.
    apart = bands if "c" in order and "s" not in order else 1
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
    counts = {axis.name: axis.length for axis in planes.axes}
    for axis in planes.axes:
        if axis.name == "z" and axis.unit in _UNITS:
            unit = quoteattr(_UNITS[axis.unit][0])
            sizes += f' PhysicalSizeZ="{axis.step!r}" PhysicalSizeZUnit={unit}'
        elif axis.name == "t" and axis.unit == "second":
            sizes += f' TimeIncrement="{axis.step!r}"'
    channels = ""
    for number in range(apart):
        channel = ""
        if bands == apart and (name := _item(profile.descriptions, number)) is not None:
            channel += f" Name={quoteattr(str(name))}"
        if bands == apart and (colour := _item(profile.channel_colours, number)) is not None:
            value = int(str(colour), 16) << 8 | 255
            channel += f' Color="{value - (1 << 32) if value >> 31 else value}"'
        samples = bands // apart
        channels += f'<Channel ID="Channel:0:{number}" SamplesPerPixel="{samples}"{channel}/>'
    fastest = [name.upper() for name in reversed(order) if name in ("t", "z", "c")]
    dimensions = "XY" + "".join(fastest + [name for name in "CZT" if name not in fastest])
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{_OME}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_OME} {_OME}/ome.xsd"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="{dimensions}" '
        f'Type="{_OME_TYPES.get(dtype, dtype)}" '
        f'SizeX="{width}" SizeY="{height}" SizeC="{bands}" SizeZ="{counts.get("z", 1)}" '
        f'SizeT="{counts.get("t", 1)}"{sizes}>{channels}'
        f'<TiffData IFD="0" PlaneCount="{planes.count * apart}"/>{plane}</Pixels></Image></OME>'
    )


def _item(values: tuple[str | None, ...], number: int) -> str | None:
    return values[number] if number < len(values) else None
