"""Attribution methods by name: path integrals, and others: built in, of captum, of other packages."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint

import torch
from torch import Tensor

from napari_restore._entry_points import offered
from napari_restore.engine import Region
from napari_restore.errors import BadParameter, did_you_mean, option
from napari_restore.explain.attribution import captum
from napari_restore.explain.attribution._arguments import MethodInfo, argument_value
from napari_restore.explain.attribution._problem import Explainer, Problem
from napari_restore.models import ModelCard
from napari_restore.questions import AUTO, FIXED, RECOMPUTED, THROUGH, Attribute, Routing


def smoothgrad(problem: Problem, n: int = 25, sigma: float = 0.15, seed: int = 0) -> Tensor:
    """Return the mean of ∂D/∂x over `n` noisy copies of the image (SmoothGrad, Smilkov et al., 2017).

    `sigma` is the standard deviation of the noise, as a share of the image's range. (1, C, h, w) in
    units of D per unit of the model's range: a sensitivity, not a share of D.
    """
    _check("smoothgrad", _is_natural(n), "n", n, 25)
    is_number = isinstance(sigma, (int, float))
    _check("smoothgrad", is_number and 0 <= sigma < math.inf, "sigma", sigma, 0.15)
    _check("smoothgrad", isinstance(seed, int), "seed", seed, 0)
    image = problem.image
    scale = sigma * (image.amax() - image.amin())
    # Drawn on the CPU, so that a seed gives the same map on every device.
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(image)
    problem.expect(n)
    for _ in range(n):
        noise = torch.randn(image.shape, generator=generator).to(image)
        x = (image + scale * noise).requires_grad_(True)
        (gradient,) = torch.autograd.grad(problem.objective(x).sum(), x)
        total += gradient
    return total / n


def occlusion(problem: Problem, side: int = 16, stride: int | None = None) -> Tensor:
    """Return the decrease of D when a patch of `side` pixels is replaced by the baseline (Zeiler and Fergus, 2014).

    Segments are replaced in place of patches, where they are given. Patches begin every `stride` pixels
    (default: `side`) and are truncated at the border. The share of a patch is divided evenly over its
    values; where patches overlap, their mean counts.
    (1, C, h, w) in units of D.
    """
    if problem.segments is not None:
        return _without_segments(problem, problem.segments)
    step = side if stride is None else stride
    _check("occlusion", _is_natural(side), "side", side, 16)
    # A longer stride would leave pixels that are in no patch.
    _check("occlusion", _is_natural(step) and step <= side, "stride", step, side)
    image = problem.image
    _, bands, height, width = image.shape
    whole = Region(0, 0, height, width)
    # The last patch ends at the border: a further one would be contained in it.
    patches = [
        Region(y, x, y + side, x + side).intersect(whole)
        for y in range(0, max(1, height - side + step), step)
        for x in range(0, max(1, width - side + step), step)
    ]
    total, covered = torch.zeros_like(image), torch.zeros_like(image[:, :1])
    problem.expect(len(patches) + 1)
    with torch.no_grad():
        full = float(problem.objective(image))
        for patch in patches:
            at = (..., *patch.slices)
            if problem.valid is not None and not bool(problem.valid[at].any()):
                continue
            occluded = image.clone()
            occluded[at] = problem.baseline[at]
            counted = patch.pixels if problem.valid is None else int(problem.valid[at].sum())
            total[at] += (full - float(problem.objective(occluded))) / (counted * bands)
            covered[at] += 1
    return total / covered.clamp(min=1)


def _without_segments(problem: Problem, segments: Tensor) -> Tensor:
    """Return the decrease of D when a segment is replaced, divided evenly over its values."""
    image, valid, count = problem.image, problem.valid, int(segments.max())
    total = torch.zeros_like(image)
    problem.expect(count + 1)
    with torch.no_grad():
        full = float(problem.objective(image))
        for number in range(1, count + 1):
            inside = segments == number
            share = full - float(problem.objective(problem.baseline.where(inside, image)))
            counted = inside if valid is None else inside & valid
            values = int(counted.sum()) * image.shape[1]
            total += (share / max(1, values)) * inside
    return total


def _is_natural(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _check(method: str, is_good: bool, name: str, value: object, example: float) -> None:
    if not is_good:
        raise BadParameter(
            f"Method {method} cannot take {name}={value}.",
            f"Write for instance {option('arguments', {name: example})}.",
        )


EXPLAINERS = {
    "smoothgrad": Explainer(
        smoothgrad,
        "SmoothGrad, Smilkov et al., 2017: mean gradient under noise",
        takes_baseline=False,
    ),
    "occlusion": Explainer(
        occlusion,
        "occlusion, Zeiler and Fergus, ECCV 2014: patches replaced by the baseline",
        patch_arguments=("side", "stride"),
    ),
}
"""Built-in methods by name."""


@dataclass(frozen=True)
class Method:
    """An attribution method and the defaults of its options."""

    name: str
    path: str
    """``straight``, ``blur`` or ``haze``; ``lam-2021`` or ``dam-released``, as in published code; ``""``
    for methods without a baseline."""
    objective: str
    baseline: str
    """Baseline of a straight path; other paths define their own."""
    steps: str | int = AUTO
    rule: str = "gauss-legendre"
    routing: Routing = FIXED
    """`FIXED` or `RECOMPUTED`, for models with routing."""
    source: str = ""
    explainer: Explainer | None = None
    """Computes the map in place of the path integral; of the path only the baseline is used."""

    @property
    def takes_baseline(self) -> bool:
        """Whether the user may name the baseline of its path."""
        return self.path in ("straight", "dam-released")


METHODS = {
    method.name: method
    for method in (
        Method(
            "haze", "haze", "change", "haze",
            source="along thinner haze, by Koschmieder's model; ours",
        ),
        Method(
            "ig", "straight", "change", "blur",
            source="integrated gradients, Sundararajan et al., ICML 2017",
        ),
        Method("lam", "blur", "gradient", "blur", source="LAM, Gu and Dong, CVPR 2021"),
        Method("dam", "straight", "sum", "", source="DAM, of the Inf-Dehaze paper"),
        Method(
            "lam-2021", "lam-2021", "gradient", "blur", 50, "right", RECOMPUTED,
            source="LAM in the steps of its public code",
        ),
        Method(
            "dam-paper", "straight", "sum", "", 100, "right", RECOMPUTED,
            source="DAM in the steps of its paper",
        ),
        Method(
            "dam-released", "dam-released", "mean+variance", "", 5, "right", RECOMPUTED,
            source="DAM as its public code computes it: not a path integral",
        ),
    )
}  # fmt: skip
"""Methods by name. DAM has no default baseline: it needs a clear image."""


def default_method(settings: Attribute) -> str | None:
    """Return the method where none is named; None: that of the model's task."""
    if settings.layer is not None:
        return captum.PREFIX + captum.OF_LAYERS[0]
    return None if settings.segments is None else "occlusion"


