"""Which of an image's bands a model sees, and what happens to the others."""

from __future__ import annotations

from typing import Literal

from napari_restore.errors import UnknownBands
from napari_restore.images import Image
from napari_restore.models import ModelCard

OtherBands = Literal["correct", "copy"]
_VISIBLE = ("red", "green", "blue")


def model_bands(image: Image, card: ModelCard) -> tuple[int, ...]:
    """The image's band numbers in the order of the model's channels.

    A model that names roles gets just those. One that takes any bands gets the
    visible ones in the file's order where their roles are known, else all data
    bands. Raises `UnknownBands` with the option to copy when a role is missing.
    """
    if card.roles:
        missing = [role for role in card.roles if role not in image.roles]
        if missing:
            raise UnknownBands(
                f"Model {card.id} needs the bands {', '.join(card.roles)}; "
                f"{image.name} does not say which of its {image.bands} is {missing[0]}.",
                _bands_hint(image, card),
            )
        return tuple(image.roles.index(role) for role in card.roles)
    visible = tuple(i for i in image.data_bands if image.roles[i] in _VISIBLE)
    bands = visible if len(visible) == len(_VISIBLE) else image.data_bands
    if card.bands is not None and len(bands) != card.bands:
        raise UnknownBands(
            f"Model {card.id} takes {card.bands} bands; {image.name} offers {len(bands)}.",
            _bands_hint(image, card),
        )
    return bands


def other_bands(image: Image, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Data bands the model does not see."""
    return tuple(b for b in image.data_bands if b not in bands)


def choose_other_bands(
    image: Image, card: ModelCard, bands: tuple[int, ...], wanted: OtherBands | None
) -> OtherBands:
    """`correct` where the physics can be carried over, else `copy`.

    Correcting scales the optical depth by wavelength, so both sides must be known
    and the model must say its transmission.
    """
    others = other_bands(image, bands)
    known = all(image.wavelengths[b] is not None for b in (*bands, *others))
    possible = bool(others) and known and "transmission" in card.maps
    if wanted == "correct" and others and not possible:
        raise UnknownBands(
            f"Bands {', '.join(str(b + 1) for b in others)} of {image.name} cannot be corrected: "
            "their wavelengths are unknown or the model estimates no transmission.",
            "Name the sensor (--sensor) or use --other-bands copy.",
        )
    return wanted or ("correct" if possible else "copy")


def _bands_hint(image: Image, card: ModelCard) -> str:
    wanted = list(card.roles) or list(_VISIBLE)
    names = [wanted[i] if i < len(wanted) else "other" for i in range(image.bands)]
    return f"Say it in the file's order, for instance --bands {','.join(names)}."
