"""What maps of each kind are, in the words of every door: figure, window, HTML, records, files and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

DIVERGING, FROM_0 = "diverging around 0", "from 0"
"""What colours span: as much on both sides of 0, or from there to the largest value."""
OF_D, ALL_OF_D = "part of D(x) − D(x′)", "D(x) − D(x′), but for the gap"


class Kind(NamedTuple):
    """One kind of map, in words and by its scale."""

    title: str
    value: str
    """What one value is."""
    scale: str
    says: str
    """What it shows, and what it does not, as a sentence."""
    total: str = ""
    """What the sum of all values is; empty where it is nothing."""
    blank: str = ""
    """What a place without a value is, grey or clear; empty where there is none."""

    @property
    def is_signed(self) -> bool:
        """Whether colours diverge around 0."""
        return self.scale == DIVERGING

    @property
    def about(self) -> str:
        """Title, legend and what it says, in one text."""
        return f"{self.title}: {self.legend}. {self.says}"

    @property
    def legend(self) -> str:
        """What one value is, what colours span, what the sum is, and what a blank place means."""
        total = self.total and f"; their sum: {self.total}"
        blank = self.blank and f"; grey or clear: {self.blank}"
        return f"{self.value}; colours {self.scale}{total}{blank}"


KINDS = {
    "ig": Kind("integrated gradients", OF_D, DIVERGING,
        "What made the change of D from the baseline to the image, not why.", ALL_OF_D),
    "haze": Kind("haze path", OF_D, DIVERGING,
        "What made the change of D while the haze grows, not why.", ALL_OF_D),
    "lam": Kind("local attribution map", OF_D, DIVERGING,
        "What made the change of D while the image sharpens, not why.", ALL_OF_D),
    "dam-released": Kind("released code of DAM", "slope of D times 2x − x′", DIVERGING,
        "Gradients times 2x − x′: no path integral, and no shares of D."),
    "expected": Kind("expected gradients", "estimated part of the change", DIVERGING,
        "What made the change of D to the image from random points, not why.", "an estimate of D(x) − D(x′)"),
    "sensitivity": Kind("sensitivity", "slope of D", DIVERGING,
        "How fast D changes with each pixel, near this image: no share of D."),
    "saliency": Kind("saliency", "size of the slope", FROM_0,
        "How fast D changes with each pixel, whether up or down: no share of D."),
    "input-gradient": Kind("input times gradient", "pixel times its slope", DIVERGING,
        "The slope of D times the pixel: its share where the network is linear."),
    "occlusion": Kind("occlusion", "loss of D, spread evenly", DIVERGING,
        "What D loses where the baseline replaces one patch or segment and all others stay."),
    "windows": Kind("occlusion by windows", "mean loss of D over windows", DIVERGING,
        "What D loses where the baseline replaces a window over the pixel, not divided among its pixels."),
    "shapley": Kind("Shapley values", "mean gain, spread evenly", DIVERGING,
        "What a square or segment adds to D, on average over orders in which they come.", "D(x) − D(x′), where all orders count"),
    "lime": Kind("local linear model", "coefficient, spread evenly", DIVERGING,
        "Coefficients of a linear model that imitates D while squares or segments go."),
    "grad-cam": Kind("Grad-CAM", "activation times mean gradient", DIVERGING,
        "Where the channels that matter to the box are active, also where the box does not look."),
    "layer-ig": Kind("integrated gradients of a layer", "part through the cell", DIVERGING,
        "What came to the change of D through each cell of the layer, not why.", "what came through the layer, over its cells"),
    "activation": Kind("layer activation", "sum of the layer's channels", DIVERGING,
        "What the layer puts out: D and the box have no part in it."),
    "gradient-activation": Kind("gradient times activation", "activation times gradient", DIVERGING,
        "The slope of D at each cell times what the layer puts out there."),
    "conductance": Kind("layer conductance", "flow through the cell", DIVERGING,
        "What reaches D through each cell on the way from the baseline to the image."),
    "influence": Kind("internal influence", "mean slope at the cell", DIVERGING,
        "The slope of D at each cell, as a mean from the baseline to the image."),
    "other": Kind("method of another package", "value of the method", DIVERGING,
        "What its values mean, the package says that brings it."),
    "attention": Kind("attention between places", "weight of the cell", FROM_0,
        "Where the network looked, not why.", "1", "never a candidate"),
    "attended-by": Kind("attention to the query", "weight given to the query", FROM_0,
        "Which cells looked at the query, not why.", blank="could not see the query"),
    "rollout": Kind("rollout of attention", "share that came from the cell", FROM_0,
        "A model of what flows through blocks of windows, not a measurement.", "1", "out of reach of the blocks"),
    "relevance": Kind("attention times gradient", "relevance of the cell", FROM_0,
        "Which cells raised the result at the query by what was looked at, by Chefer's rule; no share of it.", blank="out of reach of the blocks"),
    "likeness": Kind("likeness to the query", "likeness, −1 to 1", DIVERGING,
        "Between channels, not places: no pixel attends to another. Derived, not attention.", blank="beyond the query's tile"),
    "experts": Kind("choice of experts", "share of the expert", FROM_0,
        "Which experts the query's cell is sent to: no other place takes part.", "1 over the experts"),
    "gates": Kind("gates", "factor of the gate", FROM_0,
        "What features of the query's cell are multiplied by: no other place takes part."),
    "without": Kind("without a head", "change of the result, mean over bands", DIVERGING,
        "The result without the head minus the result, in the range of the model."),
    "redundancy": Kind("redundancy of heads", "linear CKA", FROM_0,
        "How alike what two heads put out is, but for rotation and scale."),
}  # fmt: skip
"""All kinds; a map's is found by `kind_of`, and by `HeadMaps.kind`."""
OF_METHOD = {
    "haze": "haze", "ig": "ig", "dam": "ig", "dam-paper": "ig", "lam": "lam", "lam-2021": "lam",
    "dam-released": "dam-released", "smoothgrad": "sensitivity", "occlusion": "occlusion",
    "captum:IntegratedGradients": "ig", "captum:GradientShap": "expected", "captum:Saliency": "saliency",
    "captum:InputXGradient": "input-gradient", "captum:Lime": "lime", "captum:KernelShap": "shapley",
    "captum:Occlusion": "windows", "captum:FeatureAblation": "occlusion",
    "captum:ShapleyValues": "shapley", "captum:ShapleyValueSampling": "shapley",
    "captum:LayerGradCam": "grad-cam", "captum:LayerIntegratedGradients": "layer-ig",
    "captum:LayerActivation": "activation", "captum:LayerGradientXActivation": "gradient-activation",
    "captum:LayerConductance": "conductance", "captum:InternalInfluence": "influence",
}  # fmt: skip
"""Kinds of the methods of attribution; those of other packages have their own."""
OF_SITE = {"channel": "likeness", "routing": "experts", "gate": "gates"}
"""Kinds of the sites of attention that are none between places."""


def kind_of(attribution: Mapping[str, Any]) -> Kind:
    """Return the kind of a map, from the ``attribution`` of its record."""
    method, arguments = attribution["method"], attribution.get("arguments") or {}
    if method == "captum:Saliency" and not arguments.get("abs", True):
        return KINDS["sensitivity"]
    kind = KINDS[OF_METHOD.get(method, "other")]
    # What is negative is cut off.
    return kind._replace(scale=FROM_0) if arguments.get("relu_attributions") else kind


def kinds_in(attention: Mapping[str, Any]) -> dict[Kind, list[str]]:
    """Return the kinds of the layers in the ``attention`` of a record, with the names of each one's."""
    found: dict[Kind, list[str]] = {}
    for layer in attention["layers"]:
        found.setdefault(Kind(**layer["map"]), []).append(layer["name"])
    return found
