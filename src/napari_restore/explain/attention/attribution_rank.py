"""How far a head's map and an attribution of the same image rank cells alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.errors import BadParameter
from napari_restore.explain.attention.head_maps import HeadMaps, QueryMaps
from napari_restore.explain.attribution.opened_maps import IMAGE_TAG, OVERVIEW_TAG, REGION_TAG
from napari_restore.images import Image, open_image

Floats = npt.NDArray[np.float64]
RANK = "attribution_rank"
LEAST = 3
"""Cells below which a rank correlation says nothing."""
EQUAL = 1e-6
"""Weights whose range is below this share of the largest are equal: they differ by rounding."""
PIXELS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class AttributionMap:
    """A file that `Attribution.save` wrote: shares of pixels, which are 0 outside of its region."""

    file: Image
    region: Region
    """Pixels of the image that it covers."""

    @classmethod
    def of(cls, path: str | Path, image: Image) -> AttributionMap:
        """Open a map of `image`; raises `BadParameter` for another file, `InputError` for none."""
        file = open_image(path)
        tags = file.profile.tags.get("", {})
        if OVERVIEW_TAG in tags:
            raise BadParameter(f"{file.name} is the overview of a map.", "Name the map beside it.")
        try:
            region = Region(*(int(edge) for edge in tags[REGION_TAG].split()))
            of_image = tags[IMAGE_TAG]
        except (KeyError, ValueError, TypeError):
            raise BadParameter(
                f"{file.name} is no map that attribute wrote, or one of an earlier version.",
                "Attribute again, and name the map.",
            ) from None
        if of_image != image.fingerprint or region.shape != (file.height, file.width):
            raise BadParameter(
                f"{file.name} is the map of another image than {image.name}, or of another level of it.",
                "Attribute this image, and name that map.",
            )
        return cls(file, region)

    def cell_sums(self, cells: Region, stride: int) -> Floats:
        """Return |Σ over bands| summed over the pixels of each cell of a box, (h, w)."""
        sums = np.zeros(cells.shape)
        there = Region(*(stride * edge for edge in cells)).intersect(self.region)
        if there.is_empty:
            return sums
        step = max(1, PIXELS_AT_ONCE // (stride * there.width)) * stride
        for top in range(there.y0 // stride * stride, there.y1, step):
            part = there.intersect(Region(top, there.x0, top + step, there.x1))
            # The first band is the sum over all.
            values = np.abs(self.file.read(part.shift(-self.region.y0, -self.region.x0))[..., 0])
            rows, columns = (_starts(*edges, stride) for edges in (part[::2], part[1::2]))
            found = np.add.reduceat(values.astype(np.float64), rows, axis=0)
            found = np.add.reduceat(found, columns, axis=1)
            y, x = part.y0 // stride - cells.y0, part.x0 // stride - cells.x0
            sums[y : y + len(rows), x : x + len(columns)] += found
        return sums

    def with_ranks(self, answer: QueryMaps) -> QueryMaps:
        """Return the maps of a query with `RANK` among the numbers of each head.

        Raises `BadParameter` where no site has a candidate that the map covers.
        """
        sites = {name: _Site(self, maps) for name, maps in answer.maps.items()}
        if not any(site.overlaps for site in sites.values()):
            raise BadParameter(
                f"{self.file.name} covers no cell that {answer.query.label} could look at.",
                "Ask about a place in the box that was attributed, or attribute this place.",
            )
        measured = {
            name: [{**head, RANK: sites[name].rank(number)} for number, head in enumerate(heads)]
            for name, heads in answer.measures.items()
        }
        return replace(answer, measures=measured)


@dataclass(frozen=True)
class _Site:
    """The maps of a site's heads, beside the attribution of the same cells."""

    attribution: AttributionMap
    maps: HeadMaps

    @property
    def overlaps(self) -> bool:
        cells = self.maps.cells[self.maps.cells[..., 0] >= 0]
        low, high = self.maps.stride * cells, self.maps.stride * (cells + 1)
        y0, x0, y1, x1 = self.attribution.region
        return bool(((high > (y0, x0)) & (low < (y1, x1))).all(axis=1).any())

    @cached_property
    def sums(self) -> Floats:
        return self.attribution.cell_sums(self.region, self.maps.stride)

    @property
    def region(self) -> Region:
        """The cells of the image among those that any head could look at: padding has no pixels."""
        return self.maps.region.intersect(self.maps.image_cells)

    def rank(self, head: int) -> float | None:
        """Return Spearman's rank correlation of a head's weights and the sums; None without one."""
        if not self.overlaps:
            return None
        found = self.maps.map(self.maps.site.heads[head])
        weights = found.values[self.region.within(found.region)]
        there = ~np.isnan(weights)
        return rank_correlation(weights[there].astype(np.float64), self.sums[there])


def rank_correlation(weights: Floats, sums: Floats) -> float | None:
    """Return Spearman's rank correlation of two arrays (n,), None where one is constant or n < `LEAST`."""
    if len(weights) < LEAST or _is_equal(weights) or _is_equal(sums):
        return None
    # Equal values have their mean rank.
    one, other = (_ranks(values) for values in (weights, sums))
    return float(np.corrcoef(one, other)[0, 1])


def _is_equal(values: Floats) -> bool:
    return float(np.ptp(values)) <= EQUAL * float(np.abs(values).max())


def _ranks(values: Floats) -> Floats:
    """Return the ranks of values from 1, of equal ones their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse]
    return ranks


def _starts(low: int, high: int, stride: int) -> list[int]:
    """Return where the cells of [low, high) begin, counted from `low`."""
    return [max(stride * cell, low) - low for cell in range(low // stride, -(-high // stride))]
