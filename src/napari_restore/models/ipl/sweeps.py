"""IPL as sweeps: one more than it has blocks.

A sweep applies the cube of the block before it, runs its own slice attention, and adds up what the
tile gives to the samples of its own cube. Between the samplers a block of 64 × 64 cells knows of the
rest of the image by the cubes alone; so tiles are multiples of 256 pixels, and only the samplers'
3 × 3 convolutions need a halo. A map of a sixteenth of the features' channels per pixel is kept from
one sweep to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.errors import BadModel, BadParameter
from napari_restore.models._attention import AttentionRow, AttentionSite
from napari_restore.models._card import ModelCard
from napari_restore.models._exposure_curves import comparing
from napari_restore.models._model import Statistics
from napari_restore.models._steps import RESTORED, Counts, Keeps, Map, Sums, Sweep, SweepInput
from napari_restore.models._sweeps import SweptModel
from napari_restore.models.ipl import sampling
from napari_restore.models.ipl.config import BANDS, BLOCK, FRAMES, STRIDE, IplConfig
from napari_restore.models.ipl.cube import interpolated, taps
from napari_restore.models.ipl.network import BINS, MIDDLE, IplNetwork, curves_of
from napari_restore.models.ipl.quantise import RANGE_BYTES, Quantised, affine, by_cell, cell_values
from napari_restore.models.ipl.sampling import CellBox
from napari_restore.models.ipl.slices import SliceAttentions

SMALL: dict[str, Any] = {
    **{"dim": 24, "blocks": 2, "mixes": 1, "shared": 0},
    **{"hidden_channel": 64, "curves": 1, "detail": 16},
}
"""Sizes of `ipl-small`: 0.19 M weights, cubes of 0.5 GMAC."""


class Ipl(IplNetwork, SweptModel):
    """IPL as a model that the engine sweeps, by reading R3; the others run on whole images only."""

    @property
    def padded_to(self) -> int:
        # Tiles have whole blocks, but the last block of the image may be cut.
        return STRIDE

    @property
    def keeps(self) -> Keeps:
        kept: dict[object, Keeps] = {"off": "nothing", "positional": "size"}
        return kept.get(self.card.values.get("cache"), "image")

    @property
    def reach(self) -> int | None:
        # Boxes need not have whole blocks at their edges, where the halo spoils them.
        return self.ordered_steps.reach(STRIDE)

    def steps(self) -> tuple[Sweep, ...]:
        reading = self.card.values.get("reading", "R3")
        if reading != "R3":
            raise BadParameter(
                f"reading={reading} averages over whole rows and columns, which tiles do not have.",
                "Set reading=R3, or call the network itself on a small image.",
            )
        last = self.config.blocks
        first = [comparing(FRAMES, MIDDLE, BINS, curves_of)] if self.config.curves else []
        return (*first, *(self._attend(block) for block in range(last)), self._finish(last))

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        is_swept = self.card.values.get("reading", "R3") == "R3"
        return sites_of(self.config.blocks) if is_swept else ()

    @torch.no_grad()
    def attention_rows(
        self, step: str, given: SweepInput, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        """Return the factors of a pixel's cell, see `_gates`, in slices of blocks that the box has as a whole."""
        cell = pixel[0] // STRIDE, pixel[1] // STRIDE
        found = {}
        for site in self.attention_sites():
            if site.step == step and site.name in names:
                part, number = site.name.split(".")
                of_part = self._slice_row if part == ATTENTION else self._cube_row
                found[site.name] = of_part(int(number) - 1, given, cell)
        return found

    def _slice_row(self, block: int, given: SweepInput, cell: tuple[int, int]) -> AttentionRow:
        x = self._input(block, given)
        rows, columns = _whole_blocks(x[0], _places(given, x)[0])
        row, column = cell
        if not (rows.start <= row < rows.stop and columns.start <= column < columns.stop):
            return left_out(len(SLICES), self.config.channels, cell)
        own = self.attention[0 if self.config.shared else block]
        assert isinstance(own, SliceAttentions)
        inside = row - rows.start, column - columns.start
        return row_of(own.factors_at(x[..., rows, columns], inside), x[0, :, row, column], cell)

    def _cube_row(self, block: int, given: SweepInput, cell: tuple[int, int]) -> AttentionRow:
        attended = self._read(given.maps[f"attended{block}"])
        row, column = cell
        place = _places(given, attended)[0]
        first = place.first[0] + row, place.first[1] + column
        features = attended[0, :, row : row + 1, column : column + 1]
        cube = self._cube(block, 0, given.statistics, place._replace(first=first), features)
        return row_of(1 + cube.flatten()[None], features.flatten(), cell)

    def _seen(self, given: SweepInput) -> Tensor:
        assert given.view is not None
        return self.seen(given.view, given.valid, given.statistics.get("curves"))

    def _attend(self, block: int) -> Sweep:
        """Return the sweep of a block's slice attention."""
        name, before = f"attended{block}", f"attended{block - 1}"
        channels, names = self.config.channels, self._names(block)

        def run(given: SweepInput) -> Mapping[str, Tensor]:
            x = self._input(block, given)
            places = _places(given, x)
            out = torch.stack(
                [self._attended(block, *each) for each in zip(x, places, strict=True)]
            )
            kept = {name: by_cell(out) if self._in_8_bits else out}
            if not given.wants("features", "place"):
                return kept
            return {**kept, "features": out, "place": sampling.as_map(places, out)}

        def finalize(sums: Sums, _: Statistics) -> Statistics:
            samples = sampling.cube_of(sums, channels)
            cube = self.relate(block, samples.to(self.down.weight.dtype))
            return _rounded(names, cube) if len(names) > 1 else {names[0]: cube}

        counts = Counts(
            features=(Map("features", channels, STRIDE), Map("place", sampling.PLACE, STRIDE)),
            shapes=partial(sampling.shapes, channels),
            count=partial(sampling.count, channels),
            statistics=names,
            finalize=finalize,
            merge=partial(sampling.merge, channels),
            of_tile=sampling.of_tile,
            merged_shapes=sampling.merged_shapes(channels),
        )
        return Sweep(
            f"block{block + 1}",
            f"Block {block + 1} of {self.config.blocks}",
            run,
            reads=(before,) if block else (),
            writes=(self._map(name),),
            halo=0 if block else STRIDE,
            block=BLOCK * STRIDE,
            sees_image=block == 0,
            counts=counts,
        )

    def _finish(self, block: int) -> Sweep:
        """Return the last sweep, which makes pixels."""
        before = f"attended{block - 1}"

        def run(given: SweepInput) -> Mapping[str, Tensor]:
            seen = self._seen(given)
            last = self._related(block - 1, given, self._read(given.maps[before]))
            return {RESTORED: self.finish(last + self.features(seen), seen)}

        return Sweep(
            "fuse",
            "Fusing",
            run,
            reads=(before,),
            writes=(Map(RESTORED, BANDS),),
            halo=self.halo,
        )

    @property
    def _in_8_bits(self) -> bool:
        return self.card.values.get("kept") == "int8"

    def _map(self, name: str) -> Map:
        """Return the map that is kept of a block's D."""
        if self._in_8_bits:
            return Map(name, self.config.channels + RANGE_BYTES, STRIDE, "uint8")
        return Map(name, self.config.channels, STRIDE)

    def _read(self, kept: Tensor) -> Tensor:
        """Return a block's D (N, C, h, w) of the map that was kept."""
        return cell_values(kept).to(self.down.weight.dtype) if self._in_8_bits else kept

    def _names(self, block: int) -> tuple[str, ...]:
        """Return the names of the statistics that are a block's cube."""
        name = f"cube{block}"
        return (name, f"{name}_range") if self.keeps == "size" else (name,)

    def _part(
        self, block: int, number: int, statistics: Statistics, box: tuple[slice, slice]
    ) -> Tensor:
        """Return rows and columns (C, rows, columns) of an image's cube of a block."""
        # Of one image, or of each of the batch.
        cubes, *ranges = (
            found[number if len(found) > 1 else 0]
            for found in (statistics[name] for name in self._names(block))
        )
        part = cubes[:, *box]
        return Quantised(part, *ranges[0]).values() if ranges else part

    def _attended(self, block: int, x: Tensor, place: CellBox) -> Tensor:
        """Return D (C, h, w) of features of a box: of its whole blocks, 0 around them."""
        rows, columns = _whole_blocks(x, place)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return torch.zeros_like(x)
        out = self.attend(block, x[None, :, rows, columns])[0]
        around = (
            columns.start,
            x.shape[2] - columns.stop,
            rows.start,
            x.shape[1] - rows.stop,
        )
        return functional.pad(out, around) if any(around) else out

    def _related(self, block: int, given: SweepInput, attended: Tensor) -> Tensor:
        """Return D + D · cube (N, C, h, w) of a block's D."""
        parts = []
        for number, (place, one) in enumerate(zip(_places(given, attended), attended, strict=True)):
            parts.append(one + one * self._cube(block, number, given.statistics, place, one))
        return torch.stack(parts)

    def _cube(
        self, block: int, number: int, statistics: Statistics, place: CellBox, like: Tensor
    ) -> Tensor:
        """Return an image's cube (C, h, w) of a block at the cells of `like` (C, h, w)."""
        # A tile needs a few rows and columns of it.
        (rows, first), (columns, second) = (
            taps(self.config.channels, total, like.device).at(start, cells).shifted()
            for start, total, cells in zip(place.first, place.size, like.shape[1:], strict=True)
        )
        cube = self._part(block, number, statistics, (first, second)).to(like)
        return interpolated(cube[None], rows, columns)[0]

    def _input(self, block: int, given: SweepInput) -> Tensor:
        """Return the features (N, C, h, w) that a block's slice attention reads."""
        if block == 0:
            return self.features(self._seen(given))
        return self._related(block - 1, given, self._read(given.maps[f"attended{block - 1}"]))


