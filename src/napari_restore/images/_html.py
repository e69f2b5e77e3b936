"""A thumbnail and the main facts as HTML, for notebooks. Everything is escaped: files may be strangers'."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import RestoreError, escape_controls
from napari_restore.images._base import ImageBase
from napari_restore.images._georeference import crs_name
from napari_restore.questions import colours_of

SIDE = 256
"""Pixels of a thumbnail's longer side."""
MOST_PIXELS = 2**22
"""Pixels of a level that is read for one."""
QUICK = 2**26
"""Pixels of an image whose levels are built for one."""
LONGEST = 200
"""Characters that are shown of a text in a file."""
Read = Callable[[tuple[int, int, int, int], int], npt.NDArray[Any]]


def html_of(
    title: str,
    facts: Mapping[str, Any],
    picture: npt.NDArray[np.uint8] | None = None,
    text: str = "",
    below: str = "",
) -> str:
    """Return a table of `facts` under `title`, beside a `picture` (h, w, 3), and `text` as it is laid out.

    `below` the picture stands what its colours mean. Floats have six digits. All text is escaped.
    """
    rows = "".join(
        f"<tr><th style='text-align:left'>{_escaped(name)}</th>"
        f"<td style='text-align:left'>{_escaped(value)}</td></tr>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    lines = html.escape("\n".join(map(escape_controls, text.splitlines())))
    laid_out = f"<pre>{lines}</pre>" if text else ""
    image = ""
    if picture is not None:
        alt = _escaped(f"{title}, {below}" if below else title)
        image = f"<img alt='{alt}' src='data:image/png;base64,{_png(picture)}'>"
        if below:
            image = (
                f"<div style='max-width:{SIDE}px'>{image}<br><small>{_escaped(below)}</small></div>"
            )
    return (
        f"<div style='display:flex;gap:1em;align-items:flex-start'>{image}"
        f"<div><b>{_escaped(title)}</b><table>{rows}</table>{laid_out}</div></div>"
    )


def facts_of(image: ImageBase) -> dict[str, str]:
    """Return size, bands, map and nodata of an image, by what they are called."""
    size = f"{image.width} × {image.height} pixels, {image.bands} bands, {image.dtype}"
    names = [
        label or role or f"band {number}"
        for number, (label, role) in enumerate(
            zip(image.descriptions, image.roles, strict=True), start=1
        )
    ]
    place, pixel = image.georeference, None
    if place is not None and place.pixel_size is not None:
        unit = "" if place.units == "pixel" else f" {place.units}"
        pixel = "{1:g} × {0:g}".format(*place.pixel_size) + unit
    return {
        "size": size,
        "bands": ", ".join(names),
        "CRS": crs_name(image.crs) if image.crs else "",
        "pixel": pixel or "",
        "nodata": "" if image.nodata is None else f"{image.nodata:g}",
        "file": "" if image.path is None else str(image.path),
    }


def thumbnail(image: ImageBase, read: Read, levels: Mapping[int, tuple[int, int]]) -> Any:
    """Return (h, w, 3) uint8 of the coarsest of `levels`, (height, width) by number; None where large.

    `read` returns pixels (h, w, C) of a box (y0, x0, y1, x1) of a level.
    """
    level = max(levels)
    height, width = levels[level]
    if height * width > MOST_PIXELS:
        return None
    try:
        pixels = read((0, 0, height, width), level)
    except RestoreError:
        # What it is about is shown all the same.
        return None
    step = max(1, -(-max(height, width) // SIDE))
    pixels = pixels[::step, ::step]
    bands = list(colours_of(image.roles) or 3 * (image.data_bands[:1] or (0,)))
    shown = pixels[..., bands].astype(np.float64)
    if image.dtype == np.uint8:
        return shown.astype(np.uint8)
    nodata = np.nan if image.nodata is None else image.nodata
    values = shown[np.isfinite(shown) & (shown != nodata)]
    low, high = np.percentile(values, (1, 99)) if values.size else (0.0, 1.0)
    scaled = np.nan_to_num((shown - low) / max(high - low, 1e-12), nan=0.0)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def picture_of(image: ImageBase) -> npt.NDArray[np.uint8] | None:
    """Return a thumbnail (h, w, 3); None where the image is large, and no level of it is built."""
    shapes = dict(enumerate(image.level_shapes))
    if image.height * image.width > QUICK:
        shapes = {number: shape for number, shape in shapes.items() if image.is_built(number)}
    return thumbnail(image, image.read, shapes) if shapes else None


def image_html(image: ImageBase) -> str:
    """Return thumbnail and facts of an image; reads only levels that are there."""
    shapes = image.level_shapes
    built = {n: shapes[n] for n in range(len(shapes)) if image.is_built(n)}
    # Reading others would decode the whole file first.
    is_there = bool(built) and image.source.random_access
    picture = thumbnail(image, image.read_landed, built) if is_there else None
    return html_of(image.name, facts_of(image), picture)


def _escaped(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    short = text if len(text) <= LONGEST else text[:LONGEST] + " …"
    return html.escape(escape_controls(short))


def _png(picture: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()
