"""Statistics that sweeps settled, kept by image and weights for later runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_restore._replacing import replacing
from napari_restore.engine.planning._identity import run_key
from napari_restore.errors import ResourceError
from napari_restore.images import Image, cache_dir, mark_entry
from napari_restore.models import Counts, Statistics, Sweep, SweptModel

UNFINISHED = "unfinished"
"""File beside the maps of a run that has not ended: the next one goes on from them."""
_STORING = ("maps", "pyramid", "halo", "format")
"""Settings of a run that change nothing of what is settled."""


def settled_folder(image: Image, model: SweptModel, settings: Mapping[str, Any]) -> Path:
    """Return the folder of what the sweeps of `model` settle for `image` under these settings."""
    relevant = {name: value for name, value in settings.items() if name not in _STORING}
    return cache_dir() / "settled" / run_key(image, model, relevant)


def is_all_settled(model: SweptModel, folder: Path, maps: Path) -> bool:
    """Return whether nothing is left to count, and no run is to be gone on from in `maps`."""
    return not (maps / UNFINISHED).exists() and all(
        find_settled(folder, sweep.name, counts) is not None for sweep, counts in _counting(model)
    )


def all_settled(model: SweptModel, folder: Path) -> Statistics:
    """Return all that the sweeps of `model` settled, on the processor."""
    found: dict[str, Tensor] = {}
    for sweep, counts in _counting(model):
        settled = find_settled(folder, sweep.name, counts)
        if settled is None:
            raise ResourceError(
                f"What {model.card.id} knew of the image is no longer in the cache.",
                "Run the same command again.",
            )
        found |= settled
    return found


def _counting(model: SweptModel) -> list[tuple[Sweep, Counts]]:
    sweeps = (step for step in model.steps() if isinstance(step, Sweep))
    return [(sweep, sweep.counts) for sweep in sweeps if sweep.counts is not None]


def keep_settled(folder: Path, sweep: str, settled: Statistics, about: dict[str, Any]) -> None:
    """Keep what a sweep settled for later runs with the same image and weights.

    `about` describes the entry of the cache.
    """
    mark_entry(folder, about)
    arrays: dict[str, Any] = {name: value.cpu().numpy() for name, value in settled.items()}
    with replacing(settled_file(folder, sweep)) as part, open(part, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def find_settled(folder: Path, sweep: str, counts: Counts) -> dict[str, Tensor] | None:
    """Return what an earlier run settled, on the processor; None if it is missing or damaged."""
    try:
        # Opened here: numpy leaves a damaged file open.
        path = settled_file(folder, sweep)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception:
        # Errors of zip, zlib, and array headers, which are Python and may claim any size.
        return None
    return found if set(counts.settles) <= set(found) else None


def settled_file(folder: Path, sweep: str) -> Path:
    """Return the file of what a sweep settled."""
    return folder / f"{sweep}.npz"
