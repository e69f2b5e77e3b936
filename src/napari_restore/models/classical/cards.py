"""Methods without weights. Cards only; the methods load when they are used."""

from napari_restore.models._card import AMOUNT, DEADBAND, ModelCard, Parameter
from napari_restore.models._registry import ModelEntry

_HERE = "napari_restore.models.classical"

DCP = ModelCard(
    id="dcp",
    title="Dark channel prior",
    summary="Haze of any thickness in photos and aerial images; needs no training.",
    needs_context=True,
    uses_validity=True,
    halo=116,
    multiple_of=4,
    maps=("transmission", "airlight"),
    parameters=(
        AMOUNT,
        Parameter(
            "omega", 0.85, "share of the haze that is removed", 0.0, 1.0, label="share removed"
        ),
        Parameter("patch_radius", 31, "radius of the search for dark pixels", 1, 200, unit="px"),
        Parameter("guided_radius", 40, "radius of the smoothing", 4, 400, unit="px"),
        Parameter(
            "eps", 1e-3, "how little the smoothing follows edges", 1e-6, 1.0, label="edge smoothing"
        ),
        Parameter("t0", 0.1, "smallest transmission", 0.01, 1.0, label="least transmission"),
        DEADBAND,
        Parameter(
            "airlight",
            "auto",
            "colour of the haze: auto, or one number per band, as r,g,b",
            label="haze colour",
        ),
    ),
    source="He, Sun, Tang, CVPR 2009; He, Sun, arXiv:1505.00996",
    validated_on="28 aerial and natural scenes its defaults were not chosen on, under synthetic "
    "haze: +7.1 to +7.3 dB where haze is everywhere, +1.5 to +2.2 dB where part is clear "
    "(benchmarks/classical_gain.py).",
    caveats="Takes bright neutral surfaces (snow, sand, roofs, cloud) for haze and darkens clear "
    "scenes: on eight with little or no haze band medians fell by 2 to 48 %, NDVI of farmland rose from 0.20 to "
    "0.30 (benchmarks/clear_scene_bias.py). A smaller omega does less. Grey ground under bluish haze "
    "can come out bluer than it is.",
)

HOT = ModelCard(
    id="hot",
    title="Haze optimised transform",
    summary="Uneven thin haze in satellite images; follows it pixel by pixel, needs blue and red.",
    scenes=("aerial",),
    roles=("blue", "red"),
    needs_context=True,
    maps=("haze",),
    parameters=(
        AMOUNT,
        Parameter(
            "strength", 1.0, "share of the haze that is removed", 0.0, 1.0, label="share removed"
        ),
        DEADBAND,
    ),
    source="Zhang, Guindon, Cihlar, Remote Sensing of Environment 82, 2002",
    validated_on="14 aerial scenes under synthetic haze: +1.5 dB where part of the scene is "
    "clear, +0.9 dB where haze is everywhere (benchmarks/classical_gain.py).",
    caveats="Removes haze relative to the clearest part of the scene, so even haze stays. Can take "
    "water, blue roofs and bare soil for haze; on eight scenes with little or no haze band medians fell by 0 to "
    "12 %, NDVI stayed (benchmarks/clear_scene_bias.py). In photographs one strong edge in twenty overshoots by 31 % of "
    "its step or more (benchmarks/halos.py). Made for scenes from above: in photographs from "
    "the ground it turns white skies brown or nearly black.",
)

HTM = ModelCard(
    id="htm",
    title="Haze thickness map",
    summary="Uneven smooth haze in satellite images; subtracts it, needs blue.",
    scenes=("aerial",),
    roles=("blue",),
    needs_context=True,
    uses_validity=True,
    halo=104,
    multiple_of=8,
    maps=("haze",),
    parameters=(
        AMOUNT,
        Parameter("window", 65, "side of the search for dark pixels", 9, 801, unit="px"),
        Parameter(
            "strength", 1.0, "share of the haze that is removed", 0.0, 1.0, label="share removed"
        ),
        DEADBAND,
    ),
    source="Makarau, Richter, Müller, Reinartz, IEEE TGRS 52, 2014",
    validated_on="14 aerial scenes under synthetic haze: +3.2 dB where part of the scene is "
    "clear, +2.1 dB where haze is everywhere (benchmarks/classical_gain.py).",
    caveats="Removes haze relative to the clearest part of the scene, so even haze stays. Takes "
    "bright areas larger than the window for haze: on eight scenes with little or no haze band medians fell by 0 "
    "to 34 %, NDVI rose by 0.01 (benchmarks/clear_scene_bias.py). Beside strong edges values overshoot: by 16 % of the step "
    "or more at one in twenty (benchmarks/halos.py). Made for scenes from above: in "
    "photographs from the ground it turns white skies brown or nearly black.",
)

