"""OME-Zarr 0.4 and 0.5, and plain zarr arrays."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from napari_restore._json_shapes import phrase_of, value_of
from napari_restore.errors import UnreadableImage
from napari_restore.images._georeference import (
    IDENTITY,
    ControlPoint,
    Georeference,
    Transform,
    units_of,
)
from napari_restore.images._profile import NO_GRID, PER_BAND, Masks, PhysicalGrid, Profile
from napari_restore.images._reader import Reader, block_level, check_dtype, first_of
from napari_restore.images._source import chunk_box
from napari_restore.images._suffixes import is_zarr
from napari_restore.images._system import system_of
from napari_restore.images.files.descriptions import dots_per_inch, unit_named
from napari_restore.images.readers._axes import Axes
from napari_restore.images.readers._zarr_bounds import check_array, folder_store, opened
from napari_restore.images.values.sensors import is_reflectance_product
from napari_restore.images.values.validity import as_dtype

Array = npt.NDArray[Any]

OWN_ATTRIBUTES = "napari_restore"
"""Attribute of this package's exports for metadata that OME does not define: CRS, transform,
nodata, colour profile …"""


class OmeZarrReader(Reader):
    """A plane of the first multiscale image of a group, of the only array in it, or of an array."""

    OPTIONS: ClassVar = ("plane",)

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        return is_zarr(path)

    def __init__(self, path: Path, head: bytes = b"", *, plane: int = 0) -> None:
        super().__init__(path)
        self._open(folder_store(path), plane)

    def _open(self, store: Any, plane: int) -> None:
        path = self.path
        try:
            with opened(store) as node:
                arrays, axes, attributes = _images_of(node, path.name)
            for array in arrays:
                check_array(array, path.name)
        except UnreadableImage:
            raise
        except Exception as error:  # zarr raises many kinds
            raise self._no_zarr(error) from error
        self._arrays, self._axes = arrays, axes
        measured = _placed_axes(attributes).items()
        self.planes = axes.planes.measured(
            {name: (step, unit) for name, (step, _, unit) in measured}
        )
        self.planes.check(self.name, plane)
        self.plane = plane
        self.notes += first_of(_pictures_in(attributes))
        stored = np.dtype(arrays[0].dtype)
        is_bool = stored.kind == "b"
        self.dtype = check_dtype(np.uint8 if is_bool else stored, path.name)
        self.bands = axes.bands
        self.levels = tuple(
            block_level(*axes.size(a.shape), axes.chunk(a.chunks)) for a in _shrinking(arrays, axes)
        )
        own, self.georeference = checked_attributes(
            attributes.get(OWN_ATTRIBUTES), self.bands, path.name
        )
        # JSON has no NaN; it is written as text.
        nodata = as_dtype(own.nodata, self.dtype)
        own = replace(own, nodata=nodata, bits=1 if is_bool else None)
        grid = None if self.georeference else _grid(attributes)
        self.profile = _profile(path.name, attributes, own, self.bands, grid)
        self.may_be_invalid = self.dtype.kind == "f" or nodata is not None or self.alpha is not None

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        box = chunk_box(self.levels[level], row, column)
        try:
            return self._axes.read(self._arrays[level], box, self.dtype, self.plane)
        except Exception as error:  # a codec's or the store's own
            raise self._no_chunk(error) from error

    def _no_zarr(self, error: Exception) -> UnreadableImage:
        return UnreadableImage(
            f"{self.path.name} cannot be read as zarr: {error}.",
            "Check that the folder is complete.",
        )

    def _no_chunk(self, error: Exception) -> UnreadableImage:
        return UnreadableImage(
            f"A chunk of {self.path.name} cannot be read: {error}.",
            "Check the folder, or copy it again.",
        )


def _images_of(node: Any, name: str) -> tuple[list[Any], Axes, Mapping[str, Any]]:
    """Return the levels of the image in `node`, its axes, and the attributes that describe it."""
    import zarr

    if isinstance(node, zarr.Array):
        return [node], _array_axes(node, name), dict(node.attrs)
    attributes = _ome_attributes(node)
    if "bioformats2raw.layout" in attributes and "0" in node:
        series = _ome_attributes(node["OME"]).get("series") if "OME" in node else None
        arrays, axes, first = _images_of(node["0"], name)
        return arrays, axes, {**first, "series": series}
    if multiscales := attributes.get("multiscales"):
        first = multiscales[0]
        arrays = [node[part["path"]] for part in first["datasets"]]
        axes = first.get("axes")
        if axes is None:
            return arrays, _array_axes(arrays[0], name), attributes
        names = [a["name"] if isinstance(a, Mapping) else a for a in axes]
        return arrays, Axes.of_names(names, arrays[0].shape, name), attributes
    arrays = [member for _, member in node.arrays()]
    if len(arrays) == 1:
        return arrays, _array_axes(arrays[0], name), dict(arrays[0].attrs)
    inside = ", ".join(sorted(key for key, _ in node.members())[:8]) or "nothing"
    raise UnreadableImage(
        f"{name} contains no multiscale image.", f"Open one of its parts: {inside}."
    )


def _pictures_in(attributes: Mapping[str, Any]) -> int:
    """Return the images of a group: those of a series, or the multiscale ones."""
    lists = [attributes.get(name) for name in ("series", "multiscales")]
    return max((len(each) for each in lists if isinstance(each, list)), default=1)


def _ome_attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of version 0.4 (at the top) and 0.5 (below "ome") alike."""
    attributes = dict(node.attrs)
    ome = attributes.get("ome")
    return {**attributes, **ome} if isinstance(ome, Mapping) else attributes


