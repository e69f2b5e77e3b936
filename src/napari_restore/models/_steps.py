"""Steps of models that see the whole image: sweeps over tiles, what they leave, read and count.

"sweep", "map" and "routing" are words of docs/glossary.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from napari_restore.models._model import Statistics


class Routing:
    """Routing of one layer: its experts of each cell, its order of tokens."""

    # A layer called with an empty routing stores its decisions in it; called with it again, it
    # reuses them, whatever the input. A network is smooth only between two changes of a decision;
    # with its routing fixed it is smooth everywhere. One that only `records` stores what is decided
    # anyway, so that the layer's result is to the bit the one without it.
    def __init__(self, *, records: bool = False) -> None:
        self.made: dict[Hashable, Tensor] = {}
        self.records = records

    def fixed(self, name: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """Return the decision of that name; `make` is called where there is none yet."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]


RESTORED = "restored"
"""Name of the map that the last sweep writes: the restored pixels, at stride 1."""
Tick = Callable[[float], None]
"""Called with the share of a layer that is done; raises to stop it."""
Sums: TypeAlias = Mapping[str, Tensor]
"""What a sweep counts: tensors whose first axis is the tiles (or images) of a batch."""
Keeps: TypeAlias = Literal["image", "size", "nothing"]
"""What statistics that sweeps count are kept for: later runs of the image, also later images of the same size,
whose results are then approximate; or nothing."""
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Map:
    """What a sweep leaves for a later one: cells of `stride` pixels along a side."""

    name: str
    channels: int
    stride: int = 1
    dtype: str | None = None
    """Floats that it is kept in; None: those the run chooses (``--residual-dtype``)."""

    def shape(self, tile: int) -> tuple[int, int, int]:
        """Return (C, h, w) for a tile of `tile` pixels along a side."""
        return self.channels, tile // self.stride, tile // self.stride


@dataclass(frozen=True)
class SweepInput:
    """What a sweep sees of a batch of tiles, or of whole images."""

    # All tensors cover the same box: that of the tile grown by the sweep's halo, but never beyond
    # the (padded) image. So the network's own padding acts at the image's edges and nowhere else.

    view: Tensor | None
    """(N, planes, h, w) from `SweptModel.view`; None if the sweep does not see the image."""
    maps: Mapping[str, Tensor]
    """(N, C, h / stride, w / stride) by name, those that it reads."""
    statistics: Statistics
    """Those of the model's `prepare`, and what earlier sweeps counted."""
    wanted: frozenset[str] | None = None
    """Outputs that are needed; None: all. A sweep may return more, but need not."""
    valid: Tensor | None = None
    """(N, 1, h, w) bool, pixels of `view` that count, where the card says `uses_validity`; None:
    all of them, or the sweep does not see the image."""
    routing: Routing | None = None
    """Of a single tile: its discrete decisions, made once and then fixed; None: made each time."""
    remembered: dict[Any, Any] = field(default_factory=dict, compare=False)
    """What a model keeps of this input from one question about its attention to the next; of whole images,
    also from one sweep to the next, which else would compute it again."""

    @property
    def origins(self) -> list[tuple[int, int]]:
        """First pixel (y, x) of each item in the image; (0, 0) of whole images without a place."""
        found = self.statistics.get("origin")
        if found is None:
            items = next(iter(self.maps.values())) if self.view is None else self.view
            return [(0, 0)] * len(items)
        return [(y, x) for y, x in found.tolist()]

    def wants(self, *names: str) -> bool:
        """Return whether any of these outputs is needed."""
        return self.wanted is None or not self.wanted.isdisjoint(names)


