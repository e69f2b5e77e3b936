"""Insertion and deletion curves: whether a map ranks the pixels well.

Petsiuk et al., RISE, BMVC 2018: the pixels with the largest shares go first. Where a map is right,
D falls early when they are replaced by the baseline (deletion), and rises early when they alone
are those of the image (insertion). A random order is the reference. The order by distance from the
box is a stricter one: a map must do more than point at the box itself to beat it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_restore.explain.attribution._integral import NEGLIGIBLE
from napari_restore.explain.attribution._problem import Problem
from napari_restore.explain.attribution.measures import beside

STEPS = 20
"""Steps of a curve; step k reaches the share (k / 20)² of the pixels, as a few pixels have most of a
map."""
AT = tuple((step / STEPS) ** 2 for step in range(STEPS + 1))
"""Shares of the pixels at which D is evaluated."""
ORDERS = 3
"""Number of random orders, of which the record has the mean."""
VALUE_BYTES = 16
"""Bytes per value: baseline, image, order of the pixels, and which are included."""
Floats = npt.NDArray[np.floating]


def insertion_deletion(problem: Problem, mass: Floats, seed: int = 0) -> dict[str, Any]:
    """Return areas under both curves for the order of `mass` (h, w), by distance, and random.

    A curve is (D − D(x′)) / (D(x) − D(x′)) over the share of pixels inserted or deleted: the area of
    insertion is near 1 for a good map, that of deletion near 0; it may lie outside of [0, 1] where
    some pixels change D more than all do. None where D of image and baseline is equal up to
    rounding. The result is a part of the record.
    """
    rng = np.random.default_rng(seed)
    counts = np.ones(mass.shape, bool)
    if problem.valid is not None:
        counts = problem.valid[0, 0].numpy(force=True)
    pixels = np.flatnonzero(counts)
    # Equal shares in random order, so that row order does not matter.
    pixels = rng.permutation(pixels)
    orders = [_sorted(pixels, -mass), _sorted(pixels, _distance(problem))]
    orders += [rng.permutation(pixels) for _ in range(ORDERS)]
    problem.expect(2 + 2 * (STEPS - 1) * len(orders))
    with torch.no_grad():
        low, high = problem.objective(torch.cat([problem.baseline, problem.image])).tolist()
    # Nor are there curves where D is not finite.
    if not abs(high - low) > NEGLIGIBLE * max(abs(high), abs(low)):
        names = ("", "nearest_", "random_")
        nothing = {f"{name}{what}": None for what in ("area", "curve") for name in names}
        return {"insertion": nothing, "deletion": nothing}
    curve_pairs = [_curves(problem, order, low, high) for order in orders]

    def recorded(which: int) -> dict[str, Any]:
        curves = [(np.array(pair[which]) - low) / (high - low) for pair in curve_pairs]
        orders = {"": curves[0], "nearest_": curves[1], "random_": np.mean(curves[2:], axis=0)}
        areas = {f"{name}area": float(_area(curve)) for name, curve in orders.items()}
        return {**areas, **{f"{name}curve": curve.tolist() for name, curve in orders.items()}}

    return {
        "insertion": recorded(0),
        "deletion": recorded(1),
        "at": list(AT),
        "pixels": len(pixels),
        "random_orders": ORDERS,
        "seed": seed,
    }


def _area(curve: Floats) -> np.floating:
    """Return the area under a curve over `AT`, by the trapezoid rule."""
    return np.sum((curve[1:] + curve[:-1]) / 2 * np.diff(AT))


def _curves(
    problem: Problem, order: npt.NDArray[np.intp], low: float, high: float
) -> tuple[list[float], list[float]]:
    """Return D of insertion and of deletion at the shares `AT` of the `order`."""
    inserted, deleted = [low], [high]
    included = torch.zeros(problem.image.shape[2:], dtype=torch.bool).flatten()
    done = 0
    for share in AT[1:-1]:
        upto = round(share * len(order))
        included[torch.from_numpy(order[done:upto])] = True
        done = upto
        shown = included.view(1, 1, *problem.image.shape[2:]).to(problem.image.device)
        for curve, picture in (
            (inserted, problem.image.where(shown, problem.baseline)),
            (deleted, problem.baseline.where(shown, problem.image)),
        ):
            with torch.no_grad():
                curve.append(float(problem.objective(picture)))
    return [*inserted, high], [*deleted, low]


def _sorted(pixels: npt.NDArray[np.intp], by: Floats) -> npt.NDArray[np.intp]:
    """Return `pixels` sorted stably by the values (h, w), the lowest first."""
    return pixels[np.argsort(by.ravel()[pixels], kind="stable")]


def _distance(problem: Problem) -> Floats:
    """Return the Chebyshev distance of each pixel from the box, (h, w) in pixels, 0 within."""
    region, box = problem.region, problem.box
    y = np.arange(region.y0, region.y1, dtype=np.float32)
    x = np.arange(region.x0, region.x1, dtype=np.float32)
    down, across = beside(y, box.y0, box.y1), beside(x, box.x0, box.x1)
    away: Floats = np.maximum(down[:, None], across)
    return away
