"""Exposure fusion: brackets of frames, and their fusion into one picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from napari_restore import engine, images
from napari_restore.api._images import Bands, open_image
from napari_restore.api._models import load_model
from napari_restore.api._options import documents_options
from napari_restore.api._restoring import restore
from napari_restore.errors import BadParameter, InputError, escape_controls
from napari_restore.questions import Pathlike, Restore, RestoreKeywords

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from napari_restore.engine import Plan, Region, Result
    from napari_restore.images import Bracket, Image

Align = Literal["auto", "rough", "off"]
FUSION_MODEL = "mertens"
"""Model that fuses frames unless another is named."""


def brackets(photos: Pathlike | Sequence[Pathlike], *, singles: bool = False) -> list[Bracket]:
    """Return the brackets among the photos of a folder, in order of time.

    Frames of a bracket are by one camera and lens, of one size, soon after each other and of
    different exposures; see `docs/exposure-fusion.md`. No pixels are read.

    Parameters
    ----------
    photos
        A folder, or files.
    singles
        Whether to return photos that belong to no bracket, too, each as a bracket of one frame.

    Returns
    -------
    list of Bracket
        `paths` of the frames, dark to bright, their `exposures` in EV and the number of the
        `reference`; both None where the camera did not record them. `note` says what is uncertain.

    Raises
    ------
    napari_restore.errors.InputError
        A folder that does not exist, or without photos.
    """
    files = _photos_in(Path(photos)) if isinstance(photos, (str, os.PathLike)) else photos
    return [found for found in images.brackets_among(files) if singles or len(found.paths) > 1]


def bracket_notes(found: Sequence[Bracket]) -> list[str]:
    """Return what the user should know of how photos were grouped: what `brackets` returned with `singles`."""
    notes = [each.note for each in found if each.note is not None]
    alone = [each.paths[0].name for each in found if len(each.paths) == 1]
    if alone:
        first = escape_controls(alone[0])
        others = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        belong, are = ("belong", "are") if others else ("belongs", "is")
        notes.append(f"{first}{others} {belong} to no bracket and {are} left out.")
    return notes


def _photos_in(folder: Path) -> list[Path]:
    try:
        photos = _photos_among(folder.iterdir())
    except OSError:
        raise InputError(f"There is no folder {folder}.", "Check the spelling.") from None
    if not photos:
        raise InputError(f"There is no image in {folder}.", "Name another folder, or the files.")
    return photos


def _photos_among(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if images.is_image_in_folder(path) and path.is_file())


def open_bracket(
    frames: Any,
    *,
    reference: int | None = None,
    exposures: Sequence[float] | None = None,
    align: Align = "auto",
    bands: Bands | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Image:
    """Open the frames of a bracket as one image, for `plan` and `restore` with a fusing model.

    Parameters
    ----------
    frames
        Two or more images as for `open_image`, in any order, of one size; or their folder. Or one image of
        floats, taken as linear light: its frames, 16 bit, are what `exposures` of it would show.
    reference
        Which of `frames` the result replaces, counted from 0: its metadata, nodata and colour
        profile stay. Default: the one in the middle by exposure.
    exposures
        EV of each frame. Default: as recorded by the camera, else estimated from the pixels.
        Of one image those to expose it by, 1 being white at 0 EV. Default: by its range.
    align
        ``"auto"`` brings the frames onto the grid of the reference, by scikit-image; ``"rough"``
        shifts them by what an overview shows, for a quick look; ``"off"`` takes them as they are.
    bands
        Which band is what, the same in all frames; as for `open_image`.
    progress
        Called with the number of frames that are aligned, and of those to align. It may raise
        `Cancelled`.

    Returns
    -------
    Image
        The reference; its `companions` are the other frames.

    Raises
    ------
    napari_restore.errors.InputError
        Frames that cannot be read, or do not fit each other.
    """
    folder = Path(frames) if isinstance(frames, (str, os.PathLike)) else None
    if (
        folder
        and folder.is_dir()
        and not images.is_zarr(folder)
        and _photos_among(folder.iterdir())
    ):
        found = brackets(folder)
        if len(found) != 1:
            count = len(found) or "no"
            raise InputError(
                f"{frames} holds {count} bracket{'s' if len(found) != 1 else ''}.",
                "Name the files of one; `brackets` lists them.",
            )
        frames = found[0].paths
    # Of an array with four axes the first counts frames.
    if isinstance(frames, (str, os.PathLike, images.Image)) or getattr(frames, "ndim", 4) < 4:
        frames = [frames]
    opened = [open_image(frame, bands=bands) for frame in frames]
    return images.bracket_of(opened, reference, exposures, align=align, progress=progress)


@documents_options(RestoreKeywords, Restore)
def fuse(
    frames: Any,
    model: str | Path | nn.Module = FUSION_MODEL,
    *,
    reference: int | None = None,
    exposures: Sequence[float] | None = None,
    align: Align = "auto",
    deghost: float | None = None,
    crop: bool = True,
    progress: bool | None = None,
    **options: Unpack[RestoreKeywords],
) -> Result:
    """Fuse the frames of a bracket: `restore` of `open_bracket`.

    Parameters
    ----------
    frames
        As for `open_bracket`, which also names bands.
    model
        As for `restore`: a method that fuses.
    reference, exposures, align
        As for `open_bracket`.
    deghost
        0 to 1: how far what moved between the frames is taken whole from one of them, as the
        parameter of `model`, named by its id. Default: as its card says.
    crop
        Whether to cut off, where no region or mask is given, what some frame does not show.
    progress
        As for `restore`.
    {options}

    Returns
    -------
    Result
        As of `restore`.

    Raises
    ------
    napari_restore.errors.RestoreError
        With one sentence naming the cause, and the next step.
    """
    bracket = open_bracket(frames, reference=reference, exposures=exposures, align=align)
    if deghost is not None:
        if not isinstance(model, str | Path):
            raise BadParameter(
                "deghost is a parameter of a model that is loaded already.",
                "Load it with parameters={'deghost': …}, or name it by its id.",
            )
        model = load_model(model, parameters={"deghost": deghost})
    if crop and options.get("region") is None and options.get("mask") is None:
        options["region"] = common_region(bracket)
    return restore(bracket, model, progress=progress, **options)


def common_region(bracket: Image) -> Region | None:
    """Return the part of a bracket's reference that all of its frames show; None: all of it."""
    region = engine.Region(*images.common_box(bracket))
    return None if region.shape == (bracket.height, bracket.width) else region


