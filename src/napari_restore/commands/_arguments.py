"""From options to what the Python interface takes."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_restore.commands._outputs import SHARED
from napari_restore.commands._values import WHOLE
from napari_restore.errors import BadModel, BadRegion, InputError


def open_image(options: Namespace, paths: Sequence[str]) -> Any:
    """The one image that `paths` are."""
    from napari_restore import api

    if len(paths) > 1 and not options.stack:
        raise InputError(
            f"{len(paths)} images were given, but this takes one.",
            "Add --stack if they are the bands of one image.",
        )
    source = list(paths) if options.stack else paths[0]
    return api.open_image(
        source,
        stack=options.stack,
        bands=options.bands,
        sensor=options.sensor,
        allow_outside=options.allow_outside,
    )


def load_model(options: Namespace) -> Any:
    """The model; code of the user's own runs only after a yes."""
    from napari_restore import api

    return api.load_model(
        options.model,
        weights=options.weights,
        parameters=dict(options.set),
        trust=trusted([options.model], yes=options.yes),
    )


def load_models(options: Namespace) -> list[Any]:
    """The models of a --model that may be repeated, each with a label."""
    from napari_restore import api

    return api.load_models(
        options.models,
        weights=options.weights,
        parameters=dict(options.set),
        trust=trusted(options.models, yes=options.yes),
    )


def trusted(models: Sequence[str], *, yes: bool) -> bool:
    """Whether code of the user's own among `models` may run: by --yes, or a yes at the terminal.

    Raises `BadModel`.
    """
    from napari_restore import api

    foreign = [file for file in map(api.code_file, models) if file is not None]
    if yes or not foreign:
        return yes
    files = ", ".join(foreign)
    if not ask(f"Run the code in {files}?"):
        raise BadModel(f"The code in {files} was not run.", "Add --yes if you trust its author.")
    return True


def trusted_record(recorded: Any, options: Namespace) -> bool:
    """Whether code that a record, a `RecordFile`, names may run: it may come from anybody.

    Raises `BadModel`.
    """
    return trusted(recorded.models, yes=options.yes)


def plan_arguments(options: Namespace, image: Any) -> dict[str, Any]:
    """The options as keywords of `nr.plan`."""
    if options.feather and options.mask is None:
        raise InputError(
            "--feather softens the edge of a mask, and there is none.",
            "Give one with --mask, or leave --feather out.",
        )
    tile = max(image.height, image.width) if options.tile == WHOLE else options.tile
    return {
        "region": region_of(options, image),
        "mask": options.mask,
        "feather": options.feather,
        "exclude": options.exclude,
        "strength": options.strength,
        "luminance_only": options.luminance_only,
        "protect_shadows": options.protect_shadows,
        "protect_highlights": options.protect_highlights,
        "other_bands": options.other_bands,
        "black": options.black,
        "white": options.white,
        "memory": options.memory,
        "device_memory": options.device_memory,
        "device": options.device,
        "tile": tile,
        "tile_batch": options.tile_batch,
        "extent": options.extent,
        "residuals": options.residuals,
        "residual_dtype": options.residual_dtype,
        "precision": options.precision,
        "scratch": options.scratch,
        "context": context_of(options),
    }


def context_of(options: Namespace) -> str | None:
    """The file of --context, for one image; None for words about several: it shares with nobody.

    Raises `InputError` where there is no such file.
    """
    given: str | None = options.context
    if given in SHARED:
        return None
    if given is not None and not Path(given).is_file():
        raise InputError(
            f"There is no context file {given}.", "Use first, joint or an existing file."
        )
    return given


def region_of(options: Namespace, image: Any) -> Any:
    """The boxes of pixels to restore; None for the whole image."""
    from napari_restore import api

    if options.srcwin is not None:
        return [api.Region.from_xywh(*box) for box in options.srcwin]
    if options.projwin is not None:
        return [api.Region(*box_of_projwin(options.projwin, image))]
    return None


def box_of_projwin(window: Sequence[float], image: Any) -> tuple[int, int, int, int]:
    """The pixels (y0, x0, y1, x1) between two corners (ulx, uly, lrx, lry) on the map.

    Edges go to the nearest pixel edge; in a rotated image it is the box around
    the window's four corners.
    """
    georeference = image.georeference
    if georeference is None or georeference.transform is None:
        raise BadRegion(
            f"{image.name} is not placed on a map, so --projwin has no meaning.",
            "Give the region in pixels with --srcwin.",
        )
    a, b, c, d, e, f = tuple(georeference.transform)[:6]
    determinant = a * e - b * d
    rows, columns = [], []
    for x in (window[0], window[2]):
        for y in (window[1], window[3]):
            columns.append((e * (x - c) - b * (y - f)) / determinant)
            rows.append((a * (y - f) - d * (x - c)) / determinant)
    return round(min(rows)), round(min(columns)), round(max(rows)), round(max(columns))


def ask(question: str) -> bool:
    """A yes from a person at a terminal; everything else is a no."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
