"""Haze from the whole image: a network on the overview, then pixelwise inversion. Cards only."""

from __future__ import annotations

from dataclasses import replace

from napari_restore.models._card import AMOUNT, DEADBAND, ModelCard, Parameter
from napari_restore.models._registry import ModelEntry

_HERE = "napari_restore.models.atmosphere"

THICKEST = 2.2
"""Largest optical depth: gradients grow as 1/t."""

_ENSEMBLE = Parameter(
    "ensemble",
    2,
    "orientations of the picture whose estimates are averaged: 1 as it is, 2 with its mirror image, 8 all",
    1,
    8,
    label="orientations averaged",
    expert=True,
)
"""Of the geometric self-ensemble; its cost does not grow with the picture."""
ATMOSPHERE = ModelCard(
    id="atmosphere",
    title="Atmosphere",
    summary="A network sees the colour and the thickness of the haze in the whole picture; every "
    "pixel is then freed of it by itself.",
    recommended_for=("natural",),
    bands=3,
    roles=("red", "green", "blue"),
    needs_context=True,
    placed=True,
    maps=("transmission", "airlight"),
    transmission_wavelength=550.0,
    needs_weights=True,
    weights_sha256="5228bb332b28a54b137bbd178035e6f7a9b1ea57a1fc91db1d01665c66778296",
    parameters=(
        AMOUNT,
        Parameter("t0", 0.1, "smallest transmission", 0.05, 1.0, label="least transmission"),
        DEADBAND,
        _ENSEMBLE,
    ),
    source="Scattering model: Koschmieder 1924; Narasimhan, Nayar, IJCV 48, 2002",
    trained_on="1605 images under free licences, under synthetic haze (docs/models/atmosphere.md)",
    validated_on="synthetic haze, seven real pairs and 32 real pictures judged blind: 43 scenes of sources it "
    "never saw, under eight kinds of haze from another generator: 3.1 dB more than the dark channel prior on "
    "aerial scenes and 0.5 dB on natural ones; of the pictures 62 % were kept, 2 % thrown away "
    "(docs/models/atmosphere.md).",
    caveats="Takes some hazy scenes for clear ones and leaves them as they are. Haze must vary "
    "slowly: a cloud's hard edge is beyond it, and thin cloud over a dark sea gets a colour. "
    "A haze colour that would cast magenta is made less green; "
    "dark parts in thick fog may still come out redder than they are.",
)

AERIAL = replace(
    ATMOSPHERE,
    id="atmosphere-aerial",
    title="Atmosphere, aerial",
    summary="Atmosphere, trained further to leave an even, thin veil and pale ground alone: what a "
    "sensor always sees, and what bands are compared by.",
    recommended_for=("aerial",),
    scenes=("aerial",),
    parameters=(*ATMOSPHERE.parameters[:-1], replace(_ENSEMBLE, default=8)),
    weights_sha256="462b5c6f74c3ca0624d6e8257f300086a01867a748eddae6cca903f9320f972c",
    trained_on="115 images under free licences, under synthetic haze (docs/models/atmosphere-aerial.md)",
    validated_on="synthetic haze only: 11 aerial scenes it never saw, three times under another "
    "spectrum of haze: 2.5 dB more than the dark channel prior; clear scenes of 16 bit stay as "
    "they are (docs/models/atmosphere-aerial.md).",
    caveats="Leaves thin, even haze as it is. Clear farmland may still get darker. Haze must vary "
    "slowly: a cloud's hard edge is beyond it, and thin cloud over a dark sea gets a colour. "
    "A haze colour that would cast magenta is made less green; dark parts in thick fog may still "
    "come out redder than they are.",
)


def _entry(card: ModelCard) -> ModelEntry:
    return ModelEntry(
        card,
        f"{_HERE}.model:make",
        sizes=f"{_HERE}.network:sizes_of",
        shipped=f"{card.id}.safetensors",
    )


ENTRIES = (_entry(ATMOSPHERE), _entry(AERIAL))