def frame_weights(plan: Plan) -> npt.NDArray[np.float32]:
    """Return the share of each frame (frames, h, w), dark to bright, in 0 … 1, before any blending.

    `plan` is one of a bracket; all of its image is read at once, which suits coarse levels. Raises
    `BadParameter` for a model that weighs no frames.
    """
    import numpy as np
    import torch

    image, weigh = plan.image, getattr(plan.model, "weights", None)
    others = image.companions
    if weigh is None or others is None:
        raise BadParameter(
            f"{plan.model.card.title} gives frames no weights.", "Choose mertens for a bracket."
        )
    box = (0, 0, image.height, image.width)
    own = plan.radiometry(None)
    values = list(plan.companions_radiometry(own))
    values.insert(others.reference, own)
    planes = np.stack(
        [
            each.to_model_tile(frame.read(box), plan.bands)
            for each, frame in zip(values, image.frames, strict=True)
        ]
    )
    valid = np.stack([frame.read_valid(box) for frame in image.frames])
    with torch.inference_mode():
        frames = torch.from_numpy(planes).permute(0, 3, 1, 2)[None]
        found = weigh(frames, None if valid.all() else torch.from_numpy(valid)[None])
    weights: npt.NDArray[np.float32] = found[0, :, 0].numpy()
    return weights
