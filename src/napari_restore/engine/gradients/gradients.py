"""Outputs of a model and their gradients with respect to the pixels, tile by tile."""

from __future__ import annotations

from napari_restore.engine._region import Region
from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.engine.gradients.local import LocalGradients
from napari_restore.engine.gradients.swept import Beside, SweptGradients

Gradients = LocalGradients | SweptGradients


def gradients_of(
    source: GradientSource,
    box: Region,
    beside: Beside = lambda region: 0,
    *,
    through: bool = False,
) -> Gradients:
    """Return the gradients of the output in `box`, by the scope of the source plan's model.

    With `through` they go through what sweeps count, which otherwise is a constant of the image.
    `beside` returns the bytes of the budget that are used elsewhere, given the region of the
    gradients; tiles are worked on side by side only if they fit what is left.
    """
    if source.plan.staged is not None or (through and source.plan.model.counted):
        return SweptGradients(source, box, beside)
    return LocalGradients(source, box)
