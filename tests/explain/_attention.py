"""A network whose attention is known: one head looks one cell to the right, one at everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tests.engine._swept_model import ToySwept

import napari_restore as nr
from napari_restore.engine import Region
from napari_restore.engine.rows import PlacedRow
from napari_restore.explain.attention.attention import Attention
from napari_restore.explain.attention.head_maps import HeadMaps, QueryMaps, head_maps
from napari_restore.explain.attention.measures import measures
from napari_restore.explain.attention.queries import Query
from napari_restore.models import AttentionRow, AttentionSite, SweepInput

STRIDE, WINDOW = 4, 8
HEADS = ("right", "all")
SITE = AttentionSite("right.1", "right 1", "window", "fine", STRIDE, HEADS, WINDOW)


class LooksRight(ToySwept):
    """One head looks at the cell to the right, the other at all cells that a tile sees, equally."""

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        return (SITE,)

    def attention_rows(
        self, step: str, given: SweepInput, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        assert step == "fine" and names == {SITE.name} and given.view is not None
        height, width = (-(-edge // STRIDE) for edge in given.view.shape[2:])
        return {SITE.name: looking_right((height, width), (pixel[0] // STRIDE, pixel[1] // STRIDE))}


def looking_right(shape: tuple[int, int], query: tuple[int, int]) -> AttentionRow:
    """The row of a cell in a map of `shape`: beside its last column there is no cell."""
    cells = torch.cartesian_prod(*(torch.arange(edge) for edge in shape))
    right = torch.full_like(cells, -1)
    weights = torch.zeros(2, len(cells))
    weights[1] = 1 / len(cells)
    if query[1] + 1 < shape[1]:
        right[0] = torch.tensor([query[0], query[1] + 1])
        weights[0, 0] = 1
    return AttentionRow(weights, torch.stack([right, cells]), query)


def maps_of(
    weights: Any,
    cells: Any,
    query: tuple[int, int],
    size: tuple[int, int] = (64, 64),
    origin: tuple[int, int] = (0, 0),
    **site: Any,
) -> HeadMaps:
    """Maps of weights (heads, K) for cells (heads, K, 2) that are counted from the pixel `origin`."""
    names = tuple(str(number) for number in range(1, len(weights) + 1))
    fields: dict[str, Any] = {"kind": "window", "stride": STRIDE, "heads": names} | site
    made = AttentionSite(name="a.1", title="a 1", step="a", **fields)
    row = AttentionRow(torch.tensor(weights, dtype=torch.float32), torch.tensor(cells), query)
    return head_maps(PlacedRow(made, row, origin, (1, 1)), size)


def attention_of(image: Any, *maps: HeadMaps, name: str | None = None) -> Attention:
    """The look at one query that has these maps, of an image that nothing ran on."""
    by_name = {each.site.name: each for each in maps}
    numbers = {key: measures(each, 16) for key, each in by_name.items()}
    query = Query(Region(*maps[0].query), name)
    record: dict[str, Any] = {
        "version": "1",
        "input": {
            "path": "a/scene.tif",
            "size": [image.height, image.width],
            "fingerprint": "0123456789abcdef",
        },
        "model": {"id": "toy", "parameters": {}, "weights_sha256": None},
        "attention": {"layers": [each.to_dict() for each in maps], "attended_by": False},
        "measured": {"seconds": 1.5},
    }

    def picture(box: Region, longest: int) -> tuple[Any, Region]:
        inside = box.intersect(Region(0, 0, image.height, image.width))
        return image.read(inside).astype(np.float32), inside

    return Attention((QueryMaps(query, by_name, numbers),), record, image, picture)


def looked(pixels: Any, *queries: Any, **options: Any) -> Attention:
    """`nr.attend` of the network that looks to the right."""
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    return nr.attend(image, LooksRight(), list(queries), device="cpu", progress=False, **options)
