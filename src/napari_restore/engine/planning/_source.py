"""The image of a plan: what of it is restored, and which of its bands the model takes."""

from __future__ import annotations

from dataclasses import dataclass

from napari_restore.engine._region import Region
from napari_restore.engine.statistics._bands import (
    choose_other_bands,
    corrected_bands,
    model_bands,
    named_bands,
    other_bands,
    without_others,
)
from napari_restore.errors import BadParameter, BadRegion, option
from napari_restore.images import Image, note_of_zero
from napari_restore.models import ModelCard
from napari_restore.questions import OtherBands, Restore


@dataclass(frozen=True)
class Source:
    """The image that a run reads, and what it restores of it."""

    image: Image
    """Without the bands that are dropped; the mosaic where there is one."""
    part: Image | None
    """The file the output belongs to, when `image` is a mosaic it is a part of."""
    origin: tuple[int, int]
    """(y, x) of that file's first pixel in `image`."""
    targets: tuple[Region, ...]
    bands: tuple[int, ...]
    """Those of `image` that the model takes, in its order."""
    other_bands: OtherBands


def source_of(
    image: Image, card: ModelCard, options: Restore, mosaic: Image | None, notes: list[str]
) -> Source:
    """Return what a plan with these options reads of `image`, or of its `mosaic`; adds to `notes`.

    Raises `BadRegion`, `UnknownBands` and `BadParameter`.
    """
    targets = _targets(image, options.target.region, notes)
    part, origin = None, (0, 0)
    if mosaic is not None:
        part, origin = image, _place_in(mosaic, image)
        targets = tuple(target.shift(*origin) for target in targets)
        image = mosaic
    bands = model_bands(image, card)
    handling = choose_other_bands(image, card, bands, options.reading.other_bands)
    if handling == "drop":
        image = without_others(image, bands)
        part = None if part is None else without_others(part, bands)
        bands = model_bands(image, card)
    options.adjustment.check(image.name, image.roles)
    if card.light:
        if options.reading.black is not None or options.reading.white is not None:
            raise BadParameter(
                f"Model {card.id} takes black and white of the photos as they are.",
                f"Leave {option('black')} and {option('white')} out.",
            )
        image = image.as_light()
    source = Source(image, part, origin, targets, bands, handling)
    notes += _remarks(source, card)
    if (zero := note_of_zero(source.image, options.reading.black)) is not None:
        notes.append(zero)
    return source


def _remarks(source: Source, card: ModelCard) -> list[str]:
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
            "Bands the model does not see are copied; indices such as NDVI change meaning."
        )
    if source.other_bands == "correct":
        corrected = corrected_bands(image, bands)
        if left := [band for band in others if band not in corrected]:
            notes.append(
                f"Bands {named_bands(image, corrected)} are corrected by their wavelengths; "
                f"{named_bands(image, left)} are copied, as no wavelength is known."
            )
    exact = [b for b, kind in enumerate(image.described.kinds) if kind == "auxiliary"]
    if exact := [b for b in exact if image.roles[b] != "alpha" and b not in image.data_bands]:
        notes.append(
            f"Not light, and copied: band{'s' if len(exact) > 1 else ''} {named_bands(image, exact)}."
        )
    if not card.roles and len(bands) not in (1, 3):
        notes.append(
            f"The roles of the {len(bands)} bands are unknown; {card.id} uses all of them."
        )
    if "natural" not in card.scenes and image.crs is None and len(bands) <= 3:
        notes.append(
            f"{card.id} is made for scenes from above, and this image lies on no map: in a "
            "photograph from the ground it may take the sky for haze and change its colour."
        )
    return notes


def _targets(
    image: Image, regions: tuple[Region, ...] | None, notes: list[str]
) -> tuple[Region, ...]:
    """Return the regions clipped to the image.

    Raises `BadRegion` for an empty one or one outside.
    """
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


def _place_in(mosaic: Image, image: Image) -> tuple[int, int]:
    """Return (y, x) of `image`'s first pixel in `mosaic`."""
    box_of = getattr(mosaic.reader, "box_of", None)
    if box_of is None or image.path is None:
        raise BadRegion(f"{mosaic.name} is no mosaic of files.", "Open the files together.")
    y0, x0, _, _ = box_of(image.path)
    return y0, x0
