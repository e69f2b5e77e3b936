"""The way of the pixels through the facts of the whole image: overview, facts, result."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from napari_restore.engine import Region
from napari_restore.engine.gradients import ContextCost, Opened, context_cost, pulled_back
from napari_restore.errors import BadParameter
from napari_restore.explain._baselines import (
    BLUR_SIGMA,
    LEAST_TRANSMISSION,
    Held,
    OpenModel,
    blurred,
    order_of,
    seer_of,
)
from napari_restore.explain._paths import Haze, Path, Straight
from napari_restore.models import RestorationModel, placed_at


class Followed:
    """Facts drawn anew from the overview of every picture of a path, and their gradients.

    The overview is a second input beside the pixels, and goes along a path of its own: the one
    of the pixels, at its scale. What it contributes to D is told for its pixels, each of
    which stands for ``step`` × ``step`` pixels of the image. Raises `BadParameter` for models whose
    facts have no gradients.
    """

    def __init__(
        self,
        opened: Opened,
        path: str,
        baseline: str,
        clear: Opened | None,
        open_model: OpenModel,
    ) -> None:
        self._opened, self._model = opened, opened.plan.model
        if type(self._model).follow is RestorationModel.follow:
            # Known before the overview is brought into model range, which takes memory.
            raise self._no_gradient()
        self.image, self._valid, self.step = opened.overview()
        self.region = Region(0, 0, *self.image.shape[2:])
        described = opened.plan.described
        self.corner = (0, 0) if described is None else (described.y0, described.x0)
        """(y, x) in the image of the overview's first pixel."""
        with torch.no_grad():
            can = self._model.follow(self.image, self._valid, opened.facts) is not None
        if not can:
            raise self._no_gradient()
        self._path = self._made(path, baseline, clear, open_model)

    def _no_gradient(self) -> BadParameter:
        return BadParameter(
            f"The context of {self._model.card.id} has no gradients.",
            "Leave --facts followed out: it is then held constant.",
        )

    def cost(self) -> ContextCost:
        """Measure what drawing the context from the overview takes."""
        opened = self._opened
        return context_cost(self._model, self.image, self._valid, opened.facts, opened.plan.device)

    def show(self, alpha: float) -> None:
        """Let the model have the facts of γ(α), as leaves that want gradients."""
        with torch.no_grad():
            facts = self._facts(self._path.at(alpha, self.region)[0])
        held = self._opened.facts
        leaves = {
            name: fact.detach().requires_grad_(True)
            if fact.is_floating_point() and fact is not held.get(name)
            else fact
            for name, fact in facts.items()
        }
        self._opened.show(leaves)

    def back(self, alpha: float, by_facts: Mapping[str, Tensor]) -> Tensor:
        """Gradient times speed of the overview's pixels, (1, C, h, w)."""
        picture, speed = self._path.at(alpha, self.region)
        with torch.enable_grad():
            leaf = picture.detach().requires_grad_(True)
            facts = self._facts(leaf)
            outputs = {name: facts[name] for name in by_facts if facts[name].requires_grad}
            given = [by_facts[name] for name in outputs]
            (found,) = pulled_back(list(outputs.values()), given, [leaf])
        return found * speed * self._valid

    def _facts(self, picture: Tensor) -> Mapping[str, Tensor]:
        found = self._model.follow(picture, self._valid, self._opened.facts)
        assert found is not None
        return found

    def _made(
        self,
        name: str,
        baseline: str,
        clear: Opened | None,
        open_model: OpenModel,
    ) -> Path:
        image = Held(self.region, self.image)
        if name in ("blur", "lam-2021"):
            # What is blurred by less than a pixel of the overview is as good as the image.
            return Straight(image, image)
        if clear is None and baseline == "blur" and name == "straight":
            size = (self.region.height, self.region.width)
            start = blurred(image, self.region, BLUR_SIGMA / self.step, size)
            return Straight(image, Held(self.region, start))
        if clear is not None:
            start = clear.overview()[0][:, order_of(clear, self._opened)]
            if start.shape != self.image.shape:
                raise BadParameter(
                    "The clear image's overview is of another size.", "Leave --facts followed out."
                )
            return Straight(image, Held(self.region, start))
        if baseline == "zero" and name == "straight":
            return Straight(image, Held(self.region, torch.zeros_like(self.image)))
        seer = self._opened
        if name == "haze":
            seer = seer_of(self._opened, open_model)
        elif seer.plan.staged is not None:
            raise BadParameter(
                f"{self._model.card.id} does not restore the overview.",
                "Choose --method haze, or ig with --baseline blur, zero or a clear image.",
            )
        facts = placed_at(seer.facts, [(0, 0)], float(self.step), self.image)
        with torch.no_grad():
            left, maps = seer.plan.model.forward_with_maps(seer.overview()[0], facts)
        if name != "haze":
            return Straight(image, Held(self.region, left))
        transmission = Held(self.region, maps["transmission"].clamp(min=LEAST_TRANSMISSION))
        airlight = Held(self.region, maps["airlight"][:, order_of(seer, self._opened)])
        return Haze(image, lambda box: (transmission(box), airlight(box)))
