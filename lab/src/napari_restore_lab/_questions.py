"""What is asked of an evaluation, and of pairs of hazy and clear images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from napari_restore.extension import Pathlike, asked, parsing

SceneKind = Literal["aerial", "natural"]
Degradation = Literal["haze", "noise", "lowlight", "bracket", "size"]


@dataclass(frozen=True)
class Evaluate:
    """Settings of an evaluation, beside models and pairs; see `napari_restore_lab.evaluate`."""

    data: Pathlike | None = asked(
        None,
        "clear images, to which haze is added: an INDEX.csv or a folder",
        changes="answer",
        metavar="INDEX|DIR",
    )
    degradation: Degradation = asked(
        "haze",
        "what clear images are degraded by (default %(default)s; size for models whose results are "
        "larger than their input)",
        changes="answer",
        choices=get_args(Degradation),
    )
    level: float | None = asked(
        None,
        "standard deviation of noise in 255ths (default 15, 25 and 50), by what factor there is "
        "too little light (default 5 and 12), the steps of a bracket in EV (default 2), or the "
        "scale of results (default that of the models)",
        changes="answer",
        parse=parsing.number,
        metavar="N",
    )
    split: str = asked("dev", "split of the index (default %(default)s)", changes="answer")
    spectrum: str = asked(
        "plumes", "spectrum of the haze (default %(default)s)", changes="answer", metavar="NAME"
    )
    seed: int = asked(
        7,
        "random seed of the haze (default %(default)s)",
        changes="answer",
        parse=parsing.count,
        metavar="N",
    )
    scene: SceneKind | None = asked(
        None,
        "only scenes of this kind (default both)",
        changes="answer",
        choices=get_args(SceneKind),
    )
    longest: int | None = asked(
        1024,
        "reduce clear images to N pixels a side (default %(default)s)",
        changes="answer",
        parse=parsing.natural_or_whole,
        metavar="N|whole",
    )
    keep: bool = asked(False, "write hazy/ and clear/ into DIR", changes="file")
    bands: str | None = asked(
        None, "roles of the bands of pairs, counted from 1", changes="answer", metavar="ROLE=N[,…]"
    )
    output: Pathlike | None = asked(
        None,
        "write scores.csv, summary.json and strips/ here; the same command "
        "resumes an interrupted evaluation",
        changes="file",
        has_flag=False,
    )
    baselines: bool = asked(
        True,
        "leave out the classical methods: dcp (omega 0.95 and 0.85) and hot under haze, mertens of "
        "brackets, bicubic for results of another size",
        changes="answer",
    )
    metrics: Sequence[str] = asked(
        ("psnr", "ssim", "ciede2000"),
        "also psnr_y, ssim_y, psnr_matched (whatever the tones), and of brackets psnr_clipped, "
        "mef_ssim, mef_ssim_dynamic; the first one ranks the models",
        changes="answer",
        has_flag=False,
    )
    clear: bool = asked(
        False, "also score how much models change the clear images themselves", changes="answer"
    )
    strips: int = asked(
        3,
        "write strips of the N worst, median and best images (default %(default)s)",
        changes="file",
        parse=parsing.count_or_all,
        metavar="N|all",
    )


@dataclass(frozen=True)
class HazePairs:
    """The haze of pairs, and which images they are of; see docs/training/haze.md."""

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
        "docs/training/haze.md",
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
