"""HINT in two sizes. Cards only; the network loads when used."""

from __future__ import annotations

from dataclasses import replace

from napari_restore.models._card import ModelCard, Parameter
from napari_restore.models._registry import ModelEntry

ROUNDING = Parameter(
    "cache_rounding",
    "trunc",
    "How the inter-layer cache divides: trunc as the published code under its own torch, floor as "
    "under later ones, none as the paper describes it.",
    choices=("trunc", "floor", "none"),
)
START = Parameter(
    "cache_start",
    "zeros",
    "What the inter-layer cache holds before the first layer: zeros, nothing (none), or what the "
    "image before it left (carry), as in the published scripts.",
    choices=("zeros", "none", "carry"),
)
INTRA_SIZE = Parameter(
    "intra_size",
    0,
    "Side of a square image to whose scale the intra-layer cache is brought at any size, such as "
    "that of the training crops; 0: as published, where it shrinks as images grow.",
    minimum=0,
    unit="px",
)
REGROUP = Parameter(
    "regroup",
    True,
    "Whether channels are grouped into heads by their correlation, as published; false for "
    "ablation.",
)
HINT = ModelCard(
    id="hint",
    title="HINT",
    summary="A transformer whose heads differ, with attention between the channels of the whole "
    "image. Takes published checkpoints for rain, snow, noise, low light and haze. Wants a GPU.",
    task="other",
    scope="swept",
    bands=3,
    roles=("red", "green", "blue"),
    multiple_of=8,
    precisions=("float32", "bfloat16"),
    parameters=(ROUNDING, START, INTRA_SIZE, REGROUP),
    needs_weights=True,
    weights_note="None shipped. A published checkpoint can be given.",
    source="HINT (Zhou, Li, Pan, Zhou, Shi, Yang, ICCV 2025)",
    caveats="Every pixel depends on all of the image. Published checkpoints saw crops of at most "
    "256 pixels in training, those for snow and low light of at most 128.",
    attention=("channel",),
    routing=("order",),
)
SMALL = replace(
    HINT,
    id="hint-small",
    title="HINT, small",
    summary="All parts of HINT in a network that an ordinary processor can train and run.",
    parameters=(
        replace(ROUNDING, default="none"),
        START,
        replace(INTRA_SIZE, default=128),
        REGROUP,
    ),
    weights_note="None shipped yet.",
    source="HINT (Zhou, Li, Pan, Zhou, Shi, Yang, ICCV 2025), sizes of our own",
    caveats="Every pixel depends on all of the image.",
)

ENTRIES = (
    ModelEntry(HINT, f"{__name__}._sweeps:make", sizes=f"{__name__}._release:sizes_of_published"),
    ModelEntry(
        SMALL, f"{__name__}._sweeps:make_small", sizes=f"{__name__}._release:sizes_of_small"
    ),
)
