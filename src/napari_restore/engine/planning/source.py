"""What a plan reads of its image: targets, bands, whole-image statistics; and what it writes, and where."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_restore._plain_files import read_file
from napari_restore.engine._region import Region, bounding_box
from napari_restore.engine.machine.device import Device
from napari_restore.engine.masks.open_mask import note_of_share, open_exclude, open_mask
from napari_restore.engine.planning.identity import digest_of, prepared_key
from napari_restore.engine.statistics.bands import (
    choose_other_bands,
    corrected_bands,
    is_grey,
    model_bands,
    named_bands,
    other_bands,
    without_others,
)
from napari_restore.engine.statistics.context import ROUGH, context_key, load_context
from napari_restore.engine.statistics.kept import context_path, has_overview, prepared_path
from napari_restore.errors import BadParameter, BadRegion, SourceChanged, option
from napari_restore.images import Image, cache_dir, can_adopt, needs_percentile, note_of_zero
from napari_restore.models import (
    ModelCard,
    OnOutputGrid,
    RestorationModel,
    for_frames,
    on_output_grid,
)
from napari_restore.questions import OtherBands, Reading, Restore, Target


@dataclass(frozen=True)
class RunSource:
    """The image that a run reads, and what it restores of it."""

    image: Image
    """Without the bands that are dropped."""
    targets: tuple[Region, ...]
    bands: tuple[int, ...]
    """Those of `image` that the model takes, in its order."""
    other_bands: OtherBands
    mask: str | None
    """Digest of the mask that the targets are clipped to."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the image is restored."""
        return self.targets == (Region(0, 0, self.image.height, self.image.width),)


def check_unchanged(image: Image, when: str) -> None:
    """Raise `SourceChanged` if a file, or an array in memory, of `image` is no longer what was planned."""
    for frame in image.frames:
        if not (frame.reader.in_memory or frame.reader.files()):
            continue
        try:
            now = frame.reader.fingerprint()
        except OSError:
            now = ""
        if now != frame.fingerprint:
            raise SourceChanged(
                f"{frame.name} has changed {when}.",
                "Open it again when it is whole, then run again.",
            )


def source_of(
    image: Image, model: RestorationModel, options: Restore, notes: list[str]
) -> RunSource:
    """Return what a plan reads of `image`, and add to `notes`; raises `BadRegion`, `UnknownBands`, `BadParameter`."""
    card = model.card
    if image.shows_classes:
        raise BadParameter(
            f"{image.name} has classes with a palette of colours: they show no light to restore.",
            f"If it is a photo, say so: {option('bands', 'red=1,green=2,blue=3')}.",
        )
    targets = _targets(image, options.target.region, notes)
    bands = model_bands(image, card)
    handling = choose_other_bands(image, card, bands, options.reading.other_bands)
    if handling == "drop":
        image = without_others(image, bands)
        bands = model_bands(image, card)
    options.adjustment.check(image.name, image.roles, is_photo=image.is_photo)
    if card.light:
        if options.reading.black is not None or options.reading.white is not None:
            raise BadParameter(
                f"Model {card.id} takes black and white of the photos as they are.",
                f"Leave {option('black')} and {option('white')} out.",
            )
        image = image.as_light()
    if isinstance(model, OnOutputGrid):
        image, targets = _on_output_grid(image, targets, model, notes)
    targets, mask = _masked(targets, image, options.target)
    source = RunSource(image, targets, bands, handling, mask)
    notes += _remarks(source, card)
    if (zero := note_of_zero(source.image, options.reading.black)) is not None:
        notes.append(zero)
    return source


def _on_output_grid(
    image: Image, targets: tuple[Region, ...], model: OnOutputGrid, notes: list[str]
) -> tuple[Image, tuple[Region, ...]]:
    """Return `image` and `targets` on the grid of the results of `model`; adds to `notes`."""
    ratio, down = model.card.ratio, model.card.ratio.denominator
    if min(image.height, image.width) < down:
        raise BadRegion(
            f"{image.name} is {image.width} × {image.height} pixels: at scale {ratio} nothing is left.",
            "Choose a larger image.",
        )
    height, width = model.size_of((image.height, image.width))
    lacks = image.width - down * width, image.height - down * height
    for count, name in zip(lacks, ("column", "row"), strict=True):
        if count > 0:
            left = f"{count} {name}s at the end fill" if count > 1 else f"The last {name} fills"
            notes.append(f"{left} no pixel of the result, at scale {ratio}: left out.")
    resampled = image.resampled(ratio, phases=True)
    notes.append(
        f"{model.card.id} has the scale {ratio}: all of the result would be {width} × {height} pixels."
    )
    whole = Region(0, 0, height, width)
    scaled = tuple(each.scale(ratio).intersect(whole) for each in targets)
    if any(each.is_empty for each in scaled):
        raise BadRegion(
            f"The region lies in the last pixels, which are left out at scale {ratio}.",
            "Choose a larger one.",
        )
    return resampled, scaled


