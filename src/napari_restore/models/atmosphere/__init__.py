"""Haze seen as a whole: a network looks at the overview, pixels are inverted one by one. Cards only."""

from __future__ import annotations

from napari_restore.models._card import ModelCard, Parameter
from napari_restore.models._registry import ModelEntry

ATMOSPHERE = ModelCard(
    id="atmosphere",
    title="Atmosphere",
    summary="A network looks at the whole picture, estimates airlight and transmission, and every "
    "pixel is freed of haze by itself.",
    bands=3,
    roles=("red", "green", "blue"),
    needs_context=True,
    placed=True,
    maps=("transmission", "airlight"),
    transmission_wavelength=550.0,
    needs_weights=True,
    parameters=(
        Parameter("t0", 0.1, "smallest transmission", 0.05, 1.0),
        Parameter("deadband", 0.03, "haze share up to which pixels stay as they are", 0.0, 0.5),
    ),
    source="Scattering model: Koschmieder 1924; Narasimhan, Nayar, IJCV 48, 2002",
    caveats="Haze must vary slowly: a cloud's hard edge is beyond it.",
)

ENTRIES = (
    ModelEntry(
        ATMOSPHERE,
        f"{__name__}._model:make",
        sizes=f"{__name__}._network:sizes_of",
    ),
)
