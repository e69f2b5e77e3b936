"""Attention of a plan's model on its image: prepared once, then asked pixel by pixel."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_restore._heap import keep_freed_memory, release_freed_memory
from napari_restore.engine._region import Region
from napari_restore.engine.machine.budget import PeakMemory
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.rows._ablation import Ablation, Report
from napari_restore.engine.rows._bottleneck import BottleneckRows
from napari_restore.engine.rows._cells import Outputs, PlacedRow
from napari_restore.engine.rows._local import LocalRows, TileRows
from napari_restore.engine.running.events import Emit
from napari_restore.engine.running.run import Run, settled
from napari_restore.errors import BadModel, BadParameter
from napari_restore.models import AttentionSite, CutModel, SweptModel


class AttentionSource:
    """Rows of a model's attention, for an image that is prepared once.

    Within ``with`` time and memory are measured, for `finished_record`. `prepare` may be cancelled by
    `stop`; it goes on from there when called again.
    """

    def __init__(self, plan: Plan, emit: Emit, stop: threading.Event) -> None:
        self.plan, self.stop = plan, stop
        self._emit = emit
        self._sites = {site.name: site for site in plan.model.attention_sites()}
        self._rows: BottleneckRows | LocalRows | TileRows | None = None
        self._restored: tuple[Region, Tensor] | None = None
        """The region restored last for `without_head`, for the next head there."""
        self._began = time.perf_counter()
        self._memory = PeakMemory(limit=plan.memory, release=release_freed_memory)

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
        """Compute what rows need of the whole image, and keep it in the cache.

        Raises `Cancelled`, `DiskFull`, `SourceChanged`.
        """
        if self._rows is not None:
            return
        is_swept = self.plan.model.is_swept
        whole = is_swept and self.plan.swept.reach is None
        if not whole:
            self.plan = settled(self.plan, self._emit, self.stop)
        self._run = Run(self.plan, self._emit, self.stop, keep=True, wait=whole)
        self._run.state.check_source()
        by_tile = not is_swept or isinstance(self.plan.model, CutModel)
        kind = BottleneckRows if whole else TileRows if by_tile else LocalRows
        self._rows = kind(self._run)

    def rows(
        self,
        pixel: tuple[int, int],
        names: Collection[str] | None = None,
    ) -> list[PlacedRow]:
        """Return the rows of a level-0 pixel (y, x), one for each site that `names` names; None: all."""
        assert self._rows is not None, "prepare first"
        wanted = self._sites if names is None else {name: self._sites[name] for name in names}
        order = list(self._sites)
        found = self._rows.rows(pixel, wanted, pixel)
        return sorted(found, key=lambda each: order.index(each.site.name))

    def rows_in_tile(
        self, pixels: Sequence[tuple[int, int]], name: str, tile_of: tuple[int, int]
    ) -> Iterator[PlacedRow]:
        """Yield the row of each of several pixels (y, x) in a site, all in the tile of the pixel `tile_of`.

        In a halo a pixel is in several tiles. A model without sweeps runs once.
        """
        assert self._rows is not None, "prepare first"
        sites = {name: self._sites[name]}
        if isinstance(self._rows, TileRows):
            for (row,) in self._rows.rows_of(pixels, sites, tile_of):
                yield row
            return
        for pixel in pixels:
            (row,) = self._rows.rows(pixel, sites, tile_of)
            yield row

    def column(self, pixel: tuple[int, int], name: str) -> PlacedRow:
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

    def outputs(
        self, pixels: Sequence[tuple[int, int]], names: Collection[str]
    ) -> Iterator[list[Outputs]]:
        """Yield what the heads of the sites `names` put out in the tiles of level-0 pixels (y, x).

        Part by part; a tile of several pixels comes once. Raises `BadModel`.
        """
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
    def keeps_steps(self) -> bool:
        """Whether the outputs of steps are kept, so that a changed network can go on from them."""
        return isinstance(self._rows, BottleneckRows)

    def restored(self, region: Region, report: Report) -> Tensor:
        """Return a region as the network restores it, (C, h, w) in model range.

        For a network that sweeps settle; `report` is called with the tiles done, and all.
        """
        assert isinstance(self._rows, LocalRows)
        if self._restored is None or self._restored[0] != region:
            self._restored = region, self._rows.restored(region, report)
        return self._restored[1]

    def is_valid(self, pixel: tuple[int, int]) -> bool:
        """Return whether a level-0 pixel (y, x) has data and is not excluded."""
        assert self._rows is not None, "prepare first"
        y, x = pixel
        valid = self._run.state.reader.valid(Region(y, x, y + 1, x + 1))
        return valid is None or bool(valid[0, 0])

    def picture(self, box: Region, longest: int) -> tuple[npt.NDArray[np.float32], Region]:
        """Return the image in `box`, (h, w, bands) in model range, and the pixels that it covers.

        From the finest level at which its longer side has at most `longest` pixels, if there is one.
        """
        assert self._rows is not None, "prepare first"
        image = self.plan.image
        box = box.intersect(Region(0, 0, image.height, image.width))
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