def _remarks(source: RunSource, card: ModelCard) -> list[str]:
    """Return notes on what the model makes of the image's bands."""
    image, bands, notes = source.image, source.bands, []
    if len(set(bands)) < len(bands):
        notes.append(
            f"{image.name} is grey: {card.id} sees it in all its {len(bands)} bands, and the mean of "
            "their changes counts."
        )
    others = other_bands(image, bands)
    if others and source.other_bands == "copy":
        notes.append(
            "Bands the model does not see are not corrected; indices such as NDVI change meaning."
        )
    if source.other_bands == "correct":
        corrected = corrected_bands(image, bands)
        if left := [band for band in others if band not in corrected]:
            notes.append(
                f"Bands {named_bands(image, corrected)} are corrected by their wavelengths; "
                f"{named_bands(image, left)} are not, as they show heat or no wavelength is known."
            )
    exact = [b for b, kind in enumerate(image.described.kinds) if kind == "auxiliary"]
    if exact := [b for b in exact if image.roles[b] != "alpha" and b not in image.data_bands]:
        notes.append(
            f"Not light, and copied: band{'s' if len(exact) > 1 else ''} {named_bands(image, exact)}."
        )
    if not card.roles and len(bands) not in (1, 3):
        if any(image.roles[band] is None for band in bands):
            why = f"Not all roles of the {len(bands)} bands are known"
        else:
            why = f"Of the {len(bands)} bands not all of red, green and blue are there"
        notes.append(f"{why}; {card.id} uses all of them.")
    if "natural" not in card.scenes and image.crs is None and len(bands) <= 3:
        notes.append(
            f"{card.id} is made for scenes from above, and this image lies on no map: in a "
            "photograph from the ground it may take the sky for haze and change its colour."
        )
    return notes


def _targets(
    image: Image, regions: tuple[Region, ...] | None, notes: list[str]
) -> tuple[Region, ...]:
    """Return the regions clipped to the image; raises `BadRegion` for an empty one or one outside."""
    whole = Region(0, 0, image.height, image.width)
    if regions is None:
        return (whole,)
    if not regions:
        raise BadRegion("No region was given.", "Give at least one, or none for the whole image.")
    targets = []
    for box in regions:
        if box.is_empty:
            raise BadRegion(
                f"The region is {box.width} × {box.height} pixels.", "Give it a width and a height."
            )
        inside = box.intersect(whole)
        if inside.is_empty:
            raise BadRegion(
                f"The region lies outside the image of {image.width} × {image.height} pixels.",
                "Regions are x, y, width, height from the top left corner.",
            )
        if inside != box:
            notes.append("The region reached beyond the image and was clipped to it.")
        targets.append(inside)
    return tuple(targets)


def _masked(
    targets: tuple[Region, ...], image: Image, target: Target
) -> tuple[tuple[Region, ...], str | None]:
    """Return the parts of `targets` that the mask may cover, and the mask's digest."""
    if target.mask is None:
        return targets, None
    mask = open_mask(target.mask, image, target.feather)
    clipped = [box.intersect(mask.bounds) for box in targets]
    if all(box.is_empty for box in clipped):
        raise BadRegion("The mask does not touch the region.", "Check where the mask lies.")
    return tuple(box for box in clipped if not box.is_empty), mask.digest


MAPS = ("change", "quality")
"""Side maps that a run can keep, in the order of the record."""


@dataclass(frozen=True)
class Stored:
    """What the run writes."""

    maps: tuple[str, ...]
    pyramid: bool
    centre_first: bool
    in_place: bool
    """Whether tiles are written beside the output, which the store then becomes."""
    in_16: bool
    """Whether pixels of 8 bits are kept in 16."""


def stored_of(source: RunSource, model: RestorationModel, options: Restore) -> Stored:
    """Return what a run stores of a source, and how."""
    image, storing = source.image, options.storing
    maps = _maps(storing.maps, model.card.maps)
    in_place = (
        storing.output is not None
        and options.target.mask is None
        and options.adjustment.is_neutral
        # The exposure of a photo is not known before the run.
        and not (options.adjustment.exposure is None and image.is_photo and reads_overview(model))
        and not maps
        and source.is_whole
        and can_adopt(image, Path(storing.output))
        # Maps of sweeps lie in the store, and the user has chosen where.
        and not (options.machine.scratch is not None and model.is_swept)
    )
    # Levels are for a display from the centre outwards; a file that is not displayed is faster row
    # by row.
    centre_first = storing.pyramid or not source.is_whole
    # What is measured on a map keeps its type, as a draft and a file that the store becomes.
    in_16 = (
        image.is_photo
        and image.dtype == np.uint8
        and image.nodata is None
        and image.full is None
        and not in_place
    )
    return Stored(maps, storing.pyramid or in_place, centre_first, in_place, in_16)


