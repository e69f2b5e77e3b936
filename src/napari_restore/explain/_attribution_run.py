"""One model, box and objective, asked along a path."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore.engine import Event, Note, Progress, Region
from napari_restore.engine.gradients import GradientSource, gradients_of
from napari_restore.errors import BadRegion, BudgetTooSmall
from napari_restore.explain._baselines import InMemory
from napari_restore.explain._context_gradient import ContextGradient
from napari_restore.explain._integral import Integral, Reached, integrate
from napari_restore.explain._objectives import Objective, derivative
from napari_restore.explain._paths import Path, Planes, Valid
from napari_restore.explain._polygon import Polygon
from napari_restore.explain._quadrature import Quadrature
from napari_restore.explain.sums._accumulator import Accumulator, AddAll, Node
from napari_restore.explain.sums._stored_accumulator import StoredAccumulator
from napari_restore.explain.sums._sums import Sums

Emit = Callable[[Event], None]
WATCHED = 1 << 22
"""Pixels of a map up to which it can be watched."""
SMALL = 1 << 24
"""Values of a map up to which it and what its path is made of are held in memory."""
VALUE_BYTES = 32
"""Of that per value: image, baseline or haze, picture, speed, and what they are made of."""
SUM_BYTES = 8
"""Per value, and per rule that may be needed."""
MEASURE_BYTES = 9
"""Per pixel of any map: its magnitude, and sorted."""
OVERVIEW_BYTES = 32
"""Per value of an overview: the path's ends, picture and speed …"""
OPENING_BYTES = 48
"""… and what these are made from, which counts where no graph takes its place later."""


class PartialAttribution(NamedTuple):
    """A map that is not finished."""

    region: Region
    values: npt.NDArray[np.float32]
    """(h, w) over `region`, the sum over bands: what the points so far say of the whole path."""
    done: int
    """Points asked …"""
    total: int
    """… of so many, unless they do not suffice."""


Watch = Callable[[PartialAttribution], None]


