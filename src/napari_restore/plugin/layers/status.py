"""The status bar over maps: labelled coordinates of the map, and values by the names of bands."""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_restore.errors import escape_controls
from napari_restore.plugin.layers.display import SHOWN_BANDS, Display, shown_bands
from napari_restore.plugin.layers.layer_order import SOURCE
from napari_restore.plugin.layers.placing import ORIGIN

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.images import Image

VALUE = "napari_restore_value"
"""In a layer's metadata: what its one value is called ("NDVI"), or its words by value."""
UNITS = {"metre": "m", "degree": "°", "foot": "ft", "US_survey_foot": "ft (US survey)"}
LONGEST = 24
"""Characters of a name in a file that are shown."""
SIDE = 14
"""Characters of a layer's name that are shown of its beginning and of its end."""
MOST = 6
"""Bands whose values are shown."""


def label_places_in(viewer: ViewerModel) -> None:
    """Write map coordinates and values into the status bar of `viewer` from now on."""
    # napari 0.9 writes its world's (y, x) there, which begins near an image's corner, and computes
    # it on a thread of its own: here it is replaced when it arrives.
    viewer.events.status.connect(partial(_on_status, weakref.ref(viewer)), position="last")


def _on_status(seen: weakref.ref[ViewerModel], event: Any) -> None:
    viewer, status = seen(), event.value
    # napari's for one layer is a dict; for several selected ones the text has this mark.
    is_place = isinstance(status, dict) or (isinstance(status, str) and " » " in status)
    if viewer is None or not is_place or viewer.dims.ndisplay != 2:
        return
    if {viewer.cursor.position[axis] for axis in viewer.dims.displayed} <= {0.0, 1.0}:
        # napari's first ones: the pointer was nowhere yet.
        viewer.status = "Ready"
        return
    layer = viewer.layers.selection.active
    text = None if layer is None else place_text(viewer, layer, viewer.cursor.position)
    if text is None:
        return
    shown: Any = text
    if isinstance(status, dict):
        # napari lets a long name push the values out of the window.
        name = str(status.get("layer_base", ""))
        short = name if len(name) <= 2 * SIDE else f"{name[:SIDE]}…{name[-SIDE:]}"
        shown = {**status, "layer_base": short, "plugin": "", "source_type": ""}
        shown |= {"coords": text, "coordinates": text, "value": ""}
    if shown != status:
        viewer.status = shown


def place_text(viewer: ViewerModel, layer: Layer, position: Any) -> str | None:
    """Return coordinates and values at `position`, in world coordinates; None beside maps."""
    own = _map_of(viewer, layer)
    if own is None or str(layer.units[-1]) == "pixel":
        return None
    image: Image = own.metadata["napari_restore"]
    place = image.georeference
    assert place is not None
    # By its pixels: the window's map may be in another coordinate system.
    y, x = (place.to_napari_affine() @ [*own.world_to_data(position)[-2:], 1])[:2]
    unit = UNITS.get(place.units, "")
    space = "" if unit in ("°", "") else " "
    pixel = min(place.pixel_size or (1.0, 1.0))
    digits = max(0, math.ceil(-math.log10(pixel)) + 1) if pixel > 0 else 0
    names = axis_names(image.crs)
    parts = [
        f"{name} {value:,.{digits}f}{space}{unit}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        for name, value in zip(names, (x, y), strict=True)
    ]
    return ", ".join(parts) + _values(viewer, layer, image, position)


def axis_names(crs: str | None) -> tuple[str, str]:
    """Return the names of a map's x and y, from WKT: ``("Easting", "Northing")``."""
    # GDAL gives coordinates in the order east, north, whatever order the system itself has.
    axes = re.findall(r'AXIS\["([^"]*)",\s*([A-Za-z]+)', crs or "")
    flat = [(n, way.lower()) for n, way in axes if way.lower() not in ("up", "down")][:2]
    if len(flat) < 2:
        return "x", "y"
    if flat[0][1] in ("north", "south") and flat[1][1] in ("east", "west"):
        flat.reverse()
    first, second = (_name_of_axis(name) for name, _ in flat)
    return first, second


