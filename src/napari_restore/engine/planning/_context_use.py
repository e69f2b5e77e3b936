"""The context that a planned run needs, and whether it is known already."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from napari_restore.engine._region import Region, bounding_box
from napari_restore.engine.masks._open_mask import open_exclude
from napari_restore.engine.planning._plan import on_full
from napari_restore.engine.planning._source import Source
from napari_restore.engine.statistics._context import (
    ROUGH,
    context_exclude,
    context_key,
    context_path,
    load_context,
)
from napari_restore.images import Image, needs_percentile
from napari_restore.models import RestorationModel
from napari_restore.questions import Reading


@dataclass(frozen=True)
class ContextUse:
    """Whether a run needs the context of the image, and which."""

    needed: bool
    known: bool
    """Whether no pass over the image is needed for it."""
    name: str | None
    region: Region | None
    """Box of the full image that it is limited to; None: all of it."""
    excluded: str | None
    """Digest of the mask of pixels that do not count."""
    given: str | None = None
    """Digest of the file of a context that was given."""


def context_of_run(source: Source, model: RestorationModel, reading: Reading) -> ContextUse:
    """Return the context that the run needs; quick, for the plan's summary."""
    image = source.image
    region = None
    if reading.extent == "region":
        region = on_full(bounding_box(source.targets), image)
    exclusion = open_exclude(reading.exclude, image) if reading.exclude is not None else None
    excluded = None if exclusion is None else exclusion.digest
    if not _needs_context(image, model, reading, exclusion is not None):
        return ContextUse(False, False, None, region, excluded)
    if reading.context is not None:
        load_context(Path(reading.context), image)
        name = hashlib.sha256(Path(reading.context).read_bytes()).hexdigest()[:16]
        return ContextUse(True, True, name, region, excluded, name)
    uncounted = exclusion if image.full is None else context_exclude(image, reading.exclude)
    known = reading.extent in ROUGH or context_path(image, uncounted, region).exists()
    name = context_key(image, uncounted, region, extent=reading.extent)
    return ContextUse(True, known, name, region, excluded)


def _needs_context(image: Image, model: RestorationModel, reading: Reading, excludes: bool) -> bool:
    """Return whether the whole image must be read before the first tile."""
    if model.card.needs_context or needs_percentile(image, reading.white, reading.black):
        return True
    # Networks see a neutral value where pixels do not count: the image's median.
    return bool((image.may_be_invalid or excludes) and not model.card.uses_validity)
