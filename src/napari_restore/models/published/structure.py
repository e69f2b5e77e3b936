"""Models of the structures of published networks, and structures in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from napari_restore.errors import BadModel
from napari_restore.models._card import ModelCard
from napari_restore.models._registry import resolve

if TYPE_CHECKING:
    from napari_restore.models._wrap import WrappedModel


_COLOURS = ("red", "green", "blue")


def made(network: str, title: str, card: ModelCard, **sizes: Any) -> WrappedModel:
    """Return the model of the structure `title`, the class `network`, ``"module:Class"``.

    What its tiles must see is still to be measured. Raises `BadModel` for a card of other bands.
    """
    from napari_restore.models._wrap import WrappedModel, check_inputs

    module = resolve(network)(**sizes)
    if card.bands not in (None, module.bands):
        raise BadModel(
            f"The card of {card.id} says bands {card.bands}; these weights have {module.bands}.",
            "Correct the field bands.",
        )
    # A card may say another order.
    roles = card.roles or (_COLOURS if module.bands == len(_COLOURS) else ())
    if card.noise_level is not None and getattr(module, "inputs", None) == module.bands:
        # Weights for one level alone.
        card = replace(card, noise_level=None, parameters=(), values={})
    if (scale := getattr(module, "scale", 1)) != card.scale != 1:
        raise BadModel(
            f"The card of {card.id} says scale {card.scale}; these weights have {scale}.",
            "Correct the field scale.",
        )
    card = replace(card, scale=scale)
    step = module.step
    card = replace(card, bands=module.bands, roles=roles, multiple_of=step, padded_to=step)
    check_inputs(card)
    model = WrappedModel(module, card)
    model.measured = True
    model.structure = described(title, sizes)
    return model


def described(title: str, sizes: Mapping[str, Any]) -> str:
    """Return a structure and its sizes in words: ``NAFNet (bands 3, width 32, encoders 2 2 4 8)``."""
    words = [f"{name.replace('_', ' ')} {_words(value)}" for name, value in sizes.items()]
    return f"{title} ({', '.join(words)})" if words else title


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (tuple, list)):
        return str(value) or "none"
    if not any(isinstance(each, (tuple, list)) for each in value):
        return " ".join(map(str, value))
    # Alike ones that follow each other are counted.
    counted = (((len(list(same)), one) for one, same in groupby(each)) for each in value)
    return ", ".join(
        " ".join(f"{count} × {one}" if count > 1 else str(one) for count, one in each)
        for each in counted
    )
