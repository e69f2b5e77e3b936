"""The tab for attributions: which pixels of the image made a part of the result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import psygnal
from napari.layers import Image as ImageLayer, Labels, Layer, Shapes
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QLabel

from napari_restore import Region, api
from napari_restore.errors import BadParameter, BadRegion, RestoreError
from napari_restore.plugin.areas.areas import (
    TARGETS_OF,
    corners_in_pixels,
    is_upright_box,
    outlines,
    segments_of_layer,
)
from napari_restore.plugin.areas.drawing_controller import add_outlines
from napari_restore.plugin.attribution.attribution_form import CLEAR, AttributionForm
from napari_restore.plugin.attribution.attribution_task import (
    AttributionRequest,
    AttributionResult,
    AttributionTask,
)
from napari_restore.plugin.attribution.results_section import AttributionResultsSection
from napari_restore.plugin.layers.layer_order import keeping_active
from napari_restore.plugin.layers.placing import bounding_region, in_data
from napari_restore.plugin.runs.run_bar import TaskTab
from napari_restore.plugin.state.request import Area
from napari_restore.plugin.state.state import Connections, RestoreState, image_of
from napari_restore.plugin.tasks.notices import box_text, done_text, error_text
from napari_restore.plugin.widgets.folding import bring_into_view, page_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.runs.run_controller import RunController


NAME = "Attribution target"
MODES = {"rectangle": "add_rectangle", "polygon": "add_polygon"}


class TargetShape(NamedTuple):
    """Level-0 pixels, and the corners of a polygon within them, as an `AttributionRequest` has them."""

    box: Region
    polygon: tuple[tuple[float, float], ...] | None


class TargetController(QObject):
    """Adds shapes over the image of the state and knows which of them is the target."""

    # That is the one selected, or else the last, of the topmost layer of targets.

    changed = psygnal.Signal()
    """The target has changed, or the tool."""

    def __init__(self, viewer: ViewerModel, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._state = viewer, state
        self._layer: Shapes | None = None
        self.side = 128
        """Pixels along a side of a box that is clicked."""
        self.tool: str | None = None
        """``rectangle``, ``polygon``, ``click``, or None."""
        self._of_layer = Connections(self)
        Connections(self, (viewer.layers.events.removed, self._on_removed))

    # -- drawing -----------------------------------------------------------------

    def use(self, tool: str | None) -> None:
        """Begin to draw with a tool, or end with None."""
        if tool == self.tool:
            return
        self._end()
        if tool is not None and self._state.layer is not None:
            self.tool = tool
            layer = self._layer_over(self._state.layer)
            if tool == "click":
                self._viewer.layers.selection.active = self._state.layer
                self._viewer.mouse_drag_callbacks.append(self._on_press)
            else:
                layer.visible = True
                self._viewer.layers.selection.active = layer
                layer.mode = MODES[tool]
        self.changed.emit()

    def _end(self) -> None:
        if self.tool == "click":
            self._viewer.mouse_drag_callbacks.remove(self._on_press)
        elif self._layer is not None:
            self._layer.mode = "pan_zoom"
        self.tool = None

    def add_box(self, box: Region) -> None:
        """Add a box of level-0 pixels, which becomes the target."""
        source = self._state.layer
        assert source is not None
        layer = self._layer_over(source)
        # A pixel's middle has whole coordinates.
        y0, x0, y1, x1 = np.array(box, float) - 0.5
        corners = [(y0, x0), (y0, x1), (y1, x1), (y1, x0)]
        layer.selected_data = set()
        layer.add_rectangles([corners])
        layer.selected_data = set()
        self.changed.emit()

    def _on_press(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        source = self._state.layer
        start = tuple(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        # A drag moves the image, as ever.
        if source is None or np.hypot(*np.subtract(event.pos, start)) > 4:
            return
        image = image_of(source)
        ((y, x),) = in_data(viewer, source, [np.array(event.position)[-2:]])
        size = (image.height, image.width)
        if not (-0.5 <= y < size[0] - 0.5 and -0.5 <= x < size[1] - 0.5):
            return
        half = self.side // 2
        y0, x0 = (
            int(np.clip(round(at) - half, 0, max(0, whole - self.side)))
            for at, whole in zip((y, x), size, strict=True)
        )
        box = Region(y0, x0, y0 + self.side, x0 + self.side)
        self.add_box(box.intersect(Region(0, 0, *size)))
        self.use(None)

    def _layer_over(self, source: ImageLayer) -> Shapes:
        layer = self._shapes_over(source)
        if layer is None:
            with keeping_active(self._viewer):
                layer = add_outlines(self._viewer, NAME, source, {TARGETS_OF: source.unique_id})
        self._layer, events = layer, layer.events
        shaped = ((event, self._on_shape) for event in (events.data, events.highlight))
        self._of_layer.turn(*shaped, (events.mode, self._on_mode))
        return layer

    def _shapes_over(self, source: ImageLayer) -> Shapes | None:
        known = source.unique_id
        own = (x for x in reversed(self._viewer.layers) if x.metadata.get(TARGETS_OF) == known)
        return next(own, None)

    # -- the target --------------------------------------------------------------

    def target(self) -> TargetShape:
        """Return the target; raises `BadRegion` where there is none."""
        source = self._state.layer
        shapes = None if source is None else self._shapes_over(source)
        drawn = [] if shapes is None or source is None else outlines(self._viewer, shapes, source)
        if source is None or not drawn:
            raise BadRegion("No target is drawn yet.", "Press Box or Click, then the image.")
        image, points = image_of(source), drawn[-1]
        box = bounding_region(points, (image.height, image.width))
        if box is None:
            raise BadRegion(f"The box lies outside {source.name}.", "Draw one over the image.")
        if is_upright_box(points):
            return TargetShape(box, None)
        return TargetShape(box, tuple((y, x) for x, y in corners_in_pixels(points)))

    def _on_shape(self, event: Any = None) -> None:
        if str(getattr(event, "action", "")) == "added" and self.tool == "rectangle":
            self.use(None)
        self.changed.emit()

    def _on_mode(self, event: Any) -> None:
        """End drawing at Escape, or at another mode of napari."""
        if self.tool in MODES and str(event.mode) != MODES[self.tool]:
            self.tool = None
            self.changed.emit()

    def _on_removed(self, event: Any) -> None:
        if event.value is self._layer:
            self.tool = self._layer = None
            self._of_layer.end()
            self.changed.emit()


HINT = "Which pixels of the image made what the method does in a box, not why."


class AttributionTab(TaskTab):
    """Chooses a target and a method for image and model of the panel, and shows the maps."""

    TITLE: ClassVar[str] = "Attribution"

    def __init__(self, viewer: ViewerModel, state: RestoreState, runs: RunController) -> None:
        super().__init__(viewer, state, runs)
        self._begun = 0
        """How many attributions there have been: layers are numbered."""
        self.target = TargetController(viewer, state, self)
        self.form = AttributionForm(self)
        self.make_bar()
        self.results = AttributionResultsSection(viewer, state)
        hint = QLabel(HINT, self, wordWrap=True)
        page_of(self, hint, self.form, self.bar, self.results)
        self.form.tool_requested.connect(self.target.use)
        self.form.side_changed.connect(partial(setattr, self.target, "side"))
        self.target.changed.connect(self.show_target)
        self.results.rerun_requested.connect(self._on_rerun)
        layers = viewer.layers.events
        self.listen(self._on_layer, state.events.layer)
        self.listen(self._on_labels, layers.inserted, layers.removed)
        self.listen(self._on_model, state.events.method)
        self._on_layer()
        self._on_labels()
        self._on_model()

    def leave(self) -> None:
        """End the attribution, and disconnect from the viewer."""
        task, self.task = self.task, None
        if task is not None:
            task.layers.remove()
        self.target.use(None)

    def own_layers(self) -> list[Layer]:
        """Return the targets and the maps."""
        shown = [result.layers for result in self.results.all]
        shown += [] if self.task is None else [self.task.layers]
        targets = [layer for layer in self.viewer.layers if TARGETS_OF in layer.metadata]
        return [*targets, *(layer for each in shown for layer in each.all)]

    def setVisible(self, visible: bool) -> None:
        """Show or hide the tab with its layers; when it is shown, list the methods there are."""
        if not visible:
            self.target.use(None)
            self.results.end_comparison()
        super().setVisible(visible)
        if visible:
            self.form.list_methods(partial(api.explainers_of, self._runs.worker))

    # -- the request ---------------------------------------------------------------

    def _on_layer(self) -> None:
        self.target.use(None)
        layer = self.state.layer
        self.bar.allow(layer is not None)
        self.form.show_image(None if layer is None else self.state.named_image(layer))
        self.show_target()

    def _labels(self) -> dict[str, Labels]:
        """Return the layers of labels, the topmost first, by their ids."""
        found = [x for x in reversed(self.viewer.layers) if isinstance(x, Labels) and x.ndim == 2]
        return {str(layer.unique_id): layer for layer in found}

    def _on_labels(self) -> None:
        self.form.show_labels({key: layer.name for key, layer in self._labels().items()})

    def _on_model(self) -> None:
        cards = (card for card in api.models() if card.id == self.state.method.model)
        self.form.show_card(next(cards, None))

    def show_target(self) -> None:
        """Show the target's size and place, or why there is none."""
        self.form.show_tool(self.target.tool)
        try:
            self.form.box.setText(box_text(self.target.target().box))
        except RestoreError as error:
            self.form.box.setText(error_text(error))

    def request(self) -> AttributionRequest:
        """Return what the form is set to; raises `RestoreError` where something is missing."""
        target, settings = self.target.target(), self.form.method_settings()
        run = self.state.request(Area((target.box,)))
        alone = run.image.companions is None
        if alone and settings.method in CLEAR and not settings.baseline:
            raise BadParameter(
                "This method goes from a clear image of the same scene.",
                "Choose one under Baseline.",
            )
        level, labels = self.form.level.currentData() or 0, None
        if self.form.labels is not None:
            assert self.state.layer is not None
            labels = segments_of_layer(
                self._labels()[self.form.labels], self.state.layer, run.image
            )
        return AttributionRequest(run, target.box, target.polygon, settings, level, labels)

    # -- the attribution -------------------------------------------------------------

    def start(self) -> None:
        """Compute an attribution of the target; raises `RestoreError`."""
        request = self.request()
        assert self.state.layer is not None
        self._start(request, self.state.layer)

    def _on_rerun(self, request: AttributionRequest) -> None:
        current = self.results.current
        if current is not None:
            self._start(request, current.source)

    def _start(self, request: AttributionRequest, source: ImageLayer) -> None:
        number = self._begun + 1
        task = self.begin(
            lambda: AttributionTask(
                self.viewer, source, request, number, self._runs.worker, self._runs.questions
            ),
            "Attributions are",
            "Loading the method …",
        )
        if task is None:
            return
        self._begun = number
        self.target.use(None)
        task.view = self.results.view.currentData()
        task.exponent = self.results.exponent.currentData()
        task.appeared.connect(self.results.hide_layers)

    def finish(self, task: AttributionTask, status: str, outcome: Any) -> None:
        """Show the map, or again what was there before."""
        if status != "done":
            self.results.show_layers()
        if status == "cancelled":
            self.bar.show_message("Cancelled.")
        elif status == "done":
            computing = outcome.record["measured"]["seconds"]
            waited = time.monotonic() - task.began
            self.bar.show_message(done_text(waited, computing=computing))
            self.results.add(AttributionResult(outcome, task.layers, task.source, task.request))
            if self.isVisible():
                # The form fills a low window: the results are below.
                bring_into_view(self.results)