@dataclass(frozen=True)
class Counts:
    """What a sweep counts over all tiles, and what follows from it."""

    # Every cell is counted once, in the core of its tile, and weighs nothing where its pixels are
    # invalid. Counts of tiles are merged in the order of the tiles, so that a sum is the same
    # whatever order they were worked on.

    features: tuple[Map, ...]
    """Outputs of the sweep that are counted, not kept; `count` is given their cores."""
    shapes: Shapes | Callable[[int, tuple[int, int]], Shapes]
    """Shape of each count of one tile, or a function that returns them for a tile's side and the
    image's height and width, in pixels.

    A list of what a tile's cells hold grows with the tile. At the image's edges it may be shorter:
    a run fills the first axis up with zeros, so the list must tell where it ends."""
    count: Callable[[Mapping[str, Tensor], Tensor | None], Sums]
    """Returns float64 counts (N, *shape) of features (N, C, h, w), each tile by itself.

    The second argument are the valid pixels, (N, 1, H, W) bool, None where all are: `cell_weights`
    turns them into weights of cells."""
    statistics: tuple[str, ...]
    """Names of the statistics that `finalize` returns."""
    finalize: Callable[[Sums, Statistics], Statistics]
    """Turns the counts of the whole image into statistics for later sweeps.

    Both have the images as first axis: a run has one, one-shot calls as many as they are given."""
    merge: Callable[[Sums, Sums], Sums] | None = None
    """Merges the counts of earlier tiles with the next one's; None: they are added. It may write
    into the earlier ones."""
    of_tile: Callable[[Sums, Sums, Sums], Sums] | None = None
    """Returns ∂D/∂ of the counts of one tile, given ∂D/∂ of the merged counts, these, and the tile's;
    None: it is that of the merged ones."""
    merged_shapes: Shapes | None = None
    """Shapes of the counts of all tiles where `merge` bounds them; None: as many as the tiles hold."""
    finalize_bytes: Callable[[tuple[int, int]], tuple[int, int]] = lambda _: (0, 0)
    """Bytes in RAM of `finalize` at its peak beside the counts, and of what it returns, for an image's
    height and width, beside what is measured on a small image; 0 where they do not grow."""
    choices: tuple[str, ...] = ()
    """Those of `statistics` that are discrete decisions, without a gradient. `finalize` takes them from
    its second argument where they are there: they are then fixed, see `Routing`."""

    def merged(self, earlier: Sums, following: Sums) -> Sums:
        """Return the counts of earlier tiles and the next one together."""
        if self.merge is not None:
            return self.merge(earlier, following)
        return {name: earlier[name] + following[name] for name in earlier}

    def shapes_of(self, tile: int, size: tuple[int, int]) -> Shapes:
        """Return the shape of each count of a tile of an image of `size`, height and width."""
        return self.shapes(tile, size) if callable(self.shapes) else self.shapes


@dataclass(frozen=True)
class Sweep:
    """One pass over all tiles."""

    name: str
    """For records, for instance ``"encode"``."""
    title: str
    """For users, for instance ``"Encoding"``."""
    run: Callable[[SweepInput], Mapping[str, Tensor]]
    """Returns the outputs by name, of the whole input box; what the halo spoils is cut off."""
    reads: tuple[str, ...] = ()
    """Names of the maps it reads; those of a `WholeStep` come with that step's margin."""
    writes: tuple[Map, ...] = ()
    halo: int = 0
    """Pixels around a tile's core that its outputs depend on; a multiple of all strides."""
    sees_image: bool = True
    counts: Counts | None = None
    block: int = 1
    """Pixels along a side of blocks, counted from the image's origin, that are mixed within: beside
    a halo its outputs depend on all of each block. Edges of tiles are edges of blocks."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the maps that the step reads."""
        return self.reads

    @property
    def outputs(self) -> tuple[Map, ...]:
        """Maps that the step leaves."""
        return self.writes

    @property
    def is_shallow(self) -> bool:
        """Whether its maps are made again from a tile's own pixels alone."""
        return self.halo == 0 and not self.reads and self.sees_image

    def wanted(self, counting: Counts | None) -> frozenset[str]:
        """Return the outputs that are needed: the counted ones only while `counting`."""
        counted = () if counting is None else counting.features
        return frozenset(each.name for each in (*self.writes, *counted))

    def is_counted(self, statistics: Statistics) -> bool:
        """Return whether `statistics` hold all that it counts."""
        return self.counts is None or all(name in statistics for name in self.counts.statistics)


@dataclass(frozen=True)
class WholeStep:
    """A step between two sweeps that takes a map as a whole, in memory, layer by layer; at most one a model."""

    # Both maps are float32 and stay with a run's result, so that another area of the same image
    # only needs the sweeps after it.

    name: str
    title: str
    reads: Map
    writes: Map
    margin: int
    """Cells around a tile's own that readers of `writes` are given; at the image's edges the last
    cell is repeated."""
    layers: int
    begin: Callable[[Tensor], Tensor]
    """Returns the first layer's input for a map (H, W, C); may overwrite it."""
    layer: Callable[..., Tensor]
    """Applies layer `index` to `grid` (H, W, C), which it may overwrite: `layer(index, grid, tick,
    routing)`, of which `tick` (`Tick`) and `routing` (`Routing`) may be left out."""
    peak_bytes: Callable[[int, int], int]
    """Returns the peak bytes of a layer for H × W float32 cells, those included."""
    operations: Callable[[int, int, int], float]
    """Returns roughly the multiplications of layer `index` for H × W cells."""
    halo: ClassVar[int] = 0
    counts: ClassVar[None] = None
    sees_image: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the maps that the step reads: one."""
        return (self.reads.name,)

    @property
    def outputs(self) -> tuple[Map, ...]:
        """Maps that the step leaves: one."""
        return (self.writes,)

    def __call__(self, grid: Tensor) -> Tensor:
        """Return the step's output for one map (H, W, C)."""
        grid = self.begin(grid)
        for index in range(self.layers):
            grid = self.layer(index, grid)
        return grid

    def with_margin(self, grid: Tensor) -> Tensor:
        """Return a map (C, H, W), its edges repeated for the `margin` on every side."""
        beyond = [self.margin] * 4
        return nn.functional.pad(grid[None], beyond, mode="replicate")[0] if self.margin else grid


Step: TypeAlias = Sweep | WholeStep


