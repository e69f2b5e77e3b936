"""Whether a map ranks pixels well: D as they are taken away, and as they are brought in.

Petsiuk et al., RISE, BMVC 2018: the pixels with the largest shares go first. Where a map is right,
D falls soon when they are replaced by the baseline (deletion), and comes up soon when they alone
are those of the image (insertion). A random order tells what is soon. One by distance from the box
tells more: a map that says no more than that the box is made of itself does not beat it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_restore.errors import BadParameter
from napari_restore.explain._integral import NEGLIGIBLE
from napari_restore.explain.explainers._problem import Problem

CHECK = "insertion-deletion"
STEPS = 20
"""Parts that the pixels are shown in, the k-th of them up to the share (k / 20)²: a few pixels have
most of a map."""
AT = tuple((step / STEPS) ** 2 for step in range(STEPS + 1))
ORDERS = 3
"""Random ones, whose mean is told."""
VALUE_BYTES = 16
"""Bytes per value: baseline, picture, the order of the pixels, and what of them is there."""
Floats = npt.NDArray[np.floating]


def check_name(name: str | None) -> None:
    """Raise `BadParameter` for a check that there is not."""
    if name not in (None, CHECK):
        raise BadParameter(f"There is no check {name!r}.", f"Write {CHECK}, or leave it out.")


def insertion_deletion(asked: Problem, mass: Floats, seed: int = 0) -> dict[str, Any]:
    """Areas under both curves for the order of `mass` (h, w), and for random orders.

    (D − D(x′)) / (D(x) − D(x′)) over the share of pixels that are shown, or taken: in insertion the
    area is near 1 for a good map, in deletion near 0; beyond that where part of the pixels changes D
    more than all do. None where image and baseline hardly differ in D. The result is the record's.
    """
    random = np.random.default_rng(seed)
    counts = np.ones(mass.shape, bool)
    if asked.valid is not None:
        counts = asked.valid[0, 0].numpy(force=True)
    pixels = np.flatnonzero(counts)
    # Equal shares in a random order: rows and columns say nothing.
    pixels = random.permutation(pixels)
    orders = [_sorted(pixels, -mass), _sorted(pixels, _distance(asked))]
    orders += [random.permutation(pixels) for _ in range(ORDERS)]
    asked.expect(2 + 2 * (STEPS - 1) * len(orders))
    with torch.no_grad():
        low, high = asked.objective(torch.cat([asked.baseline, asked.image])).tolist()
    if abs(high - low) <= NEGLIGIBLE * max(abs(high), abs(low)):
        names = ("", "nearest_", "random_")
        nothing = {f"{name}{what}": None for what in ("area", "curve") for name in names}
        return {"insertion": nothing, "deletion": nothing}
    found = [_curves(asked, order, low, high) for order in orders]

    def told(which: int) -> dict[str, Any]:
        curves = [(np.array(pair[which]) - low) / (high - low) for pair in found]
        orders = {"": curves[0], "nearest_": curves[1], "random_": np.mean(curves[2:], axis=0)}
        areas = {f"{name}area": float(_area(curve)) for name, curve in orders.items()}
        return {**areas, **{f"{name}curve": curve.tolist() for name, curve in orders.items()}}

    return {
        "insertion": told(0),
        "deletion": told(1),
        "at": list(AT),
        "pixels": len(pixels),
        "random_orders": ORDERS,
        "seed": seed,
    }


def _area(curve: Floats) -> np.floating:
    return np.sum((curve[1:] + curve[:-1]) / 2 * np.diff(AT))


def _curves(
    asked: Problem, order: npt.NDArray[np.intp], low: float, high: float
) -> tuple[list[float], list[float]]:
    """D of insertion and of deletion at the shares `AT` of the `order`."""
    inserted, deleted = [low], [high]
    there = torch.zeros(asked.image.shape[2:], dtype=torch.bool).flatten()
    done = 0
    for share in AT[1:-1]:
        upto = round(share * len(order))
        there[torch.from_numpy(order[done:upto])] = True
        done = upto
        shown = there.view(1, 1, *asked.image.shape[2:]).to(asked.image.device)
        for curve, picture in (
            (inserted, asked.image.where(shown, asked.baseline)),
            (deleted, asked.baseline.where(shown, asked.image)),
        ):
            with torch.no_grad():
                curve.append(float(asked.objective(picture)))
    return [*inserted, high], [*deleted, low]


def _sorted(pixels: npt.NDArray[np.intp], by: Floats) -> npt.NDArray[np.intp]:
    """`pixels` by the values (h, w), the lowest first; where these are equal, as they are."""
    return pixels[np.argsort(by.ravel()[pixels], kind="stable")]


def _distance(asked: Problem) -> Floats:
    """(h, w) pixels from the box, the larger of those across and down; 0 within."""
    region, box = asked.region, asked.box
    y = np.arange(region.y0, region.y1, dtype=np.float32)
    x = np.arange(region.x0, region.x1, dtype=np.float32)
    down = np.maximum(np.maximum(box.y0 - y, y - box.y1 + 1), 0)
    across = np.maximum(np.maximum(box.x0 - x, x - box.x1 + 1), 0)
    return np.maximum(down[:, None], across)
