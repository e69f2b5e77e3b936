"""The same network with random weights, to see what follows from its architecture alone."""

from __future__ import annotations

from napari_restore.errors import BadParameter, RestoreError, option
from napari_restore.models._load import load
from napari_restore.models._model import RestorationModel
from napari_restore.models._weights import RANDOM

RANDOM_WEIGHTS = f"{RANDOM}0"


def random_twin(model: RestorationModel) -> RestorationModel:
    """Return a further instance of `model` with the weights `RANDOM_WEIGHTS`; `model` stays as it is.

    Raises `BadParameter` for a model without weights, one that cannot be copied, and one that has these
    weights itself.
    """
    spec = model.spec
    leave_out = f"Leave out {option('random_twin')}."
    try:
        if spec and not spec.get("code"):
            twin = load(
                spec["model"],
                weights=RANDOM_WEIGHTS,
                parameters=spec.get("parameters"),
                card=spec.get("card"),
            )
        else:
            # Neither a module in memory nor foreign code is made a second time.
            twin = load(model, weights=RANDOM_WEIGHTS)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = (
            error.message.marked if isinstance(error, RestoreError) else f"{first.rstrip('.')}."
        )
        raise BadParameter(
            f"{model.card.id} cannot be loaded with random weights: {reason}", leave_out
        ) from error
    if twin.card.weights_sha256 == model.card.weights_sha256:
        raise BadParameter(f"{model.card.id} has the weights {RANDOM_WEIGHTS} itself.", leave_out)
    return twin
