"""Sizes of the network of a state dict, and its missing parts."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from napari_restore.errors import BadModel
from napari_restore.models.andehazeformer._config import BANDS, PLANES, SMALL
from napari_restore.models.atmosphere._part import sizes_of_context, with_shipped


def with_context(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with the atmosphere network, where the estimator has no dark channel.

    See `with_shipped`.
    """
    is_guided = "estimator.wide.weight" in state and "estimator.dark.0.weight" not in state
    return with_shipped(state, needs=is_guided)


def sizes_of_small(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `make_small` for these weights.

    ``normalised`` 0 for the pre-norm twin; ``context`` and ``looks`` of an atmosphere network
    inside. Raises `BadModel`.
    """
    patch = PLANES * SMALL.stride**2 + BANDS
    shapes = {
        "embedding.patch.weight": (SMALL.width, patch),
        f"globals.{SMALL.pairs - 1}.mlp.into.weight": (2 * SMALL.hidden, SMALL.width),
    }
    if any(name not in state or state[name].shape != shape for name, shape in shapes.items()):
        raise BadModel(
            "These weights are not those of this anDehazeFormer.",
            "Choose the model they were made for.",
        )
    sizes = sizes_of_context(state)
    if "globals.0.step1.alpha.shift" not in state:
        sizes["normalised"] = 0
    return sizes
