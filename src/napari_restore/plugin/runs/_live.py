"""A result that follows view and settings: restored again whenever they change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import psygnal
from qtpy.QtCore import QObject, QTimer
from superqt.utils import qdebounced

from napari_restore import Region
from napari_restore.engine import Event, Note, Phase, TileDone
from napari_restore.plugin.layers.layer_order import (
    ASIDE,
    LIVE,
    insert_above,
    keeping_active,
    place_above,
    result_name,
    take_away,
)
from napari_restore.plugin.layers.result_layer import ResultLayer
from napari_restore.plugin.runs._run_sequence import RunSequence, RunStep
from napari_restore.plugin.runs.draft import Viewport, live_steps
from napari_restore.plugin.runs.layer_run import RunLayers
from napari_restore.plugin.state.state import Connections
from napari_restore.plugin.state.variant import Variant

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Result, Worker
    from napari_restore.plugin.state.request import RunRequest
    from napari_restore.questions import Adjustment

LiveRequest = tuple["RunRequest", "Viewport", "ImageLayer", str, "list[Variant]"]
"""The request of the view, how the screen shows it, the layer it is of, the method's title, and the
complete results of that layer."""
DEBOUNCE_MS = 60
"""How long view and settings must not change: shorter than a tile, longer than a wheel's steps."""


