"""Inf-Dehaze in four sizes. Cards only; the network loads when used."""

from __future__ import annotations

from dataclasses import replace

from napari_restore.models._card import AMOUNT, ModelCard
from napari_restore.models._registry import ModelEntry

_HERE = "napari_restore.models.inf_dehaze"
DEEPEST = 2.5
"""Upper bound of the optical depth: the inversion multiplies errors by exp of it."""

_BASE = ModelCard(
    id="inf-dehaze",
    title="Inf-Dehaze",
    summary="",
    scope="swept",
    bands=3,
    roles=("red", "green", "blue"),
    precisions=("float32", "bfloat16", "float16"),
    needs_weights=True,
    caveats="Values that change with the size of the image: haze is judged over all of it.",
    attention=("window", "band", "sparse", "routing"),
    routing=("experts", "buckets"),
)
SMALL = replace(
    _BASE,
    id="inf-dehaze-small",
    title="Inf-Dehaze, small",
    summary="For those who study such networks: Atmosphere's view of the whole picture, and a network "
    "behind it whose tiles know of each other. As good, and 30 times as slow.",
    needs_context=True,
    placed=True,
    bfloat16_error=1.0,
    parameters=(AMOUNT,),
    weights_sha256="847b1e5bce37273cbadffae77345a4c5522cda96c2d476e886508aa1d2486bdd",
    source="Inf-Dehaze, whose supplement describes the parts; sizes, context and head of our own",
    trained_on="110 images under free licences, under synthetic haze "
    "(docs/models/inf-dehaze-small.md)",
    validated_on="synthetic haze only: 16 scenes of sources it never saw, under eight kinds of haze "
    "from another generator: 3.0 dB more than the dark channel prior on aerial, 0.5 on natural scenes "
    "(docs/models/inf-dehaze-small.md).",
    caveats=_BASE.caveats + " What atmosphere takes for clear stays as it is. "
    "A haze colour that would cast magenta is made less green; dark parts in thick fog may still "
    "come out redder than they are.",
)
LITE = replace(
    _BASE,
    id="inf-dehaze-lite",
    title="Inf-Dehaze, lite",
    summary="Sees the whole image at once; takes weights of the public release. Wants a GPU.",
    weights_note="None shipped. A checkpoint of the public release can be given.",
    source="Inf-Dehaze, with the widths of its public release",
    caveats=_BASE.caveats
    + " With weights of the public release, time grows with the square of the image's area.",
)
PAPER = replace(
    _BASE,
    id="inf-dehaze-paper",
    title="Inf-Dehaze, as in its paper",
    summary="The largest Inf-Dehaze: 0.4 billion weights. Needs a GPU.",
    weights_note="None shipped, and none published.",
    source="Inf-Dehaze and its supplement; widths the supplement leaves open are our reading",
)
FAST = replace(
    _BASE,
    id="inf-dehaze-fast",
    title="Inf-Dehaze, fast",
    summary="Sees the whole image at once; convolutions in place of windows. Wants a GPU.",
    weights_note="None shipped, and none published.",
    source="Inf-Dehaze, the fast variant of its supplement",
    attention=("band", "sparse", "routing"),
)
RENAME = {"lite": f"{_HERE}.release:renamed"}


def _entry(card: ModelCard, name: str) -> ModelEntry:
    return ModelEntry(
        card,
        f"{_HERE}.network:make_{name}",
        sizes=f"{_HERE}.release:sizes_of_{name}",
        rename=RENAME.get(name),
        shipped=f"{card.id}.safetensors" if card.weights_sha256 else None,
    )


ENTRIES = (
    _entry(PAPER, "paper"),
    _entry(LITE, "lite"),
    _entry(FAST, "fast"),
    _entry(SMALL, "small"),
)
