"""Attention of a plan's model on its image: prepared once, then asked pixel by pixel, within a halo or by sweeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore._heap import keep_freed_memory, release_freed_memory
from napari_restore.engine._region import Region, joined
from napari_restore.engine.gradients.cost import gradient_cost
from napari_restore.engine.machine.budget import PeakMemory
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.planning.tiles import cut_into_tiles
from napari_restore.engine.rows._ablation import Ablation, Report
from napari_restore.engine.rows._bottleneck import BottleneckRows
from napari_restore.engine.rows._cells import Outputs, Pixel, PlacedRow, Sites, at_core, rows_in
from napari_restore.engine.running.events import Emit, Note
from napari_restore.engine.running.run import Run, count_first
from napari_restore.engine.running.tile_reader import TileInput
from napari_restore.errors import BadModel, BadParameter, BudgetTooSmall, Cancelled, option
from napari_restore.models import (
    RESTORED,
    AttentionRow,
    AttentionSite,
    CutModel,
    HeadOutputs,
    RestorationModel,
    Statistics,
    Sweep,
    SweepInput,
    SweptModel,
    pad_to_multiple,
    run_steps,
)

T = TypeVar("T")
Visit = Callable[[Sweep, SweepInput], None]


class _ByTile:
    """Calls the model of a run on one tile after another, each with what is around."""

    def __init__(self, run: Run) -> None:
        self.plan, self._stop = run.plan, run.state.stop
        self.tiles = run.open()
        self._reader = run.state.reader

    def _tile(self, pixel: Pixel) -> tuple[Region, Region]:
        """Return the tile of a pixel, and the box that the model sees for it."""
        side = self.plan.layout.tile
        top, left = (at // side * side for at in pixel)
        core = Region(top, left, top + side, left + side).intersect(Region(0, 0, *self._size))
        return core, self.plan.input_box(core)

    @property
    def _size(self) -> tuple[int, int]:
        return self.plan.image.height, self.plan.image.width

    @contextmanager
    def _computing(
        self, core: Region, box: Region
    ) -> Iterator[tuple[TileInput, Tensor, Statistics]]:
        """Compute on the pixels of a tile, (1, C, h, w), with its statistics."""
        tile = self._reader.read(core, box)
        with self.tiles.computing():
            planes = self.plan.device.take(self.tiles.stacked([tile]))
            yield tile, planes, self.tiles.statistics_at([box], planes)

    def restored(
        self, region: Region, report: Report, model: RestorationModel | None = None
    ) -> Tensor:
        """Return a region as the network restores it, or the copy `model`, (C, h, w) float32 in model range."""
        cores = cut_into_tiles([region], self._size, self.plan.layout.tile, step=self.plan.step)

        def parts() -> Iterator[tuple[Region, Tensor]]:
            for done, core in enumerate(cores):
                if self._stop.is_set():
                    raise Cancelled("Cancelled; nothing was written.", "Run it again.")
                report(done, len(cores))
                box, made = self._restored(core, model)
                part = core.intersect(region)
                yield part, made[(0, ..., *part.within(box))].float().cpu()

        return joined(region, parts())

    def _restored(self, core: Region, model: RestorationModel | None) -> tuple[Region, Tensor]:
        """Return a box around a part of a tile, and its restored pixels (1, C, h, w)."""
        raise NotImplementedError


class LocalRows(_ByTile):
    """Runs the sweeps on the pixel's surroundings, as one tile, and takes the rows on the way."""

    def rows(
        self, pixels: Sequence[Pixel], sites: Sites, tile_of: Pixel
    ) -> Iterator[list[PlacedRow]]:
        """Yield the rows of each of `pixels` in these sites, in the tile of the pixel `tile_of`."""
        model = self.plan.swept
        core = Region(*tile_of, tile_of[0] + 1, tile_of[1] + 1).align(model.multiple)
        core = core.intersect(Region(0, 0, *self._size))
        box = self.plan.input_box(core)
        for y, x in pixels:
            found: dict[str, AttentionRow] = {}
            visit = _visitor(sites, found, model.attention_rows, (y - box.y0, x - box.x0))
            height, width = self._run_on(core, box, visit).shape[2:]
            whole = Region(box.y0, box.x0, box.y0 + height, box.x0 + width)
            yield rows_in(whole, found, sites)

    def outputs(self, pixels: Sequence[Pixel], sites: Sites) -> Iterator[list[Outputs]]:
        """Yield what the heads of these sites put out in the tiles of level-0 pixels (y, x)."""
        ask = self.plan.swept.attention_outputs
        for core, box in sorted(set(map(self._tile, pixels))):
            found: dict[str, HeadOutputs] = {}
            self._run_on(core, box, _visitor(sites, found, ask))
            yield at_core(found, sites, core, box, self._reader.valid(core))

    def _restored(self, core: Region, model: RestorationModel | None) -> tuple[Region, Tensor]:
        assert model is None, "another has statistics of its own"
        box = self.plan.input_box(core)
        return box, self._run_on(core, box)

    def _run_on(self, core: Region, box: Region, visit: Visit | None = None) -> Tensor:
        """Run the sweeps on `box`; return its pixels (1, C, h, w), with padding."""
        model = self.plan.swept
        with self._computing(core, box) as (tile, x, statistics):
            view = model.view(pad_to_multiple(x, model.padded_to), statistics)
            valid = self.tiles.known([tile])
            if valid is not None:
                valid = pad_to_multiple(self.plan.device.take(valid), model.padded_to)
            maps, _ = run_steps(model.steps(), view, statistics, valid, visit)
        return maps[RESTORED]


