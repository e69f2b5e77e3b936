"""Names of result layers: they begin with what differs, as napari's list is narrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

LIVE = "Live: "
DRAFT = "Draft: "


def result_name(
    viewer: ViewerModel,
    source: Layer,
    method: str,
    area: str = "",
    *,
    besides: Layer | None = None,
) -> str:
    """Return ``"2: Dark channel prior (whole image) – town"``: number, method, area and image.

    The first result of a method has no number; a draft is called as what replaces it.
    `besides` is a layer whose number is free.
    """
    names = [
        str(layer.name).removeprefix(LIVE)
        for layer in viewer.layers
        if layer is not besides
        and not str(layer.name).startswith(DRAFT)
        and layer.metadata.get("napari_restore_source") == source.unique_id
    ]
    number, label = 1, method
    while any(name.startswith((f"{label} (", f"{label} –")) for name in names):
        number += 1
        # First: napari's list cuts the end off, and often all but the first words.
        label = f"{number}: {method}"
    return f"{label} ({area}) – {source.name}" if area else f"{label} – {source.name}"
