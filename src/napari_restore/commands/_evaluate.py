"""`evaluate`: scores of models on pairs of hazy and clear images."""

from __future__ import annotations

import argparse
import shlex
from argparse import Namespace
from typing import Any, get_args

from napari_restore._format import format_seconds
from napari_restore._options import Degradation, EvaluateOptions, EvaluationSettings, names_of
from napari_restore.commands import _values
from napari_restore.commands._arguments import may_run_code
from napari_restore.commands._flags import with_flags
from napari_restore.commands._interrupt import Stop, interrupt_of
from napari_restore.commands._options import (
    add_cluster,
    add_option,
    add_range,
    add_resources,
    given,
)
from napari_restore.commands._progress import reporter
from napari_restore.commands._result import CommandResult
from napari_restore.commands._streams import write_error
from napari_restore.errors import escape_controls

LARGE = 16 * 2**20
"""Pixels of an image from which on its own progress is shown."""
_METRICS = ",".join(EvaluationSettings.metrics)
_ENGINE = ("memory", "device_memory", "device", "tile", "precision", "black", "white")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        dest="models",
        metavar="ID[:NAME=VALUE,…]",
        help="a model; NAME=VALUE sets a parameter, or weights=FILE, of this model; may be repeated",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="parameters",
        type=_values.assignment,
        metavar="NAME=VALUE",
        help="a parameter of every --model; may be repeated",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE|random:SEED",
        help="weights of the network, if there is one --model",
    )
    parser.add_argument(
        "--no-baselines",
        action="store_false",
        dest="baselines",
        help="leave out the classical methods: dcp (omega 0.95 and 0.85) and hot under haze, mertens of "
        "brackets",
    )
    parser.add_argument(
        "--yes", action="store_true", help="run the Python code of FILE.py without asking"
    )
    _add_pictures(parser)
    _add_scores(parser)
    _add_engine(parser)


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images (one of --pairs and --data)")
    group.add_argument(
        "--pairs",
        metavar="DIR|CSV",
        help="pairs: folders hazy and clear with the same names, RESIDE, O-HAZE, RICE, 8KDehaze, "
        "or a CSV table with the columns hazy, clear and optionally group",
    )
    group.add_argument(
        "--data",
        metavar="INDEX|DIR",
        help="clear images, to which haze is added: an INDEX.csv or a folder",
    )
    group.add_argument(
        "--degradation",
        choices=get_args(Degradation),
        default=EvaluationSettings.degradation,
        help="what clear images are degraded by (default haze)",
    )
    group.add_argument(
        "--level",
        type=_values.number,
        metavar="N",
        help="standard deviation of noise in 255ths (default 15, 25 and 50), by what factor there is "
        "too little light (default 5 and 12), or the steps of a bracket in EV (default 2)",
    )
    group.add_argument(
        "--split",
        default=EvaluationSettings.split,
        help=f"split of the index (default {EvaluationSettings.split})",
    )
    group.add_argument(
        "--spectrum",
        default=EvaluationSettings.spectrum,
        metavar="NAME",
        help=f"spectrum of the haze (default {EvaluationSettings.spectrum})",
    )
    group.add_argument(
        "--seed",
        type=_values.count,
        default=EvaluationSettings.seed,
        metavar="N",
        help=f"random seed of the haze (default {EvaluationSettings.seed})",
    )
    group.add_argument(
        "--scene", choices=("aerial", "natural"), help="only scenes of this kind (default both)"
    )
    group.add_argument(
        "--longest",
        type=_values.natural_or_whole,
        default=EvaluationSettings.longest,
        metavar="N|whole",
        help=f"reduce clear images to N pixels a side (default {EvaluationSettings.longest})",
    )
    group.add_argument("--keep", action="store_true", help="write hazy/ and clear/ into DIR")
    group.add_argument(
        "--bands", metavar="ROLE=N[,…]", help="roles of the bands of pairs, counted from 1"
    )


def _add_scores(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("scores")
    group.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="write scores.csv, summary.json, table.tex and strips/ here; the same command "
        "resumes an interrupted evaluation",
    )
    group.add_argument(
        "--metrics",
        default=_METRICS,
        metavar="NAME,…",
        help=f"default {_METRICS}; also psnr_y, ssim_y, psnr_matched (whatever the "
        "tones), and of brackets psnr_clipped, mef_ssim, mef_ssim_dynamic; the first one ranks the models",
    )
    group.add_argument(
        "--clear",
        action="store_true",
        help="also score how much models change the clear images themselves",
    )
    group.add_argument(
        "--strips",
        type=_strips,
        default=EvaluationSettings.strips,
        metavar="N|all",
        help=f"write strips of the N worst, median and best images (default {EvaluationSettings.strips})",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="also replace files that no evaluation wrote"
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    add_resources(group)
    add_option(group, "tile", type=_values.natural, metavar="N", help="side of a tile's core")
    add_option(group, "precision", choices=_values.FLOATS)
    add_range(group)
    add_cluster(group)


def evaluate(options: Namespace) -> CommandResult:
    """Score models; the exit code is that of the first image that failed."""
    stop = Stop()
    with interrupt_of(options) as interrupt:
        if options.cluster is not None:
            interrupt.watch(stop)
        from napari_restore import api

        report = reporter(options.progress)

        def run(planned: Any) -> Any:
            job = api.start(planned)
            interrupt.watch(job)
            # Only large images take long enough to show their own progress.
            is_large = planned.image.height * planned.image.width >= LARGE
            try:
                for event in job:
                    if is_large and type(event).__name__ == "Progress":
                        report(event)
                return job.result()
            finally:
                interrupt.leave()
                interrupt.check()

        engine: Any = given(options, _ENGINE)
        summary = api.evaluate(
            options.models,
            options.pairs,
            emit=report,
            run=run,
            extra={"command": shlex.join(["napari-restore", *options.argv])},
            options=engine,
            cluster=options.cluster,
            stop=stop,
            **_settings(options),
        )
    return _result(summary, api.scores_text(summary))


def _settings(options: Namespace) -> dict[str, Any]:
    """Return the options as keywords of `api.evaluate`."""
    return given(options, names_of(EvaluateOptions)) | {
        "longest": None if options.longest == _values.WHOLE else options.longest,
        "metrics": tuple(filter(None, map(str.strip, options.metrics.split(",")))),
        "parameters": dict(options.parameters),
        "trust": may_run_code(options.models, yes=options.yes),
    }


def _result(summary: dict[str, Any], table: str) -> CommandResult:
    failed = summary["evaluation"]["failed"]
    # One message per image, also with --progress off.
    for failure in failed:
        where = ", ".join(filter(None, (failure["group"], failure["image"], failure["method"])))
        sentence = f"{with_flags(failure['message'])} {with_flags(failure['hint'])}".strip()
        write_error(f"{where}: {sentence}")
    lines = [table] if summary["evaluation"]["n"] else []
    if summary.get("output"):
        lines.append(
            f"\nwrote {escape_controls(str(summary['output']))} in {format_seconds(summary['seconds'])}"
        )
    return CommandResult(summary, "\n".join(lines), failed[0]["exit_code"] if failed else 0)


def _strips(text: str) -> int:
    """Return the number of images; -1 for ``all``."""
    return -1 if text == "all" else _values.count(text)
