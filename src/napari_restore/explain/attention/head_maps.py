"""Weights of one query in all heads of a site, as small maps at their position in the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.errors import BadParameter, did_you_mean
from napari_restore.explain.attention.ablation import HeadEffect
from napari_restore.explain.attention.queries import Query
from napari_restore.explain.attribution.opened_maps import cell_region, dense_weights, merged
from napari_restore.explain.kinds import KINDS, OF_SITE, Kind
from napari_restore.models import AttentionSite

if TYPE_CHECKING:
    from napari_restore.engine.rows import PlacedRow

AGGREGATES = ("mean", "max")
"""Maps over all heads: their mean, or the largest weight of any."""
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class HeadMap(NamedTuple):
    """A map of weights at the resolution of the cells."""

    values: Floats
    """(h, w); NaN where a cell was never a candidate, which is not the same as a weight of 0."""
    region: Region
    """The cells it covers, counted from the corner of the image."""
    stride: int
    """Pixels of the image per cell along a side."""


@dataclass(frozen=True)
class HeadMaps:
    """Weights of one query, a point or the mean over a box, in every head of a site."""

    site: AttentionSite
    query: Region
    """Pixels of the query's cell, or of the cells of its box."""
    weights: Floats = field(repr=False)
    """(heads, K)."""
    cells: Ints = field(repr=False)
    """(heads, K, 2): row and column, counted from the corner of the image; (−1, −1) where empty."""
    image_cells: Region = field(repr=False)
    """The cells of the image: those beyond are padding."""
    numbers: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict, repr=False)
    """Further numbers of the query by name, such as the share of each band."""
    shows: str = ""
    """Name of the kind, where that does not follow from the site."""

    @property
    def kind(self) -> Kind:
        """What the maps are, in words and by their scale."""
        return KINDS[self.shows or OF_SITE.get(self.site.kind, "attention")]

    @property
    def stride(self) -> int:
        """Pixels per cell of the weights along a side."""
        return self.site.key_stride or self.site.stride

    @property
    def own(self) -> Region:
        """The cells at the query."""
        return self.query.scale(Fraction(1, self.stride))

    @cached_property
    def region(self) -> Region:
        """The cells that any head could have looked at, and those at the query."""
        return cell_region(self.cells, self.own)

    def map(self, head: str = "mean") -> HeadMap:
        """Return the map of a head, by its name, or over all of them, by a name of `AGGREGATES`."""
        region = self.region
        numbers = [self.index(head)] if head not in AGGREGATES else range(len(self.weights))
        values = [dense_weights(self.weights[n], self.cells[n], region) for n in numbers]
        return HeadMap(merged(values, largest=head == "max"), region, self.stride)

    def index(self, head: str) -> int:
        """Return the number of a head by its name; raises `BadParameter`."""
        return head_number(self.site, head)

    def strongest(self, head: str, count: int = 32) -> tuple[Ints, Floats]:
        """Return the cells (n, 2) with the largest weights of a head, and these, in falling order."""
        found = self.map(head)
        flat = np.nan_to_num(found.values).ravel()
        order = np.argsort(-flat, kind="stable")[:count]
        order = order[flat[order] > 0]
        rows, columns = np.unravel_index(order, found.values.shape)
        cells = np.stack([rows + found.region.y0, columns + found.region.x0], axis=1)
        return cells.astype(np.int64), flat[order]

    def to_dict(self) -> dict[str, Any]:
        """Return the description of the site for a record."""
        return {
            "name": self.site.name,
            "title": self.site.title,
            "kind": self.site.kind,
            "heads": list(self.site.heads),
            "stride": self.stride,
            "window": self.site.window,
            "shift": self.site.shift,
            "map": self.kind._asdict(),
        }


@dataclass(frozen=True)
class QueryMaps:
    """What all heads attend to for one query."""

    query: Query
    maps: Mapping[str, HeadMaps] = field(repr=False)
    """By the name of the site, in the order of computation."""
    measures: Mapping[str, list[dict[str, Any]]] = field(repr=False)
    """Numbers of every head by the name of the site; see `measures`."""
    effects: tuple[HeadEffect, ...] = field(default=(), repr=False)
    """Of heads that were left out."""

    def with_effects(self, effects: Sequence[HeadEffect]) -> QueryMaps:
        """Return these maps with what heads do to the result, their numbers among the measures."""
        found = {(each.layer, each.head): each.to_dict() for each in effects}
        measured = {
            name: [one | found.get((name, one["head"]), {}) for one in heads]
            for name, heads in self.measures.items()
        }
        return replace(self, measures=measured, effects=(*self.effects, *effects))

    def with_more(self, other: QueryMaps) -> QueryMaps:
        """Return these maps and those of further sites for the same query."""
        return replace(
            self,
            maps={**self.maps, **other.maps},
            measures={**self.measures, **other.measures},
        )


def head_number(site: AttentionSite, head: str) -> int:
    """Return the number of a head by its name; raises `BadParameter`."""
    if head in site.heads:
        return site.heads.index(head)
    raise BadParameter(
        f"{site.name} has no head {head!r}.",
        did_you_mean(head, (*site.heads, *AGGREGATES), "Its heads are", most=3),
    )


def head_maps(placed: PlacedRow, size: tuple[int, int]) -> HeadMaps:
    """Return the maps of one row in an image of `size`, height and width in pixels."""
    row, site = placed.row, placed.site
    own, stride = site.stride, site.key_stride or site.stride
    origin = np.zeros(2, np.int64) if site.placed else np.array(placed.origin)
    cells = row.cells.numpy().astype(np.int64)
    shifted = np.where(cells >= 0, cells + origin // stride, -1)
    if (shifted == shifted[:1]).all():
        # Where all heads have the same candidates they share their positions: maps of a sample are many.
        shifted = np.broadcast_to(shifted[0].copy(), shifted.shape)
    y, x = (int(at) for at in row.query + origin // own)
    return HeadMaps(
        site,
        Region(own * y, own * x, own * (y + 1), own * (x + 1)),
        row.weights.numpy(),
        shifted,
        Region(0, 0, *(-(-side // stride) for side in size)),
        {name: value.double().numpy() for name, value in row.numbers.items()},
    )


def mean_of(several: Sequence[HeadMaps]) -> HeadMaps:
    """Return the mean over several queries of one site; a candidate of any of them is one."""
    if len(several) == 1:
        return several[0]
    first = several[0]
    region = first.region
    query = first.query
    for each in several[1:]:
        region, query = region.union(each.region), query.union(each.query)
    weights, cells = [], []
    for head in range(len(first.weights)):
        total = np.full(region.shape, np.nan, np.float64)
        for each in several:
            dense = dense_weights(each.weights[head], each.cells[head], region)
            total = np.where(np.isnan(dense), total, np.nan_to_num(total) + dense)
        found = np.argwhere(~np.isnan(total))
        weights.append((total[tuple(found.T)] / len(several)).astype(np.float32))
        cells.append(found + np.array([region.y0, region.x0]))
    longest = max(len(each) for each in weights)
    numbers = {
        name: np.mean([each.numbers[name] for each in several], axis=0) for name in first.numbers
    }
    return replace(
        first,
        query=query,
        weights=np.stack([np.pad(each, (0, longest - len(each))) for each in weights]),
        cells=np.stack(
            [np.pad(each, ((0, longest - len(each)), (0, 0)), constant_values=-1) for each in cells]
        ),
        numbers=numbers,
    )
