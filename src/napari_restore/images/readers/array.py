"""Images from arrays: numpy, dask, zarr, xarray, PIL, torch, or a list of levels of them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._georeference import Georeference, Transform, units_of
from napari_restore.images._profile import Masks, Profile
from napari_restore.images._reader import Reader, check_dtype, extended
from napari_restore.images._source import CHUNK, Level, chunk_box
from napari_restore.images._system import checked_system, system_of
from napari_restore.images.files.fingerprint import fingerprint_array
from napari_restore.images.values.validity import as_dtype

Array = npt.NDArray[Any]

LARGEST_CHUNK_PIXELS = 4096 * 4096
RANGE_BYTES = 256 * 2**20
"""Float arrays in memory up to this size are searched for their range."""
COLOURS = {3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}
"""Default roles of the bands of an array (H, W, 3 or 4): as in napari, scikit-image and Pillow."""
_PICTURE_DTYPES = {"uint8", "uint16", "float16", "float32", "float64"}
"""Values of pictures; signed and longer integers are measured, and in bands of any order."""
_Y, _X, _BAND = ("y", "lat", "latitude", "row"), ("x", "lon", "longitude", "col"), ("band", "c")


class ArrayReader(Reader):
    """(H, W) or (H, W, C) arrays of bands with `colours`, lazily sliced; only slices become numpy arrays."""

    cached: bool = False

    def __init__(self, array: Any, colours: tuple[str, ...] = ()) -> None:
        super().__init__(Path())
        arrays = list(array) if isinstance(array, (list, tuple)) else [array]
        if not arrays:
            raise UnreadableImage("The list of levels is empty.", "Give at least one array.")
        first = arrays[0]
        self.name = str(getattr(first, "name", None) or "array").rpartition("/")[2] or "array"
        self._arrays = [_without_labels(level) for level in arrays]
        shapes = [_checked_shape(level) for level in self._arrays]
        self.bands = shapes[0][2]
        if any(shape[2] != self.bands for shape in shapes):
            raise UnreadableImage(
                "The levels have different numbers of bands.", "All must have those of the first."
            )
        if any(b[0] > a[0] or b[1] > a[1] for a, b in itertools.pairwise(shapes)):
            raise UnreadableImage("The levels do not shrink.", "Give the largest first.")
        stored = np.dtype(first.dtype)
        is_bool = stored.kind == "b"
        self.dtype = check_dtype(np.uint8 if is_bool else stored, "The array")
        self.levels = tuple(
            Level(h, w, *_chunk(level, h, w))
            for level, (h, w, _) in zip(self._arrays, shapes, strict=True)
        )
        self._fill = _fill_of(self._arrays[0], self.dtype)
        nodata = as_dtype(_nodata(first), self.dtype) if self._fill is None else self._fill
        self.georeference = _georeference(first)
        self.profile = Profile(
            driver="array",
            nodata=nodata,
            bits=1 if is_bool else None,
            masks="alpha" if "alpha" in colours else "none" if nodata is None else "nodata",
            descriptions=_band_names(first, self.bands),
            colorinterp=colours,
        )
        self.may_be_invalid = self.dtype.kind == "f" or nodata is not None or self.alpha is not None
        # Only numpy's arrays lie in memory; slices of others are computed or read.
        self.cached = not all(isinstance(level, np.ndarray) for level in self._arrays)

    @property
    def in_memory(self) -> bool:
        return not self.cached

    def with_roles(self, roles: Sequence[str | None]) -> ArrayReader:
        """Return itself, or a reader of the band as data where it was wrongly taken for alpha."""
        if self.alpha is None or roles[self.alpha] == "alpha":
            return self
        return self.without_colours()

    def without_colours(self) -> ArrayReader:
        """Return a reader of the same array that takes no band for a colour."""
        other = copy.copy(self)
        masks: Masks = "none" if self.profile.nodata is None else "nodata"
        other.profile = replace(self.profile, colorinterp=(), masks=masks)
        other.may_be_invalid = self.dtype.kind == "f" or self.profile.nodata is not None
        return other

    @property
    def known_range(self) -> tuple[float, float] | None:
        """Smallest and largest finite value where computing them is cheap."""
        level = self._arrays[0]
        if not isinstance(level, np.ndarray) or level.nbytes > RANGE_BYTES:
            return None
        ends: list[float] = []
        # Some rows at a time: what is finite of them is a copy.
        for part in self.rows():
            finite = part[np.isfinite(part)] if self.dtype.kind == "f" else part
            if finite.size:
                ends += (float(finite.min()), float(finite.max()))
        return (min(ends), max(ends)) if ends else None

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        y0, x0, y1, x1 = chunk_box(self.levels[level], row, column)
        part = self._filled(self._arrays[level][y0:y1, x0:x1])
        pixels: Array = part.astype(self.dtype, copy=False)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        # Slices of an array of the user must not be made read-only or pinned.
        return np.array(pixels, copy=True) if self.cached else pixels

    def rows(self) -> Iterator[Array]:
        """Yield the array in bands of rows, for its fingerprint."""
        height, step = self.levels[0].height, self.levels[0].chunk_height
        for top in range(0, height, step):
            yield self._filled(self._arrays[0][top : top + step])

    def _filled(self, part: Any) -> Array:
        """Return a part of an array as numpy's, what is masked as the value of nodata."""
        masked = isinstance(part, np.ma.MaskedArray)
        return part.filled(self._fill) if masked else np.asarray(part)

    def files(self) -> tuple[Path, ...]:
        return ()

    def fingerprint(self) -> str:
        # Of a file they are in its bytes.
        described = self.profile.nodata, self.alpha
        more = "" if described == (None, None) else f" {described}"
        return extended(fingerprint_array(self.rows()), more)


