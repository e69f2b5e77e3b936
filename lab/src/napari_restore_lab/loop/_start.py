"""The training loop: configuration, steps, average, scores, checkpoints, weights at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any


def train(
    config: Path,
    device: str = "auto",
    trust: bool = False,
    emit: Callable[[Any], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train by a CONFIG.toml, or continue the run in its output folder.

    `trust` lets the code of [model] factory run. `emit` is a callback for events, `cancelled` is called between two steps. Returns the report of
    `napari_restore_lab.loop._train.train`, and raises what that and `load_config` raise.
    """
    # The configuration is read before torch is imported, so that its errors appear immediately.
    from napari_restore_lab.loop._config import load_config

    chosen = replace(load_config(config), trust=trust)
    from napari_restore_lab.loop._pictures import open_pictures
    from napari_restore_lab.loop._train import Control, train, verify

    verify(chosen)
    control = Control()
    if emit is not None:
        control.emit = emit
    if cancelled is not None:
        control.cancelled = cancelled
    pictures = open_pictures(chosen, control.emit, control.cancelled)
    return train(chosen, pictures, device, control)
