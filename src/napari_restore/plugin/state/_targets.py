"""The targets that can be restored, and the area of one in level-0 pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from napari_restore import Region
from napari_restore.errors import BadRegion


class NotReady(BadRegion):
    """Raised while a mask is made on another thread."""


class Target(Enum):
    """The choices, by the labels the panel shows."""

    VISIBLE = "visible region"
    DRAWN = "drawn areas"
    PAINTED = "painted strength"
    GRADIENT = "gradient"
    WHOLE = "whole image"

    @property
    def is_drawn(self) -> bool:
        """Whether it follows from a layer that the user draws in."""
        return self not in (Target.VISIBLE, Target.WHOLE)

    @property
    def fades(self) -> bool:
        """Whether the edges of such a target may fade over some pixels."""
        return self in (Target.DRAWN, Target.PAINTED)


@dataclass(frozen=True)
class Area:
    """What is restored, in level-0 pixels: boxes, and where drawn, a mask within them."""

    targets: tuple[Region, ...]
    mask: str | None = None
    """Path of a GeoJSON or raster mask, as `napari_restore.plan` takes it."""
    soft: bool = False
    """Whether the mask has grades of its own: then its edges do not fade."""
    pixels: int | None = field(default=None, compare=False)
    """About how many pixels the mask reaches; None without one, or where it is not counted."""

    @property
    def region(self) -> Region:
        """The smallest box holding all targets."""
        y0, x0, y1, x1 = zip(*self.targets, strict=True)
        return Region(min(y0), min(x0), max(y1), max(x1))
