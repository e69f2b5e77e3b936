"""`info`: description of an image and how it is read, in the manner of gdalinfo and `rio info`."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from napari_restore import api
from napari_restore._format import columns
from napari_restore.commands._arguments import open_image
from napari_restore.commands._flags import with_flags
from napari_restore.commands._options import RANGE, add_options, add_source
from napari_restore.commands._result import CommandResult
from napari_restore.errors import escape_controls
from napari_restore.questions import Reading

NONE = "-"
FROM = {
    "user": "--sensor",
    "file": "--sensor",
    "names of the bands": "the names of the bands",
    "name of the file": "the name of the file",
    "tags": "its tags",
}
LABEL = 13
"""Width in characters of the labels."""


def add_info(parser: argparse.ArgumentParser) -> None:
    """Add the options of `info`."""
    parser.set_defaults(run=info, computes=False)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="the image (several with --stack)")
    add_source(parser)
    add_options(parser, Reading, *RANGE)


def info(options: Namespace) -> CommandResult:
    """Describe an image and how it is read."""
    # What is asked is what the file has: it may be a stack.
    image = open_image(options, options.paths, plane=options.plane or 0)
    data = api.info(image, black=options.black, white=options.white)
    return CommandResult(data, info_text(data))


def info_text(data: Mapping[str, Any]) -> str:
    """Format the dict of `api.info`: size, georeference, levels, values, a table of bands, notes."""
    data = _escaped(with_flags(data))
    height, width = data["size"]
    count = len(data["bands"])
    lines = [
        f"{data['path'] or data['name']}",
        _field("format", ", ".join(filter(None, (data["format"], data["compression"])))),
        _field("size", f"{width} × {height} pixels, {_counted(count, 'band')}, {data['dtype']}"),
        *_planes(data),
        *_place(data),
        _field("levels", _levels(data)),
        _field("read", f"{data['read']}, in chunks of {_size(data['chunk'])}"),
        *_values(data),
        *_acquisition(data["acquisition"]),
        *_camera(data),
        "",
        _bands(data["bands"]),
        *_advice(data),
    ]
    lines += [f"note: {note}" for note in data["notes"]]
    return "\n".join(lines)


def _escaped(value: Any) -> Any:
    """Escape control characters in all strings of `value`, as they come from a file."""
    if isinstance(value, str):
        return escape_controls(value)
    if isinstance(value, Mapping):
        return {escape_controls(str(key)): _escaped(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(each) for each in value]
    return value


def _field(label: str, value: str) -> str:
    return f"{label:<{LABEL}}{value}"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" + ("s" if count != 1 else "")


def _size(shape: Sequence[int]) -> str:
    """Format (height, width) as width × height."""
    return f"{shape[1]} × {shape[0]}"


def _planes(data: Mapping[str, Any]) -> list[str]:
    axes = data["planes"]
    if not axes:
        return []
    named = " × ".join(f"{name} {length}" for name, length in axes)
    return [_field("planes", f"{named}, this is plane {data['plane']}")]


def _place(data: Mapping[str, Any]) -> list[str]:
    if data["crs"] is None and data["transform"] is None:
        points = data["gcps"] or data["rpcs"]
        return [] if points else [_field("place", "not placed on a map")]
    units = "" if data["units"] == "pixel" else f" {data['units']}"
    lines = [_field("CRS", data["crs_name"] or "unknown")]
    if data["transform"] is not None:
        _, b, c, d, _, f = data["transform"]
        down, along = data["pixel_size"]
        turned = "" if b == d == 0 else ", rotated"
        lines += [
            _field("origin", f"{c!r}, {f!r}"),
            _field("pixel size", f"{along!r} × {down!r}{units}{turned}"),
        ]
        left, bottom, right, top = data["bounds"]
        lines.append(
            _field("bounds", f"left {left!r}, bottom {bottom!r}, right {right!r}, top {top!r}")
        )
    if data["gcps"]:
        lines.append(_field("GCPs", str(data["gcps"])))
    if data["rpcs"]:
        lines.append(_field("RPCs", "yes"))
    if data["area_or_point"] == "Point":
        lines.append(_field("pixel is", "a point"))
    return lines


def _levels(data: Mapping[str, Any]) -> str:
    stored = data["stored_levels"]
    all_stored = stored == len(data["levels"])
    stored_text = "" if all_stored else f" ({stored} in the file, the others are made once)"
    return ", ".join(map(_size, data["levels"])) + stored_text


def _values(data: Mapping[str, Any]) -> list[str]:
    blacks = data["black"]
    black = f"{blacks[0]:g}" if len(set(blacks)) == 1 else ", ".join(f"{v:g}" for v in blacks)
    white = "unknown" if data["white"] is None else f"{data['white']:g}"
    nodata = NONE if data["nodata"] is None else _number(data["nodata"])
    marks = {"bands": "nodata or mask of each band"}.get(data["masks"], data["masks"])
    masked = "" if marks in ("none", "nodata") else f", validity by {marks}"
    lines = [
        _field("nodata", nodata + masked),
        _field("black", f"{black} ({data['black_reason']})"),
        _field("white", f"{white} ({data['white_reason']})"),
    ]
    if (product := data["product"]) is not None:
        lines.append(_field("sensor", f"{product['title']} (from {FROM[product['from']]})"))
    elif data["sensor"]:
        lines.append(_field("sensor", data["sensor"]))
    if data["colour_profile"]:
        lines.append(_field("colours", "ICC profile"))
    return lines


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"


def _acquisition(data: Mapping[str, Any]) -> list[str]:
    """Return when and how a scene was taken, as far as its tags say."""
    taken = " ".join(filter(None, (data["time"], data["platform"])))
    clouds, angles = data["cloud_cover"], {n: data[f"sun_{n}"] for n in ("azimuth", "elevation")}
    sun = [f"{name} {value:.5g}°" for name, value in angles.items() if value is not None]
    fields = {
        "taken": taken,
        "sun": ", ".join(sun),
        "clouds": "" if clouds is None or not 0 <= clouds <= 100 else f"{clouds:g} %",
    }
    return [_field(label, value) for label, value in fields.items() if value]


def _camera(data: Mapping[str, Any]) -> list[str]:
    fields = [f"{name} {value}" for name, value in data["exif"].items() if value]
    return [_field("EXIF", ", ".join(fields))] if fields else []


def _bands(bands: Sequence[Mapping[str, Any]]) -> str:
    """Format a table of bands, without empty columns."""
    names = {
        "number": "band", "role": "role", "kind": "kind", "wavelength_nm": "nm", "zero": "zero",
        "from": "from", "description": "description",
    }  # fmt: skip
    always = ("number", "kind", "role")
    kept = [n for n in names if n in always or any(b[n] not in (None, 0) for b in bands)]
    rows = [[names[name] for name in kept]]
    rows += [[_cell(band[name]) for name in kept] for band in bands]
    return columns(rows, left=True)


def _cell(value: Any) -> str:
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _advice(data: Mapping[str, Any]) -> list[str]:
    """Return advice on bands without roles."""
    if data["advice"] is None:
        return []
    return ["", f"Which band is red, green and blue is unknown. {data['advice']}"]
