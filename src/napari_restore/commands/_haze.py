"""`haze`: pairs of hazy and clear images of the same scenes."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from napari_restore._options import HazeOptions, names_of
from napari_restore.commands import _values
from napari_restore.commands._interrupt import Interrupt, Stop
from napari_restore.commands._options import given
from napari_restore.commands._progress import reporter
from napari_restore.commands._result import CommandResult
from napari_restore.errors import InputError, escape_controls

PATIENCE = 60.0
"""Seconds after Ctrl-C to finish the present image."""


def add(parser: Any) -> None:
    """Add the arguments of the command."""
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
    parser.add_argument(
        "--spectrum",
        metavar="NAME",
        help="spatial structure: octaves, power, thin-cloud, even, fine, filaments, plumes, billows",
    )
    parser.add_argument(
        "--seed", type=_values.count, default=0, metavar="N", help="random seed of the haze"
    )
    parser.add_argument(
        "--scene",
        choices=("auto", "aerial", "natural"),
        default="auto",
        help="aerial: haze is a layer; natural: it grows with distance; auto (default): by the "
        "index, the folder's name or a georeference",
    )
    parser.add_argument(
        "--strength",
        nargs=2,
        type=_values.number,
        metavar=("LOW", "HIGH"),
        help="range of exp(-mean optical depth) (default 0.35 0.92); for natural scenes see "
        "docs/training.md",
    )
    parser.add_argument(
        "--depth",
        metavar="DIR",
        help="distances of natural scenes: files of one band with the same stems; 0 is unknown",
    )
    parser.add_argument(
        "--size",
        type=_values.natural,
        metavar="N",
        help="reduce larger images to N pixels along the longer side",
    )
    parser.add_argument(
        "--bands",
        metavar="ROLE=N[,…]",
        help="bands of files without colour information, counted from 1: red=3,green=2,blue=1",
    )
    parser.add_argument("--split", metavar="NAME", help="use only this split of an index")
    parser.add_argument(
        "--training",
        type=_values.natural,
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
    if options.training is not None:
        _check_training(options)
    with Interrupt(PATIENCE) as interrupt:
        from napari_restore import api

        stop = Stop()
        interrupt.watch(stop)
        try:
            record = api.haze(
                options.source,
                options.output,
                **given(options, names_of(HazeOptions)),
                training=options.training,
                overwrite=options.overwrite,
                emit=reporter(options.progress),
                cancelled=stop.is_set,
            )
        finally:
            interrupt.leave()
    made = (
        f"{len(record['pictures'])} pairs"
        if "pictures" in record
        else f"{record['training']} crops"
    )
    return CommandResult(
        record, f"wrote {made} to {escape_controls(options.output)}", wrote_files=True
    )


def _check_training(options: Namespace) -> None:
    """Raise `InputError` for options that have no effect on training crops."""
    requested = {
        "--spectrum": options.spectrum,
        "--scene": None if options.scene == "auto" else options.scene,
        "--strength": options.strength,
        "--depth": options.depth,
        "--size": options.size,
        "--bands": options.bands,
    }
    for name, value in requested.items():
        if value is not None:
            raise InputError(
                f"{name} has no effect on training crops.", f"Leave {name} or --training out."
            )
