"""The settings of one attribution: image, model, target and method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import napari_restore as nr
from napari_restore import Region
from napari_restore.questions import Attribute

if TYPE_CHECKING:
    from napari_restore.explain import Attribution
    from napari_restore.plugin.state._request import Request


@dataclass(frozen=True)
class AttributionRequest:
    """The settings of one attribution, as `napari_restore.attribute` takes them."""

    run: Request
    """Image, model, and how the one is read and where the other runs; its area is not used."""
    box: Region
    """Level-0 pixels of the result; around the polygon, if there is one."""
    polygon: tuple[tuple[float, float], ...] | None = None
    """Corners (y, x) in level-0 pixels, counted from the corner of the first."""
    settings: Attribute = field(default_factory=Attribute)
    level: int = 0
    """Of the image: 0 its true pixels, above an overview."""

    @property
    def scale(self) -> int:
        """Level-0 pixels along a side of one of the map's."""
        return self.run.image.level_scale(self.level) or 1

    def attribute(self, **callbacks: Any) -> Attribution:
        """Compute it; not in the GUI thread. `callbacks` are emit, watch and stop."""
        run = self.run
        where: dict[str, Any] = {"box": self.box}
        if self.polygon is not None:
            where = {"polygon": self.polygon}
        return nr.attribute(
            run.image,
            run.load(),
            **where,
            level=self.level,
            **vars(self.settings),
            **vars(run.options.reading),
            **vars(run.options.machine),
            **callbacks,
        )