class AttributionRun:
    """What stays the same whatever path is gone along."""

    def __init__(
        self,
        source: GradientSource,
        box: Region,
        seen: Region,
        objective: Objective,
        rules: int,
        through: ContextGradient | None,
        value_bytes: int | None = None,
        polygon: Polygon | None = None,
        fixed_routing: bool = False,
        context: ContextGradient | None = None,
    ) -> None:
        """`value_bytes` are bytes per value for what wants the whole map in memory, whatever its size.

        Outside of `polygon`, where there is one, no pixel counts. With `fixed_routing` the model's routing
        along a path are those at its end. `context` tells what a map leaves out whose context is
        not `through`.
        """
        self.source, self.box, self.objective = source, box, objective
        self.through, self.fixed_routing, self.context = through, fixed_routing, context
        self.seen = seen
        self.bands = len(source.plan.bands)

        def is_small(region: Region) -> bool:
            return value_bytes is not None or region.pixels * self.bands <= SMALL

        at_overview, overview = _overview_bytes(through, context, self.bands, rules)

        def beside(region: Region) -> int:
            a_value = VALUE_BYTES + (value_bytes or 0) + SUM_BYTES * rules
            taken = region.pixels * self.bands * a_value if is_small(region) else 0
            return taken + overview

        self.gradients = gradients_of(source, self.seen, beside)
        self.region = self.gradients.region
        self.is_small = is_small(self.region)
        # Measures are taken when there are no gradients any more.
        most = max(self.gradients.bytes, at_overview, MEASURE_BYTES * self.region.pixels)
        self.needed_bytes = most + beside(self.region)
        self._check_memory()
        self.image: Planes = source.image
        self.valid: Valid = source.valid
        if self.is_small:
            self.image = InMemory(self.region, source.image(self.region))
            self.valid = self._valid_in_memory()
        self.polygon = polygon
        self.counts = self._counts()

    def _check_memory(self) -> None:
        """Raise `BudgetTooSmall` where gradients, sums and what the measures need do not fit."""
        if self.needed_bytes > self.source.plan.memory:
            raise BudgetTooSmall(
                f"The map of {self.region.width} × {self.region.height} pixels that the box "
                "depends on does not fit the budget.",
                f"Use --memory {-(-self.needed_bytes // 2**20)}MiB or more, or --extent region.",
            )

    def accumulator(self, rules: Sequence[Quadrature], question: Sequence[Any]) -> Accumulator:
        """An empty one; or, where it is not small, what of `question` is on the scratch disk."""
        overview = None if self.through is None else self.through.region
        if not self.is_small:
            plan = self.source.plan
            asked = [plan.key, self.box, self.objective.name, *question]
            asked.append(None if self.polygon is None else self.polygon.to_list())
            folder = plan.store.parent
            return StoredAccumulator(folder, asked, rules, self.region, self.bands, overview)
        sums = Sums(self.region, self.bands, len(rules))
        overview_sums = None if overview is None else Sums(overview, self.bands, len(rules))
        return Accumulator(rules, sums, overview_sums)

    def _valid_in_memory(self) -> Valid:
        valid = self.source.valid(self.region)
        if valid is None or bool(valid.all()):
            return lambda box: None
        return InMemory(self.region, valid)

    def _counts(self) -> Tensor:
        """(1, 1, h, w) which pixels of what is seen count."""
        valid = self.valid(self.seen)
        counts = torch.ones(1, 1, *self.seen.shape, device=self.source.plan.device.torch)
        if valid is not None:
            counts *= valid
        if self.polygon is not None:
            inside = torch.from_numpy(self.polygon.inside(self.seen))
            counts *= inside.to(counts.device)
        shape = "box" if self.polygon is None else "polygon"
        if not bool(counts[..., : self.box.height, : self.box.width].any()):
            raise BadRegion(
                f"No pixel of the {shape} is valid.", "Draw it where the image has data."
            )
        return counts

    def value(self, path: Path, alpha: float) -> float:
        """D(γ(α))."""

        def picture(box: Region) -> Tensor:
            return path.at(alpha, box)[0]

        if self.through is not None:
            self.through.show(alpha)
        with torch.no_grad():
            y = self.gradients.forward(picture)
            return float(self.objective(y, picture(self.seen), self.counts))

    def node(self, path: Path, alpha: float, add: AddAll) -> Node:
        """D and dD/dα, and the gradient times the speed handed to `add`."""
        to_pixels, to_overview = add

        def picture(box: Region) -> Tensor:
            return path.at(alpha, box)[0]

        if self.through is not None:
            self.through.show(alpha)
        y = self.gradients.forward(picture, keep=True)
        value, by_y, by_x = derivative(self.objective, y, picture(self.seen), self.counts)
        slope = 0.0

        def hand_on(box: Region, gradient: Tensor) -> float:
            part = gradient * path.at(alpha, box)[1]
            to_pixels(box, part)
            return float(part.sum(dtype=torch.float64))

        if bool(by_x.any()):
            slope += hand_on(self.seen, by_x)
        for box, gradient in self.gradients.backward(picture, by_y):
            slope += hand_on(box, gradient)
        if self.through is not None:
            part = self.through.back(alpha, self.gradients.by_statistics)
            to_overview(self.through.region, part)
            slope += float(part.sum(dtype=torch.float64))
        return Node(alpha, value, slope)

    def along(
        self, path: Path, accumulator: Accumulator, gap: float, emit: Emit, watch: Watch | None
    ) -> Integral:
        """The integral along `path`, from what `accumulator` knows of it."""
        began, before = time.perf_counter(), len(accumulator.nodes)
        if before:
            emit(Note(f"Goes on after {before} of {accumulator.tried} points."))

        def tell(reached: Reached) -> None:
            done, total = reached.done, reached.total
            a_point = (time.perf_counter() - began) / (done - before)
            emit(Progress(done, total, a_point * (total - done)))
            if watch is not None and reached.share > 0 and self.region.pixels <= WATCHED:
                values = reached.sum.read(self.region).sum(axis=0) / reached.share
                watch(PartialAttribution(self.region, values.astype(np.float32), done, total))
            self.source.check()

        found = None
        try:
            if self.fixed_routing:
                self._hold(path)
            found = integrate(
                accumulator,
                lambda alpha, add: self.node(path, alpha, add),
                lambda alpha: self.value(path, alpha),
                gap,
                tell,
            )
            left_out = self.through_context(path, found.ends[0])
            if self.through is not None and found.overview is not None:
                shares = found.overview.read(self.through.region)
                left_out = float(shares.sum(dtype=np.float64))
            found = replace(found, through_context=left_out)
            if self.fixed_routing:
                self.gradients.fix_routing(None)
                found = replace(found, recomputed_difference=found.ends[1] - self.value(path, 0.0))
            return found
        finally:
            accumulator.close(found is not None)
            self.gradients.fix_routing(None)
            self.source.show(None)

    def through_context(self, path: Path, start: float | None = None) -> float | None:
        """What of D(x) − D(x′) came through the context where the gradient stops there; None if that is not known.

        D(x′) with the context of the image, `start`, less D(x′) with its own. The rest,
        D(x) less `start`, came through the pixels.
        """
        if self.context is None:
            return None
        if start is None:
            start = self.value(path, 0.0)
        self.context.show(0.0)
        try:
            return start - self.value(path, 0.0)
        finally:
            self.source.show(None)

    def _hold(self, path: Path) -> None:
        """Let the model choose for the image, and keep to that."""
        if self.through is not None:
            self.through.show(1.0)
        self.gradients.fix_routing(lambda box: path.at(1.0, box)[0])

    def identity(self, path: Path, integral: Integral) -> float | None:
        """Share of the map that is the input passing unchanged; None where that cannot be told.

        For objectives linear in the output, whose map of the identity is known.
        """
        if not self.objective.is_linear:
            return None
        y = self.image(self.seen)
        _, by_y, by_x = derivative(self.objective, y, y, self.counts)
        change = path.at(1.0, self.seen)[0] - path.at(0.0, self.seen)[0]
        own = ((by_y + by_x) * change)[0].numpy(force=True).astype(np.float64)
        mass = rest = 0.0
        for strip in integral.total.strips():
            part = integral.total.read(strip)
            mass += float(np.abs(part).sum())
            part = part.copy()
            inside = strip.intersect(self.seen)
            if not inside.is_empty:
                there = inside.within(strip)
                part[(slice(None), *there)] -= own[(slice(None), *inside.within(self.seen))]
            rest += float(np.abs(part).sum())
        return float(np.clip(1 - rest / mass, 0, 1)) if mass else None


def _overview_bytes(
    through: ContextGradient | None, context: ContextGradient | None, bands: int, rules: int
) -> tuple[int, int]:
    """What one pass through the overview takes at its peak, and what lies there all the time."""
    if through is not None:
        values = through.region.pixels * bands
        return through.cost().backward, values * (OVERVIEW_BYTES + SUM_BYTES * rules)
    if context is not None:
        return context.cost().forward, context.region.pixels * bands * OPENING_BYTES
    return 0, 0
