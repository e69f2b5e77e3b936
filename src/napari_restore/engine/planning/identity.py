"""What a run is of, and what sweeps counted for it, kept by image and weights for later runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore._json_shapes import read_json
from napari_restore._replacing import replacing
from napari_restore.engine.ledger.values import read_tensors, write_arrays
from napari_restore.engine.machine.device import Device
from napari_restore.errors import ResourceError
from napari_restore.images import Image, cache_dir, mark_entry
from napari_restore.questions import Reading

if TYPE_CHECKING:
    from napari_restore.models import RestorationModel, Statistics, SweptModel

Description = dict[str, Any]
"""Everything but the image that may change a value, JSON-able: the model, and the settings.

Targets, masks and adjustments are no part of it: they choose and mix pixels, they change none."""


_PREPARED = 2
"""Increased when models of the package prepare more."""


def describe(model: RestorationModel, content: str, settings: Mapping[str, Any]) -> Description:
    """Return the description of a run with `model`, of which `content` is the `content_of`."""
    from napari_restore.models import definition_of

    made_by = {"version": _version(), "content": content, "definition": definition_of(model)}
    return {**made_by, **settings}


def run_key(image: Image, description: Description) -> str:
    """Return the key of the pixels a run makes: same key, same pixels."""
    return digest_of([image.frames_fingerprint, description])


def prepared_key(
    image: Image,
    model: RestorationModel,
    content: str,
    reading: Reading,
    bands: tuple[int, ...],
    device: Device,
) -> str:
    """Return a key of what `model` prepares from given statistics of the image."""
    # The same pixels may be read with other black and white values. Devices round differently.
    import torch

    from napari_restore.models import definition_of

    # The zero that names give depends on more than the pixels.
    zero = None if image.preset is None else image.preset.black
    read = [image.sensor, zero, image.roles, bands, reading.black, reading.white]
    parts = [_version(), torch.__version__, device.torch.type, content, definition_of(model)]
    return digest_of([_PREPARED, read, dict(model.card.values), parts])


def names_key(image: Image, model: RestorationModel, settings: Any) -> str:
    """Return a key of what the user names: it stays when an image or a model changes under its name."""
    source = image.fingerprint if image.path is None else str(image.path)
    return digest_of([source, image.spec, model.card.id, model.spec, settings])


@cache
def _version() -> str:
    # Read once: it takes a tenth of a plan.
    return version("napari-restore")


def digest_of(parts: Any) -> str:
    """Return a digest of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


LENDER = "lender.json"
COUNTED = "settled"
"""Folder beside the maps of a run whose statistics are kept for it alone."""
UNFINISHED = "unfinished"
"""File beside the maps of a run that has not ended: the next one goes on from them."""


def _root() -> Path:
    """Return the folder of what sweeps counted: by image, and by size the image to take it from."""
    return cache_dir() / "settled"


@dataclass(frozen=True)
class Lender:
    """The image whose statistics others of its size take."""

    settled: str
    """Name of the folder of what was counted; its key in the file."""
    image: str
    """Its name, for users."""
    fingerprint: str

    @property
    def folder(self) -> Path:
        return _root() / self.settled


def lend(folder: Path, image: Image, counted: Path, model: SweptModel) -> None:
    """Let later images of the size of `image` take what was counted from it."""
    mark_entry(folder, {"image": image.name, "model": model.card.id})
    lender = Lender(counted.name, image.name, image.frames_fingerprint)
    with replacing(folder / LENDER) as part:
        part.write_text(json.dumps(asdict(lender)), "utf-8")


def lender_of(folder: Path, model: SweptModel) -> Lender | None:
    """Return the image that `folder` names; None if there is none whose statistics are all kept."""
    try:
        stored = read_json(folder / LENDER)
        lender = Lender(*(str(stored[each.name]) for each in fields(Lender)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # A name alone: it must not lead out of the cache.
    if Path(lender.settled).name != lender.settled:
        return None
    return lender if _has_all(model, lender.folder) else None


@dataclass(frozen=True)
class KeptCounts:
    """Where what a swept model counts is kept."""

    folder: Path | None = None
    """None for a model without counts, or where they are kept for this run alone."""
    lends: Path | None = None
    borrowed: str | None = None
    """Fingerprint of the image that it was counted in, if another one."""


def kept_counts(
    image: Image, model: RestorationModel, description: Mapping[str, Any], notes: list[str]
) -> KeptCounts:
    """Return where counts are kept, for the choice of the model; notes what is borrowed."""
    from napari_restore.models import SweptModel

    if not isinstance(model, SweptModel) or model.keeps == "nothing":
        return KeptCounts()
    # A halo changes nothing of what is counted.
    relevant = {name: value for name, value in description.items() if name != "halo"}
    own = _root() / run_key(image, relevant)
    if model.keeps == "image":
        return KeptCounts(own)
    # Images of one size share it.
    others = image.companions
    place = None if others is None else [len(image.frames), others.reference]
    size = [image.height, image.width, float(image.scale), place]
    lends = _root() / digest_of([size, relevant])
    lender = lender_of(lends, model)
    if lender is None or lender.fingerprint == image.frames_fingerprint:
        return KeptCounts(own, lends)
    notes.append(
        f"Approximate: {model.card.id} takes what it knows of the whole image from {lender.image}, "
        "an earlier one of the same size."
    )
    return KeptCounts(lender.folder, None, lender.fingerprint)


def is_all_counted(model: SweptModel, folder: Path, maps: Path) -> bool:
    """Return whether nothing is left to count, and no run is to be gone on from in `maps`."""
    return not (maps / UNFINISHED).exists() and _has_all(model, folder)


def all_counted(model: SweptModel, folder: Path) -> Statistics:
    """Return all that the sweeps of `model` counted, on the processor."""
    found = find_counted(model, folder)
    if len(found) < len(model.ordered_steps.counting):
        raise ResourceError(
            f"What {model.card.id} knew of the image is no longer in the cache.",
            "Run the same command again.",
        )
    return {name: value for each in found.values() for name, value in each.items()}


def _has_all(model: SweptModel, folder: Path) -> bool:
    return len(find_counted(model, folder)) == len(model.ordered_steps.counting)


def keep_counted(folder: Path, sweep: str, counted: Statistics, about: dict[str, Any]) -> None:
    """Keep what a sweep counted for later runs with the same image and weights, in a cache entry of `about`."""
    mark_entry(folder, about)
    arrays = {name: value.cpu().numpy() for name, value in counted.items()}
    write_arrays(counted_file(folder, sweep), arrays, folder.name)


def find_counted(model: SweptModel, folder: Path) -> dict[str, Statistics]:
    """Return what earlier runs counted, by sweep, on the processor; without what is damaged."""
    found: dict[str, Statistics] = {}
    for sweep, counts in model.ordered_steps.counting.values():
        known = read_tensors(counted_file(folder, sweep.name), folder.name)
        if known is None or not set(counts.statistics) <= set(known):
            # What later ones counted follows from this one.
            break
        found[sweep.name] = known
    return found


def counted_file(folder: Path, sweep: str) -> Path:
    """Return the file of what a sweep counted."""
    return folder / f"{sweep}.npz"
