"""Contact sheets of training samples."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_restore.extension import BadParameter
from napari_restore_lab.data._contact import haze_text, strip_of
from napari_restore_lab.data._pack import pack
from napari_restore_lab.data._pairs import check_output_folder, new_folder, write_record
from napari_restore_lab.data._recipe import Recipe
from napari_restore_lab.data._sample import Sampler
from napari_restore_lab.data._scenes import scenes_of

MAGENTA = np.array((1, 0, 1), np.float32)
"""Colour of invalid pixels."""
Progress = Callable[[int, int], None]


def draw_training(
    source: Path,
    output: Path,
    count: int,
    seed: int,
    *,
    recipe: Recipe | None = None,
    split: str | None = "train",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a contact sheet of `count` training samples to `output`, and return its record.

    The samples are those of the first batches of a `BatchLoader` with that seed, recipe and
    the scenes of `source`. Raises `InputError`.
    """
    source, recipe = Path(source), recipe or Recipe()
    output = Path(os.path.abspath(output))
    if count < 1:
        raise BadParameter("The number of samples is below 1.", "Give a number from 1.")
    scenes = scenes_of(source, split=split)
    check_output_folder(output, source, overwrite=overwrite)
    with tempfile.TemporaryDirectory(
        prefix="napari-restore-pack-", ignore_cleanup_errors=True
    ) as folder:
        sampler = Sampler(pack(scenes, Path(folder), progress=progress), recipe)
        shown = []
        for number in range(count):
            step, place = divmod(number, recipe.batch)
            sample = sampler.sample(np.random.default_rng((seed, step, place)))
            text = f"{Path(sample.name).stem}  {haze_text(sample.haze, sample.valid)}"
            # The frames of a bracket side by side.
            frames = np.split(sample.hazy, sample.hazy.shape[2] // 3, axis=2)
            hazy = np.hstack([np.where(sample.valid[..., None], f, MAGENTA) for f in frames])
            shown.append(strip_of(text, hazy, sample.clear, sample.haze))
        del sampler
    record = {
        "source": str(source),
        "training": count,
        "seed": seed,
        "recipe": recipe.to_table(),
    }
    with new_folder(output) as part:
        write_record(part, record, shown)
    return record
