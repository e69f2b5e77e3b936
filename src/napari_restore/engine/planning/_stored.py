"""What a planned run writes, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_restore.engine._region import Region
from napari_restore.engine.planning._layout import image_bytes
from napari_restore.engine.planning._source import Source
from napari_restore.errors import BadParameter
from napari_restore.images import Image, cache_dir, can_adopt
from napari_restore.models import RestorationModel, SweptModel
from napari_restore.questions import Restore

MAPS = ("change", "quality")
"""Side maps that a run can keep, in the order of the record."""


@dataclass(frozen=True)
class Stored:
    """What the run writes."""

    maps: tuple[str, ...]
    pyramid: bool
    centre_first: bool
    in_place: bool
    """Whether tiles are written beside the output, which the store then becomes."""


def stored_of(source: Source, model: RestorationModel, options: Restore) -> Stored:
    image, storing = source.image, options.storing
    maps = _maps(storing.maps, model.card.maps)
    whole = source.targets == (Region(0, 0, image.height, image.width),)
    in_place = (
        storing.output is not None
        and source.part is None
        and options.target.mask is None
        and options.adjustment.is_neutral
        and not maps
        and whole
        and can_adopt(image, Path(storing.output))
        # Maps of sweeps lie in the store, and the user has chosen where.
        and not (options.machine.scratch is not None and isinstance(model, SweptModel))
    )
    # Levels are for a display from the centre outwards; a file that is not displayed is faster row
    # by row.
    return Stored(maps, storing.pyramid or in_place, storing.pyramid or not whole, in_place)


def store_path(name: str, options: Restore, stored: Stored) -> Path:
    """Return where the run writes its tiles: in the scratch folder, or beside the output."""
    scratch, output = options.machine.scratch, options.storing.output
    if stored.in_place and output is not None:
        beside = Path(output).absolute()
        return beside.with_name(f".{beside.name}.{name[:8]}.unfinished")
    folder = Path(scratch) if scratch is not None else cache_dir() / "results"
    return folder / f"{name}.zarr"


def _maps(wanted: bool | Sequence[str], offered: tuple[str, ...]) -> tuple[str, ...]:
    """Return the side maps to keep: the requested ones, or all of the model's."""
    if wanted is False:
        return ()
    possible = (*offered, *MAPS)
    if wanted is True:
        return possible
    unknown = [name for name in wanted if name not in possible]
    if unknown:
        raise BadParameter(f"There is no map {unknown[0]!r}.", f"Choose among {possible}.")
    return tuple(wanted)


def disk_bytes(image: Image, targets: tuple[Region, ...], pyramid: bool) -> int:
    pixels = sum(target.pixels for target in targets)
    share = 4 / 3 if pyramid else 1.0
    return int(pixels * image_bytes(image) / max(1, image.height * image.width) * share)
