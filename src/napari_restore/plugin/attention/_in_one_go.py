"""Changes of several attributes of a layer, of which napari hears once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Layer


@contextmanager
def in_one_go(layer: Layer, names: Sequence[str] = (), *, rests: bool) -> Iterator[None]:
    """Let attributes of a layer be set within ``with``, then draw it once and emit events by name.

    napari draws a layer, makes its thumbnail and asks all layers for their extent at every
    assignment. With `rests` False neither thumbnail nor extent follow: the layer is on its way.
    """
    with layer.events.blocker_all():
        yield
    # Drawing the data also places them. With asynchronous slicing this asks for a new slice.
    layer.refresh(extent=rests, thumbnail=rests)
    for name in names:
        getattr(layer.events, name)()
