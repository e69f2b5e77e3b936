"""One contrast for a source and its results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari_restore.plugin.layers._display import look_names

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin.results._variant import Variant


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
                unlink_layers(pair, look_names(pair[0]))
        for source, layer in wanted:
            if (source, layer) not in self._linked:
                for name in look_names(source):
                    setattr(layer, name, getattr(source, name))
                link_layers((source, layer), look_names(source))
        self._linked = wanted

    def close(self) -> None:
        """Let all go."""
        self.follow(())
