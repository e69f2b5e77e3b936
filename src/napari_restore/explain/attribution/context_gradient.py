"""Gradients through the statistics of the whole image: overview → statistics → result."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from napari_restore.engine import Region
from napari_restore.engine.gradients.cost import ContextCost, context_pass_cost
from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.engine.gradients.vjp import vjp
from napari_restore.errors import BadParameter, option
from napari_restore.explain.attribution.baselines import (
    BLUR_SIGMA,
    LEAST_TRANSMISSION,
    InMemory,
    OpenModel,
    blurred,
    haze_source_of,
    order_of,
)
from napari_restore.explain.attribution.paths import HazePath, Path, Straight
from napari_restore.models import placed_at


class ContextGradient:
    """Statistics recomputed from the overview of every image of a path, and their gradients.

    The overview is a second input beside the pixels, with a path of its own: that of the pixels, at
    the overview's scale. Its contribution to D is attributed to its pixels, each of which stands for
    ``step`` × ``step`` pixels of the image. Raises `BadParameter` for models whose statistics have
    no gradients.
    """

    def __init__(
        self,
        source: GradientSource,
        path: str,
        baseline: str,
        clear: GradientSource | None,
        open_model: OpenModel,
    ) -> None:
        self._source, self._model = source, source.plan.model
        if not self._model.can_follow:
            raise BadParameter(
                f"The context of {self._model.card.id} has no gradients.",
                f"Leave {option('context_gradient', 'through')} out: the context is then constant.",
            )
        self.image, self._valid, self.step = source.overview
        self.region = Region(0, 0, *self.image.shape[2:])
        described = source.plan.described
        self.corner = (0, 0) if described is None else (described.y0, described.x0)
        """Position (y, x) of the overview's first pixel in the image."""
        self._path = self._overview_path(path, baseline, clear, open_model)

    def cost(self) -> ContextCost:
        """Measure the memory of computing the context from the overview, in bytes."""
        source = self._source
        return context_pass_cost(
            self._model, self.image, self._valid, source.statistics, source.plan.device
        )

    def show(self, alpha: float) -> None:
        """Give the model the statistics of γ(α), as leaf tensors that require gradients."""
        with torch.no_grad():
            statistics = self._statistics(self._path.at(alpha, self.region)[0])
        known = self._source.statistics
        leaves = {
            name: value.detach().requires_grad_(True)
            if value.is_floating_point() and value is not known.get(name)
            else value
            for name, value in statistics.items()
        }
        self._source.show(leaves)

    def back(self, alpha: float, by_statistics: Mapping[str, Tensor]) -> Tensor:
        """Return gradient times speed of the overview's pixels, (1, C, h, w)."""
        picture, speed = self._path.at(alpha, self.region)
        with torch.enable_grad():
            leaf = picture.detach().requires_grad_(True)
            statistics = self._statistics(leaf)
            outputs = {
                name: statistics[name] for name in by_statistics if statistics[name].requires_grad
            }
            gradients = [by_statistics[name] for name in outputs]
            (by_overview,) = vjp(list(outputs.values()), gradients, [leaf])
        return by_overview * speed * self._valid

    def _statistics(self, picture: Tensor) -> Mapping[str, Tensor]:
        return self._model.follow(picture, self._valid, self._source.statistics)

    def _overview_path(
        self,
        name: str,
        baseline: str,
        clear: GradientSource | None,
        open_model: OpenModel,
    ) -> Path:
        image = InMemory(self.region, self.image)
        if name in ("blur", "lam-2021"):
            # A blur of less than one pixel of the overview does not change it.
            return Straight(image, image)

        def straight(start: Tensor) -> Path:
            return Straight(image, InMemory(self.region, start))

        if clear is None and baseline == "blur" and name == "straight":
            return straight(blurred(image, self.region, BLUR_SIGMA / self.step, self.region.shape))
        if clear is not None:
            start = clear.overview.picture[:, order_of(clear, self._source)]
            if start.shape != self.image.shape:
                raise BadParameter(
                    "The clear image's overview is of another size.",
                    f"Leave {option('context_gradient', 'through')} out.",
                )
            return straight(start)
        if baseline == "zero" and name == "straight":
            return straight(torch.zeros_like(self.image))
        haze_source = self._source
        if name == "haze":
            haze_source = haze_source_of(self._source, open_model)
        elif haze_source.plan.staged is not None:
            raise BadParameter(
                f"{self._model.card.id} does not restore the overview.",
                f"Choose {option('method', 'haze')}, "
                f"or ig with {option('baseline', 'blur')}, zero or a clear image.",
            )
        statistics = placed_at(haze_source.statistics, [(0, 0)], float(self.step), self.image)
        shown = haze_source.overview.picture
        with torch.no_grad():
            if name != "haze":
                return straight(haze_source.plan.model(shown, statistics))
            maps = haze_source.plan.model.side_maps(shown, statistics)
        transmission = InMemory(self.region, maps["transmission"].clamp(min=LEAST_TRANSMISSION))
        airlight = InMemory(self.region, maps["airlight"][:, order_of(haze_source, self._source)])
        return HazePath(image, lambda box: (transmission(box), airlight(box)))
