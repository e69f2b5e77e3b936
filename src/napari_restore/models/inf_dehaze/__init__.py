"""Inf-Dehaze in four sizes. Cards only; the network loads when used."""

from __future__ import annotations

from dataclasses import replace

from napari_restore.models._card import ModelCard
from napari_restore.models._registry import ModelEntry

_HERE = __name__

SMALL = ModelCard(
    id="inf-dehaze-small",
    title="Inf-Dehaze, small",
    summary="Sees the whole image at once, and is light enough for a processor.",
    scope="staged",
    bands=3,
    roles=("red", "green", "blue"),
    precisions=("float32", "bfloat16", "float16"),
    needs_weights=True,
    weights_note="None shipped yet.",
    source="Inf-Dehaze, whose supplement describes the parts; sizes of our own",
    caveats="Values that change with the size of the image: haze is judged over all of it.",
    attention=("window", "ibssa"),
)
LITE = replace(
    SMALL,
    id="inf-dehaze-lite",
    title="Inf-Dehaze, lite",
    summary="Sees the whole image at once; takes weights of the public release. Wants a GPU.",
    weights_note="None shipped. A checkpoint of the public release can be given.",
    source="Inf-Dehaze, with the widths of its public release",
    caveats=SMALL.caveats
    + " With weights of the public release, time grows with the square of the image's area.",
)
PAPER = replace(
    SMALL,
    id="inf-dehaze-paper",
    title="Inf-Dehaze, as in its paper",
    summary="The largest Inf-Dehaze: 0.4 billion weights. Needs a GPU.",
    weights_note="None shipped, and none published.",
    source="Inf-Dehaze and its supplement; widths the supplement leaves open are our reading",
)
FAST = replace(
    SMALL,
    id="inf-dehaze-fast",
    title="Inf-Dehaze, fast",
    summary="Sees the whole image at once; convolutions in place of windows. Wants a GPU.",
    weights_note="None shipped, and none published.",
    source="Inf-Dehaze, the fast variant of its supplement",
    attention=("ibssa",),
)


RENAME = {"lite": f"{_HERE}._release:renamed", "small": f"{_HERE}._release:with_context"}


def _entry(card: ModelCard, name: str) -> ModelEntry:
    return ModelEntry(
        card,
        f"{_HERE}._network:make_{name}",
        sizes=f"{_HERE}._release:sizes_of_{name}",
        rename=RENAME.get(name),
        shipped=f"{card.id}.safetensors" if card.weights_sha256 else None,
    )


ENTRIES = (
    _entry(PAPER, "paper"),
    _entry(LITE, "lite"),
    _entry(FAST, "fast"),
    _entry(SMALL, "small"),
)
