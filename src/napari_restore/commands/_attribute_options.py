"""The options of `attribute` for target, method and objective."""

from __future__ import annotations

import argparse
from argparse import Namespace
from typing import Any

from napari_restore._options import (
    CHECK,
    CONTEXT_GRADIENTS,
    ROUTINGS,
    AttributionOptions,
    MethodSettings,
    names_of,
)
from napari_restore.commands import _values
from napari_restore.commands._arguments import context_of
from napari_restore.commands._options import given
from napari_restore.errors import BadParameter


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
        type=_values.number,
        metavar="X Y",
        help="a polygon instead of a box: three vertices or more",
    )
    place.add_argument(
        "--boxes",
        metavar="CSV",
        help="a table of boxes: columns x, y, width, height and optionally name and image",
    )
    group.add_argument(
        "--method",
        metavar="NAME",
        help="path integrals: haze (growing haze; default for dehazing models), ig (from a "
        "baseline; default for others, of brackets for their mean), lam (from a blur), dam (from a clear image); "
        "lam-2021, dam-paper, dam-released: as published; without a path: smoothgrad, "
        "occlusion, captum:NAME",
    )
    group.add_argument(
        "--argument",
        action="append",
        dest="arguments",
        default=[],
        type=_values.assignment,
        metavar="NAME=VALUE",
        help="a setting of a method without a path; may be repeated",
    )
    group.add_argument(
        "--objective",
        metavar="NAME",
        help="scalar D of the box: change, mean, sum, channel:N, gradient, mean+variance "
        "(default: the method's)",
    )
    group.add_argument(
        "--baseline",
        metavar="NAME|FILE",
        help="start of a straight path: blur, zero, output, dehazed, or a clear image; of a bracket "
        "zero (default), blur, or reference in place of every frame",
    )
    group.add_argument(
        "--steps",
        default=None,
        metavar="auto|N",
        help="points of the path; auto: 9 to 65, until --gap is reached (default: the method's)",
    )
    group.add_argument(
        "--rule",
        metavar="NAME",
        help="quadrature for --steps N: gauss-legendre (default), middle, left, right, trapezoid",
    )
    group.add_argument(
        "--context-gradient",
        choices=CONTEXT_GRADIENTS,
        default=MethodSettings.context_gradient,
        help="how the gradient treats the context, the model's statistics of the whole image. stop: "
        "as a constant. through: it goes through the overview. auto (default): through, if the model "
        "allows it and it is predicted to add less than ten seconds on two cores. The choice does "
        "not depend on the machine; the record states it",
    )
    group.add_argument(
        "--routing",
        choices=ROUTINGS,
        help="selection of experts and tokens in a network: fixed to that of the image (default), so "
        "that the model is smooth along the path, or recomputed at every point",
    )
    group.add_argument(
        "--level",
        type=int,
        default=0,
        metavar="N",
        help="use level N of the image's pyramid instead of full resolution (0); boxes stay in "
        "full-resolution pixels",
    )
    group.add_argument(
        "--gap",
        type=_values.number,
        default=MethodSettings.gap,
        metavar="SHARE",
        help=f"completeness gap at which --steps auto stops (default {MethodSettings.gap})",
    )
    group.add_argument(
        "--check",
        choices=(CHECK,),
        help="test whether the map ranks pixels better than chance: D while the top-ranked ones "
        "are inserted and deleted",
    )


def attribute_options(options: Namespace) -> dict[str, Any]:
    """Return the options as keywords of `nr.attribute`, except for the target."""
    from napari_restore import api

    return given(options, names_of(AttributionOptions)) | {
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
