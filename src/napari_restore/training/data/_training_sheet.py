"""What a network in training sees, for people to look at."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_restore.errors import BadParameter
from napari_restore.training.data._contact import contact_sheet, strip_of, told
from napari_restore.training.data._pack import pack
from napari_restore.training.data._pairs import RECORD, SHEET, refuse_output, take_folder
from napari_restore.training.data._recipe import Recipe
from napari_restore.training.data._sample import Sampler
from napari_restore.training.data._scenes import scenes_of

MAGENTA = np.array((1, 0, 1), np.float32)
"""Stands for pixels that nothing is learned from."""
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
    """A folder `output` with a contact sheet of `count` training samples, and its record.

    The samples are those of the first batches of a `Feed` with that seed, recipe and
    the scenes of `source`. Raises `InputError`.
    """
    source, recipe = Path(source), recipe or Recipe()
    output = Path(os.path.abspath(output))
    if count < 1:
        raise BadParameter("No sample was asked for.", "Give a number from 1.")
    scenes = scenes_of(source, split=split)
    refuse_output(output, source, overwrite=overwrite)
    part = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}")
    with tempfile.TemporaryDirectory(
        prefix="napari-restore-pack-", ignore_cleanup_errors=True
    ) as folder:
        sampler = Sampler(pack(scenes, Path(folder), progress=progress), recipe)
        shown = []
        for number in range(count):
            step, place = divmod(number, recipe.batch)
            sample = sampler.sample(np.random.default_rng((seed, step, place)))
            text = f"{Path(sample.name).stem}  {told(sample.haze, sample.valid)}"
            hazy = np.where(sample.valid[..., None], sample.hazy, MAGENTA)
            shown.append(strip_of(text, hazy, sample.clear, sample.haze))
        del sampler
    try:
        part.mkdir(parents=True)
        record = {
            "source": str(source),
            "training": count,
            "seed": seed,
            "recipe": recipe.to_table(),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (part / RECORD).write_text(text, encoding="utf-8")
        contact_sheet(shown).save(part / SHEET, quality=90)
        take_folder(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record
