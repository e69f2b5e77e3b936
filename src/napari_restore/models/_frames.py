"""How many images a model sees at once: one, or the frames of a bracket."""

from __future__ import annotations

import copy
from dataclasses import replace

from napari_restore.errors import BadParameter
from napari_restore.models._model import RestorationModel


def for_frames(
    model: RestorationModel, frames: int, reference: int | None = None
) -> RestorationModel:
    """Return `model` for images of so many frames: itself, or a copy that shares its weights.

    `reference` is the place of the frame that the result replaces. Raises `BadParameter` where it takes another number.
    """
    card = model.card
    if card.inputs == frames:
        return model
    if card.inputs == 1:
        raise BadParameter(
            f"Model {card.id} restores a single image, not the {frames} frames of a bracket.",
            "Choose a model for exposure fusion, such as mertens.",
        )
    if frames == 1:
        raise BadParameter(
            f"Model {card.id} fuses the frames of a bracket; this is one image.",
            "Give two frames or more.",
        )
    if card.inputs != 0:
        raise BadParameter(
            f"Model {card.id} takes {card.inputs} frames, not {frames}.",
            f"Choose {card.inputs} of them, or a model that takes any number, such as mertens.",
        )
    bound = copy.copy(model)
    bound.reference = reference
    bound.card = replace(card, inputs=frames)
    return bound
