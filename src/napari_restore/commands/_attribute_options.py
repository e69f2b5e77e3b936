"""The options of `attribute` for target, method and objective."""

from __future__ import annotations

import argparse
from argparse import Namespace
from typing import Any

from napari_restore.commands._arguments import context_of
from napari_restore.commands._options import add_options, given
from napari_restore.errors import BadParameter
from napari_restore.questions import Attribute, Machine, Reading, options_of, parsing


def add_attribute_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for target, method and objective."""
    group = parser.add_argument_group("attribution")
    place = group.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--box",
        nargs=4,
        type=int,
        metavar=("X", "Y", "WIDTH", "HEIGHT"),
        help="the attribution target: a box of the result in pixels, origin top left",
    )
    place.add_argument(
        "--polygon",
        nargs="+",
        type=parsing.number,
        metavar="X Y",
        help="a polygon instead of a box: three vertices or more",
    )
    place.add_argument(
        "--boxes",
        metavar="CSV",
        help="a table of boxes: columns x, y, width, height and optionally name and image",
    )
    add_options(group, Attribute)
    group.add_argument(
        "--argument",
        action="append",
        dest="arguments",
        default=[],
        type=parsing.assignment,
        metavar="NAME=VALUE",
        help="a setting of a method without a path; may be repeated",
    )
    group.add_argument(
        "--level",
        type=int,
        default=0,
        metavar="N",
        help="use level N of the image's pyramid instead of full resolution (0); boxes stay in "
        "full-resolution pixels",
    )


def attribute_options(options: Namespace) -> dict[str, Any]:
    """Return the options as keywords of `nr.attribute`, except for the target."""
    from napari_restore import api

    return given(options, options_of(Attribute, Reading, Machine)) | {
        "arguments": {name: api.argument_value(value) for name, value in options.arguments},
        "context": context_of(options),
        "level": options.level,
    }


def polygon_of(options: Namespace) -> list[tuple[float, float]] | None:
    """Return the vertices (y, x) of --polygon; raises `BadParameter` for an odd count."""
    if options.polygon is None:
        return None
    if len(options.polygon) % 2:
        raise BadParameter(
            "--polygon has an odd number of coordinates.", "Write X and Y of each vertex in turn."
        )
    return list(zip(options.polygon[1::2], options.polygon[::2], strict=True))
