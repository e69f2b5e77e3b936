"""How many images a model sees at once: one, or the frames of a bracket."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from napari_restore.errors import BadParameter
from napari_restore.models._model import RestorationModel


def for_frames(
    model: RestorationModel,
    frames: int,
    reference: int | None = None,
    names: Sequence[str] = (),
    exposures: Sequence[float] = (),
    step: float = 0.0,
    grey: bool = False,
) -> RestorationModel:
    """Return `model` for images of so many frames: itself, or a copy that shares its weights.

    `reference` is the place of the frame that the result replaces; `names` and `exposures`, in EV
    relative to the reference, are those of the frames, dark to bright; `step` is the distance of
    their display values, whose white is 1 (0: floats); `grey` says that they have one band, given
    for each colour. Raises `BadParameter` where the model takes another number.
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
            f"Give {card.inputs} frames." if card.inputs else "Give two frames or more.",
        )
    if card.inputs != 0:
        raise BadParameter(
            f"Model {card.id} takes {card.inputs} frames, not {frames}.",
            f"{_other_choice(card.inputs, frames, names)}, or choose a model that takes any number, "
            "such as mertens.",
        )
    bound = copy.copy(model)
    bound.reference = reference
    bound.exposures, bound.step, bound.grey = tuple(exposures), step, grey
    bound.card = replace(card, inputs=frames)
    return bound


def _other_choice(wanted: int, frames: int, names: Sequence[str]) -> str:
    """Return what to do for as many frames as are wanted."""
    if frames < wanted:
        return f"Give {wanted - frames} more"
    if len(names) < frames:
        return f"Give {wanted} of them"
    # Evenly by their order, from the darkest to the brightest.
    last = max(1, wanted - 1)
    chosen = [names[round(number * (frames - 1) / last)] for number in range(wanted)]
    return f"Give {wanted} of them, such as {', '.join(chosen)}"
