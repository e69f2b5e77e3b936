"""HINT in two sizes. Cards only; the network loads when used."""

from __future__ import annotations

from dataclasses import replace

from napari_restore.models._card import ModelCard, Parameter
from napari_restore.models._registry import ModelEntry

_HERE = "napari_restore.models.hint"

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
    "Side in pixels of a square image to whose scale the intra-layer cache is brought at any size, "
    "such as that of the training crops; 0: as published, where it shrinks as images grow.",
    minimum=0,
)
"""Without a unit, like those of `CROP`: a draft on a coarser level keeps it."""
REGROUP = Parameter(
    "regroup",
    True,
    "Whether channels are grouped into heads by their correlation, as published; false for "
    "ablation.",
)
STATISTICS = Parameter(
    "statistics",
    "image",
    "What the attention sums over: the whole image, exact (image); its overview, in one pass and "
    "approximate (overview); or crops that overlap, as in the published scripts (crop). The scope "
    "is local with the last two.",
    choices=("image", "overview", "crop"),
)
CROP = Parameter(
    "crop",
    256,
    "Side in pixels of the crops of statistics=crop, a multiple of 8.",
    minimum=8,
    maximum=4096,
    only_with=("statistics", "crop"),
)
OVERLAP = Parameter(
    "overlap",
    128,
    "Pixels that neighbouring crops of statistics=crop share, where they are averaged; less than a "
    "crop.",
    minimum=0,
    only_with=("statistics", "crop"),
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
    parameters=(ROUNDING, START, INTRA_SIZE, REGROUP, STATISTICS, CROP, OVERLAP),
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
        STATISTICS,
        CROP,
        OVERLAP,
    ),
    weights_note="Shipped as hint-small-denoise, and two in a row as hint-small-lowlight.",
    source="HINT (Zhou, Li, Pan, Zhou, Shi, Yang, ICCV 2025), sizes of our own",
    caveats="Every pixel depends on all of the image.",
)
DENOISE = replace(
    SMALL,
    id="hint-small-denoise",
    title="HINT, small, noise",
    summary="Removes the noise of sensors from photos and scenes, up to much of it, and keeps edges "
    "and texture.",
    task="denoise",
    recommended_for=("aerial", "natural"),
    weights_sha256="139964aa6ed7d28c3ded3929d2c23836e6dd8467600ddafe672c6c7e1858f09b",
    weights_note="",
    trained_on="745 images under free licences, under Gaussian noise and synthetic noise of cameras "
    "(docs/models/hint-small-denoise.md)",
    validated_on="synthetic noise only: 8 scenes it never saw, with noise of four cameras at ISO 800 to "
    "12 800, developed by LibRaw: 0.9 dB more than non-local means at their best; under Gaussian noise of "
    "standard deviation 15, 25 and 50 of 255: 1.6, 2.0 and 2.5 dB more (docs/models/hint-small-denoise.md).",
    caveats="Every pixel depends on all of the image. A picture without noise changes, too: 50 dB to "
    "the input. Texture below the noise is lost.",
)
LOWLIGHT = replace(
    SMALL,
    id="hint-small-lowlight",
    parameters=(replace(ROUNDING, default="none"), replace(INTRA_SIZE, default=128), REGROUP),
    title="HINT, small, low light",
    summary="Removes the noise of pictures that were taken in too little light, and brightens them.",
    task="lowlight",
    weights_sha256="332193be032a53dbb859ff20d117738b3f26dfff03f85b0b017b9bb4134cc477",
    weights_note="",
    trained_on="1664 images under free licences, as they are and made 2 to 30 times darker, half of "
    "these with synthetic noise of cameras (docs/models/hint-small-lowlight.md)",
    validated_on="synthetic low light only: 8 scenes it never saw, 6 and 14 times darker, with noise of "
    "cameras developed by LibRaw: 3.8 and 6.8 dB more than a gamma curve, half of its colour noise "
    "(docs/models/hint-small-lowlight.md).",
    caveats="Every pixel depends on all of the image. Pictures that are dark on purpose are "
    "brightened, too. Black parts of night scenes stay dark, and how bright the scene really was "
    "is a guess.",
)


def _small(card: ModelCard, shipped: str | None = None) -> ModelEntry:
    sizes = f"{_HERE}.config:sizes_of_small"
    return ModelEntry(card, f"{_HERE}.ways:make_small", sizes=sizes, shipped=shipped)


ENTRIES = (
    ModelEntry(HINT, f"{_HERE}.ways:make", sizes=f"{_HERE}.config:sizes_of_published"),
    _small(SMALL),
    _small(DENOISE, "hint-small-denoise.safetensors"),
    ModelEntry(
        LOWLIGHT,
        f"{_HERE}.series:make_series",
        sizes=f"{_HERE}.series:sizes_of_series",
        shipped="hint-small-lowlight.safetensors",
    ),
)