def store_path(key: str, options: Restore, stored: Stored) -> Path:
    """Return where the run writes its tiles: in the scratch folder, or beside the output."""
    # The same run has a folder for each layout.
    kept = [*(stored.maps, stored.pyramid), *(["16 bits"] if stored.in_16 else [])]
    name = digest_of([key, *kept]) if any(kept) else key
    scratch, output = options.machine.scratch, options.storing.output
    if stored.in_place and output is not None:
        beside = Path(output).absolute()
        return beside.with_name(f".{beside.name}.{name[:8]}.unfinished")
    folder = Path(scratch) if scratch is not None else cache_dir() / "results"
    return folder / f"{name}.zarr"


def _maps(wanted: bool | Sequence[str], offered: tuple[str, ...]) -> tuple[str, ...]:
    """Return the side maps to keep: the requested ones, or all of the model's."""
    if wanted is False:
        return ()
    possible = (*offered, *MAPS)
    if wanted is True:
        return possible
    unknown = [name for name in wanted if name not in possible]
    if unknown:
        raise BadParameter(f"There is no map {unknown[0]!r}.", f"Choose among {possible}.")
    return tuple(wanted)


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
    prepared: bool = False
    """Whether what the model makes of it is kept as well."""


def context_of_run(
    source: RunSource,
    model: RestorationModel,
    content: str,
    reading: Reading,
    device: Device,
    notes: list[str],
) -> ContextUse:
    """Return the context that the run needs; quick, for the plan's summary. Adds to `notes`."""
    image = source.image
    region = None
    if reading.extent == "region":
        region = on_full(bounding_box(source.targets), image)
    exclusion = open_exclude(reading, image)
    excluded = None if exclusion is None else exclusion.digest
    uncounted = exclusion if image.full is None else open_exclude(reading, image.full)
    if uncounted is not None and reading.exclude is not None:
        note = note_of_share(uncounted, reading.exclude, image.full or image)
        notes += [] if note is None else [note]
    if not _needs_context(image, model, reading, exclusion is not None):
        return ContextUse(False, False, None, region, excluded)
    if reading.context is not None:
        load_context(Path(reading.context), image)
        name = hashlib.sha256(read_file(reading.context, 1 << 30)).hexdigest()[:16]
        return ContextUse(True, True, name, region, excluded, name)
    name = context_key(image, uncounted, region, extent=reading.extent)
    known = reading.extent in ROUGH or context_path(name).exists()
    prepared = False
    if known and reading.extent not in ROUGH and reads_overview(model):
        which = prepared_key(image, model, content, reading, source.bands, device)
        prepared = prepared_path(name, which).exists()
        known = prepared or has_overview(name)
    return ContextUse(True, known, name, region, excluded, prepared=prepared)


def reads_overview(model: RestorationModel) -> bool:
    """Return whether `model` prepares from the overview of its image."""
    return model.card.needs_context and model.reads_overview


def _needs_context(image: Image, model: RestorationModel, reading: Reading, excludes: bool) -> bool:
    """Return whether the whole image must be read before the first tile."""
    if model.card.needs_context or needs_percentile(image, reading.white, reading.black):
        return True
    # Networks see a neutral value where pixels do not count: the image's median.
    return bool((image.may_be_invalid or excludes) and not model.card.uses_validity)


def for_image(model: RestorationModel, image: Image) -> RestorationModel:
    """Return `model` for the frames of `image`; raises `BadParameter` where it takes another number of them."""
    # One of another scale than 1 is on the grid of its results.
    if model.card.ratio != 1 and image.given.companions is None:
        return on_output_grid(model)
    others = image.companions
    names = [frame.name for frame in image.frames]
    if others is None:
        return for_frames(model, 1, None, names)
    light = image.profile.light
    dtype = image.dtype if light is None else light.dtype
    step = 1 / np.iinfo(dtype).max if dtype.kind in "iu" else 0.0
    about = others.reference, names, others.exposures, step, is_grey(image)
    return for_frames(model, len(names), *about)


def on_full(region: Region, image: Image) -> Region:
    """Return `region` of `image` in pixels of the image it is a level of, or of itself."""
    if image.full is None:
        return region
    y0, x0, y1, x1 = (edge * image.scale for edge in region)
    return Region(y0, x0, y1, x1).intersect(Region(0, 0, image.full.height, image.full.width))
