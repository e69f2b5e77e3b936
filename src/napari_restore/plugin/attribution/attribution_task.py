"""One attribution under way, and the layers in which its map comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psygnal

from napari_restore import Region, api
from napari_restore.engine import Event
from napari_restore.plugin.attribution.layers import AttributionLayers, MapArrays, picture_of
from napari_restore.plugin.tasks.notices import place_text
from napari_restore.plugin.tasks.task import Task
from napari_restore.questions import Attribute

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Worker
    from napari_restore.explain import Attribution
    from napari_restore.plugin.state.request import RunRequest


@dataclass(frozen=True)
class AttributionRequest:
    """The settings of one attribution, as `napari_restore.attribute` takes them."""

    run: RunRequest
    """Image, model, and how the one is read and where the other runs; its area is not used."""
    box: Region
    """Level-0 pixels of the image; around the polygon, if there is one."""
    polygon: tuple[tuple[float, float], ...] | None = None
    """Corners (y, x) in level-0 pixels, counted from the corner of the first."""
    settings: Attribute = field(default_factory=Attribute)
    level: int = 0
    """Of the image: 0 its true pixels, above an overview."""
    labels: Callable[[], str] | None = None
    """Writes the segments of a layer of labels, and returns the raster; not for the GUI thread."""

    @property
    def scale(self) -> int:
        """Level-0 pixels along a side of one of the map's."""
        return self.run.image.level_scale(self.level) or 1

    @property
    def question(self) -> dict[str, Any]:
        """The arguments of `napari_restore.attribute` beside image, model and options of a plan."""
        where = {"box": self.box if self.polygon is None else None, "polygon": self.polygon}
        return {**where, "level": self.level, **vars(self.settings)}


class AttributionTask(Task):
    """Has an attribution computed in `worker`, and shows the map as it comes."""

    # After `cancel`, what has been shown is removed.

    appeared = psygnal.Signal()
    """The first part of the map is about to be on the canvas."""

    def __init__(
        self,
        viewer: ViewerModel,
        source: ImageLayer,
        request: AttributionRequest,
        number: int,
        worker: Worker,
        pictures: Worker,
    ) -> None:
        """`pictures` is asked for what is shown of the image beside the finished map."""
        super().__init__(name="attribution", failure="The attribution failed")
        self._worker, self._pictures = worker, pictures
        self.request, self.source = request, source
        # The file's name of a network of one's own, not the way to it.
        name = f"{number} {Path(request.run.model).name}"
        self.layers = AttributionLayers(viewer, source, name, request.scale)
        self.view, self.exponent = "map", 0.5
        """How the finished map is shown."""
        self._viewer = viewer

    def work(self) -> tuple[Attribution, MapArrays]:
        """Return the attribution, and what its layers show."""
        question, labels = self.request.question, self.request.labels
        if labels is not None:
            question = {**question, "segments": labels()}
        found = api.attribute_elsewhere(
            self._worker,
            self.request.run.subject,
            question,
            pictures=self._pictures,
            emit=self.send,
            watch=self.send,
            stop=self.stop,
        )
        return found, picture_of(found)

    def receive(self, item: Any) -> None:
        """Report an event, or show a part of the map."""
        if self.source not in self._viewer.layers:
            self.cancel()
        if isinstance(item, Event):
            super().receive(item)
        elif not self.stop.is_set():
            if self.layers.map is None:
                self.appeared.emit()
            self.layers.partial(item)

    def finish(self) -> None:
        """Show the map, or remove what is not finished; the window of an abandoned one may be gone."""
        status, outcome = self.outcome
        if self._is_abandoned:
            return
        if status == "done" and self.source in self._viewer.layers:
            attribution, picture = outcome
            self._show(attribution.record, picture)
            self.outcome = (status, attribution)
            return
        if status == "done":
            self.outcome = ("cancelled", None)
        self.layers.remove()

    def _show(self, record: dict[str, Any], picture: MapArrays) -> None:
        level = f" · 1:{self.request.scale}" if self.request.scale > 1 else ""
        self.layers.name += f" · {record['attribution']['method']}{level}"
        self.layers.finish(picture, record, self.view, self.exponent)


@dataclass(eq=False)
class AttributionResult:
    """An attribution that the viewer shows."""

    attribution: Attribution
    layers: AttributionLayers
    source: ImageLayer
    request: AttributionRequest

    @property
    def title(self) -> str:
        """Number, model, method, and width × height at x, y of the box."""
        return f"{self.layers.name} · {place_text(self.attribution.box)}"

    @property
    def scale(self) -> int:
        """Level-0 pixels along a side of one of the map's."""
        return int(self.attribution.record["attribution"]["scale"])
