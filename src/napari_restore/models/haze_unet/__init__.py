"""A small convolutional network for haze. Card only; the network loads when used."""

from __future__ import annotations

from napari_restore.models._card import ModelCard
from napari_restore.models._registry import ModelEntry

HAZE_UNET = ModelCard(
    id="haze-unet",
    title="Haze network, small",
    summary="Atmosphere's view of the whole picture, and a small network on the pixels beside it: "
    "mends noise and compression that freeing of haze makes stronger.",
    bands=3,
    roles=("red", "green", "blue"),
    halo=24,
    multiple_of=8,
    needs_context=True,
    placed=True,
    maps=("transmission", "airlight"),
    transmission_wavelength=550.0,
    precisions=("float32", "bfloat16"),
    needs_weights=True,
    weights_note="None shipped yet.",
    source="U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) on cells of 2 × 2 pixels",
    caveats="Haze wider than its field looks like a bright flat surface to it.",
)

ENTRIES = (
    ModelEntry(
        HAZE_UNET,
        f"{__name__}._network:make",
        sizes=f"{__name__}._network:sizes_of",
    ),
)
