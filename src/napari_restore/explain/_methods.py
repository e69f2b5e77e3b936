"""Named ways to ask for an attribution: path, objective, baseline and steps that go together."""

from __future__ import annotations

from dataclasses import dataclass

from napari_restore.errors import BadParameter, did_you_mean
from napari_restore.models import ModelCard

AUTO = "auto"


@dataclass(frozen=True)
class Method:
    """What an attribution is made of where the user does not say."""

    name: str
    path: str
    """``straight``, ``blur`` or ``haze``; or ``lam-2021`` or ``dam-released``, as published code has
    them."""
    objective: str
    baseline: str
    """Of a straight path; others bring their own."""
    steps: str | int = AUTO
    rule: str = "gauss-legendre"
    source: str = ""

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
            source="LAM in the steps of its public code",
        ),
        Method(
            "dam-paper", "straight", "sum", "", 100, "right", source="DAM in the steps of its paper"
        ),
        Method(
            "dam-released",
            "dam-released",
            "mean+variance",
            "",
            5,
            "right",
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
    if name not in METHODS:
        raise BadParameter(f"There is no method {name!r}.", did_you_mean(name, METHODS, "Choose"))
    return METHODS[name]
