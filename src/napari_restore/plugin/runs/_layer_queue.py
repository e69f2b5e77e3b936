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

    from napari_restore.plugin._state import Request, RestoreState
    from napari_restore.plugin.areas._targets import Area
    from napari_restore.plugin.runs._batch import BatchSection


class LayerQueue:
    """Layers that wait for their turn with the settings there were at the beginning."""

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
        self._name = ""
        self._latest = Latest(section)
        self._latest.answered.connect(self._on_area)
        self._target, self._feather = state.target, state.feather
        self._strength = state.strength_layer
        # Frozen: what is changed meanwhile is for later runs. The source counts too.
        self._like: Request | None = None
        self._bands = state.bands
        self._first = state.layer

    def next(self) -> None:
        """Begin with the next layer; the end is told when there is none."""
        while self._waiting:
            self._now = self._waiting.pop(0)
            self._name = self._now.name
            number = self._done + len(self._problems) + 1
            self._section.message.setText(f"{number} of {self._count}: {self._name}")
            try:
                if self._like is None:
                    self._like = self._state.request()
                if self._now not in self._viewer.layers:
                    raise UnreadableImage(f"{self._name} was removed.", "Open it again.")
                self._latest.ask(number, self._area_of(self._now))
            except RestoreError as error:
                self._problems.append((self._name, words_of(error)))
            else:
                return
        self._tell()

    def take(self, status: str, outcome: Any) -> None:
        """A run has ended, as the panel tells it."""
        if self._now is None:
            return
        if status == "cancelled":
            self._waiting.clear()
            self._tell(cancelled=True)
            return
        if status == "failed":
            self._problems.append((self._name, words_of(outcome)))
        else:
            self._done += 1
        self.next()

    def empty(self) -> None:
        """Nothing waits any more; a run under way is the panel's to stop."""
        self._waiting.clear()
        self._latest.forget()
        if not self._state.running:
            self._tell(cancelled=True)

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
        request = replace(
            self._like,
            image=image_of(layer, bands),
            bands=bands,
            area=area,
            feather=0 if area.soft else self._feather,
        )
        self._section.asked.emit(request, layer, title_of(request.model), self._target.value)

    def _tell(self, *, cancelled: bool = False) -> None:
        self._now = None
        told = f"{counted(self._done, self._count)}."
        self._section.finish(f"Cancelled. {told}" if cancelled else told, self._problems)


def title_of(model: str) -> str:
    """The title of a model that is known, else its id or file."""
    return next((card.title for card in api.models() if card.id == model), Path(model).name)


def counted(done: int, count: int) -> str:
    return f"{done} of {count} images restored"
