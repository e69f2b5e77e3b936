"""The question of an attribution: image, model, target and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import napari_restore as nr
from napari_restore import Region

if TYPE_CHECKING:
    from napari_restore.explain import Attribution
    from napari_restore.plugin._request import Request


@dataclass(frozen=True)
class Question:
    """One question, as `napari_restore.attribute` takes it."""

    request: Request
    """Image, model, memory and device; its area does not matter."""
    box: Region
    """Level-0 pixels of the result; around the polygon, if there is one."""
    polygon: tuple[tuple[float, float], ...] | None = None
    """Corners (y, x) in level-0 pixels, counted from the corner of the first."""
    method: str | None = None
    objective: str | None = None
    baseline: str | None = None
    context_gradient: str = "auto"
    routing: str | None = None
    gap: float = 0.01
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Settings of a method that goes along no path."""
    check: str | None = None
    level: int = 0
    """Of the image: 0 its true pixels, above an overview."""

    @property
    def scale(self) -> int:
        """Level-0 pixels along a side of one of the map's."""
        return self.request.image.level_scale(self.level) or 1

    def ask(self, **callbacks: Any) -> Attribution:
        """The answer; not for the GUI thread. `callbacks` are emit, watch and stop."""
        request = self.request
        where: dict[str, Any] = {"box": self.box}
        if self.polygon is not None:
            where = {"polygon": self.polygon}
        return nr.attribute(
            request.image,
            request.load(),
            **where,
            method=self.method,
            objective=self.objective,
            baseline=self.baseline,
            context_gradient=self.context_gradient,
            routing=self.routing,
            gap=self.gap,
            arguments=self.arguments,
            check=self.check,
            level=self.level,
            exclude=request.exclude,
            extent=request.extent,
            memory=request.memory,
            device=request.device,
            **callbacks,
        )
