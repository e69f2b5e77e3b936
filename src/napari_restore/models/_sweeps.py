"""Base of models that see the whole image: an ordered list of sweeps over its tiles."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

from napari_restore.models._attention import AttentionRow, HeadOutputs, LayerTokens
from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import (
    RestorationModel,
    Statistics,
    each_image,
    one_shot_statistics,
)
from napari_restore.models._steps import (
    RESTORED,
    Keeps,
    Routing,
    Step,
    Steps,
    Sums,
    Sweep,
    SweepInput,
    WholeStep,
)


class SweptModel(RestorationModel):
    """A model whose pixels depend on all of the image, through an ordered list of sweeps.

    The image is first grown at bottom and right by reflection, to whole tiles if the model fixes
    their side, else to its card's `multiple_of`, unless it says otherwise in `pads`. `forward` runs the sweeps on whole images, each as
    one tile; a run of the engine runs the same functions tile by tile. Where `statistics` hold what
    the sweeps count, they count nothing: without a `WholeStep` the model is then local, with the
    halo `reach`.
    """

    is_swept = True
    tile: int | None = None
    """Side in pixels that tiles must have; None: any multiple of the card's `multiple_of`."""
    batch: int | None = None
    """Number of tiles at once that the model is intended for; None: by the size of the image."""
    pads: bool = True
    """Whether the image is grown to whole tiles or multiples. If not, the last cells of what a sweep
    counts may be cut by the image's edge, and maps between sweeps have cells of one pixel."""

    @property
    def fixed_tile(self) -> int | None:
        return self.tile

    @property
    def keeps(self) -> Keeps:
        """What becomes of the statistics that the sweeps count; see `Keeps`."""
        return "image"

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in order; the last is a sweep and writes `RESTORED`.

        Beside it the last sweep may write the side maps that the card names.
        """
        raise NotImplementedError

    @property
    def ordered_steps(self) -> Steps:
        """The steps, which tell what they leave each other."""
        return Steps(self.steps())

    def view(self, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        """Return the sweeps' view of tiles or images `x` (N, C, h, w): its planes come first.

        No further planes, unless the model needs the context: then also those computed pixel by
        pixel from `statistics`; without them from `x`, taken for whole images.
        """
        return x

    @property
    def multiple(self) -> int:
        """Pixels of which edges of tiles are multiples."""
        return self.tile or self.card.multiple_of

    @property
    def padded_to(self) -> int:
        """Pixels to whose multiple the image is grown."""
        return self.multiple if self.pads else 1

    @property
    def counted(self) -> tuple[str, ...]:
        counting = self.ordered_steps.counting.values()
        return tuple(name for _, counts in counting for name in counts.statistics)

    @property
    def routes(self) -> bool:
        counting = self.ordered_steps.counting.values()
        return super().routes or any(counts.choices for _, counts in counting)

    @property
    def reach(self) -> int | None:
        """Halo in pixels of the model once all is counted; None if a step takes a whole map."""
        return self.ordered_steps.reach(self.multiple)

    def attention_rows(
        self, step: str, given: SweepInput, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        """Return the rows of one pixel in those sites of a sweep that are named.

        `given` is that of one tile, `pixel` (row, column) in its box. Cells are counted from the
        corner of the box.
        """
        raise NotImplementedError

    def layer_rows(
        self, index: int, kept: LayerTokens, cell: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        """Return the rows of a cell (row, column) in the named sites of layer `index` of the `WholeStep`."""
        raise NotImplementedError

    def layer_column(self, index: int, kept: LayerTokens, cell: tuple[int, int]) -> AttentionRow:
        """Return the weights that cells give to one cell in the attention of layer `index`."""
        raise NotImplementedError

    def attention_outputs(
        self, step: str, given: SweepInput, names: frozenset[str]
    ) -> dict[str, HeadOutputs]:
        """Return what the heads put out in those sites of a sweep that are named.

        `given` is that of one tile; outputs are maps (h, w, C_i) of its box. Of models that say
        `gives_head_outputs`, for sites with several heads.
        """
        raise NotImplementedError

    def layer_outputs(
        self, index: int, kept: LayerTokens, cells: Tensor, names: frozenset[str]
    ) -> dict[str, HeadOutputs]:
        """Return what the heads of layer `index` of the `WholeStep` put out, as `attention_outputs`.

        Of the cells (n,) that are numbered y · width + x; outputs are (n, C_i).
        """
        raise NotImplementedError

    def kept_of_layer(self, index: int, routing: Routing) -> dict[Hashable, Tensor]:
        """Return what rows of layer `index` need beside its input, from what its run decided.

        `routing` only records. Tensors by name, as `LayerTokens.kept` gives them.
        """
        return {}

    def kept_bytes_of_layer(self, index: int, cells: int) -> int:
        """Return the bytes of `kept_of_layer` for so many cells."""
        return 0

    def whole(self, x: Tensor, valid: Tensor | None = None) -> Tensor | None:
        """Return whole images restored at once, where a network has a faster way than its sweeps."""
        return None

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if statistics is None and (made := self.whole(x, valid)) is not None:
            return made, {}
        if statistics is None and self.card.needs_context and len(x) > 1:
            # What follows from the context of one image has no axis of images.
            each = [self.forward_with_maps(one, None, own) for one, own in each_image(x, valid)]
            names = each[0][1]
            maps = {name: torch.cat([found[name] for _, found in each]) for name in names}
            return torch.cat([y for y, _ in each]), maps
        if statistics is None:
            needs = self.card.needs_context
            statistics = one_shot_statistics(self, x, valid) if needs else {}
        height, width = x.shape[2:]
        whole = pad_to_multiple(x, self.padded_to)
        counted = valid
        if valid is not None and valid.shape[2:] != whole.shape[2:]:
            counted = pad_to_multiple(valid, self.padded_to)
        outputs = self.swept(self.view(whole, statistics), statistics, counted)
        cropped = {name: y[..., :height, :width] for name, y in outputs.items()}
        return cropped.pop(RESTORED), cropped

    def swept(
        self, view: Tensor, statistics: Statistics, valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the last sweep's outputs of whole views (N, planes, H, W), each as one tile."""
        return run_steps(self.steps(), view, statistics, valid)[0]