def reader_of_array(source: Any, *, named: bool = False) -> ArrayReader:
    """Return the reader for an array or a list of levels, its roles `named` elsewhere; raises `UnreadableImage`."""
    array = as_array(source)
    first = array[0] if isinstance(array, list) and array else array
    if not (hasattr(first, "shape") and hasattr(first, "dtype")):
        raise UnreadableImage(
            f"An image cannot be made of {type(first).__name__}.",
            "Give a path, several paths, an array (H, W) or (H, W, C), a PIL image or a tensor.",
        )
    reader = ArrayReader(array)
    if not named:
        picture = source[0] if isinstance(source, (list, tuple)) else source
        # The array of a PIL image does not show its alpha.
        has_alpha = getattr(picture, "mode", None) == "LA"
        colours = ("gray", "alpha") if has_alpha else COLOURS.get(reader.bands)
        is_described = reader.georeference is not None or any(reader.profile.descriptions)
        # Four bands with a georeference are more often infrared than transparency.
        if reader.dtype.name not in _PICTURE_DTYPES or is_described:
            colours = None
        if colours is not None:
            reader = ArrayReader(array, colours)
    return reader


def _fill_of(array: Any, dtype: np.dtype[Any]) -> float | None:
    """Return the value that stands for what is masked; None for an array without a mask."""
    if not isinstance(array, np.ma.MaskedArray):
        return None
    if dtype.kind == "f":
        return math.nan
    fill = int(array.fill_value)
    if not np.can_cast(np.min_scalar_type(fill), dtype):
        fill = 0
    mask = np.ma.getmaskarray(array)
    if mask.ndim == 3 and bool((mask.any(2) != mask.all(2)).any()):
        raise UnreadableImage(
            "The mask of the array differs between its bands, and integers have no value for that.",
            "Give floats with NaN, or the same mask for all bands.",
        )
    if bool((array == fill).any()):
        raise UnreadableImage(
            f"The array has masked values, and {fill}, which would stand for them, among the others.",
            "Give it another fill_value, or masked values as NaN.",
        )
    return float(fill)


def _without_labels(array: Any) -> Any:
    """Return xarray's data with (y, x, band) order; other arrays as they are."""
    dims = getattr(array, "dims", None)
    if not isinstance(dims, tuple) or not hasattr(array, "transpose"):
        return array
    names = [str(d).lower() for d in dims]
    order = [
        dims[names.index(name)] for group in (_Y, _X, _BAND) for name in group if name in names
    ]
    return array.transpose(*order).data if len(order) == len(dims) else array.data


def _checked_shape(array: Any) -> tuple[int, int, int]:
    shape = tuple(int(s) for s in array.shape)
    if len(shape) not in (2, 3) or 0 in shape:
        raise UnreadableImage(
            f"An image cannot have the shape {shape}.", "Give an array (H, W) or (H, W, C)."
        )
    height, width = shape[:2]
    bands = shape[2] if len(shape) == 3 else 1
    if len(shape) == 3 and height <= MOST_BANDS < bands:
        raise UnreadableImage(
            f"The shape {shape} looks like (C, H, W).",
            "Bands go last: numpy.moveaxis(array, 0, -1).",
        )
    return height, width, bands