class Steps(tuple[Step, ...]):
    """The steps of a model in order: who leaves a map, who reads it, and how far around a tile."""

    @cached_property
    def sweeps(self) -> dict[int, Sweep]:
        """The sweeps by their number, in order."""
        return {number: step for number, step in enumerate(self) if isinstance(step, Sweep)}

    @cached_property
    def counting(self) -> dict[int, tuple[Sweep, Counts]]:
        """The sweeps that count, by their number."""
        sweeps = self.sweeps.items()
        return {n: (sweep, sweep.counts) for n, sweep in sweeps if sweep.counts is not None}

    @cached_property
    def whole(self) -> WholeStep | None:
        """The step that takes a map as a whole; None if there is none."""
        return next((step for step in self if isinstance(step, WholeStep)), None)

    @cached_property
    def maps(self) -> dict[str, Map]:
        """All maps that steps leave, by name."""
        return {each.name: each for step in self for each in step.outputs}

    @cached_property
    def whole_maps(self) -> frozenset[str]:
        """Names of the maps that are read or left as a whole."""
        whole = self.whole
        return frozenset(() if whole is None else (whole.reads.name, whole.writes.name))

    def readers(self, name: str) -> list[int]:
        """Return the numbers of the sweeps that read a map."""
        return [number for number, sweep in self.sweeps.items() if name in sweep.reads]

    @cached_property
    def margins(self) -> dict[str, int]:
        """The most pixels around a tile that readers take, by map."""
        margins: dict[str, int] = {}
        for sweep in self.sweeps.values():
            for name in sweep.reads:
                margins[name] = max(margins.get(name, 0), sweep.halo)
        return margins

    def reach(self, multiple: int) -> int | None:
        """Return the halo in pixels, a multiple of `multiple`, once all is counted; None with a `WholeStep`."""
        if self.whole is not None:
            return None
        reach = {RESTORED: 0}
        farthest = 0
        for sweep in reversed(self.sweeps.values()):
            needed = [reach[written.name] for written in sweep.writes if written.name in reach]
            if not needed:
                continue
            around = -(-max(needed) // sweep.block) * sweep.block + sweep.halo
            for name in sweep.reads:
                reach[name] = max(reach.get(name, 0), around)
            if sweep.sees_image:
                farthest = max(farthest, around)
        return -(-farthest // multiple) * multiple

    def problem(self, multiple: int, pads: bool) -> str:
        """Return why the steps do not fit each other on tiles of a `multiple`, to which it `pads`; else ""."""
        last = self.sweeps.get(len(self) - 1)
        if last is None or RESTORED not in [each.name for each in last.writes]:
            return f"the last one does not write {RESTORED!r}"
        if not last.sees_image or last.counts is not None:
            return "the last one must see the image, and counts nothing"
        if len(self) - len(self.sweeps) > 1:
            return "more than one takes a map as a whole"
        if len({step.name for step in self}) < len(self):
            return "two have the same name"
        known: set[str] = set()
        for number, step in enumerate(self):
            missing = [name for name in step.inputs if name not in known]
            if missing:
                return f"{step.name!r} reads {missing[0]!r}, which none before it writes"
            if step.halo and self.whole_maps.intersection(step.inputs):
                return f"{step.name!r} reads a map taken as a whole, and has a halo"
            if number in self.sweeps and self._ends_within_a_cell(self.sweeps[number], multiple):
                return f"the halo of {step.name!r} or its tiles end within a cell"
            known.update(each.name for each in step.outputs)
        kept = [each for sweep in self.sweeps.values() for each in sweep.writes]
        if not pads and any(each.stride > 1 for each in kept):
            return "maps of larger cells are kept of an image that is not padded"
        return ""

    def _ends_within_a_cell(self, sweep: Sweep, multiple: int) -> bool:
        """Return whether a box of the sweep may have a part of a cell of its maps."""
        counted = () if sweep.counts is None else sweep.counts.features
        maps = (*(self.maps[name] for name in sweep.reads), *sweep.writes, *counted)
        return any(sweep.halo % each.stride or multiple % each.stride for each in maps)


def cell_places(first: tuple[int, int], like: Tensor) -> Tensor:
    """Return row and column (2, h, w) int64 of the cells of a map `like` (…, h, w) that begins at `first`."""
    rows, columns = (
        torch.arange(start, start + count, device=like.device)
        for start, count in zip(first, like.shape[-2:], strict=True)
    )
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def cell_weights(valid: Tensor | None, features: Tensor) -> Tensor:
    """Return the float64 weights (N, 1, h, w) of the cells of `features` (N, C, h, w).

    A cell weighs the share of its pixels that are `valid` (N, 1, H, W) bool; 1 where that is None.
    """
    shape = (len(features), 1, *features.shape[2:])
    if valid is None:
        return torch.ones(shape, dtype=torch.float64, device=features.device)
    stride = valid.shape[-1] // features.shape[-1]
    return nn.functional.avg_pool2d(valid.to(torch.float64), stride)
