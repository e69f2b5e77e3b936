"""Layers that are restored one after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QObject

from napari_restore import api
from napari_restore.errors import RestoreError, UnreadableImage
from napari_restore.plugin.areas._areas import area_of
from napari_restore.plugin.state._state import image_of, named_as, named_image
from napari_restore.plugin.tasks._latest_query import LatestQuery
from napari_restore.plugin.tasks._notices import error_text

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin.runs._run_controller import RunController
    from napari_restore.plugin.state._request import Request
    from napari_restore.plugin.state._state import RestoreState
    from napari_restore.plugin.state._targets import Area

Failure = tuple[str, str]
"""Name of a layer, and the sentence that says why it was not restored."""


class LayerQueue(QObject):
    """Restores layers one after another with the settings there were at the beginning.

    While another run is under way, the next layer waits for its end.
    """

    message = Signal(str)
    """Which layer is restored now."""
    ended = Signal(str, list)
    """Once: how many were restored, and each `Failure`."""

    def __init__(
        self,
        viewer: ViewerModel,
        state: RestoreState,
        layers: list[ImageLayer],
        runs: RunController,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._state, self._runs = viewer, state, runs
        self._waiting = list(layers)
        self._count = len(layers)
        self._done = 0
        self._failures: list[Failure] = []
        self._layer: ImageLayer | None = None
        """The layer whose turn it is."""
        self._name = ""
        self._next: Request | None = None
        """The request of `_layer`, while another run is under way."""
        self._running: Request | None = None
        """The request of `_layer`, while its run is under way."""
        self._query = LatestQuery("The area cannot be found", self)
        self._query.finished.connect(self._on_area)
        self._target, self._strength = state.target, state.strength_layer
        self._crop = state.crop
        # Changes of the settings are for later runs.
        self._settings: Request | None = None
        runs.ended.connect(self._on_run_ended)

    def start(self) -> None:
        """Begin with the first layer."""
        self._start_next()

    @property
    def is_running(self) -> bool:
        """Whether the run under way is one of the queue's."""
        return self._running is not None

    def clear(self) -> None:
        """Drop all layers that wait; a run under way goes on until it is cancelled."""
        self._waiting.clear()
        self._query.discard()
        self._layer = self._next = None
        if self._running is None:
            self._end(cancelled=True)

    def _start_next(self) -> None:
        while self._waiting:
            self._layer = self._waiting.pop(0)
            self._name = self._layer.name
            number = self._done + len(self._failures) + 1
            self.message.emit(f"{number} of {self._count}: {self._name}")
            try:
                if self._settings is None:
                    self._settings = self._state.request()
                if self._is_removed:
                    raise self._removed
                feather = self._settings.options.target.feather
                self._query.submit(number, self._area_of(self._layer, feather))
            except RestoreError as error:
                self._failures.append((self._name, error_text(error)))
            else:
                return
        self._end()

    @property
    def _is_removed(self) -> bool:
        """Whether the present layer has left the viewer."""
        return self._layer is not None and self._layer not in self._viewer.layers

    @property
    def _removed(self) -> UnreadableImage:
        return UnreadableImage(f"{self._name} was removed.", "Open it again.")

    def _area_of(self, layer: ImageLayer, feather: int) -> Callable[[], Area]:
        return area_of(
            self._target,
            self._viewer,
            layer,
            image_of(layer),
            feather=feather,
            strength=self._strength,
            crop=self._crop,
        )

    def _on_area(self, _: Any, area: Any) -> None:
        layer = self._layer
        assert layer is not None and self._settings is not None
        if isinstance(area, RestoreError):
            self._failures.append((self._name, str(area)))
            self._start_next()
            return
        # Bands and sensor are named for each layer by itself.
        bands, sensor = named_as(layer)
        self._next = replace(
            self._settings,
            image=named_image(layer, bands, sensor),
            bands=bands,
            sensor=sensor,
            area=area,
        )
        self._run_next()

    def _run_next(self) -> None:
        """Run the present layer, once no other run is under way."""
        if self._next is None or self._state.running:
            return
        request, self._next = self._next, None
        if self._is_removed:
            self._failures.append((self._name, error_text(self._removed)))
            self._start_next()
            return
        assert self._layer is not None
        title = title_of(request.model)
        run = self._runs.start(request, self._layer, title, self._target.value)
        # Its own request: that may name the cluster that is connected by now.
        self._running = None if run is None else run.request

    def _on_run_ended(self, status: str, outcome: Any, request: Request) -> None:
        if request is not self._running:
            self._run_next()
            return
        self._running = None
        if status == "cancelled" and self._is_removed:
            status, outcome = "failed", self._removed
        if status == "cancelled":
            self._waiting.clear()
            self._end(cancelled=True)
            return
        if status == "failed":
            self._failures.append((self._name, error_text(outcome)))
        else:
            self._done += 1
        self._start_next()

    def _end(self, *, cancelled: bool = False) -> None:
        self._runs.ended.disconnect(self._on_run_ended)
        text = f"{restored_count(self._done, self._count)}."
        self.ended.emit(f"Cancelled. {text}" if cancelled else text, self._failures)


def title_of(model: str) -> str:
    """Return the title of a known model, else its id or file."""
    return next((card.title for card in api.models() if card.id == model), Path(model).name)


def restored_count(done: int, count: int) -> str:
    """Return how many of `count` images were restored, as part of a sentence."""
    return f"{done} of {count} images restored"
