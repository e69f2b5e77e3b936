"""One contrast for a source and its results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin.results._variant import Variant

LOOKS = ("contrast_limits", "gamma", "colormap")


class LinkedContrast:
    """Keeps contrast limits, gamma and colormap of sources and results the same."""

    def __init__(self) -> None:
        self._linked: list[tuple[ImageLayer, ImageLayer]] = []

    def follow(self, variants: Iterable[Variant]) -> None:
        """Link just these with their sources; the others are let go."""
        from napari.experimental import link_layers, unlink_layers

        wanted = [(variant.source, variant.layer) for variant in variants]
        for pair in self._linked:
            if pair not in wanted:
                unlink_layers(pair, _looks(pair[0]))
        for source, layer in wanted:
            if (source, layer) not in self._linked:
                for name in _looks(source):
                    setattr(layer, name, getattr(source, name))
                link_layers((source, layer), _looks(source))
        self._linked = wanted

    def close(self) -> None:
        """Let all go."""
        self.follow(())


def _looks(source: ImageLayer) -> tuple[str, ...]:
    """Colour is shown as it is; only gamma bends it."""
    return ("gamma",) if source.rgb else LOOKS
