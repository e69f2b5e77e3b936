"""Evaluates the objective and its gradients along a path, for one model and box."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_restore.engine import Emit, Note, Progress, Region
from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.engine.gradients.swept import SweptGradients, gradients_of
from napari_restore.errors import BadModel, BadRegion, BudgetTooSmall, option
from napari_restore.explain.attribution._integral import ComputedMap
from napari_restore.explain.attribution._sums import Accumulator, AddAll, Node, Summed, Sums
from napari_restore.explain.attribution.attribution import PartialAttribution
from napari_restore.explain.attribution.baselines import InMemory
from napari_restore.explain.attribution.context_gradient import ContextGradient
from napari_restore.explain.attribution.objectives import Objective, counts_in_box, derivative
from napari_restore.explain.attribution.paths import Path, Planes, Valid
from napari_restore.explain.attribution.quadrature import Quadrature
from napari_restore.explain.attribution.stored_accumulator import StoredAccumulator
from napari_restore.explain.attribution.target import AttributionTarget

WATCHED = 1 << 22
"""Most pixels of a map whose partial states are reported to `watch`."""
SMALL = 1 << 24
"""Most values of a map for which it and the images of its path are kept in memory."""
VALUE_BYTES = 32
"""Memory per value of such a map: image, baseline or haze, path image, speed, temporaries."""
SUM_BYTES = 8
"""Memory of the sums per value and quadrature rule."""
MEASURE_BYTES = 9
"""Memory of the measures per pixel of a map: its magnitude, and the pieces that are read."""
OVERVIEW_BYTES = 32
"""Memory per value of an overview: the ends of its path, image and speed."""
OPENING_BYTES = 48
"""The same while the path is built; it counts where no autograd graph needs more later."""


Watch = Callable[[PartialAttribution], None]
OnNode = Callable[[Quadrature, Summed, float], None]
"""Takes the present rule, its partial sum, and the sum of the weights of the nodes in that, of 1."""


class UnboundedEnd(Exception):
    """The gradient is not finite at an end of the path: rules without nodes there are needed."""


class AttributionRun:
    """Model, box and objective of an attribution, independent of its path."""

    def __init__(
        self,
        source: GradientSource,
        target: AttributionTarget,
        objective: Objective,
        *,
        rules: int,
        value_bytes: int | None,
        fixed_routing: bool,
        context: ContextGradient | None,
        through: bool,
    ) -> None:
        """Compute the receptive field and check the memory budget; raises `BudgetTooSmall`, `BadRegion`.

        `rules` is the number of quadrature rules. `value_bytes` are extra bytes per value, for methods
        that need the whole map in memory whatever its size. With `fixed_routing` the routing of the
        whole path is that of its end. The gradient goes `through` the `context`, which else measures
        what a map omits, and through what sweeps count.
        """
        self.source, self.box, self.objective = source, target.box, objective
        self.context, self.through = context, context if through else None
        self.objective_region, self.polygon = target.objective_region, target.polygon
        # That of results of another size is a matter of `of_results`, which knows their grid.
        self._drawn = self.polygon if target.output is None else None
        self.planes, self.own = source.planes, source.own

        def is_small(region: Region) -> bool:
            return value_bytes is not None or region.pixels * self.planes <= SMALL

        at_overview, overview = _overview_bytes(self.through, context, self.planes, rules)

        def beside(region: Region) -> int:
            value_bytes_total = VALUE_BYTES + (value_bytes or 0) + SUM_BYTES * rules
            taken = region.pixels * self.planes * value_bytes_total if is_small(region) else 0
            return taken + overview

        self.gradients = gradients_of(source, self.objective_region, beside, through=through)
        self.fixed_routing = fixed_routing and self.gradients.routes
        self.region = self.gradients.region
        self.is_small = is_small(self.region)
        # Measures are computed after the gradients are freed.
        most = max(self.gradients.bytes, at_overview, MEASURE_BYTES * self.region.pixels)
        self.need(
            most + beside(self.region),
            f"The map of {self.region.width} × {self.region.height} pixels that the box depends on does",
            option("extent", "region"),
        )
        self.image: Planes = source.image
        self.valid: Valid = source.valid
        if self.is_small:
            self.image = InMemory(self.region, source.image(self.region))
            self.valid = self._valid_in_memory()
        self.counts = self._counts(target)
        self.is_bounded = True
        """Whether all shares of the latest node are finite."""
        self._output: Tensor | None = None
        self._varies = self._reaches = False
        """Whether the output, of the first point, depends on the image, and any gradient of it came there."""

    def need(self, needed: int, what_does: str, instead: str) -> None:
        """Set the bytes that are needed in all; raise `BudgetTooSmall` where they do not fit the budget."""
        if needed > self.source.plan.memory:
            raise BudgetTooSmall(
                f"{what_does} not fit the budget.",
                f"Use {option('memory', f'{-(-needed // 2**20)}MiB')} or more, or {instead}.",
            )
        self.needed_bytes = needed

    def _accumulator(self, rules: Sequence[Quadrature], settings: Sequence[Any]) -> Accumulator:
        """Return an empty accumulator in memory or, for a large map, the one on disk for these settings."""
        overview = None if self.through is None else self.through.region
        if not self.is_small:
            plan = self.source.plan
            key = [plan.key, self.box, self.objective.key, *settings]
            key.append(None if self.polygon is None else self.polygon.to_list())
            folder = plan.store.parent
            return StoredAccumulator(folder, key, rules, self.region, self.planes, overview)
        sums = Sums(self.region, self.planes, len(rules))
        overview_sums = None if overview is None else Sums(overview, self.planes, len(rules))
        return Accumulator(rules, sums, overview_sums)

    def _valid_in_memory(self) -> Valid:
        """Return a reader of the valid pixels of the region, read once."""
        valid = self.source.valid(self.region)
        if valid is None or bool(valid.all()):
            return lambda box: None
        return InMemory(self.region, valid)

    def _counts(self, target: AttributionTarget) -> Tensor:
        """Return which pixels of the objective's region count, (1, 1, h, w), 0 or 1."""
        valid = self.valid(self.objective_region)
        counts = torch.ones(
            1, 1, *self.objective_region.shape, device=self.source.plan.device.torch
        )
        if valid is not None:
            counts *= valid
        if self._drawn is not None:
            inside = torch.from_numpy(self._drawn.inside(self.objective_region))
            counts *= inside.to(counts.device)
        shape = "box" if self.polygon is None else "polygon"
        if not bool(counts_in_box(target, counts).any()):
            raise BadRegion(
                f"No pixel of the {shape} is valid.", "Draw it where the image has data."
            )
        return counts

    def value(self, path: Path, alpha: float) -> float:
        """Return D(γ(α))."""
        if self.through is not None:
            self.through.show(alpha)
        return self._value(_picture(path, alpha), self.gradients.forward)

    def _value(self, picture: Planes, forward: Callable[[Planes], Tensor]) -> float:
        with torch.no_grad():
            y = forward(picture)
            x = picture(self.objective_region)[:, self.own]
            return float(self.objective(y, x, self.counts))

    def node(self, path: Path, alpha: float, add: AddAll) -> Node:
        """Return D and dD/dα at α; pass gradient times speed to `add`, box by box."""
        to_pixels, to_overview = add
        self.is_bounded, picture = True, _picture(path, alpha)
        if self.through is not None:
            self.through.show(alpha)
        y = self.gradients.forward(picture, keep=True)
        x = picture(self.objective_region)
        value, by_y, by_own = derivative(self.objective, y, x[:, self.own], self.counts)
        # Shares that are not finite are left out of dD/dα.
        slope = 0.0

        def add_part(box: Region, gradient: Tensor) -> float:
            part = gradient * path.at(alpha, box)[1]
            to_pixels(box, part)
            return self._sum(part)

        if bool(by_own.any()):
            by_x = torch.zeros_like(x)
            by_x[:, self.own] = by_own
            slope += add_part(self.objective_region, by_x)
        for box, gradient in self.gradients.backward(picture, by_y):
            self.note_gradient(y, by_y, gradient)
            slope += add_part(box, gradient)
        if self.through is not None:
            part = self.through.back(alpha, self.gradients.by_statistics)
            to_overview(self.through.region, part)
            self.note_gradient(y, by_y, part)
            slope += self._sum(part)
        return Node(alpha, value, slope)

    def note_gradient(self, y: Tensor, by_y: Tensor, gradient: Tensor) -> None:
        """Note an output in the region of the objective, ∂D/∂y, and the gradient that came from it."""
        if not self._reaches and bool(by_y.any()):
            self._reaches = bool(gradient.any())
            self._output = y if self._output is None else self._output
            self._varies |= not torch.equal(y, self._output)

    def check_gradient(self) -> None:
        """Raise `BadModel` where the output depends on the image, and no gradient came there."""
        if self._varies and not self._reaches:
            raise BadModel(
                f"No gradient of {self.source.plan.model.card.id} reaches the image: it computes without "
                "any (torch.no_grad, detach), or in steps (round). A map by gradients would say nothing.",
                f"Change its code, or use {option('method', 'occlusion')}.",
            )

    def _sum(self, part: Tensor) -> float:
        """Return the sum of the values that are finite; note where others are."""
        total = float(part.sum(dtype=torch.float64))
        if math.isfinite(total):
            return total
        self.is_bounded = False
        return float(part.where(part.isfinite(), 0).sum(dtype=torch.float64))

    def along(
        self,
        path: Path,
        settings: Sequence[Any],
        gap: float,
        emit: Emit,
        watch: Watch | None,
        rules: Sequence[Quadrature],
    ) -> ComputedMap:
        """Integrate along `path` by `rules`, continuing from the points of an interrupted run.

        `settings` are what distinguishes the path from others. Raises `UnboundedEnd` where nested rules
        have a node at an end with a gradient that is not finite.
        """
        accumulator = self._accumulator(rules, settings)
        started, before = time.perf_counter(), len(accumulator.nodes)
        if before:
            emit(Note(f"Continues after {before} of {accumulator.planned_points} points."))

        def report(rule: Quadrature, total: Summed, share: float) -> None:
            done = len(accumulator.nodes)
            point_seconds = (time.perf_counter() - started) / (done - before)
            # One progress over all rules: it does not begin again with each.
            most = len(accumulator.rules[-1].nodes)
            emit(Progress(done, most, point_seconds * (most - done)))
            if watch is not None and share > 0 and self.region.pixels <= WATCHED:
                values = (total.read(self.region).sum(axis=0) / share).astype(np.float32)
                watch(PartialAttribution(self.region, values, done, len(rule.nodes)))
            self.source.check()

        integral = None
        try:
            if self.fixed_routing:
                self._fix_routing(path)
            integral = self._integrated(path, accumulator, gap, report)
            integral = replace(integral, through_context=self._through_known(path, integral))
            if self.fixed_routing:
                self.gradients.fix_routing(None)
                integral = replace(
                    integral, recomputed_difference=integral.ends[1] - self.value(path, 0.0)
                )
            return integral
        finally:
            accumulator.close(integral is not None)
            self.gradients.fix_routing(None)
            self.source.show(None)

    def _integrated(
        self, path: Path, accumulator: Accumulator, goal: float, report: OnNode
    ) -> ComputedMap:
        """Integrate dγ/dα · ∂D/∂γ by the first rule whose gap and map error are small enough; `report` each node."""
        # The last rule is accepted whatever its gap.
        nodes_by_alpha, ends = accumulator.nodes, dict[float, float]()
        is_nested = len(accumulator.rules) > 1
        for number, rule in list(enumerate(accumulator.rules))[accumulator.first :]:
            for alpha in map(float, rule.nodes):
                if alpha in nodes_by_alpha:
                    continue
                node = self.node(path, alpha, accumulator.adding(alpha))
                if is_nested and alpha in (0.0, 1.0) and not self.is_bounded:
                    raise UnboundedEnd
                accumulator.finish(node)
                share = sum(rule.weight_of(node) for node in nodes_by_alpha)
                report(rule, accumulator.pixels.of(number), share)
            for end in (0.0, 1.0):
                if end in nodes_by_alpha:
                    ends[end] = nodes_by_alpha[end].value
                elif end not in ends:
                    ends[end] = self.value(path, end)
            nodes = tuple(nodes_by_alpha[float(alpha)] for alpha in rule.nodes)
            integral = ComputedMap(
                accumulator.pixels.of(number),
                None if accumulator.overview is None else accumulator.overview.of(number),
                rule.name,
                nodes,
                float(np.dot(rule.weights, [node.slope for node in nodes])),
                (ends[0.0], ends[1.0]),
                goal,
                map_error=accumulator.map_error(rule),
            )
            if integral.is_fine_enough:
                break
            if number + 1 < len(accumulator.rules):
                accumulator.drop()
        return integral

    def _through_known(self, path: Path, integral: ComputedMap) -> float | None:
        """Return the part of D(x) − D(x′) that came through all that is known of the whole image."""
        if self.source.plan.model.counted and isinstance(self.gradients, SweptGradients):
            # D(x′) with what is known of x, minus D(x′).
            self.source.show(None)
            forward = partial(self.gradients.forward, counting=False)
            return self._value(_picture(path, 0.0), forward) - integral.ends[0]
        if self.through is not None and integral.overview is not None:
            return float(integral.overview.read(self.through.region).sum(dtype=np.float64))
        return self.through_context(path, integral.ends[0])

    def through_context(self, path: Path, start: float) -> float | None:
        """Return the part of D(x) − D(x′) that came through a context where the gradient stops; None if unknown."""
        if self.context is None:
            return None
        # It is D(x′) with the context of the image, `start`, minus D(x′) with its own context. The
        # remainder, D(x) minus `start`, came through the pixels.
        self.context.show(0.0)
        try:
            return start - self.value(path, 0.0)
        finally:
            self.source.show(None)

    def _fix_routing(self, path: Path) -> None:
        """Compute the routing for the image, the end of the path, and keep it for all points."""
        if self.through is not None:
            self.through.show(1.0)
        self.gradients.fix_routing(_picture(path, 1.0))

    def identity(self, path: Path, integral: ComputedMap) -> float | None:
        """Return the share of the map that is input passed unchanged; None for nonlinear objectives."""
        if not self.objective.is_linear:
            return None
        y = self.image(self.objective_region)[:, self.own]
        _, by_y, by_x = derivative(self.objective, y, y, self.counts)
        end, start = (path.at(at, self.objective_region)[0][:, self.own] for at in (1.0, 0.0))
        # For objectives linear in the output the map of the identity model is known.
        identity_map = ((by_y + by_x) * (end - start))[0].numpy(force=True).astype(np.float64)
        mass = remaining = 0.0
        for strip in integral.total.strips():
            part = integral.total.finite(strip)
            mass += float(np.abs(part).sum())
            inside = strip.intersect(self.objective_region)
            if not inside.is_empty:
                at = inside.within(strip)
                part[(self.own, *at)] -= identity_map[
                    (slice(None), *inside.within(self.objective_region))
                ]
            remaining += float(np.abs(part).sum())
        return float(np.clip(1 - remaining / mass, 0, 1)) if mass else None


def _picture(path: Path, alpha: float) -> Planes:
    """Return a reader of the image γ(α)."""
    return lambda box: path.at(alpha, box)[0]


def _overview_bytes(
    through: ContextGradient | None, context: ContextGradient | None, planes: int, rules: int
) -> tuple[int, int]:
    """Return peak bytes of one pass through the overview, and bytes needed throughout the run."""
    if through is not None:
        values = through.region.pixels * planes
        return through.cost().backward, values * (OVERVIEW_BYTES + SUM_BYTES * rules)
    if context is not None:
        return context.cost().forward, context.region.pixels * planes * OPENING_BYTES
    return 0, 0
