"""Opens the masks that users name: rasters, GeoJSON and WKT, in files or as text."""

from __future__ import annotations

from pathlib import Path

from napari_restore.engine.masks._gradient import GradientMask
from napari_restore.engine.masks._mask_level import mask_at_level
from napari_restore.engine.masks._mask_strength import (
    MaskStrength,
    PolygonMask,
    RasterMask,
    feathered,
)
from napari_restore.images import Image, is_inline, open_image, read_gradient, read_polygons


def open_mask(mask: str | Path, image: Image, feather: int = 0) -> MaskStrength:
    """Return the strengths of `mask`: a raster, or polygons or one line of two points.

    Polygons and line are in a GeoJSON file, or `mask` is itself GeoJSON or WKT.

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
        strength = RasterMask(open_image(path), image)
    return feathered(strength, feather, image)


def _drawn_mask(source: Path | str, image: Image) -> MaskStrength:
    """Return the polygons of a file or text, or the gradient of its one line of two points."""
    line = read_gradient(source, image)
    if line is not None:
        return GradientMask(line[0], line[1], (image.height, image.width))
    return PolygonMask(read_polygons(source, image), image.height, image.width)
