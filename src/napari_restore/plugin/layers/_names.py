"""What layers of results are called: what tells them apart first, for napari's list is narrow."""

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
    """``"Dark channel prior 2 (whole image) – town"``: method, number, area and image.

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
        label = f"{method} {number}"
    return f"{label} ({area}) – {source.name}" if area else f"{label} – {source.name}"
