"""Named ways to ask for an attribution: path, objective, baseline and steps that go together."""

from __future__ import annotations

from dataclasses import dataclass

from napari_restore.errors import BadParameter, did_you_mean
from napari_restore.explain.explainers._explainers import explainer_ids, explainer_of
from napari_restore.explain.explainers._problem import Explainer
from napari_restore.models import ModelCard

AUTO = "auto"
STOP, THROUGH = "stop", "through"
"""The context: as the image has it, or drawn from every picture of the path. `AUTO` chooses."""
FIXED, RECOMPUTED = "fixed", "recomputed"
"""Routing: the experts and tokens chosen for the image, or chosen again for every picture."""


@dataclass(frozen=True)
class Method:
    """What an attribution is made of where the user does not say."""

    name: str
    path: str
    """``straight``, ``blur`` or ``haze``; or ``lam-2021`` or ``dam-released``, as published code has
    them; ``""`` for what knows no baseline."""
    objective: str
    baseline: str
    """Of a straight path; others bring their own."""
    steps: str | int = AUTO
    rule: str = "gauss-legendre"
    routing: str = FIXED
    """What becomes of those of a model that makes any."""
    source: str = ""
    explainer: Explainer | None = None
    """What makes the map in place of the path, of which then only the beginning counts."""

    @property
    def takes_baseline(self) -> bool:
        """Whether its path begins where the user says."""
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
"""By name. DAM has no baseline of its own: it wants a clear image."""


def method_of(name: str | None, card: ModelCard) -> Method:
    """The method of a name, or the one that suits a model's task; raises `BadParameter`.

    What removes haze is asked along thinner haze; what any other model starts from, a blurred
    image lacks.
    """
    if name is None:
        name = "haze" if card.task == "dehaze" else "ig"
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


def check_question(
    chosen: Method,
    baseline: str | None,
    steps: str | int | None,
    rule: str | None,
    context_gradient: str,
    routing: str | None,
) -> None:
    """Refuse what would have no effect on a method; raises `BadParameter`."""
    if baseline is not None and not chosen.takes_baseline:
        if not chosen.path:
            raise BadParameter(
                f"Method {chosen.name} goes from no baseline.", "Leave --baseline out."
            )
        raise BadParameter(
            f"Method {chosen.name} brings its own beginning.",
            "Leave --baseline out, or choose --method ig.",
        )
    if chosen.explainer is not None:
        if steps is not None or rule is not None:
            raise BadParameter(
                f"Method {chosen.name} goes along no path.",
                "Leave --steps and --rule out; its own settings are given by --argument.",
            )
        if context_gradient == THROUGH:
            raise BadParameter(
                f"Method {chosen.name} takes the context as a constant.",
                "Leave --context-gradient through out.",
            )
        if routing is not None:
            raise BadParameter(
                f"Method {chosen.name} asks the model as it runs.", "Leave --routing out."
            )
    asked = chosen.steps if steps is None else steps
    if rule is not None and asked == AUTO:
        raise BadParameter("--rule needs a number of steps.", "Add --steps 16, or leave it out.")
    if chosen.path == "lam-2021" and (asked == AUTO or rule not in (None, chosen.rule)):
        raise BadParameter(
            f"Method {chosen.name} is a series of pictures.", "Give a number of --steps alone."
        )
