"""A small convolutional network for haze. Card only; the network loads when used."""

from napari_restore.models._card import AMOUNT, ModelCard
from napari_restore.models._registry import ModelEntry

_HERE = "napari_restore.models.haze_unet"

HAZE_UNET = ModelCard(
    id="haze-unet",
    title="Haze network, small",
    summary="For those who study such networks: Atmosphere's view of the whole picture, and a small "
    "network on the pixels beside it. As good, and four times as slow.",
    bands=3,
    roles=("red", "green", "blue"),
    halo=24,
    multiple_of=8,
    needs_context=True,
    placed=True,
    maps=("transmission", "airlight"),
    transmission_wavelength=550.0,
    precisions=("float32", "bfloat16"),
    bfloat16_error=1.0,
    parameters=(AMOUNT,),
    needs_weights=True,
    weights_sha256="7aca799e4a0aea811f823724fa29afbed52cefe3c76b355a9647f842a4fd82df",
    source="U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) on cells of 2 × 2 pixels",
    trained_on="110 images under free licences, under synthetic haze (docs/models/haze-unet.md)",
    validated_on="synthetic haze only: 16 scenes of sources it never saw, under eight kinds of haze "
    "from another generator: 3.0 dB more than the dark channel prior on aerial, 0.4 on natural scenes "
    "(docs/models/haze-unet.md).",
    caveats="What atmosphere takes for clear stays as it is, noise included. "
    "A haze colour that would cast magenta is made less green; dark parts in thick fog may still "
    "come out redder than they are.",
)

ENTRIES = (
    ModelEntry(
        HAZE_UNET,
        f"{_HERE}.network:make",
        sizes=f"{_HERE}.network:sizes_of",
        shipped="haze-unet.safetensors",
    ),
)