def _chunk(array: Any, height: int, width: int) -> tuple[int, int]:
    """Return the array's own chunks where it has some, neither tiny nor huge."""
    chunks: Sequence[Any] | None = getattr(array, "chunks", None)
    rows = columns = CHUNK
    if chunks and len(chunks) >= 2:
        steps = [c[0] if isinstance(c, tuple) else c for c in chunks[:2]]
        if 0 < steps[0] * steps[1] <= LARGEST_CHUNK_PIXELS:
            rows, columns = (-(-256 // c) * c for c in steps)
    return min(rows, height), min(columns, width)


def _nodata(array: Any) -> float | None:
    attributes = getattr(array, "attrs", None)
    if not isinstance(getattr(array, "dims", None), tuple) or not attributes:
        return None
    value = attributes.get("_FillValue", attributes.get("nodata"))
    return None if value is None else float(value)


def _band_names(array: Any, count: int) -> tuple[str | None, ...]:
    long = getattr(array, "attrs", {}).get("long_name") if hasattr(array, "dims") else None
    if isinstance(long, (list, tuple)) and len(long) == count:
        return tuple(str(name) for name in long)
    return (None,) * count


def _georeference(array: Any) -> Georeference | None:
    """Return the georeference of rioxarray's accessor, or, without that, of the coordinate it makes."""
    rio = getattr(array, "rio", None) if hasattr(array, "dims") else None
    if rio is None or getattr(rio, "crs", None) is None:
        return _georeference_of_grid(array)
    a, b, c, d, e, f = tuple(rio.transform())[:6]
    transform: Transform = (a, b, c, d, e, f)
    wkt = checked_system(rio.crs.to_wkt(), "the array")
    return Georeference(wkt, transform, units=units_of(rio.crs))


def _georeference_of_grid(array: Any) -> Georeference | None:
    """Return the georeference in the attributes of ``spatial_ref``, as `Result.to_xarray` writes it."""
    coordinates = getattr(array, "coords", {}) if hasattr(array, "dims") else {}
    grid = coordinates["spatial_ref"].attrs if "spatial_ref" in coordinates else {}
    try:
        c, a, b, f, d, e = map(float, str(grid.get("GeoTransform", "")).split())
        wkt = str(grid["crs_wkt"]) if "crs_wkt" in grid else None
        units = units_of(None if wkt is None else system_of(wkt))
    except ValueError:
        return None
    return Georeference(wkt, (a, b, c, d, e, f), units=units)


MOST_BANDS = 16
"""An axis that is no longer than this may be that of the bands."""
_PICTURES = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N", "F", "RGB", "RGBA"}
"""Modes of PIL whose values are those of the picture; all others are converted to RGB(A)."""


def as_array(source: Any) -> Any:
    """Return `source` with ``shape`` and ``dtype``, in the order (H, W) or (H, W, C).

    PIL images, torch tensors (C, H, W) or (1, C, H, W), and whatever else numpy takes; arrays and
    lists of levels as they are. Raises `UnreadableImage`.
    """
    if isinstance(source, (list, tuple)):
        return [as_array(level) for level in source]
    if hasattr(source, "getbands") and hasattr(source, "mode"):
        return _of_picture(source)
    if hasattr(source, "detach") and hasattr(source, "permute"):
        return _of_tensor(source)
    if hasattr(source, "__array__") and not (hasattr(source, "shape") and hasattr(source, "dtype")):
        return np.asarray(source)
    return source


def _of_picture(picture: Any) -> Any:
    mode, info = picture.mode, getattr(picture, "info", {})
    if mode not in _PICTURES:
        clear = mode in ("PA", "La", "RGBa") or "transparency" in info
        picture = picture.convert("RGBA" if clear else "RGB")
    return np.asarray(picture)


def _of_tensor(tensor: Any) -> Any:
    """Return (H, W) or (H, W, C) on the CPU of a tensor, whose three axes are (C, H, W) as in torch."""
    shape = tuple(tensor.shape)
    if len(shape) == 4:
        if shape[0] != 1:
            raise UnreadableImage(
                f"A tensor of shape {shape} contains {shape[0]} images.",
                "Give one of them, for instance tensor[0].",
            )
        tensor, shape = tensor[0], shape[1:]
    bands_last = len(shape) == 3 and shape[2] <= MOST_BANDS < shape[0]
    if len(shape) == 3 and not bands_last:
        tensor = tensor.permute(1, 2, 0)
    tensor = tensor.detach().cpu()
    # numpy has no bfloat16.
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
