"""The training loop: configuration, steps, average, scores, checkpoints, weights at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["train"]


def train(
    config: Path,
    device: str = "auto",
    emit: Callable[[Any], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train what CONFIG.toml says, or go on where the run in its output folder stopped.

    `tell` is given events, `cancelled` is asked between two steps. Returns the account of
    `napari_restore.training.loop._train.train`, and raises what that and `load_config` raise.
    """
    # The configuration comes before torch: what is wrong with it shows at once.
    from napari_restore.training.loop._config import load_config

    chosen = load_config(config)
    from napari_restore.training.loop._pictures import open_pictures
    from napari_restore.training.loop._train import Control, train, verify

    verify(chosen)
    control = Control()
    if emit is not None:
        control.emit = emit
    if cancelled is not None:
        control.cancelled = cancelled
    pictures = open_pictures(chosen, control.emit, control.cancelled)
    return train(chosen, pictures, device, control)
