"""`evaluate`: scores of models on pairs of hazy and clear images."""

from __future__ import annotations

import argparse
from argparse import Namespace
from typing import Any

import napari_restore_lab
from napari_restore.extension import (
    FLOATS,
    RANGE,
    RESOURCES,
    WHOLE,
    CommandResult,
    Computing,
    Machine,
    Reading,
    Stop,
    add_cluster,
    add_option,
    add_options,
    add_yes,
    command_of,
    escape_controls,
    format_seconds,
    given,
    interrupt_of,
    may_run_code,
    options_of,
    parsing,
    reporter,
    start,
    with_flags,
    write_error,
)
from napari_restore_lab._questions import Evaluate

LARGE = 16 * 2**20
"""Pixels of an image from which on its own progress is shown."""
SCORES = ("clear", "strips")
"""Options of what is scored and shown."""
_METRICS = ",".join(Evaluate.metrics)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=evaluate)
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
        type=parsing.assignment,
        metavar="NAME=VALUE",
        help="a parameter of every --model; may be repeated",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE|random:SEED",
        help="weights of the network, if there is one --model",
    )
    add_option(parser, "baselines", Evaluate)
    add_yes(parser)
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
    add_options(group, Evaluate, but=("baselines", *SCORES))


def _add_scores(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("scores")
    group.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="write scores.csv, summary.json and strips/ here; the same command "
        "resumes an interrupted evaluation",
    )
    group.add_argument(
        "--metrics",
        default=_METRICS,
        metavar="NAME,…",
        help=f"default {_METRICS}; also psnr_y, ssim_y, psnr_matched (whatever the "
        "tones), and of brackets psnr_clipped, mef_ssim, mef_ssim_dynamic; the first one ranks the models",
    )
    for name in SCORES:
        add_option(group, name, Evaluate)
    group.add_argument(
        "--overwrite", action="store_true", help="also replace files that no evaluation wrote"
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    add_options(group, Machine, *RESOURCES)
    add_option(group, "tile", type=parsing.natural, metavar="N", help="side of a tile's core")
    how = "precision of the model (default float32)"
    add_option(group, "precision", choices=FLOATS, help=how)
    add_options(group, Reading, *RANGE)
    add_cluster(group)


def evaluate(options: Namespace) -> CommandResult:
    """Score models; the exit code is that of the first image that failed."""
    stop = Stop()
    with interrupt_of(options) as interrupt:
        if options.cluster is not None:
            interrupt.watch(stop)
        report = reporter(options.progress)

        def run(planned: Any) -> Any:
            # Only large images take long enough to show their own progress.
            is_large = planned.image.height * planned.image.width >= LARGE
            try:
                with interrupt.watching(start(planned)) as job:
                    for event in job:
                        if is_large and type(event).__name__ == "Progress":
                            report(event)
                    return job.result()
            finally:
                interrupt.check()

        engine: Any = given(options, options_of(Reading, Computing, Machine))
        summary = napari_restore_lab.evaluate(
            options.models,
            options.pairs,
            emit=report,
            run=run,
            extra={"command": command_of(options)},
            options=engine,
            cluster=options.cluster,
            stop=stop,
            **_settings(options),
        )
    return _result(summary, napari_restore_lab.scores_text(summary))


def _settings(options: Namespace) -> dict[str, Any]:
    """Return the options as keywords of `napari_restore_lab.evaluate`."""
    return given(options, (*options_of(Evaluate), "weights", "overwrite")) | {
        "longest": None if options.longest == WHOLE else options.longest,
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