class Live(QObject):
    """One result in a viewer that follows what is in view; `live_request` returns the request of that, or None."""

    # The newest request wins: what is under way for an older one stops within a tile, and finished
    # tiles are not computed again, because all views of equal settings share a store. Other
    # settings replace the layer. An image has one such layer at most, and none while it is hidden
    # for another photo, or once it is gone.

    shown = psygnal.Signal(object)
    """A new `Variant` in the place of the one before."""
    message = psygnal.Signal(str)
    """One sentence on what happens; empty when the view is restored."""
    noted = psygnal.Signal(object, object)
    """A `RunStep` and the `Note` on its image."""
    failed = psygnal.Signal(object)
    """A `RestoreError`; nothing is tried again before something changes."""
    updated = psygnal.Signal()
    """The view is restored."""
    stopped = psygnal.Signal()
    """The user has removed what it showed: it no longer follows the view."""

    def __init__(
        self,
        viewer: ViewerModel,
        live_request: Callable[[], LiveRequest | None],
        worker: Worker,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self._layers = RunLayers(viewer)
        self._live_request = live_request
        self._worker = worker
        self.is_on = False
        """Whether it follows the view."""
        self._paused = False
        self._attempt: _LiveAttempt | None = None
        self._left: list[Variant] = []
        """Live results of images that are in view still, but not the chosen one."""
        self._looks: WeakKeyDictionary[ImageLayer, Adjustment] = WeakKeyDictionary()
        """Of results that were removed as their image was hidden; for when it is shown again."""
        # Its own: PyQt's `singleShot` takes no object that the call ends with.
        self._free_soon = QTimer(self, singleShot=True)
        self._free_soon.timeout.connect(self._free)
        self._loaded: Any = None
        """The method that the child process has loaded."""
        self._start_soon = qdebounced(self._start, timeout=DEBOUNCE_MS, parent=self)
        Connections(self, (viewer.layers.events.removed, self._on_removed))

    @property
    def variant(self) -> Variant | None:
        """The result that follows the view."""
        return self._layers.variant

    @property
    def is_busy(self) -> bool:
        """Whether something is under way for what is in view."""
        return self._attempt is not None

    def switch(self, on: bool) -> None:
        """Begin to follow the view, or stop; what is shown then stays as it is."""
        if on == self.is_on:
            return
        self.is_on = on
        if on:
            self.update()
        else:
            self._cancel()
            self._layers.remove_draft()
            self._layers.refresh()
            self._release()
            self._left.clear()
            self.message.emit("")

    def update(self) -> None:
        """Restore the view again soon: it or the settings have changed."""
        if self.is_on and not self._paused:
            self._start_soon()

    def pause(self, paused: bool) -> None:
        """Stop while another run has the worker; update afterwards."""
        self._paused = paused
        if paused:
            self._cancel()
        else:
            self.update()

    def hand_over(self, former: Variant) -> None:
        """Leave a result to a run, which takes its place."""
        self._left = [each for each in self._left if each is not former]
        if former is self.variant:
            self._layers.variant = None

    def close(self) -> None:
        """Stop for good."""
        self.is_on = False
        self._left.clear()
        self._layers.stop()
        self._cancel()
        self._layers.remove_draft()
        self._layers.variant = None

    # -- one attempt after another --------------------------------------------------

    def _start(self) -> None:
        if not self.is_on or self._paused:
            return
        live_request = self._live_request()
        self._cancel()
        if live_request is None:
            self._layers.remove_draft()
            return
        if self._loaded != _method(live_request[0]):
            # It may take seconds without another message: an exported program, say.
            self.message.emit("Loading the method …")
        attempt = self._attempt = _LiveAttempt(live_request, self._worker)
        attempt.sent.connect(self._on_sent)
        attempt.ended.connect(self._on_ended)
        attempt.start(self)

    def _cancel(self) -> None:
        """Stop what is under way, and what would begin soon."""
        self._start_soon.cancel()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.abandon()

    def _on_ended(self, status: str, outcome: Any) -> None:
        attempt, self._attempt = self._attempt, None
        if status == "failed":
            self._layers.remove_draft()
            self.failed.emit(outcome)
        else:
            if attempt is not None and attempt.whole is not None:
                self._show_whole(attempt.whole)
                if self._loaded != _method(attempt.request):
                    self.message.emit("")
            else:
                self._layers.refresh()
                self.message.emit("")
            self.updated.emit()

    def _on_sent(self, message: tuple[RunStep, Any]) -> None:
        attempt = self._attempt
        if attempt is not None and attempt.source in self.viewer.layers:
            # Loads torch, which the panel does not wait for.
            from napari_restore.engine import Result

            step, what = message
            if isinstance(what, Result):
                self._on_result(attempt, step, what)
            elif isinstance(what, Event):
                self._loaded = _method(attempt.request)
                self._on_event(step, what)

    def _on_result(self, attempt: _LiveAttempt, step: RunStep, result: Result) -> None:
        if result.record:
            self._layers.complete(step, result)
        elif step.is_draft:
            self._layers.add_draft(attempt.source, step, self._name(attempt), result)
            layers = self.viewer.layers
            for same in attempt.same:
                # A draft lies over no true pixels.
                if same.layer in layers:
                    layers.move(layers.index(same.layer), place_above(self.viewer, attempt.source))
            # The bar has a label of its own for drafts.
            self.message.emit("")
        elif not self._shows(attempt, result):
            self._replace(attempt, result)

    def _on_event(self, step: RunStep, event: Event) -> None:
        if isinstance(event, TileDone):
            self._layers.mark(step, event.region)
        elif isinstance(event, Note) and event.text in step.plan.image.notes:
            self.noted.emit(step, event)
        elif isinstance(event, Phase):
            if not step.is_draft:
                self.message.emit(f"{event.name} …")
            else:
                self.message.emit("Draft …" if self._layers.draft is None else "")

    def _show_whole(self, whole: Variant) -> None:
        """Show the result of a run that has all of the view in the place of what is live, if anything is."""
        own = [each for each in self.results if each.source is whole.source]
        if own or self._layers.draft is not None:
            self._layers.remove_draft()
            for each in own:
                self.hand_over(each)
                take_away(self.viewer, each.layer)
            insert_above(self.viewer, whole.source, whole.layer)

    def _shows(self, attempt: _LiveAttempt, result: Result) -> bool:
        """Return whether the layer has the same settings, and so the same store."""
        variant = self.variant
        return (
            variant is not None
            and variant.layer in self.viewer.layers
            and variant.source is attempt.source
            and variant.has_pixels_of(result.plan)
        )

    def _name(self, attempt: _LiveAttempt) -> str:
        now = None if self.variant is None else self.variant.layer
        return result_name(self.viewer, attempt.source, attempt.title, besides=now)

    def _replace(self, attempt: _LiveAttempt, result: Result) -> None:
        """Show another result where the live one is."""
        from napari_restore.engine import Result

        source, layers, plan = attempt.source, self.viewer.layers, result.plan
        image = result.image
        whole = Region(0, 0, image.height, image.width)
        everywhere = Result(
            replace(plan, target=replace(plan.target, region=(whole,))), result.store, {}
        )
        before = next((x for x in self.results if x.source is source and x.layer in layers), None)
        if before is not None:
            self.hand_over(before)
        if self.variant is not None:
            self._rename_ordinary(self.variant)
            self._left.append(self.variant)
        look = self._looks.pop(source, None) if before is None else before.look
        if look is None and attempt.known:
            look = attempt.known[-1].look
        if before is not None:
            # Names are unique; napari would number the new one.
            before.layer.name = f"{LIVE}…"
        shown = ResultLayer(everywhere, source, f"{LIVE}{attempt.title} – {source.name}")
        variant = Variant(attempt.request, source, attempt.title, shown)
        self._layers.variant = variant
        # What earlier runs of these settings have finished needs no run at all.
        shown.mark_all([Region(*line["region"]) for line in result.store.journal])
        if look is not None:
            variant.try_adjust(look)
        if before is not None:
            shown.layer.visible, shown.layer.opacity = before.layer.visible, before.layer.opacity
            active = layers.selection.active is before.layer
            shown.layer.metadata["napari_restore_source"] = source.unique_id
            with keeping_active(self.viewer):
                layers.insert(layers.index(before.layer) + 1, shown.layer)
                self.shown.emit(variant)
                layers.remove(before.layer)
            if active:
                layers.selection.active = shown.layer
        else:
            insert_above(self.viewer, source, shown.layer)
            self.shown.emit(variant)
        self._free()

    @property
    def results(self) -> list[Variant]:
        """All that it has made and that nothing has taken."""
        return [*self._left, *([] if self.variant is None else [self.variant])]

    def _free(self) -> None:
        """Remove the results of images that are hidden for another photo, or gone; keep their look."""
        layers = self.viewer.layers
        for each in self.results:
            is_gone = each.source not in layers
            if each.saving or not (is_gone or ASIDE in each.source.metadata):
                continue
            if each.is_adjusted and not is_gone:
                self._looks[each.source] = each.look
            self.hand_over(each)
            take_away(self.viewer, each.layer)

    def _rename_ordinary(self, variant: Variant) -> None:
        variant.layer.name = result_name(
            self.viewer, variant.source, variant.title, besides=variant.layer
        )

    def _release(self) -> None:
        """Make the live result an ordinary one."""
        variant, self._layers.variant = self.variant, None
        if variant is not None:
            self._rename_ordinary(variant)

    def _on_removed(self, event: Any) -> None:
        if self._layers.is_draft(event.value):
            self._layers.remove_draft()
        elif self.variant is not None and event.value is self.variant.layer:
            self._layers.variant = None
            if self.is_on:
                self.switch(False)
                self.stopped.emit()
        elif any(event.value is each.source for each in self.results):
            # Once napari's list is at rest.
            self._free_soon.start(0)


def _method(request: RunRequest) -> Any:
    return request.model, request.weights


_PLANNING = threading.Lock()


class _LiveAttempt(RunSequence):
    """One run of a view."""

    is_daemon = True

    def __init__(self, live_request: LiveRequest, worker: Worker) -> None:
        self.request, self._viewport, self.source, self.title, self.known = live_request
        self.whole: Variant | None = None
        """A result of a run that has all of the view."""
        self.same: list[Variant] = []
        """Results of runs with these settings."""
        super().__init__(self._planned_steps(), worker)

    def _planned_steps(self) -> Iterator[RunStep]:
        # Cancelled attempts must not load and probe beside the newest.
        with _PLANNING:
            if self.stop.is_set():
                return
            true = self.request.plan()
        self.same = [known for known in self.known if known.has_pixels_of(true)]
        self.whole = next((known for known in self.same if known.shows(true)), None)
        if self.whole is None and not self.stop.is_set():
            yield from live_steps(self.request, self._viewport, true)