def run_steps(
    steps: tuple[Step, ...],
    view: Tensor,
    statistics: Statistics,
    valid: Tensor | None = None,
    visit: Callable[[Sweep, SweepInput], None] | None = None,
) -> tuple[dict[str, Tensor], Statistics]:
    """Run `steps` on whole views (N, planes, H, W), each as one tile.

    Returns the outputs of the last one, and `statistics` with all that the steps counted. `visit` is
    called with every sweep that is run and its input.
    """
    last = {name: number for number, step in enumerate(steps) for name in step.inputs}
    maps: dict[str, Tensor] = {}
    remembered: dict[Hashable, object] = {}
    for number, step in enumerate(steps):
        if isinstance(step, WholeStep):
            grids = [on_whole_map(step, grid) for grid in maps[step.reads.name]]
            maps[step.writes.name] = torch.stack(grids)
        else:
            counting = None if step.is_counted(statistics) else step.counts
            if counting is None and not step.writes:
                # All that it is for is known.
                continue
            read = {name: maps[name] for name in step.reads}
            wanted = step.wanted(counting)
            given = SweepInput(view, read, statistics, wanted, valid, None, remembered)
            if visit is not None:
                visit(step, given)
            outputs = dict(step.run(given))
            if counting is not None:
                features = {each.name: outputs[each.name] for each in counting.features}
                counted = counting.finalize(counting.count(features, valid), statistics)
                statistics = {**statistics, **counted}
            maps |= {each.name: outputs[each.name] for each in step.writes}
        if number < len(steps) - 1:
            maps = {name: one for name, one in maps.items() if last.get(name, number) > number}
    return {each.name: maps[each.name] for each in steps[-1].outputs}, statistics


def on_whole_map(step: WholeStep, grid: Tensor) -> Tensor:
    """Return the step's output for a map (C, H, W), with the margin."""
    # A copy: layers overwrite their input, which later sweeps may read.
    grid = grid.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
    return step.with_margin(step(grid).permute(2, 0, 1))


NUMBER = "number"
"""Count of the rows of a list that are used; the others are zeros."""
SPARE = 1.5
"""Room of a growing list, as a multiple of its length: it is copied a few times only."""


def listed(name: str, features: Mapping[str, Tensor], _: Tensor | None) -> Sums:
    """Return the feature `name` (N, C, h, w) of tiles as lists (N, h · w, C) of their cells."""
    rows = features[name].double().flatten(2).transpose(1, 2)
    return {name: rows, NUMBER: rows.new_full((len(rows),), rows.shape[1])}


def joined(name: str, earlier: Sums, following: Sums) -> Sums:
    """Return the rows (1, R, …) of two counts as one list, in place where the first has room.

    Both hold the list under `name`, and the length of its used part under `NUMBER`.
    """
    rows, used, new = earlier[name], int(earlier[NUMBER]), int(following[NUMBER])
    if rows.shape[1] < used + new:
        grown = rows.new_empty(1, int(SPARE * (used + new)), *rows.shape[2:])
        grown[:, :used] = rows[:, :used]
        rows = grown
    rows[:, used : used + new] = following[name][:, :new]
    return {name: rows, NUMBER: earlier[NUMBER] + new}


def rows_of_tile(name: str, by_all: Sums, joined_rows: Sums, own: Sums) -> Sums:
    """Return ∂D/∂ of one tile's list, given that of the joined lists, these, and the tile's.

    The first two numbers of a row tell one from all others.
    """
    all_places, places = (rows[name][0, : int(rows[NUMBER]), :2] for rows in (joined_rows, own))
    width = 1 + int(all_places[:, 1].max())
    keys, wanted = (each[:, 0] * width + each[:, 1] for each in (all_places, places))
    order = keys.argsort()
    found = order[torch.searchsorted(keys[order], wanted)]
    by_own = torch.zeros_like(own[name])
    by_own[0, : len(found)] = by_all[name][0, found]
    return {name: by_own}
