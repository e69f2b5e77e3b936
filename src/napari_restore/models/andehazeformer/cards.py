"""anDehazeFormer, a normalised transformer with a global cache. Cards only."""

from napari_restore.models._card import AMOUNT, ModelCard, Parameter
from napari_restore.models._registry import ModelEntry

_HERE = "napari_restore.models.andehazeformer"

RHO = Parameter(
    "rho",
    0.6,
    "share of the image's tokens that the cache keeps; the others are merged into them",
    1e-6,
    1.0,
    label="share of tokens kept",
    only_with=("retention", "fixed"),
)
RETENTION = Parameter(
    "retention",
    "fixed",
    "fixed keeps the share rho, adaptive keeps 1 - c_a * eta: the hazier, the fewer",
    choices=("fixed", "adaptive"),
)
ETA = Parameter(
    "eta",
    0.4,
    "how much haze lowers the kept share, if adaptive",
    0.0,
    1.0,
    label="influence of haze",
    only_with=("retention", "adaptive"),
)
CACHE_TOKENS = Parameter(
    "cache_tokens", 1024, "most tokens in a cache; 0 switches the global layers off", 0
)
SELECTION = Parameter(
    "selection",
    "haze-first",
    "tokens to keep: more of the hazy ones, as many of all, more of the clear ones, or random ones",
    choices=("haze-first", "proportional", "clear-first", "random"),
    only_with=("cache_tokens", 0),
)

SMALL = ModelCard(
    id="andehazeformer-small",
    title="anDehazeFormer, small",
    summary="For those who study such networks: Atmosphere's view of the whole picture, and a "
    "normalised transformer behind it whose tokens attend to a cache of the image, chosen by how "
    "haze scatters light. As good, and slower.",
    scope="swept",
    multiple_of=16,
    bands=3,
    roles=("red", "green", "blue"),
    needs_context=True,
    placed=True,
    uses_validity=True,
    maps=("transmission", "airlight"),
    transmission_wavelength=550.0,
    precisions=("float32", "bfloat16", "float16"),
    needs_weights=True,
    parameters=(AMOUNT, RHO, RETENTION, ETA, CACHE_TOKENS, SELECTION),
    weights_sha256="8802177f2b96431e1e77a1bda027e463f790aa378dfd0be1cf98db69e09b2988",
    source="anDehazeFormer (Wang and others, arXiv 2505.14010); sizes of our own, and our reading "
    "where no text or code is public",
    trained_on="482 images under free licences, under synthetic haze "
    "(docs/models/andehazeformer.md)",
    validated_on="synthetic haze only: 23 scenes it never saw (docs/models/andehazeformer.md).",
    caveats="Every pixel depends on all of the image. What atmosphere takes for clear stays as it is.",
    attention=("window", "cached"),
    routing=("kept", "merged"),
)

ENTRIES = (
    ModelEntry(
        SMALL,
        f"{_HERE}.model:make_small",
        sizes=f"{_HERE}.config:sizes_of_small",
        shipped="andehazeformer-small.safetensors",
    ),
)
