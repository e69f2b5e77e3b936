"""Layers that are restored one after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore import api
from napari_restore.errors import RestoreError, UnreadableImage
from napari_restore.plugin._latest import Latest
from napari_restore.plugin._notices import words_of
from napari_restore.plugin._state import image_of
from napari_restore.plugin.areas._areas import area_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin._request import Request
    from napari_restore.plugin._state import RestoreState
    from napari_restore.plugin.areas._targets import Area
    from napari_restore.plugin.runs._batch import BatchSection


class LayerQueue:
    """Layers that wait for their turn with the settings there were at the beginning.

    While another run is under way, the next layer waits for its end.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        state: RestoreState,
        layers: list[ImageLayer],
        section: BatchSection,
    ) -> None:
        self._viewer = viewer
        self._state = state
        self._section = section
        self._waiting = list(layers)
        self._count = len(layers)
        self._done = 0
        self._problems: list[tuple[str, str]] = []
        self._now: ImageLayer | None = None
        self._next: Request | None = None
        """What `_now` needs, while another run is under way."""
        self._asked: Request | None = None
        """The run of `_now`."""
        self._name = ""
        self._latest = Latest("The area cannot be found", section)
        self._latest.answered.connect(self._on_area)
        self._target, self._feather = state.target, state.feather
        self._strength = state.strength_layer
        # Frozen: what is changed meanwhile is for later runs. The source counts too.
        self._like: Request | None = None
        self._bands = state.bands
        self._first = state.layer

    def next(self) -> None:
        """Begin with the next layer; the end is text when there is none."""
        while self._waiting:
            self._now = self._waiting.pop(0)
            self._name = self._now.name
            number = self._done + len(self._problems) + 1
            self._section.message.setText(f"{number} of {self._count}: {self._name}")
            try:
                if self._like is None:
                    self._like = self._state.request()
                if self._is_gone:
                    raise self._removed
                self._latest.ask(number, self._area_of(self._now))
            except RestoreError as error:
                self._problems.append((self._name, words_of(error)))
            else:
                return
        self._emit()

    @property
    def _is_gone(self) -> bool:
        """Whether the present layer has left the viewer."""
        return self._now is not None and self._now not in self._viewer.layers

    @property
    def _removed(self) -> UnreadableImage:
        return UnreadableImage(f"{self._name} was removed.", "Open it again.")

    @property
    def is_running(self) -> bool:
        """Whether the run under way is one of its own."""
        return self._asked is not None

    def take(self, status: str, outcome: Any, request: Request) -> None:
        """A run of `request` has ended, as the panel reports it; perhaps another's."""
        if request is not self._asked:
            self._ask()
            return
        self._asked = None
        if status == "cancelled" and self._is_gone:
            status, outcome = "failed", self._removed
        if status == "cancelled":
            self._waiting.clear()
            self._emit(cancelled=True)
            return
        if status == "failed":
            self._problems.append((self._name, words_of(outcome)))
        else:
            self._done += 1
        self.next()

    def empty(self) -> None:
        """Nothing waits any more; its run under way is the panel's to stop."""
        self._waiting.clear()
        self._latest.forget()
        self._now = self._next = None
        if self._asked is None:
            self._emit(cancelled=True)

    def _area_of(self, layer: ImageLayer) -> Callable[[], Area]:
        return area_of(
            self._target,
            self._viewer,
            layer,
            image_of(layer),
            feather=self._feather,
            strength=self._strength,
        )

    def _on_area(self, number: Any, area: Any) -> None:
        layer = self._now
        assert layer is not None and self._like is not None
        if isinstance(area, RestoreError):
            self._problems.append((self._name, str(area)))
            self.next()
            return
        # What the user said of bands was said of one layer.
        bands = self._bands if layer is self._first else None
        self._next = replace(
            self._like,
            image=image_of(layer, bands),
            bands=bands,
            area=area,
            feather=0 if area.soft else self._feather,
        )
        self._ask()

    def _ask(self) -> None:
        """Ask for the run of the present layer, once no other is under way."""
        if self._next is None or self._state.running:
            return
        request, self._next = self._next, None
        if self._is_gone:
            self._problems.append((self._name, words_of(self._removed)))
            self.next()
            return
        self._asked = request
        self._section.run_requested.emit(
            request, self._now, title_of(request.model), self._target.value
        )

    def _emit(self, *, cancelled: bool = False) -> None:
        text = f"{counted(self._done, self._count)}."
        self._section.finish(f"Cancelled. {text}" if cancelled else text, self._problems)


def title_of(model: str) -> str:
    """The title of a model that is known, else its id or file."""
    return next((card.title for card in api.models() if card.id == model), Path(model).name)


def counted(done: int, count: int) -> str:
    return f"{done} of {count} images restored"
