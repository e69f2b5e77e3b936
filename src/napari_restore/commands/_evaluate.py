"""`evaluate`: scores of models on pairs of hazy and clear images."""

from __future__ import annotations

import argparse
import shlex
from argparse import Namespace
from typing import Any

from napari_restore._format import format_seconds
from napari_restore.commands import _values
from napari_restore.commands._arguments import may_run_code
from napari_restore.commands._interrupt import Interrupt
from napari_restore.commands._progress import reporter
from napari_restore.commands._result import CommandResult
from napari_restore.commands._streams import write_error
from napari_restore.errors import escape_controls

LONGEST = 1024
"""Default of --longest."""
LARGE = 16 * 2**20
"""Pixels of an image from which on its own progress is shown."""
_METRICS = "psnr,ssim,ciede2000"
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
        help="leave out dcp (omega 0.95 and 0.85) and hot",
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
    group.add_argument("--split", default="dev", help="split of the index (default dev)")
    group.add_argument(
        "--spectrum", default="plumes", metavar="NAME", help="spectrum of the haze (default plumes)"
    )
    group.add_argument(
        "--seed",
        type=_values.count,
        default=7,
        metavar="N",
        help="random seed of the haze (default 7)",
    )
    group.add_argument(
        "--scene", choices=("aerial", "natural"), help="only scenes of this kind (default both)"
    )
    group.add_argument(
        "--longest",
        type=_values.natural_or_whole,
        default=LONGEST,
        metavar="N|whole",
        help=f"reduce clear images to N pixels a side (default {LONGEST})",
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
        help=f"default {_METRICS}; also psnr_y, ssim_y; the first one ranks the models",
    )
    group.add_argument(
        "--clear",
        action="store_true",
        help="also score how much models change the clear images themselves",
    )
    group.add_argument(
        "--strips",
        type=_strips,
        default=3,
        metavar="N|all",
        help="write strips of the N worst, median and best images (default 3)",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="also replace files that no evaluation wrote"
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument("--memory", metavar="SIZE", help="RAM that a run may add, for example 2GiB")
    group.add_argument(
        "--device-memory", metavar="SIZE", help="memory of the device that a run may use"
    )
    group.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, mps"
    )
    group.add_argument("--tile", type=_values.natural, metavar="N", help="side of a tile's core")
    group.add_argument("--precision", choices=_values.FLOATS, default="float32")
    for name, seen in (("black", 0), ("white", 1)):
        group.add_argument(
            f"--{name}", type=_values.number, metavar="V", help=f"value that models see as {seen}"
        )


def evaluate(options: Namespace) -> CommandResult:
    """Score models; the exit code is that of the first image that failed."""
    with Interrupt() as interrupt:
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

        summary = api.evaluate(
            options.models,
            options.pairs,
            output=options.output,
            emit=report,
            run=run,
            extra={"command": shlex.join(["napari-restore", *options.argv])},
            options={name: getattr(options, name) for name in _ENGINE},
            data=options.data,
            split=options.split,
            spectrum=options.spectrum,
            seed=options.seed,
            scene=options.scene,
            longest=None if options.longest == _values.WHOLE else options.longest,
            baselines=options.baselines,
            metrics=tuple(filter(None, map(str.strip, options.metrics.split(",")))),
            clear=options.clear,
            strips=options.strips,
            keep=options.keep,
            overwrite=options.overwrite,
            weights=options.weights,
            parameters=dict(options.set),
            trust=may_run_code(options.models, yes=options.yes),
            bands=options.bands,
        )
    return _result(summary, api.scores_text(summary))


def _result(summary: dict[str, Any], table: str) -> CommandResult:
    failed = summary["evaluation"]["failed"]
    # One message per image, also with --progress off.
    for failure in failed:
        where = ", ".join(filter(None, (failure["group"], failure["image"], failure["method"])))
        sentence = f"{failure['message']} {failure['hint']}".strip()
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
