"""Ties a viewer's settings and view to its child process and to the live result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_restore import api
from napari_restore.errors import RestoreError
from napari_restore.plugin._notices import show_problem, words_of
from napari_restore.plugin._state import image_of
from napari_restore.plugin.areas._targets import Area
from napari_restore.plugin.layers._draft_layer import drafts_in
from napari_restore.plugin.layers._visible import visible_region
from napari_restore.plugin.runs._draft import RunStep, Viewport, first_step, viewport_of
from napari_restore.plugin.runs._live import Live
from napari_restore.plugin.threads._background import in_background

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore import Region
    from napari_restore.engine import Plan
    from napari_restore.plugin._request import Request
    from napari_restore.plugin._state import RestoreState
    from napari_restore.plugin.results._variant import Variant
    from napari_restore.plugin.runs._live import LiveRequest
    from napari_restore.plugin.runs._plan_controller import Planner
    from napari_restore.plugin.runs._run_bar import RunBar

WARM_MS = 400
"""The child process is started so long after there is something to restore."""
FIELDS = tuple(
    "layer bands model weights trust parameters exclude exclude_pending memory device tile"
    " tile_batch extent".split()
)
"""Settings that make another live result."""


class LiveControl(QObject):
    """Keeps a child process warm for a viewer and the live result up to date.

    All runs of the panel go to `worker`, one after another; it ends with `close`.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        state: RestoreState,
        bar: RunBar,
        planner: Planner,
        title: Callable[[], str],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.worker = api.new_worker()
        self.live = Live(viewer, self._live_request, self.worker, self)
        self._viewer, self._state, self._bar = viewer, state, bar
        self._planner, self._title = planner, title
        self._warmed: Any = None
        self._closed = False
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._warm)
        bar.live_toggled.connect(self.live.switch)
        planner.settled.connect(self._on_planned)
        self.live.shown.connect(self._on_shown)
        self.live.message.connect(bar.show_message)
        self.live.rested.connect(self._show_draft)
        self.live.failed.connect(self._on_failed)
        self.live.stopped.connect(self._on_stopped)
        for signal, slot in self._signals():
            signal.connect(slot)
        if parent is not None:
            # Closing the window destroys its widgets without closing them.
            parent.destroyed.connect(self.worker.close)
        self._on_layer()

    def close(self) -> None:
        """Stop following and end the child process."""
        self._closed = True
        self._soon.stop()
        self.live.close()
        self._planner.settled.disconnect(self._on_planned)
        for signal, slot in self._signals():
            signal.disconnect(slot)
        self.worker.close()

    def steps(self, request: Request, layer: ImageLayer) -> Callable[[Request], Iterable[RunStep]]:
        """What a run of `request` makes: a draft first where that helps, then the true pixels."""
        known, seen = self._planner.plan_of(request), self._viewport(layer)

        def steps(request: Request) -> Iterator[RunStep]:
            true = request.plan() if known is None else known
            first = None if seen is None else first_step(request, seen, true)
            if first is not None:
                yield first
            yield RunStep(true, False)

        return steps

    def _signals(self) -> list[tuple[Any, Any]]:
        camera, events = self._viewer.scene.camera.events, self._state.events
        update = self._on_change
        return [
            *((getattr(events, name), update) for name in FIELDS),
            (events.running, self._on_running),
            (events.layer, self._on_layer),
            (camera.center, update),
            (camera.zoom, update),
            (self._viewer.layers.events.inserted, self._show_draft),
            (self._viewer.layers.events.removed, self._show_draft),
            (self._viewer.canvas.events.size, update),
        ]

    def _on_change(self) -> None:
        self.live.update()

    def _show_draft(self) -> None:
        """Say whether true pixels are on their way to a draft."""
        coming = self._state.running or self.live.is_busy
        message = "Draft: true pixels follow" if coming else "Draft: Run makes the true pixels"
        self._bar.show_draft(message if drafts_in(self._viewer) else "")

    def _on_layer(self) -> None:
        if self._state.layer is not None and self.worker.process is None:
            self._soon.start(WARM_MS)

    def _warm(self) -> None:
        # A folder's command has the memory to itself.
        if not self._state.running:
            self.worker.warm()

    def _on_running(self, running: bool) -> None:
        self.live.pause(running)
        self._show_draft()
        if not running:
            # The child may have ended to make room.
            self._on_layer()

    def _on_planned(self, plan: Plan) -> None:
        """Let the child load what the plan needs, once for every image and model.

        And once more when the image's levels are made: drafts take theirs from them.
        """
        image = plan.image
        warmed = (image, plan.model, image.is_built(len(image.level_shapes) - 1))
        if self._state.running or self.live.is_on:
            return
        known = self._warmed
        if known is None or any(a is not b for a, b in zip(known, warmed, strict=True)):
            self._warmed = warmed
            api.warm(self.worker, plan)
            self._prepare_first_step(plan)

    def _prepare_first_step(self, plan: Plan) -> None:
        """Let the child load also what a draft of the view needs, which must come at once."""
        live_request = self._live_request()
        if live_request is None or not plan.needs_context_pass:
            return
        request, viewport, _, _ = live_request
        in_background(partial(first_step, request, viewport, plan), self._on_first_step)

    def _on_first_step(self, step: RunStep | None) -> None:
        if step is not None and not (self._closed or self._state.running or self.live.is_on):
            api.warm(self.worker, step.plan)

    def _live_request(self) -> LiveRequest | None:
        layer = self._state.layer
        viewport = None if layer is None else self._viewport(layer)
        if layer is None or viewport is None:
            return None
        try:
            request = self._state.request(Area((viewport.region,)))
        except RestoreError:
            return None
        return request, viewport, layer, self._title()

    def _viewport(self, layer: ImageLayer) -> Viewport | None:
        try:
            image = image_of(layer)
            region: Region = visible_region(self._viewer, layer, (image.height, image.width))
        except RestoreError:
            return None
        return viewport_of(self._viewer, layer, region)

    def _on_shown(self, variant: Variant) -> None:
        self._state.variants = (*self._state.variants, variant)
        self._state.current = variant

    def _on_stopped(self) -> None:
        self._bar.set_live(False)

    def _on_failed(self, error: RestoreError) -> None:
        self._bar.show_message(words_of(error))
        show_problem(error)