def _array_axes(array: Any, name: str) -> Axes:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if names and all(names):
        short = {"lat": "y", "lon": "x", "latitude": "y", "longitude": "x", "channel": "c"}
        return Axes.of_names([short.get(str(n).lower(), n) for n in names], array.shape, name)
    return Axes.guessed(array.shape, name)


def _shrinking(arrays: Sequence[Any], axes: Axes) -> list[Any]:
    """Return levels as long as they get smaller."""
    levels = [arrays[0]]
    for array in arrays[1:]:
        if max(axes.size(array.shape)) >= max(axes.size(levels[-1].shape)):
            break
        levels.append(array)
    return levels


def _profile(
    name: str,
    attributes: Mapping[str, Any],
    own: Profile,
    bands: int,
    grid: PhysicalGrid | None,
) -> Profile:
    """Return what our `own` attributes say, with what those of OME do."""
    labels = _channel_labels(attributes)
    names = own.descriptions or (labels if len(labels) == bands else [None] * bands)
    unmarked: Masks = "none" if own.nodata is None else "nodata"
    return replace(
        own,
        driver="Zarr",
        descriptions=tuple(names),
        wavelengths=own.wavelengths or (None,) * bands,
        masks="alpha" if "alpha" in own.colorinterp else unmarked,
        tiled=True,
        grid=grid,
        resolution=dots_per_inch(grid),
        channel_colours=_channel_colours(attributes, bands),
        is_reflectance=is_reflectance_product(name, own.tags),
    )


def _grid(attributes: Mapping[str, Any]) -> PhysicalGrid | None:
    """Return the size and place of level 0 as the multiscale image has them."""
    axes = _placed_axes(attributes)
    if not {"y", "x"} <= axes.keys():
        return None
    (down, top, _), (across, left, unit) = axes["y"], axes["x"]
    grid = PhysicalGrid((down, across), unit_named(unit) or "", (top, left))
    return grid if min(grid.size) > 0 and grid != NO_GRID else None


