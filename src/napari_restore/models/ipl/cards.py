"""IPL in two sizes. Cards only; the network loads when used."""

from dataclasses import replace

from napari_restore.models._card import ModelCard, Parameter
from napari_restore.models._registry import ModelEntry

_HERE = "napari_restore.models.ipl"

READING = Parameter(
    "reading",
    "R3",
    "How the text's slice attention is read: R3 weights every value by its own slice; R1 makes the "
    "weights from averages of the slices; R2 weights the averages, as printed, and loses detail.",
    choices=("R1", "R2", "R3"),
    expert=True,
)
TURNS = Parameter(
    "turns",
    "roll",
    "How the cube is turned between its layers: roll mixes channels, rows and columns; mixnet "
    "channels twice and rows, as earlier code of the authors.",
    choices=("roll", "mixnet"),
    expert=True,
)
LAST = Parameter(
    "last",
    "gelu",
    "The activation after a cube's last layer: gelu, or sigmoid as in earlier code of the authors.",
    choices=("gelu", "sigmoid"),
    expert=True,
)
KEPT = Parameter(
    "kept",
    "float",
    "Numbers of the map that one sweep leaves for the next: float, as the run keeps maps, or int8, "
    "about a quarter of float32, which rounds the result.",
    choices=("float", "int8"),
    expert=True,
)
CACHE = Parameter(
    "cache",
    "exact",
    "What becomes of the cubes of an image: exact keeps them for later runs of it; positional also "
    "for others of the same size, in 8 bits, whose results are then approximate; off forgets them.",
    choices=("off", "exact", "positional"),
    expert=True,
)
IPL = ModelCard(
    id="ipl",
    title="IPL",
    summary="A network that fuses three exposures, with layers across channels, rows and columns of "
    "the whole image. Wants a GPU.",
    task="fuse",
    scenes=("natural",),
    scope="swept",
    inputs=3,
    bands=3,
    roles=("red", "green", "blue"),
    multiple_of=256,
    placed=True,
    uses_validity=True,
    parameters=(READING, TURNS, LAST, KEPT, CACHE),
    needs_weights=True,
    weights_note="None shipped, and none published.",
    source="Ultra-High-Definition Dynamic Multi-Exposure Image Fusion via Infinite Pixel Learning "
    "(AAAI 2025), a re-implementation: widths of the slice attention are inferred",
    caveats="Every pixel depends on all of the image. What is black in the medium frame stays black.",
    attention=("gate",),
)
SMALL = replace(
    IPL,
    id="ipl-small",
    title="IPL, small",
    summary="All parts of IPL in a network that an ordinary processor can train and run; it mixes all "
    "three frames instead of brightening the medium one.",
    weights_sha256="808063b624c697b3d066bb8a27a64de5054660f566c3c5e2a818f3ce2b62f2a8",
    weights_note="",
    trained_on="482 images under free licences, made brackets with noise and motion "
    "(docs/models/ipl.md)",
    validated_on="synthetic brackets only: 13 scenes it never saw, 2.8 dB more than the middle frame by "
    "its best curve, 7.0 dB where that is clipped (docs/models/ipl.md).",
    source="Ultra-High-Definition Dynamic Multi-Exposure Image Fusion via Infinite Pixel Learning "
    "(AAAI 2025), sizes of our own",
    caveats="Every pixel depends on all of the image.",
)

ENTRIES = (
    ModelEntry(IPL, f"{_HERE}.sweeps:make", sizes=f"{_HERE}.config:sizes_of_published"),
    ModelEntry(
        SMALL,
        f"{_HERE}.sweeps:make_small",
        sizes=f"{_HERE}.config:sizes_of_small",
        shipped="ipl-small.safetensors",
    ),
)
