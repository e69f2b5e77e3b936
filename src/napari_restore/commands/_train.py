"""`train`: a configuration's network, trained and written."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from napari_restore._format import format_seconds
from napari_restore.commands._answer import Answer
from napari_restore.commands._interrupt import Interrupt, Stop
from napari_restore.commands._progress import reporter

PATIENCE = 3600.0
"""Seconds that a step, a score and a checkpoint may take after Ctrl-C."""


def add(parser: Any) -> None:
    """The command's arguments."""
    parser.add_argument("config", metavar="CONFIG.toml", help="what to train; see docs/training.md")
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1"
    )


def train(options: Namespace) -> Answer:
    """Train, or go on with, what a configuration says."""
    with Interrupt(PATIENCE) as interrupt:
        import torch

        from napari_restore import api

        # Gradients come close to zero, where a processor is many times as slow: a step of
        # `inf-dehaze-small` would take 1.6 times as long. Here and not in the library, for
        # threads take it on when they are made; this process does nothing but train.
        torch.set_flush_denormal(True)
        stop = Stop()
        interrupt.watch(stop)
        try:
            account = api.train(
                options.config,
                device=options.device,
                emit=reporter(options.progress),
                cancelled=stop.is_set,
            )
        finally:
            interrupt.leave()
    return Answer(account, _sentence(account), wrote_files=True)


def _sentence(account: dict[str, Any]) -> str:
    best = account["best"]
    score = "" if best["score"] is None else f", {best['score']:.2f} dB at step {best['step']}"
    end = "" if account["status"] == "done" else "; the same command goes on"
    return (
        f"wrote {account['weights']} after {account['step']} steps in "
        f"{format_seconds(account['seconds'])}{score}{end}"
    )