def method_of(name: str | None, card: ModelCard) -> Method:
    """Return the method of a name, or the default of a model's task; raises `BadParameter`."""
    if name is None:
        name = "haze" if card.task == "dehaze" else "ig"
    # Of brackets `ig` attributes the mean, from zero: with fixed weights of frames these are its
    # shares.
    if name == "ig" and card.inputs != 1:
        return replace(METHODS[name], objective="mean", baseline="zero")
    if name in METHODS:
        return METHODS[name]
    explainer = explainer_of(name)
    if explainer is None:
        names = [*METHODS, *explainer_ids(), "captum:NAME"]
        raise BadParameter(f"There is no method {name!r}.", did_you_mean(name, names, "Choose"))
    path = "straight" if explainer.takes_baseline else ""
    return Method(
        name,
        path,
        "change",
        "blur",
        1,
        routing=RECOMPUTED,
        source=explainer.source,
        explainer=explainer,
    )


def check_request(chosen: Method, settings: Attribute) -> None:
    """Raise `BadParameter` for settings that have no effect on a method."""
    steps, rule = settings.steps, settings.rule
    if settings.baseline is not None and not chosen.takes_baseline:
        if not chosen.path:
            raise BadParameter(
                f"Method {chosen.name} uses no baseline.", f"Leave {option('baseline')} out."
            )
        raise BadParameter(
            f"Method {chosen.name} has its own baseline.",
            f"Leave {option('baseline')} out, or choose {option('method', 'ig')}.",
        )
    _check_parts(chosen, settings)
    if chosen.explainer is not None:
        if steps is not None or rule is not None:
            raise BadParameter(
                f"Method {chosen.name} is not a path integral.",
                f"Leave {option('steps')} and {option('rule')} out; "
                f"its own settings are given by {option('arguments')}.",
            )
        if settings.context_gradient == THROUGH:
            raise BadParameter(
                f"Method {chosen.name} takes the context as a constant.",
                f"Leave {option('context_gradient', 'through')} out.",
            )
        if settings.routing is not None:
            raise BadParameter(
                f"Method {chosen.name} always recomputes the routing.",
                f"Leave {option('routing')} out.",
            )
    elif settings.arguments:
        raise BadParameter(
            f"Method {chosen.name} takes no {option('arguments')}.",
            f"It has {option('steps')}, {option('rule')}, {option('gap')} and {option('baseline')}.",
        )
    used_steps = chosen.steps if steps is None else steps
    if rule is not None and used_steps == AUTO:
        raise BadParameter(
            f"{option('rule')} needs a number of steps.",
            f"Add {option('steps', 16)}, or leave it out.",
        )
    if chosen.path == "lam-2021" and (used_steps == AUTO or rule not in (None, chosen.rule)):
        raise BadParameter(
            f"Method {chosen.name} has a fixed series of steps.",
            f"Give a number of {option('steps')} alone.",
        )


