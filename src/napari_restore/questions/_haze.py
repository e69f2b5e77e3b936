"""What is asked of pairs of hazy and clear images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from napari_restore.questions import parsing
from napari_restore.questions._field import asked
from napari_restore.questions._types import Pathlike


@dataclass(frozen=True)
class HazePairs:
    """The haze of pairs, and which images they are of; see docs/training.md."""

    spectrum: str = asked(
        "octaves",
        "spatial structure: octaves, power, thin-cloud, even, fine, filaments, plumes, billows",
        changes="answer",
        metavar="NAME",
    )
    seed: int = asked(
        0, "random seed of the haze", changes="answer", parse=parsing.count, metavar="N"
    )
    scene: Literal["auto", "aerial", "natural"] = asked(
        "auto",
        "aerial: haze is a layer; natural: it grows with distance; auto (default): by the "
        "index, the folder's name or a georeference",
        changes="answer",
        choices=("auto", "aerial", "natural"),
    )
    strength: Sequence[float] = asked(
        (0.35, 0.92),
        "range of exp(-mean optical depth) (default 0.35 0.92); for natural scenes see "
        "docs/training.md",
        changes="answer",
        parse=parsing.number,
        metavar=("LOW", "HIGH"),
        nargs=2,
        keyword="Sequence[float] | None",
    )
    depth: Pathlike | None = asked(
        None,
        "distances of natural scenes: files of one band with the same stems; 0 is unknown",
        changes="answer",
        metavar="DIR",
    )
    size: int | None = asked(
        None,
        "reduce larger images to N pixels along the longer side",
        changes="answer",
        parse=parsing.natural,
        metavar="N",
    )
    bands: str | None = asked(
        None,
        "bands of files without colour information, counted from 1: red=3,green=2,blue=1",
        changes="answer",
        metavar="ROLE=N[,…]",
    )
    split: str | None = asked(
        None, "use only this split of an index", changes="answer", metavar="NAME"
    )
