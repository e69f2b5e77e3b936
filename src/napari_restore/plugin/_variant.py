"""One result of an image: how it was made and the layer that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Result
    from napari_restore.plugin._result_layer import ResultLayer
    from napari_restore.plugin._state import Request


@dataclass(eq=False)
class Variant:
    """A result with its settings. A re-run makes another one, never replaces this."""

    request: Request
    source: ImageLayer
    """The layer it was made from."""
    title: str
    """The model's title."""
    shown: ResultLayer
    record: dict[str, Any] | None = None
    """Once the run has ended, whole or not."""
    result: Result | None = None
    """Once it is complete and can be saved."""

    @property
    def layer(self) -> ImageLayer:
        """The layer that shows it."""
        return self.shown.layer

    @property
    def name(self) -> str:
        """Its name: that of its layer."""
        return str(self.layer.name)