def _check_parts(chosen: Method, settings: Attribute) -> None:
    """Raise `BadParameter` for a layer or segments that the method does not have, or lacks."""
    of_layer = chosen.explainer is not None and chosen.explainer.of_layer
    if of_layer and settings.layer is None:
        raise BadParameter(
            f"Method {chosen.name} is of a layer of the network.",
            f"Name it by {option('layer')}; napari-restore models ID or inspect FILE lists them.",
        )
    if settings.layer is not None and not of_layer:
        raise BadParameter(
            f"Method {chosen.name} is of the pixels, not of a layer.",
            f"Leave {option('layer')} out, or choose {option('method', 'captum:LayerGradCam')}.",
        )
    if settings.segments is not None and chosen.explainer is not None:
        arguments = settings.arguments or {}
        for name in chosen.explainer.patch_arguments:
            if name in arguments:
                raise BadParameter(
                    f"Method {chosen.name} takes segments in place of patches, of which {name} is.",
                    f"Leave {option('arguments', {name: arguments[name]})} out.",
                )
    if settings.layer is not None and settings.segments is not None:
        raise BadParameter(
            "Shares of a layer's cells are not those of segments.",
            f"Leave {option('segments')} or {option('layer')} out.",
        )


# -- methods that are not path integrals -------------------------------------------

GROUP = "napari_restore.explainers"
"""Entry-point group in which other packages offer an `Explainer`, or a function
``(problem, **arguments) -> map`` alone, by the entry point's name."""


@cache
def _foreign() -> dict[str, Explainer | str]:
    """Return the methods of other packages by name; a message in place of one that cannot be used."""
    return offered(GROUP, "Method", _accepted, "function")


def _accepted(point: EntryPoint, loaded: object) -> Explainer | None:
    if isinstance(loaded, Explainer):
        return replace(loaded, package=loaded.package or _package(point))
    return Explainer(loaded, package=_package(point)) if callable(loaded) else None


def _package(point: EntryPoint) -> str:
    """Return the distribution of an entry point, else its top-level module."""
    return point.dist.name if point.dist is not None else point.value.partition(".")[0]


def explainer_ids() -> tuple[str, ...]:
    """Return the names of all usable methods except those of captum, the built-in ones first."""
    usable = (name for name, explainer in _foreign().items() if isinstance(explainer, Explainer))
    return tuple(dict.fromkeys([*EXPLAINERS, *usable]))


def explainer_of(name: str) -> Explainer | None:
    """Return the method of a name, None if unknown; raises `BadParameter` if it cannot be used."""
    if name.startswith(captum.PREFIX):
        return captum.explainer_of(name)
    explainer = EXPLAINERS.get(name) or _foreign().get(name)
    if isinstance(explainer, str):
        raise BadParameter(explainer, "Update or remove that package.")
    return explainer


EXAMPLES = {"sliding_window_shapes": str(captum.SQUARE), "strides": str(captum.SQUARE // 2)}
"""Values shown for required arguments, and for those whose default takes one evaluation per pixel."""


def method_list() -> list[MethodInfo]:
    """Return the methods that are not path integrals; those of captum where it is installed."""
    explainers = [(name, explainer_of(name)) for name in explainer_ids()]
    methods = [_info_of(name, explainer) for name, explainer in explainers if explainer is not None]
    if importlib.util.find_spec("captum") is not None:
        # Describing those imports captum, which takes about a second.
        methods += [
            _info_of(captum.PREFIX + name, captum.described(name))
            for name in captum.runnable_names()
        ]
    return methods


def _info_of(name: str, explainer: Explainer) -> MethodInfo:
    settings = []
    for key, parameter in explainer.all_parameters().items():
        default = parameter.default
        if key in EXAMPLES:
            settings.append(f"{key}={EXAMPLES[key]}")
        elif default is parameter.empty:
            settings.append(f"{key}=")
        elif argument_value(str(default)) == default:
            settings.append(f"{key}={str(default).replace(' ', '')}")
    return MethodInfo(
        name,
        explainer.source,
        explainer.takes_baseline,
        " ".join(settings),
        of_layer=explainer.of_layer,
        patch_arguments=explainer.patch_arguments,
    )
