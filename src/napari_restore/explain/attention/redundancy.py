"""Redundancy of heads: how alike what two heads of a site put out is, from sums over cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore.models import HeadOutputs

Measure: TypeAlias = Literal["cka", "correlation", "overlap"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
Matrix: TypeAlias = npt.NDArray[np.float64]
"""(heads, heads)."""
TOP = 0.1
"""Share of the cells whose overlap is measured."""
_AT_ONCE = 1 << 14
"""Cells that are taken to float64 at once."""
_CONSTANT = 1e-20
"""Variance, relative to the mean square, at which an output counts as the same everywhere."""


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over some cells, from which means are subtracted already."""

    cells: int
    mean: Tensor
    """(C,) float64 of the outputs of all heads, one after the other."""
    scatter: Tensor
    """(C, C): sums of products. Its blocks (C_i, C_j) are the heads' cross-Gram matrices."""

    def merged(self, other: _Sums) -> _Sums:
        """Return the sums over both parts; source: Chan, Golub and LeVeque (1979)."""
        cells = self.cells + other.cells
        apart = other.mean - self.mean
        between = torch.outer(apart, apart) * (self.cells * other.cells / cells)
        mean = self.mean + apart * (other.cells / cells)
        return _Sums(cells, mean, self.scatter + other.scatter + between)


class HeadRedundancy:
    """Redundancy of the heads of one site, of which cells are added part by part.

    ``cka``: linear CKA, ‖Õ_i Õ_jᵀ‖² / (‖Õ_i Õ_iᵀ‖ ‖Õ_j Õ_jᵀ‖) of outputs O_i (C_i, cells) whose mean over
    the cells is subtracted; 0 to 1. It does not change with a head's scale or the order or a rotation of
    its channels. ``correlation``: Pearson correlation of the lengths M_i of what the heads add to the
    cells. ``overlap``: of the tenth of the cells with the largest M_i, those that two heads share over
    those of either. Source: Kornblith et al., Similarity of neural network representations revisited
    (ICML 2019).
    """

    def __init__(self) -> None:
        self._sums: _Sums | None = None
        self._sizes: tuple[int, ...] = ()
        self._lengths: list[npt.NDArray[np.float32]] = []

    @property
    def cells(self) -> int:
        """Number of cells that were added."""
        return 0 if self._sums is None else self._sums.cells

    def add(self, outputs: HeadOutputs) -> None:
        """Add cells that were not added before."""
        values = [each.reshape(-1, each.shape[-1]) for each in outputs.values]
        if not len(values[0]):
            return
        self._sizes = tuple(each.shape[1] for each in values)
        self._lengths.append(outputs.lengths().reshape(len(values), -1).float().numpy())
        for start in range(0, len(values[0]), _AT_ONCE):
            part = torch.cat([each[start : start + _AT_ONCE].double() for each in values], dim=1)
            mean = part.mean(0)
            centred = part - mean
            sums = _Sums(len(part), mean, centred.T @ centred)
            self._sums = sums if self._sums is None else self._sums.merged(sums)

    def matrix(self, measure: Measure = "cka") -> Matrix:
        """Return a measure of all pairs of heads: (heads, heads), NaN where a head is constant."""
        made = {"cka": self._cka, "correlation": self._correlation, "overlap": self._overlap}
        return made[measure]()

    def _cka(self) -> Matrix:
        sums = self._sums
        assert sums is not None
        sizes = list(self._sizes)
        squares = [
            [float(block.square().sum()) for block in torch.split(rows, sizes, dim=1)]
            for rows in torch.split(sums.scatter, sizes)
        ]
        variances = torch.split(sums.scatter.diagonal(), sizes)
        means = torch.split(sums.mean.square(), sizes)
        varies = [
            float(variance.sum()) > _CONSTANT * sums.cells * float(mean.sum())
            for variance, mean in zip(variances, means, strict=True)
        ]
        return _normalised(np.array(squares), np.array(varies))

    def _correlation(self) -> Matrix:
        lengths = np.concatenate(self._lengths, axis=1).astype(np.float64)
        centred = lengths - lengths.mean(axis=1, keepdims=True)
        products = centred @ centred.T
        varies = products.diagonal() > _CONSTANT * np.square(lengths).sum(axis=1)
        return _normalised(products, varies)

    def _overlap(self) -> Matrix:
        lengths = np.concatenate(self._lengths, axis=1)
        count = max(1, round(TOP * lengths.shape[1]))
        order = np.argsort(-lengths, axis=1, kind="stable")[:, :count]
        top = np.zeros(lengths.shape)
        np.put_along_axis(top, order, 1, axis=1)
        shared = top @ top.T
        either: Matrix = shared / (2 * count - shared)
        return either

    def to_dict(self) -> dict[str, Any]:
        """Return the matrices for a record, with the mean of each over pairs of heads; None for NaN."""
        matrices = {name: self.matrix(name) for name in MEASURES}
        means = {name: _known(mean_of_pairs(each)) for name, each in matrices.items()}
        lists: dict[str, Any] = {
            name: [[_known(value) for value in row] for row in each.tolist()]
            for name, each in matrices.items()
        }
        return {"cells": self.cells, "mean": means, **lists}


def mean_of_pairs(matrix: Matrix) -> float:
    """Return the mean over all pairs of different heads; NaN where none is known."""
    pairs = matrix[~np.eye(len(matrix), dtype=bool)]
    known = pairs[~np.isnan(pairs)]
    return float(known.mean()) if len(known) else float("nan")


def _normalised(products: Matrix, varies: npt.NDArray[np.bool_]) -> Matrix:
    """Return products over the roots of those with themselves; NaN where a head does not vary."""
    own = np.sqrt(np.where(varies, products.diagonal(), np.nan))
    found: Matrix = products / np.outer(own, own)
    found[np.diag_indices_from(found)] = np.where(varies, 1.0, np.nan)
    return found


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