def _visitor(
    sites: Sites, found: dict[str, T], ask: Callable[..., Mapping[str, T]], *pixels: Pixel
) -> Visit:
    """Return what is called with each sweep, and adds to `found` what `ask` gives for its sites."""

    def visit(step: Sweep, given: SweepInput) -> None:
        names = frozenset(name for name, site in sites.items() if site.step == step.name)
        if names:
            found.update(ask(step.name, given, *pixels, names))

    return visit


class TileRows(_ByTile):
    """Runs a model without sweeps on the tile of the pixel, as in a run of the plan; raises `BadModel`."""

    # Grids of windows begin at the corner of a tile with its halo, at which one of the image begins
    # too.
    def __init__(self, run: Run) -> None:
        for site in run.plan.model.attention_sites():
            _check_grid(run.plan, site)
        for note in run.plan.model.attention_notes:
            run.emit(Note(note))
        super().__init__(run)

    def _restored(self, core: Region, model: RestorationModel | None) -> tuple[Region, Tensor]:
        core, box = self._tile((core.y0, core.x0))
        with self._computing(core, box) as (_, planes, statistics):
            return box, (model or self.plan.model)(planes, statistics)

    def rows(
        self, pixels: Sequence[Pixel], sites: Sites, tile_of: Pixel
    ) -> Iterator[list[PlacedRow]]:
        """Yield the rows of each of `pixels` as `LocalRows` does; the model runs once for all."""
        model, (core, box) = self.plan.model, self._tile(tile_of)
        with self._computing(core, box) as (_, planes, statistics):
            within = [(y - box.y0, x - box.x0) for y, x in pixels]
            several = model.tile_attention_rows(planes, statistics, within, frozenset(sites))
        if model.is_swept:
            # Beyond its own pixels a tile of sweeps is not what the whole image gives.
            several = [_within(found, sites, core, box) for found in several]
        yield from (rows_in(box, found, sites) for found in several)

    def times_gradient(self, pixel: Pixel, sites: Sites) -> Callable[[Pixel, str], PlacedRow]:
        """Return what gives the row of a pixel in a site: weights times gradient, in the tile of `pixel`.

        Raises `BudgetTooSmall` where the tile with its graph does not fit.
        """
        plan, (core, box) = self.plan, self._tile(pixel)
        needed = gradient_cost(plan.model, plan.device).bytes(box.pixels)
        if needed > plan.memory:
            raise BudgetTooSmall(
                f"Gradients in a tile of {box.width} × {box.height} pixels do not fit the budget.",
                f"Use {option('memory', f'{-(-needed // 2**20)}MiB')} or more, or smaller tiles.",
            )
        with self._computing(core, box) as (_, planes, statistics):
            within = pixel[0] - box.y0, pixel[1] - box.x0
            rows = plan.model.tile_attention_times_gradient(
                planes, statistics, within, frozenset(sites)
            )

        def row(at: Pixel, name: str) -> PlacedRow:
            found = {name: rows[name]((at[0] - box.y0, at[1] - box.x0))}
            return rows_in(box, found, sites)[0]

        return row


def _check_grid(plan: Plan, site: AttentionSite) -> None:
    """Raise `BadModel` where tiles may begin within a cell or a window: it would be another there."""
    is_single = max(plan.image.height, plan.image.width) <= plan.layout.tile
    side, what = site.stride * (site.window or 1), "window" if site.window else "cell"
    if site.key_stride is not None:
        side = max(side, site.key_stride)
    if not is_single and (plan.layout.tile % side or plan.layout.halo % side):
        raise BadModel(
            f"Tiles of {plan.model.card.id} may begin within a {what} of {site.name}, "
            f"which has {side} pixels along a side.",
            f"Give it a card with multiple_of {side}.",
        )


