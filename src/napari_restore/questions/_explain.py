"""What is asked of an attribution, and of attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from napari_restore.questions import parsing
from napari_restore.questions._field import asked, check_values
from napari_restore.questions._types import AUTO, CHECK, ContextGradient, Pathlike, Routing


@dataclass(frozen=True)
class Attribute:
    """Method, objective and settings of an attribution; where None, the method's own."""

    method: str | None = asked(
        None,
        "path integrals: haze (growing haze; default for dehazing models), ig (from a "
        "baseline; default for others, of brackets for their mean), lam (from a blur), dam (from a clear image); "
        "lam-2021, dam-paper, dam-released: as published; without a path: smoothgrad, "
        "occlusion, captum:NAME",
        changes="answer",
        metavar="NAME",
    )
    objective: str | None = asked(
        None,
        "scalar D of the box: change, mean, sum, channel:N, gradient, mean+variance (default: the "
        "method's), or FILE.py:function, which takes the output, a tensor (1, C, h, w), and returns a scalar",
        changes="answer",
        metavar="NAME|FILE.py:FUNCTION",
        python="scalar D of the box: change, mean, sum, channel:N, gradient, mean+variance (default: the "
        "method's), or a function of the output, a tensor (1, C, h, w), that returns a scalar, or "
        "``FILE.py:function``",
        keyword="str | Callable[[Any], Any] | None",
    )
    baseline: str | None = asked(
        None,
        "start of a straight path: blur, zero, output, dehazed, or a clear image or array (.npy); of a "
        "bracket zero (default), blur, or reference in place of every frame",
        changes="answer",
        metavar="NAME|FILE",
        python="start of a straight path: blur, zero, output, dehazed, or a clear image: a file, an array "
        "(H, W, C) or .npy; of a bracket zero (default), blur, or reference in place of every frame",
        keyword="object",
    )
    steps: str | int | None = asked(
        None,
        "points of the path; auto: 9 to 65, until gap and map are close enough (default: the method's)",
        changes="answer",
        metavar="auto|N",
    )
    rule: str | None = asked(
        None,
        "quadrature for a number of steps: gauss-legendre (default), middle, left, right, trapezoid, or that "
        "of auto, clenshaw-curtis or fejer",
        changes="answer",
        metavar="NAME",
    )
    gap: float = asked(
        0.01,
        "completeness gap at which automatic steps stop, once the map is known to five times that (default "
        "%(default)s)",
        changes="answer",
        parse=parsing.number,
        metavar="SHARE",
    )
    context_gradient: ContextGradient = asked(
        AUTO,
        "how the gradient treats the context, the model's statistics of the whole image. stop: "
        "as a constant. through: it goes through the overview. auto (default): through, if the model "
        "allows it and it is predicted to add less than ten seconds on two cores. The choice does "
        "not depend on the machine; the record states it",
        changes="answer",
        choices=get_args(ContextGradient),
    )
    routing: Routing | None = asked(
        None,
        "selection of experts and tokens in a network: fixed to that of the image (default), so "
        "that the model is smooth along the path, or recomputed at every point",
        changes="answer",
        choices=get_args(Routing),
    )
    arguments: Mapping[str, Any] | None = asked(
        help="settings of a method without a path, by name",
        factory=dict,
        changes="answer",
        has_flag=False,
    )
    layer: str | None = asked(
        None,
        "attribute to what a layer of the network puts out, by its dotted name such as encoder.2 (without "
        "a method by captum:LayerGradCam); models ID and inspect list them",
        changes="answer",
        metavar="NAME",
    )
    segments: str | None = asked(
        None,
        "one share for each segment in place of each pixel (without a method by occlusion): a raster of "
        "whole numbers on the image's grid, 0 for none, or slic:N for about N superpixels",
        changes="answer",
        metavar="FILE|slic:N",
        python="one share for each segment in place of each pixel (without a method by occlusion): a raster "
        "of whole numbers on the image's grid or such an array (H, W), 0 for none, or ``slic:N`` for about N "
        "superpixels",
        keyword="object",
    )
    check: str | None = asked(
        None,
        "test whether the map ranks pixels better than chance: D while the top-ranked ones "
        "are inserted and deleted",
        changes="answer",
        choices=(CHECK,),
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True)
class Drawing:
    """How the figure of a map is drawn."""

    width: float = asked(
        180.0,
        "of the figure, in mm: 85mm for one column of most journals, 180mm (default) for two",
        changes="file",
        parse=parsing.millimetres,
        metavar="MM",
    )
    limits: tuple[float, float] | None = asked(
        None,
        "least and largest value of the figure's colours (default: those of what is drawn)",
        changes="file",
        parse=parsing.number,
        nargs=2,
        metavar=("LOW", "HIGH"),
    )
    caption: bool = asked(
        True, "print the settings instead of drawing them below the figure", changes="file"
    )
    panels: list[str] | None = asked(
        None,
        "panels of the figure, in their order: image, result, map, over (the map over the grey image), "
        "magnitude, area, overview (default: all but over)",
        changes="file",
        parse=parsing.names,
        metavar="NAME[,…]",
    )


@dataclass(frozen=True)
class Attend:
    """What is asked about the attention of a network, beside queries and layers."""

    attended_by: bool = asked(
        False,
        "the other way around: which cells attend to the query's, in the layers of a bottleneck where "
        "the model has one; layers of windows are named",
        changes="answer",
    )
    ablate: bool = asked(
        False,
        "also run the network without each head of the layer, around the query or in the box: "
        "a raster is then the result without a head minus the result, a band for each head",
        changes="answer",
    )
    redundancy: bool = asked(
        False,
        "also compare the heads of each layer by what they put out in the tiles of the queries: a "
        "matrix for each layer in .npz, record and figure",
        changes="answer",
    )
    sample: int | None = asked(
        None,
        "draw N queries instead, one in each of N parts of the image of the same area: the numbers "
        "of each head are then means",
        changes="answer",
        parse=int,
        metavar="N",
    )
    seed: int = asked(
        0, "of the sample (default: %(default)s)", changes="answer", parse=int, metavar="N"
    )
    random_twin: bool = asked(
        False,
        "also ask the same network with random weights (random:0), for numbers beside the others",
        changes="answer",
    )
    attribution: Pathlike | None = asked(
        None,
        "a map that `attribute` wrote for the same image: also report how alike each head and it "
        "rank the cells that the head could look at (one query or box)",
        changes="answer",
        metavar="FILE",
    )
    rollout: bool = asked(
        False,
        "the weights of the layer and of the blocks of windows before it in its stage, multiplied: one "
        "map in place of one for each head",
        changes="answer",
    )
    residual_weight: float | str = asked(
        0.5,
        "of a rollout: the weight of the path around each attention (default: %(default)s); gradient: "
        "weights times gradient in place of the weights, and nothing chosen (Chefer et al. 2021)",
        changes="answer",
        parse=parsing.number_or("gradient"),
        metavar="W|gradient",
    )