def _name_of_axis(name: str) -> str:
    # WKT 2 has "geodetic latitude (Lat)", "easting (E)", or only "(E)".
    words = re.sub(r"\s*\([^)]*\)$|^geodetic ", "", name, flags=re.IGNORECASE).strip()
    words = words or {"(E)": "easting", "(N)": "northing"}.get(name, name)
    return _short(words[:1].upper() + words[1:])


def _map_of(viewer: ViewerModel, layer: Layer) -> Layer | None:
    """Return the layer of the image on whose map `layer` lies."""
    known = {each.unique_id: each for each in viewer.layers if ORIGIN in each.metadata}
    own = known.get(layer.metadata.get(SOURCE, layer.unique_id))
    if own is None:
        # A layer of others lies on the map of the images, where that is one.
        crs = {each.metadata["napari_restore"].crs for each in known.values()}
        own = next(iter(known.values())) if len(crs) == 1 else None
    return own


def _values(viewer: ViewerModel, layer: Layer, image: Image, position: Any) -> str:
    """Return the values of the level that is shown, with the names of the bands."""
    from napari.layers import Image as ImageLayer, Labels

    if not isinstance(layer, (ImageLayer, Labels)):
        # That of others is the number of what is drawn there.
        return ""
    found = layer.get_value(
        position, view_direction=None, dims_displayed=list(viewer.dims.displayed), world=True
    )
    level, value = found if layer.multiscale and isinstance(found, tuple) else (0, found)
    if value is None:
        return ""
    words = layer.metadata.get(VALUE)
    if isinstance(words, dict):
        return f"  ·  {words[int(value)]}" if int(value) in words else ""
    if not (layer.metadata.get(SOURCE) or "napari_restore" in layer.metadata):
        return f"  ·  {_short(str(value))}"
    names = _names(viewer, layer, image)
    numbers = np.atleast_1d(np.asarray(value))[: len(names)]
    shown = ", ".join(
        f"{name} {_number(number)}" for name, number in zip(names, numbers, strict=False)
    )
    is_clear = np.shape(value) == (4,) and not value[3]
    if is_clear or not shown:
        return ""
    factor = round(float(max(layer.downsample_factors[level][-2:]))) if level else 1
    return f"  ·  {shown}" + (f" (at 1:{factor})" if factor > 1 else "")


def _names(viewer: ViewerModel, layer: Any, image: Image) -> list[str]:
    """Return the names of the values of a layer at a pixel; alpha has none."""
    if VALUE in layer.metadata:
        return [_short(str(layer.metadata[VALUE]))]
    if not ({"napari_restore", SHOWN_BANDS} & layer.metadata.keys()):
        # A map over the image; the colours of one are no values.
        return [] if getattr(layer, "rgb", False) else ["value"]
    numbers: Sequence[int] = range(image.bands)
    if layer.rgb:
        numbers = shown_bands(layer, image)[:3]
    elif layer.ndim == Display.BANDS.ndim:
        numbers = (int(np.clip(viewer.dims.current_step[0], 0, image.bands - 1)),)
    return [_band_name(image, number) for number in numbers[:MOST]]


def _band_name(image: Image, number: int) -> str:
    label, role = image.descriptions[number], image.roles[number]
    if label and role and role not in label.lower():
        return f"{_short(label)} ({role})"
    return _short(label) if label else role or f"band {number + 1}"


def _short(text: str) -> str:
    """Return text of a file for a label, which takes tags for markup."""
    plain = escape_controls(text).replace("<", "‹")
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"


def _number(value: Any) -> str:
    return f"{value:.4g}" if np.asarray(value).dtype.kind == "f" else str(value)
