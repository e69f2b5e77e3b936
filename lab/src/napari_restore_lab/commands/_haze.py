"""`haze`: pairs of hazy and clear images of the same scenes."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import napari_restore_lab
from napari_restore.extension import (
    Cancelled,
    CommandResult,
    InputError,
    Interrupt,
    Stop,
    add_options,
    escape_controls,
    given,
    options_of,
    parsing,
    reporter,
)
from napari_restore_lab._questions import HazePairs


def add(parser: Any) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=haze)
    parser.add_argument(
        "source", metavar="DIR", help="clear images: a folder, or an index (INDEX.csv)"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="a new folder: hazy/, clear/, truth/, haze.json, contact.jpg",
    )
    add_options(parser, HazePairs)
    # A spectrum must be named; without a strength it is that of the kind of scene.
    parser.set_defaults(spectrum=None, strength=None)
    parser.add_argument(
        "--training",
        type=parsing.natural,
        metavar="N",
        help="write a contact sheet of N training crops instead of pairs",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier output of this command"
    )


def haze(options: Namespace) -> CommandResult:
    """Write pairs, or a contact sheet of training crops."""
    if options.training is None and options.spectrum is None:
        raise InputError(
            "The distribution of the haze is missing.",
            "Add --spectrum, for instance --spectrum octaves.",
        )
    try:
        with Interrupt() as interrupt, interrupt.watching(Stop()) as stop:
            record = napari_restore_lab.haze(
                options.source,
                options.output,
                **given(options, options_of(HazePairs)),
                training=options.training,
                overwrite=options.overwrite,
                emit=reporter(options.progress),
                cancelled=stop.is_set,
            )
    except KeyboardInterrupt:
        raise Cancelled("Stopped.", "Nothing was written.") from None
    made = (
        f"{len(record['pictures'])} pairs"
        if "pictures" in record
        else f"{record['training']} crops"
    )
    return CommandResult(
        record, f"wrote {made} to {escape_controls(options.output)}", wrote_files=True
    )
