"""Exposure fusion: brackets of frames, and their fusion into one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from napari_restore.api._images import Bands, open_image
from napari_restore.api._options import PlanOptions, documents_options
from napari_restore.api._restoring import restore

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Result
    from napari_restore.images import Image

Align = Literal["auto", "off"]
FUSION_MODEL = "mertens"
"""Model that fuses frames unless another is named."""


def open_bracket(
    frames: Sequence[Any],
    *,
    reference: int | None = None,
    exposures: Sequence[float] | None = None,
    align: Align = "auto",
    bands: Bands | None = None,
) -> Image:
    """Open the frames of a bracket as one image, for `plan` and `restore` with a fusing model.

    Parameters
    ----------
    frames
        Two or more images as for `open_image`, in any order, of one size.
    reference
        Which of `frames` the result replaces, counted from 0: its metadata, nodata and colour
        profile stay. Default: the one in the middle by exposure.
    exposures
        EV of each frame. Default: as recorded by the camera, else estimated from the pixels.
    align
        ``"auto"`` brings the frames onto the grid of the reference, by scikit-image; ``"off"`` takes
        them as they are.
    bands
        Which band is what, the same in all frames; as for `open_image`.

    Returns
    -------
    Image
        The reference; its `companions` are the other frames.

    Raises
    ------
    napari_restore.errors.InputError
        Frames that cannot be read, or do not fit each other.
    """
    from napari_restore.images import bracket_of

    opened = [open_image(frame, bands=bands) for frame in frames]
    return bracket_of(opened, reference, exposures, align=align != "off")


@documents_options(PlanOptions)
def fuse(
    frames: Sequence[Any],
    model: str | Path | nn.Module = FUSION_MODEL,
    *,
    reference: int | None = None,
    exposures: Sequence[float] | None = None,
    align: Align = "auto",
    bands: Bands | None = None,
    progress: bool | None = None,
    **options: Unpack[PlanOptions],
) -> Result:
    """Fuse the frames of a bracket: `restore` of `open_bracket`.

    Parameters
    ----------
    frames, reference, exposures, align, bands
        As for `open_bracket`.
    model, progress, options
        As for `restore`.

    Raises
    ------
    napari_restore.errors.RestoreError
        With one sentence naming the cause, and the next step.
    """
    bracket = open_bracket(
        frames, reference=reference, exposures=exposures, align=align, bands=bands
    )
    return restore(bracket, model, progress=progress, **options)