def _whole_blocks(x: Tensor, place: CellBox) -> tuple[slice, slice]:
    """Return the rows and columns of features (C, h, w) of a box that are whole blocks."""
    # The last block of the image may be cut.
    found = []
    for first, cells, total in zip(place.first, x.shape[1:], place.size, strict=True):
        end = first + cells
        end = end if end >= total else end // BLOCK * BLOCK
        found.append(slice(min(cells, -first % BLOCK), max(0, end - first)))
    rows, columns = found
    return rows, columns


def _rounded(names: tuple[str, ...], cubes: Tensor) -> Statistics:
    """Return cubes (N, C, C, C) in 8 bits, and the numbers (N, 3) that tell their range."""
    if not bool(torch.isfinite(cubes).all()):
        raise BadModel(
            "A cube of this network holds NaN or infinity, which 8 bits cannot.",
            "Check its weights, or set cache=exact.",
        )
    each = [affine(cube) for cube in cubes]
    codes = torch.stack([one.codes for one in each])
    return {names[0]: codes, names[1]: torch.stack([torch.stack(one[1:]) for one in each])}


def _places(given: SweepInput, features: Tensor) -> list[CellBox]:
    """Return the place of each item of features (N, C, h, w) in its image, in cells."""
    cells = (features.shape[2], features.shape[3])
    size = given.statistics.get("image_size")
    if size is not None:
        height, width = (-(-int(side) // STRIDE) for side in size.tolist())
        cells = (height, width)
    return [CellBox((y // STRIDE, x // STRIDE), cells) for y, x in given.origins]


def make(card: ModelCard, **sizes: int) -> Ipl:
    """Return a network of the published size, but for `sizes`: fields of `IplConfig`."""
    return Ipl(card, IplConfig(**sizes))


def make_small(card: ModelCard, **sizes: int) -> Ipl:
    """Return a network of the small size, but for `sizes`."""
    return make(card, **{**SMALL, **sizes})


SLICES = ("channels", "columns", "rows")
"""Slice attentions, in the order of `SliceAttentions.factors_at`."""
ATTENTION, CUBES = "attention", "cubes"
BLOCK_LAYER, LAST = "block", "fuse"
"""Names of sweeps: of the blocks, numbered from 1, and the last one."""


def sites_of(blocks: int) -> tuple[AttentionSite, ...]:
    """Return the sites of a network of so many blocks: slices and cube in turn.

    The sweep after that of a block applies its cube.
    """
    found = []
    for block in range(1, blocks + 1):
        following = f"{BLOCK_LAYER}{block + 1}" if block < blocks else LAST
        name, title = f"{ATTENTION}.{block}", f"slices {block}"
        found.append(AttentionSite(name, title, "gate", f"{BLOCK_LAYER}{block}", STRIDE, SLICES))
        name, title = f"{CUBES}.{block}", f"cube {block}"
        found.append(AttentionSite(name, title, "gate", following, STRIDE, ("cube",)))
    return tuple(found)


def row_of(factors: Tensor, features: Tensor, cell: tuple[int, int]) -> AttentionRow:
    """Return the row of a cell whose features (C,) are multiplied with `factors` (heads, C).

    Its numbers: ``factors`` and ``features``. The result is the sum over the heads of their product.
    """
    heads = len(factors)
    own = torch.tensor(cell, device=factors.device).expand(heads, 1, 2)
    weights = factors.mean(1, keepdim=True).to(torch.float32)
    return AttentionRow(weights, own, cell, {"factors": factors, "features": features})


def left_out(factors: int, channels: int, cell: tuple[int, int]) -> AttentionRow:
    """Return the row of a cell that the box of a tile does not compute."""
    none = torch.zeros(factors, 1)
    numbers = {"factors": torch.zeros(factors, channels), "features": torch.zeros(channels)}
    return AttentionRow(none, torch.full((factors, 1, 2), -1), cell, numbers)