def _within(
    found: Mapping[str, AttentionRow], sites: Sites, core: Region, box: Region
) -> dict[str, AttentionRow]:
    """Return rows, those between channels without the cells that lie beyond `core`."""
    rows = dict(found)
    for name, row in found.items():
        if sites[name].kind == "channel":
            out = torch.zeros_like(row.cells[..., 0], dtype=torch.bool)
            for axis in (0, 1):
                at = row.cells[..., axis] * sites[name].stride + box[axis]
                out |= (at < core[axis]) | (at >= core[axis + 2])
            rows[name] = replace(
                row,
                weights=row.weights.masked_fill(out, 0),
                cells=row.cells.masked_fill(out[..., None], -1),
            )
    return rows


class AttentionSource:
    """Rows of a model's attention, for an image that is prepared once, which may go on after a `stop`."""

    # Within `with` time and memory are measured, for `finished_record`.
    def __init__(self, plan: Plan, emit: Emit, stop: threading.Event) -> None:
        self.plan, self.stop = plan, stop
        self._emit = emit
        self._sites = {site.name: site for site in plan.model.attention_sites()}
        self._rows: BottleneckRows | LocalRows | TileRows | None = None
        self._restored: tuple[Region, Tensor] | None = None
        """The region restored last for `without_head`, for the next head there."""
        self._began = time.perf_counter()
        self._memory = PeakMemory(plan.memory)

    @property
    def sites(self) -> tuple[AttentionSite, ...]:
        """Where the model computes attention, in the order of computation."""
        return tuple(self._sites.values())

    def __enter__(self) -> Self:
        keep_freed_memory()
        self._memory.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.__exit__()
        self.close()
        release_freed_memory()

    def close(self) -> None:
        """Close the files of what was prepared; rows open them again."""
        if isinstance(self._rows, BottleneckRows):
            self._rows.close()

    def prepare(self) -> None:
        """Compute what rows need of the whole image, and keep it; raises `Cancelled`, `DiskFull`, `SourceChanged`."""
        if self._rows is not None:
            return
        is_swept = self.plan.model.is_swept
        whole = is_swept and self.plan.swept.reach is None
        if not whole:
            self.plan = count_first(self.plan, self._emit, self.stop)
        self._run = Run(self.plan, self._emit, self.stop, keep=True, wait=whole)
        self._run.state.check_source()
        by_tile = not is_swept or isinstance(self.plan.model, CutModel)
        kind = BottleneckRows if whole else TileRows if by_tile else LocalRows
        self._rows = kind(self._run)

    def rows(self, pixel: Pixel, names: Collection[str] | None = None) -> list[PlacedRow]:
        """Return the rows of a level-0 pixel (y, x), one for each site that `names` names; None: all."""
        assert self._rows is not None, "prepare first"
        wanted = self._sites if names is None else {name: self._sites[name] for name in names}
        order = list(self._sites)
        (found,) = self._rows.rows([pixel], wanted, pixel)
        return sorted(found, key=lambda each: order.index(each.site.name))

    def rows_in_tile(
        self, pixels: Sequence[Pixel], name: str, tile_of: Pixel
    ) -> Iterator[PlacedRow]:
        """Yield the row of each of several pixels (y, x) in a site, all in the tile of the pixel `tile_of`."""
        # In a halo a pixel is in several tiles. A model without sweeps runs once.
        assert self._rows is not None, "prepare first"
        for (row,) in self._rows.rows(pixels, {name: self._sites[name]}, tile_of):
            yield row

    def times_gradient(
        self, pixel: Pixel, names: Collection[str]
    ) -> Callable[[Pixel, str], PlacedRow]:
        """Return what gives the row of a pixel (y, x) in a site, of weights times gradient.

        The gradient is that of the result at `pixel`, in whose tile all rows are; see
        `RestorationModel.tile_attention_times_gradient`. Raises `BadParameter`, `BudgetTooSmall`.
        """
        if not isinstance(self._rows, TileRows):
            self.plan.model.tile_attention_times_gradient(torch.empty(0), None, pixel, frozenset())
        assert isinstance(self._rows, TileRows)
        return self._rows.times_gradient(pixel, {name: self._sites[name] for name in names})

    def column(self, pixel: Pixel, name: str) -> PlacedRow:
        """Return the weights that other cells give to that of a pixel (y, x); raises `BadParameter`."""
        site = self._sites[name]
        if not isinstance(self._rows, BottleneckRows) or site.kind not in ("sparse", "full"):
            raise BadParameter(
                f"What attends to a pixel is not known in {site.title}.",
                "Choose a layer of a bottleneck, or ask what the pixel attends to.",
            )
        return self._rows.column(pixel, site)

    def check_outputs(self) -> None:
        """Raise `BadModel` where what the heads put out is not known one by one."""
        model = self.plan.model
        if not (model.is_swept and model.gives_head_outputs):
            raise BadModel(
                f"What each head of {model.card.id} puts out is not known, so that its heads cannot "
                "be compared.",
                "Choose another model for that.",
            )

    def outputs(self, pixels: Sequence[Pixel], names: Collection[str]) -> Iterator[list[Outputs]]:
        """Yield what the heads of the sites `names` put out in the tiles of pixels (y, x), once; raises `BadModel`."""
        assert self._rows is not None, "prepare first"
        self.check_outputs()
        assert not isinstance(self._rows, TileRows)
        yield from self._rows.outputs(pixels, {name: self._sites[name] for name in names})

    def without_head(
        self, region: Region, name: str, head: int, report: Report
    ) -> tuple[Tensor, Tensor]:
        """Return a region restored with and without a head of a site, (C, h, w) in model range.

        From the head's step onwards; `report` is called with what is done, and all. Raises
        `BadParameter` for a network that cannot be run without a head. What is asked for must be
        `keeps_steps`.
        """
        site, model = self._sites[name], self.plan.model
        changed = model.without_head(name, head)
        assert isinstance(self._rows, BottleneckRows) and isinstance(changed, SweptModel)
        ablation = Ablation(self._rows, region, report)
        if self._restored is None or self._restored[0] != region:
            self._restored = region, ablation.result()
        return self._restored[1], ablation.result(changed, site)

    @property
    def is_by_tile(self) -> bool:
        """Whether the model judges each tile, or the whole image in one pass, without sweeps."""
        return isinstance(self._rows, TileRows) and not self.plan.model.is_swept

    @property
    def keeps_steps(self) -> bool:
        """Whether the outputs of steps are kept, so that a changed network can go on from them."""
        return isinstance(self._rows, BottleneckRows)

    def restored(
        self, region: Region, report: Report, model: RestorationModel | None = None
    ) -> Tensor:
        """Return a region as the network, or `model`, a copy without heads, restores it, (C, h, w) in model range."""
        assert isinstance(self._rows, LocalRows | TileRows)
        if model is not None:
            return self._rows.restored(region, report, model)
        if self._restored is None or self._restored[0] != region:
            self._restored = region, self._rows.restored(region, report)
        return self._restored[1]

    def is_valid(self, pixel: Pixel) -> bool:
        """Return whether a level-0 pixel (y, x) has data and is not excluded."""
        assert self._rows is not None, "prepare first"
        y, x = pixel
        valid = self._run.state.reader.valid(Region(y, x, y + 1, x + 1))
        return valid is None or bool(valid[0, 0])

    def picture(self, box: Region, longest: int) -> tuple[npt.NDArray[np.float32], Region]:
        """Return the image in `box`, (h, w, bands) in model range, and the pixels that it covers."""
        assert self._rows is not None, "prepare first"
        image = self.plan.image
        box = box.intersect(Region(0, 0, image.height, image.width))
        # From the finest level at which its longer side has at most `longest` pixels, if there is
        # one.
        level, scale = 0, 1
        for number, (height, width) in enumerate(image.level_shapes):
            level, scale = number, max(1, round(image.height / height), round(image.width / width))
            if max(box.shape) <= longest * scale:
                break
        shape = image.level_shapes[level]
        small = Region(
            box.y0 // scale, box.x0 // scale, -(-box.y1 // scale), -(-box.x1 // scale)
        ).intersect(Region(0, 0, *shape))
        pixels = image.read(small, level)
        values = self._rows.tiles.radiometry.to_model(pixels)[..., list(self.plan.bands)]
        covered = Region(*(scale * edge for edge in small))
        return np.asarray(values, np.float32), covered

    @property
    def kept_bytes(self) -> int:
        """Bytes that `prepare` keeps on disk beside the tokens of a run."""
        return self._rows.kept_bytes if isinstance(self._rows, BottleneckRows) else 0

    @property
    def predicted_bytes(self) -> int:
        """Bytes that `prepare` is expected to add to the idle process."""
        added = self.plan.prediction.added_ram_bytes
        staged, model = self.plan.staged, self.plan.model
        if staged is not None and staged.tokens:
            # Decisions of one layer, and their sorting.
            added += (model.routing_bytes + 16) * staged.tokens
        return added

    def finished_record(self) -> dict[str, Any]:
        """Return the record of a finished question, as `Run` gives it; raises `SourceChanged`."""
        assert self._rows is not None
        self._run.state.check_source()
        record = self._run.record("done", time.perf_counter() - self._began, self._memory)
        record["plan"]["predicted_peak_ram_bytes"] = self._memory.start + self.predicted_bytes
        record["plan"]["predicted_disk_bytes"] += self.kept_bytes
        return record
