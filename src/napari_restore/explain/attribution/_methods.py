"""Attribution methods by name: path, objective, baseline and steps that belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace

from napari_restore.errors import BadParameter, did_you_mean, option
from napari_restore.explain.attribution._explainers import explainer_ids, explainer_of
from napari_restore.explain.attribution._problem import Explainer
from napari_restore.models import ModelCard
from napari_restore.questions import AUTO, FIXED, RECOMPUTED, THROUGH, Attribute, Routing


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
            "haze",
            "haze",
            "change",
            "haze",
            source="along thinner haze, by Koschmieder's model; ours",
        ),
        Method(
            "ig",
            "straight",
            "change",
            "blur",
            source="integrated gradients, Sundararajan et al., ICML 2017",
        ),
        Method("lam", "blur", "gradient", "blur", source="LAM, Gu and Dong, CVPR 2021"),
        Method("dam", "straight", "sum", "", source="DAM, of the Inf-Dehaze paper"),
        Method(
            "lam-2021",
            "lam-2021",
            "gradient",
            "blur",
            50,
            "right",
            RECOMPUTED,
            source="LAM in the steps of its public code",
        ),
        Method(
            "dam-paper",
            "straight",
            "sum",
            "",
            100,
            "right",
            RECOMPUTED,
            source="DAM in the steps of its paper",
        ),
        Method(
            "dam-released",
            "dam-released",
            "mean+variance",
            "",
            5,
            "right",
            RECOMPUTED,
            source="DAM as its public code computes it: not a path integral",
        ),
    )
}
"""Methods by name. DAM has no default baseline: it needs a clear image."""


def method_of(name: str | None, card: ModelCard) -> Method:
    """Return the method of a name, or the default of a model's task; raises `BadParameter`.

    The default is ``haze`` for dehazing models, and ``ig`` from a blurred image for others. Of brackets
    ``ig`` attributes the mean, from zero: with fixed weights of frames these are its shares.
    """
    if name is None:
        name = "haze" if card.task == "dehaze" else "ig"
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
