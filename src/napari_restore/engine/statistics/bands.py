"""Choice of the bands that a model takes, and treatment of the others."""

from __future__ import annotations

from collections.abc import Sequence

from napari_restore.errors import BadParameter, UnknownBands, option
from napari_restore.images import Image, naming_hint
from napari_restore.models import ModelCard
from napari_restore.questions import OTHER_BANDS, OtherBands as OtherBands

VISIBLE = ("red", "green", "blue")


def is_grey(image: Image) -> bool:
    """Return whether `image` is a photo of one band: light of all colours, of which none is known."""
    roles = [image.roles[band] for band in image.data_bands]
    return image.georeference is None and roles in ([None], ["gray"])


def visible_bands(image: Image) -> tuple[int, ...]:
    """Return the bands known to be red, green or blue, in the file's order."""
    return tuple(i for i in image.data_bands if image.roles[i] in VISIBLE)


def model_bands(image: Image, card: ModelCard) -> tuple[int, ...]:
    """Return the image's band numbers in the order of the model's channels.

    A model that names roles gets those first, and all other data bands behind them unless its
    number of bands is fixed. One that names none gets the visible bands in the file's order where
    their roles are known, else all data bands. A model of colours gets the one band of a grey photo
    for each. Raises `UnknownBands` with the option to copy when a role is missing.
    """
    sees = set(card.roles) <= set(VISIBLE) if card.roles else card.bands == len(VISIBLE)
    if sees and is_grey(image):
        return image.data_bands * (len(card.roles) or len(VISIBLE))
    if card.roles:
        missing = [role for role in card.roles if role not in image.roles]
        if missing:
            needs = f"Model {card.id} needs the bands {', '.join(card.roles)}; {image.name}"
            if len(image.data_bands) < len(card.roles):
                has = f"{image.bands} band{'s' if image.bands > 1 else ''}"
                raise UnknownBands(
                    f"{needs} has only {has}.", "Choose a model that takes any bands."
                )
            if not _nameless(image):
                raise UnknownBands(
                    f"{needs} has no {' and no '.join(missing)}.",
                    "Choose a model that takes any bands.",
                )
            raise UnknownBands(
                f"{needs} does not say which of its {image.bands} bands is {missing[0]}.",
                naming_hint(image, card.roles or VISIBLE),
            )
        if image.described.unsure.intersection(card.roles):
            raise UnknownBands(
                f"{image.name} describes its colours in two ways: {' '.join(image.described.notes)}",
                naming_hint(image, card.roles),
            )
        named = tuple(image.roles.index(role) for role in card.roles)
        rest = tuple(b for b in image.data_bands if b not in named and not _is_thermal(image, b))
        return named if card.bands is not None else named + rest
    visible = visible_bands(image)
    bands = visible if len(visible) == len(VISIBLE) else image.data_bands
    if card.bands is not None and len(bands) != card.bands:
        raise UnknownBands(
            f"Model {card.id} takes {card.bands} bands; {image.name} offers {len(bands)}.",
            naming_hint(image, card.roles or VISIBLE),
        )
    return bands


def _nameless(image: Image) -> list[int]:
    """Return the data bands whose light is unknown."""
    return [band for band in image.data_bands if image.roles[band] is None]


def missing_roles(image: Image, card: ModelCard) -> tuple[str, ...]:
    """Return the roles that must be given before the model can run on `image`; raises `UnknownBands`."""
    try:
        model_bands(image, card)
    except UnknownBands:
        # Naming cannot help where no band is left whose light is unknown.
        needed = card.roles or VISIBLE
        missing = tuple(role for role in needed if role not in image.roles)
        if card.bands not in (None, len(needed)) or not missing:
            raise
        if len(missing) > len(_nameless(image)):
            lacks = " and ".join(missing)
            raise UnknownBands(
                f"It needs the bands {', '.join(needed)}; {image.name} has no {lacks}.",
                "Choose another model.",
            ) from None
        return missing
    return ()


def other_bands(image: Image, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Return data bands the model does not see."""
    return tuple(b for b in image.data_bands if b not in bands)


def corrected_bands(image: Image, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Return those of `other_bands` whose wavelength is known: haze of them can be corrected."""
    if any(image.wavelengths[b] is None for b in bands):
        return ()
    # Not those of heat, which haze hardly scatters, and whose values are no reflectance.
    others = (b for b in other_bands(image, bands) if not _is_thermal(image, b))
    return tuple(b for b in others if image.wavelengths[b] is not None)


def _is_thermal(image: Image, band: int) -> bool:
    return image.roles[band] == "thermal"


def named_bands(image: Image, bands: Sequence[int]) -> str:
    """Return the numbers of bands, from 1, with their names where the file has some."""
    names = [(b, image.descriptions[b] or image.roles[b]) for b in bands]
    return ", ".join(f"{b + 1} ({name})" if name else str(b + 1) for b, name in names)


def without_others(image: Image, bands: tuple[int, ...]) -> Image:
    """Return `image` with `bands` and alpha only, in the file's order."""
    kept = [b for b in range(image.bands) if b in bands or image.roles[b] == "alpha"]
    return image.with_bands(kept)


def choose_other_bands(
    image: Image, card: ModelCard, bands: tuple[int, ...], wanted: OtherBands | None
) -> OtherBands:
    """Return `correct` where the physics can be carried over, else `copy`; raises `BadParameter` for others."""
    if wanted not in (None, *OTHER_BANDS):
        raise BadParameter(
            f"Other bands cannot be treated by {wanted!r}.", "Choose correct, copy or drop."
        )
    # Correcting scales the optical depth by wavelength, so those of the model's bands must be known
    # and the model must say its transmission; see `corrected_bands`.
    others = other_bands(image, bands)
    possible = bool(corrected_bands(image, bands)) and "transmission" in card.maps
    if wanted == "correct" and others and not possible:
        raise UnknownBands(
            f"Bands {', '.join(str(b + 1) for b in others)} of {image.name} cannot be corrected: "
            "their wavelengths are unknown or the model estimates no transmission.",
            f"Name the sensor ({option('sensor')}) or use {option('other_bands', 'copy')}.",
        )
    return wanted or ("correct" if possible else "copy")
