"""`train`: training of a network by a configuration file."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import napari_restore_lab
from napari_restore.extension import CommandResult, Interrupt, Stop, format_seconds, reporter

PATIENCE = 3600.0
"""Seconds after Ctrl-C to finish a step, its scores and a checkpoint."""


def add(parser: Any) -> None:
    """Add the arguments of the command."""
    parser.set_defaults(run=train)
    parser.add_argument("config", metavar="CONFIG.toml", help="what to train; see docs/training.md")
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1"
    )
    parser.add_argument(
        "--yes", action="store_true", help="run the Python file of [model] factory without asking"
    )


def train(options: Namespace) -> CommandResult:
    """Train by a configuration, or continue its interrupted run."""
    with Interrupt(PATIENCE) as interrupt:
        import torch

        # Denormal gradients are slow on CPUs: a step of `inf-dehaze-small` would take 1.6 times as
        # long. Set here and not in the library: threads inherit it when they start.
        torch.set_flush_denormal(True)
        try:
            with interrupt.watching(Stop()) as stop:
                summary = napari_restore_lab.train(
                    options.config,
                    device=options.device,
                    trust=options.yes,
                    emit=reporter(options.progress),
                    cancelled=stop.is_set,
                )
        finally:
            torch.set_flush_denormal(False)
    return CommandResult(summary, _summary_line(summary), wrote_files=True)


def _summary_line(summary: dict[str, Any]) -> str:
    best = summary["best"]
    score = "" if best["score"] is None else f", {best['score']:.2f} dB at step {best['step']}"
    end = "" if summary["status"] == "done" else "; the same command continues"
    return (
        f"wrote {summary['weights']} after {summary['step']} steps in "
        f"{format_seconds(summary['seconds'])}{score}{end}"
    )