def _placed(multiscale: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Return step and origin of each axis at level 0.

    The transformations of the level come first, then those of all levels (OME-NGFF, "multiscales").
    Raises `KeyError`, `IndexError`, `TypeError`, `ValueError` where they are not as the standard has them.
    """
    count = len(multiscale["axes"])
    scale, shift, known = [1.0] * count, [0.0] * count, False
    levels = multiscale["datasets"][0], multiscale
    for step in (step for of in levels for step in of.get("coordinateTransformations") or ()):
        if step["type"] == "scale":
            factors, known = [float(value) for value in step["scale"]], True
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            shift = [a * b for a, b in zip(shift, factors, strict=True)]
        elif step["type"] == "translation":
            shift = [a + float(b) for a, b in zip(shift, step["translation"], strict=True)]
    if not known or not all(map(math.isfinite, (*scale, *shift))):
        raise ValueError("no scale, or none that is a number")
    return scale, shift


def _placed_axes(attributes: Mapping[str, Any]) -> dict[str, tuple[float, float, str]]:
    """Return step, origin and unit of the axes of level 0 by name; none where the image has no scale."""
    try:
        multiscale = attributes["multiscales"][0]
        return {
            str(axis["name"]).lower(): (step, origin, str(axis.get("unit") or ""))
            for axis, step, origin in zip(multiscale["axes"], *_placed(multiscale), strict=True)
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return {}


def _channel_colours(attributes: Mapping[str, Any], bands: int) -> tuple[str | None, ...]:
    """Return the colours of the channels of OMERO's block, RRGGBB; none where one has none."""
    try:
        colours = tuple(str(c["color"]) for c in attributes["omero"]["channels"])
        known = len(colours) == bands and all(int(c, 16) < 1 << 24 for c in colours)
    except (KeyError, TypeError, ValueError):
        return ()
    return colours if known else ()


def _channel_labels(attributes: Mapping[str, Any]) -> list[str | None]:
    """Return the channel names of OMERO's block; none where it has another structure."""
    block = attributes.get("omero")
    channels = block.get("channels") if isinstance(block, Mapping) else None
    if not isinstance(channels, Sequence) or isinstance(channels, str):
        return []
    labels = [c.get("label") if isinstance(c, Mapping) else None for c in channels]
    return [label if isinstance(label, str) else None for label in labels]


class OwnAttributes(TypedDict, total=False):
    """What exports say of themselves, beside what only readers of others want; JSON has no NaN."""

    nodata: float | None
    transform: Transform | None
    crs_wkt: str | None
    gcps: tuple[ControlPoint, ...] | None
    gcps_crs_wkt: str | None
    rpcs: dict[str, str] | None
    area_or_point: str | None
    descriptions: tuple[str | None, ...] | None
    colorinterp: tuple[str, ...] | None
    wavelengths: tuple[float | None, ...] | None
    scales: tuple[float, ...] | None
    offsets: tuple[float, ...] | None
    units: tuple[str | None, ...] | None
    tags: dict[str, dict[str, str]] | None
    band_tags: tuple[dict[str, dict[str, str]], ...] | None
    icc: str | None
    """In base 64."""


def checked_attributes(given: Any, bands: int, name: str) -> tuple[Profile, Georeference | None]:
    """Return metadata and place in the `given` JSON, checked for `bands`; raises `UnreadableImage`."""
    if given is None:
        return Profile(), None
    try:
        values = _attributes(given)
        for field in PER_BAND:
            if values.get(field) and len(values[field]) != bands:
                raise ValueError(f"{field} has {len(values[field])} items for {bands} bands")
        if "icc" in values:
            values["icc"] = _decoded(values["icc"])
        place = _georeference(values)
    except (ValueError, OverflowError) as error:
        raise UnreadableImage(
            f"{name} has damaged attributes ({error}).",
            "Remove the attribute 'napari_restore' of the zarr group, or save the image again.",
        ) from error
    known = ("nodata", "tags", "icc", *PER_BAND)
    fields = {field: values[field] for field in known if field in values}
    return Profile(**fields, is_display="icc" in fields and place is None), place


def _attributes(given: Any) -> dict[str, Any]:
    """Return what `OwnAttributes` has of the `given` JSON; raises `ValueError`."""
    from pydantic import ValidationError

    try:
        attributes = value_of(given, OwnAttributes)
    except ValidationError as error:
        raise ValueError(phrase_of(given, error.errors()[0], OWN_ATTRIBUTES)) from None
    return {field: value for field, value in attributes.items() if value is not None}


def _decoded(icc: str) -> bytes:
    try:
        return base64.b64decode(icc, validate=True)
    except ValueError as error:
        raise ValueError(f"{OWN_ATTRIBUTES}.icc: {error}") from None


def _georeference(values: Mapping[str, Any]) -> Georeference | None:
    transform, wkt, gcps = values.get("transform"), values.get("crs_wkt"), values.get("gcps", ())
    if transform is None and wkt is None and not gcps and not values.get("rpcs"):
        return None
    a, b, c, d, e, f = transform or IDENTITY
    places = [(p.row, p.column, p.x, p.y, p.z or 0.0) for p in gcps]
    if not all(map(math.isfinite, (a, b, c, d, e, f, *itertools.chain(*places)))):
        raise ValueError("its place is not finite")
    if a * e == b * d:
        raise ValueError("its pixels have no area")
    units = "pixel"
    try:
        if wkt:
            units = units_of(system_of(wkt))
        if of_points := values.get("gcps_crs_wkt"):
            system_of(of_points)
    except ValueError as error:
        raise ValueError(f"no coordinate system: {error}") from error
    return Georeference(
        wkt,
        transform,
        gcps=gcps,
        gcps_crs_wkt=values.get("gcps_crs_wkt"),
        rpcs=values.get("rpcs"),
        area_or_point=values.get("area_or_point", "Area"),
        units=units,
    )