IDENTITY = ModelCard(
    id="identity",
    title="Unchanged",
    summary="Changes nothing; shows that reading and writing change nothing either.",
    task="other",
    parameters=(),
)

MERTENS = ModelCard(
    id="mertens",
    title="Exposure fusion",
    summary="Takes from each frame of a bracket what is well exposed; needs no training.",
    task="fuse",
    scenes=("natural",),
    recommended_for=("natural",),
    scope="swept",
    inputs=0,
    bands=3,
    roles=("red", "green", "blue"),
    multiple_of=32,
    placed=True,
    uses_validity=True,
    parameters=(
        Parameter("contrast", 1.0, "exponent of the weight of edges and texture", 0.0, 4.0),
        Parameter("saturation", 1.0, "exponent of the weight of vivid colours", 0.0, 4.0),
        Parameter("exposure", 1.0, "exponent of the weight of medium brightness", 0.0, 4.0),
        Parameter(
            "optimum",
            0.5,
            "brightness that is exposed best",
            0.0,
            1.0,
            label="brightness",
            only_with=("exposure", 0),
        ),
        Parameter(
            "width",
            0.2,
            "standard deviation of brightness round the optimum",
            0.02,
            1.0,
            label="brightness range",
            expert=True,
            only_with=("exposure", 0),
        ),
        Parameter(
            "levels",
            0,
            "levels of the pyramid; 0: as many as the image has",
            0,
            24,
            label="pyramid levels",
            expert=True,
        ),
        Parameter(
            "deghost", 0.0, "how far one frame replaces the others where something moved", 0.0, 1.0
        ),
        Parameter(
            "moving",
            0,
            "frame of what moves, from 1, the darkest; 0: by exposure",
            0,
            64,
            label="deghost from frame",
            only_with=("deghost", 0),
        ),
    ),
    source="Mertens, Kautz, Van Reeth, Pacific Graphics 2007",
    validated_on="four real brackets: equal to OpenCV's MergeMertens(1, 1, 1).",
    caveats="Moving things become transparent without deghost.",
    maps=("ghosts",),
)

RADIANCE = ModelCard(
    id="radiance",
    title="Radiance map",
    summary="Measures the light of a scene from a bracket, as floats without a limit; needs no "
    "training.",
    task="fuse",
    scenes=("natural",),
    inputs=0,
    light=True,
    uses_validity=True,
    parameters=(
        Parameter("clipped", 0.98, "display value from which a pixel is clipped", 0.5, 1.0),
        Parameter(
            "electrons",
            20000.0,
            "electrons that are white, for the noise",
            10.0,
            1e6,
            label="electrons of white",
            expert=True,
        ),
        Parameter(
            "read",
            5.0,
            "noise of reading a pixel, in electrons",
            0.0,
            1000.0,
            label="read noise",
            expert=True,
        ),
    ),
    source="Aguerrebere, Delon, Gousseau, Musé, SIAM Journal on Imaging Sciences 7, 2014; "
    "Debevec, Malik, SIGGRAPH 1997",
    validated_on="17 radiance maps exposed from −3 to +3 EV, 8 bit with noise: median relative error "
    "0.5 to 0.8 % where a frame is not clipped.",
    caveats="Takes the curve of a photo for that of sRGB: cameras that make JPEG files with a curve "
    "of their own give other contrasts, though no clipped lights. RAW files do not have this. "
    "Moving things become transparent.",
)

ENTRIES = tuple(
    ModelEntry(card, f"{_HERE}.{card.id}:make")
    for card in (DCP, HOT, HTM, IDENTITY, MERTENS, RADIANCE)
)
