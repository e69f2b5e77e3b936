"""Masks drawn in the window, stored as files that the command line reads as well.

They lie in the cache under a digest of their content, with the image's georeference, or in its
pixels where it has none. In use for the lifetime of the process: results read their mask again
whenever they are shown or saved.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._json_shapes import read_json
from napari_restore.errors import BadMask
from napari_restore.images._georeference import IDENTITY, Georeference, Transform
from napari_restore.images._image import Image
from napari_restore.images.cache.folder import (
    OpenEntry,
    cache_dir,
    mark_entry,
    mark_needed,
    trim_cache,
)
from napari_restore.images.files.handles import open_for_writing
from napari_restore.images.masks._vector import Polygon, Ring, is_inline, wkt_of

KIND = "masks"
INLINE = 4096
"""Most characters of drawn areas in a command or a record; cmd.exe takes 8191."""
LIMIT = 1 << 30
"""Bytes of masks above which the least recently used are removed."""
BLOCK = 512
AT_ONCE = 1 << 24
"""Pixels of a mask that are in memory at the same time."""
_held: dict[Path, OpenEntry] = {}


def mask_of_polygons(image: Image, polygons: Sequence[Polygon]) -> Path:
    """Write polygons for the option `mask`, in the CRS of `image` where it has one; return the GeoJSON file.

    A polygon is its outer ring and then its holes, a ring a list of points (x, y) in pixels, edges at
    whole numbers. The file is in the cache; equal polygons have the same file.
    """
    areas = [[_closed(_on_map(image, ring)) for ring in polygon] for polygon in polygons]
    return _keep_geometry(image, "areas", {"type": "MultiPolygon", "coordinates": areas})


def mask_of_line(image: Image, start: tuple[float, float], end: tuple[float, float]) -> Path:
    """Write a gradient from `start` (0) to `end` (1), (x, y) in pixels; return the GeoJSON file."""
    line = _on_map(image, [start, end])
    return _keep_geometry(image, "gradient", {"type": "LineString", "coordinates": line})


def mask_of_array(image: Image, strengths: Any, place: Transform = IDENTITY) -> Path:
    """Write `strengths`, an array (h, w) of any kind that can be sliced; return the GeoTIFF.

    `place` maps (column, row) in the array to pixels of `image`, both counted from the corner of
    the first pixel. Floats are 0 … 1, integers as in `RasterMask`. Raises `BadMask` where no
    strength is above 0.
    """
    if isinstance(strengths, np.ndarray):
        strengths, place = _cropped(strengths, place)
    height, width = (int(length) for length in strengths.shape)
    if image.transform is None:
        # A mask of the image's own size is taken in its pixels, and a GeoTIFF does not store an
        # identity transform: both must be written together.
        if place == IDENTITY:
            height, width = image.height, image.width
        elif (height, width) == (image.height, image.width):
            width += 1
    _trim_once()
    building = cache_dir() / KIND / f"new-{uuid.uuid4().hex[:12]}"
    mark_entry(building, {"file": "strength.tif"}, complete=False)
    try:
        grid = [height, width, list(place), image.transform, image.crs]
        name = _write_raster(building / "strength.tif", image, strengths, (height, width), place)
        key = _key_of(json.dumps([name, grid]))
        entry = _open(key, "strength.tif")
        if not entry.complete:
            (building / "strength.tif").replace(entry.path / "strength.tif")
            entry.finish()
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return entry.path / "strength.tif"


def parts_of(mask: str) -> tuple[str, str | None]:
    """Return the file of `mask`, "" for the image itself, and the band or layer named after a colon, if any."""
    # A file whose name has a colon is meant as it is.
    if is_inline(mask) or _exists(mask):
        return mask, None
    file, colon, part = mask.rpartition(":")
    if colon and part and (not file or _exists(file)):
        return file, part
    return mask, None


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def absolute_mask(mask: str) -> str:
    """Return `mask` with the full path of its file; text and bands of the image as they are."""
    file, part = parts_of(mask)
    if is_inline(mask) or not file:
        return mask
    return str(Path(file).absolute()) + ("" if part is None else f":{part}")


def persistent_mask(mask: str) -> str:
    """Return a name of `mask` for commands and records, which the cache never removes."""
    # Areas that were drawn in the window become WKT where it is short. Other files of the cache are
    # marked as needed; files of the user's own are named by their full path.
    path = _kept(mask)
    if path is None:
        return absolute_mask(mask)
    if (text := _short_text(path)) is None:
        mark_needed(path.parent)
    return text or str(path)


def title_of_mask(mask: str) -> str:
    """Return what a file says of the mask it was made with: the same from the window and a command."""
    # The text of short areas; the name of a file, without folders, which others should not see; of
    # what the cache has kept its kind and the digest of its content.
    path = _kept(mask)
    if path is not None:
        return _short_text(path) or f"{path.stem} {path.parent.name}"
    if is_inline(mask):
        return mask if len(mask) <= INLINE else f"areas {_key_of(mask)}"
    return Path(mask).name


def _kept(mask: str) -> Path | None:
    """Return the file of a mask that lies in the cache."""
    path = None if is_inline(mask) else Path(parts_of(mask)[0]).absolute()
    in_cache = path is not None and path.parent.parent == (cache_dir() / KIND).absolute()
    return path if in_cache else None


def _short_text(path: Path) -> str | None:
    """Return what was drawn as WKT, where it is short; None of all else."""
    if path.suffix != ".geojson":
        return None
    (feature,) = read_json(path)["features"]
    text = wkt_of(feature["geometry"])
    return text if len(text) <= INLINE else None


# -- GeoJSON -------------------------------------------------------------------------


def _keep_geometry(image: Image, name: str, geometry: dict[str, Any]) -> Path:
    data: dict[str, Any] = {"type": "FeatureCollection", "name": name}
    if image.transform is not None and image.crs:
        data["crs"] = {"type": "name", "properties": {"name": _crs_name(image.crs)}}
    data["features"] = [{"type": "Feature", "properties": {}, "geometry": geometry}]
    text = json.dumps(data)
    file = f"{name}.geojson"
    entry = _open(_key_of(text), file)
    if not entry.complete:
        (entry.path / file).write_text(text, encoding="utf-8")
        entry.finish()
    return entry.path / file


def _on_map(image: Image, ring: Sequence[tuple[float, float]]) -> Ring:
    place = Georeference(transform=image.transform)
    return [place.to_world(float(x), float(y)) for x, y in ring]


def _closed(ring: Ring) -> Ring:
    return ring if ring[0] == ring[-1] else [*ring, ring[0]]


def _crs_name(wkt: str) -> str:
    """Return the short name where it means the same, so that other programs know it, too."""
    from rasterio.crs import CRS

    system = CRS.from_wkt(wkt)
    code = system.to_epsg()
    if code is not None and CRS.from_epsg(code) == system:
        return f"urn:ogc:def:crs:EPSG::{code}"
    return wkt


# -- GeoTIFF -------------------------------------------------------------------------


def _cropped(strengths: npt.NDArray[Any], place: Transform) -> tuple[npt.NDArray[Any], Transform]:
    """Return the part that contains all strengths above 0, and its place."""
    above = strengths > 0
    rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    if rows.size == 0:
        raise _nothing()
    top, left = int(rows[0]), int(columns[0])
    moved = Georeference(transform=place).shifted(left, top).transform
    assert moved is not None
    return strengths[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1], moved


def _write_raster(
    path: Path, image: Image, strengths: Any, size: tuple[int, int], place: Transform
) -> str:
    """Write piece by piece; return a digest of the values. Blocks of zeros take no space."""
    from rasterio.transform import Affine

    dtype = _dtype_of(np.dtype(strengths.dtype))
    on_map = (
        Affine(*place) if image.transform is None else Affine(*image.transform) @ Affine(*place)
    )
    creation: dict[str, Any] = {
        "driver": "GTiff",
        "count": 1,
        "dtype": dtype.name,
        "height": size[0],
        "width": size[1],
        "transform": on_map,
        "crs": image.crs if image.transform is not None else None,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "zlevel": 1,
        "sparse_ok": True,
        "bigtiff": "IF_SAFER",
    }
    total, empty = hashlib.sha256(dtype.name.encode()), True
    with open_for_writing(path, **creation) as dataset:
        for y, x, values in _pieces(strengths, dtype, size):
            total.update(values.tobytes())
            if not values.any():
                continue
            empty = False
            height, width = values.shape
            dataset.write(values, 1, window=((y, y + height), (x, x + width)))
    if empty:
        raise _nothing()
    return total.hexdigest()


def _pieces(
    strengths: Any, dtype: np.dtype[Any], size: tuple[int, int]
) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
    """Yield (row, column, values) of pieces that end on blocks, within `size`."""
    height, width = (min(a, b) for a, b in zip(strengths.shape, size, strict=True))
    wide = min(width, AT_ONCE // BLOCK)
    for y in range(0, height, BLOCK):
        for x in range(0, width, wide):
            piece = np.asarray(strengths[y : min(y + BLOCK, height), x : min(x + wide, width)])
            yield y, x, np.ascontiguousarray(piece, dtype)


def _dtype_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which a GeoTIFF stores it."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f":
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")


def _nothing() -> BadMask:
    return BadMask("Nothing is painted yet.", "Press Brush and paint over the image.")


# -- the cache -----------------------------------------------------------------------


def _open(key: str, file: str) -> OpenEntry:
    entry = OpenEntry.open(KIND, key, {"file": file})
    _held[entry.path] = entry
    return entry


@cache
def _trim_once() -> None:
    """Trim the cache of masks of earlier processes: those of this one are in use and stay."""
    trim_cache(LIMIT, (KIND,))


def _key_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
