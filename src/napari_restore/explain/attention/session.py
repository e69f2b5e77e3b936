"""An image and a model that are prepared once, and then asked for attention query by query."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from napari_restore.engine import Emit, Event, Note, Progress, Region, make_plan
from napari_restore.engine.rows import AttentionSource, PlacedRow, Report
from napari_restore.errors import BadModel, BadParameter, Cancelled, did_you_mean
from napari_restore.explain.attention.ablation import HeadEffect, ablated_region
from napari_restore.explain.attention.head_maps import (
    HeadMaps,
    QueryMaps,
    head_maps,
    head_number,
    mean_of,
)
from napari_restore.explain.attention.measures import IMPORTANCE, ONE_CELL, importances, measures
from napari_restore.explain.attention.queries import SAMPLES, Query, checked
from napari_restore.explain.attention.redundancy import HeadRedundancy, Matrix
from napari_restore.explain.attention.rollout import GRADIENT, PLACED, rolled_out, stage_of
from napari_restore.images import Image
from napari_restore.models import AttentionSite, RestorationModel, card_of, model_ids, on_input_grid
from napari_restore.questions import Machine, Reading, refuse_others

ALL = "all"
COLUMNS = ("sparse", "full")
"""Kinds for which a bottleneck knows what attends to a cell."""


class AttentionSession:
    """Rows of attention of `model` on `image`.

    `options` are those of a plan on how the image is read, and on the machine. Used within ``with``.
    Raises `BadModel` for a model without attention.
    """

    def __init__(
        self,
        image: Image,
        model: RestorationModel,
        *,
        emit: Emit = lambda event: None,
        stop: threading.Event | None = None,
        **options: Any,
    ) -> None:
        refuse_others("Attention", options, Reading, Machine)
        model = on_input_grid(model)
        if not model.attention_sites():
            others = [name for name in model_ids() if card_of(name).attention]
            why = ""
            if model.takes_whole:
                why = ": in an example tile no softmax of products was multiplied with values"
            raise BadModel(
                f"{model.card.id} has no attention that could be shown{why}.",
                f"Choose one that has: {', '.join(others)}.",
            )
        self.image, self._emit, self.stop = image, emit, stop or threading.Event()
        self._options = dict(options)
        if model.is_swept:
            # Any target: what is kept does not depend on it.
            options["region"] = Region(0, 0, min(image.height, 1), min(image.width, 1))
        # Else that of a restoration of all: the tiles are those that it would take.
        self.source = AttentionSource(make_plan(image, model, **options), emit, self.stop)
        self._tile = model.fixed_tile

    @property
    def sites(self) -> tuple[AttentionSite, ...]:
        """Where the model computes attention, in the order of computation."""
        return self.source.sites

    def site_names(
        self, wanted: str | Sequence[str], *, attended_by: bool = False
    ) -> tuple[str, ...]:
        """Return the names of the sites that are wanted, "all" or some; raises `BadParameter`.

        With `attended_by` those for which it is known what attends to a cell: of all, those of a
        bottleneck where the model has one.
        """
        known = [site.name for site in self.sites]
        if attended_by:
            return self._with_columns(wanted)
        if wanted == ALL:
            return tuple(known)
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        for name in names:
            if name not in known:
                raise BadParameter(
                    f"{self.source.plan.model.card.id} has no layer {name!r}.",
                    did_you_mean(name, known, "Its layers are", most=3),
                )
        return tuple(name for name in known if name in names)

    def _with_columns(self, wanted: str | Sequence[str]) -> tuple[str, ...]:
        names = self.site_names(wanted)
        found = {
            kind: [each.name for each in self.sites if each.kind in kind]
            for kind in (COLUMNS, PLACED)
        }
        known = [*dict.fromkeys([*found[COLUMNS], *found[PLACED]])]
        if wanted == ALL:
            known = found[COLUMNS] or known
        refused = [name for name in names if name not in known]
        if not known or (refused and wanted != ALL):
            raise BadParameter(
                f"What attends to a pixel is not known in {refused[0]}.",
                f"It is in {', '.join(known)}." if known else "Ask what the pixel attends to.",
            )
        return tuple(name for name in names if name in known)

    def prepare(self) -> None:
        """Compute what rows need of the whole image; nothing where it is in the cache."""
        self.source.prepare()

    def attend(
        self,
        query: Query,
        names: Collection[str] | None = None,
        *,
        attended_by: bool = False,
        rollout: float | str | None = None,
    ) -> QueryMaps:
        """Return the maps of a query in the sites that are named; None: in all.

        With `attended_by` the other way around: which cells attend to the query's. With `rollout`, the
        weight of the residual path, the rollout back to the first block of each site's stage; with
        `GRADIENT` that of weights times gradient, and the importance of each head among the numbers.
        """
        (query,) = checked([query], self.image)
        if attended_by:
            names = self.site_names(ALL if names is None else list(names), attended_by=True)
        chosen = [site for site in self.sites if names is None or site.name in names]
        finest = min(site.stride for site in chosen)
        pixels = query.pixels(finest)
        if query.is_sampled(finest):
            self._emit(Note(f"The maps of {query.label} are means of {len(pixels)} of its cells."))
        self._note_invalid(query, pixels)
        by_site: dict[str, list[HeadMaps]] = {}
        for pixel in pixels:
            self._check_stop()
            if rollout is not None:
                found = [self._rolled_out(pixel, site.name, rollout) for site in chosen]
            elif attended_by:
                columns = [self._column(pixel, site) for site in chosen]
                found = [replace(each, shows="attended-by") for each in columns]
            else:
                rows = self.source.rows(pixel, [site.name for site in chosen])
                found = [self._maps(row) for row in rows]
            for one in found:
                by_site.setdefault(one.site.name, []).append(one)
        maps = {name: mean_of(several) for name, several in by_site.items()}
        numbers = {name: measures(each, self._tile) for name, each in maps.items()}
        for name, each in maps.items():
            numbers[name] += importances(each)
        return QueryMaps(query, maps, numbers)

    def _maps(self, row: PlacedRow) -> HeadMaps:
        return head_maps(row, (self.image.height, self.image.width))

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise Cancelled("Cancelled; nothing was written.", "Run it again.")

    def _column(self, pixel: tuple[int, int], site: AttentionSite) -> HeadMaps:
        """Return the weights that other cells give to that of a pixel; raises `BadParameter` where windows overlap."""
        if (self.source.keeps_steps and site.kind in COLUMNS) or site.kind not in PLACED:
            return self._maps(self.source.column(pixel, site.name))
        if site.key_stride is not None:
            raise BadParameter(
                f"What attends to a pixel is not known in {site.name}: its keys are cells of another size.",
                "Ask what the pixel attends to.",
            )
        # Outside of a bottleneck from the rows of all cells that look at the same cells: those of
        # its window.
        (own,) = self.source.rows_in_tile([pixel], site.name, pixel)
        maps, side = self._maps(own), site.stride
        asked = np.array([maps.query.y0, maps.query.x0]) // side
        cells = np.unique(maps.cells[maps.cells[..., 0] >= 0], axis=0)
        middles = [(y * side + side // 2, x * side + side // 2) for y, x in cells.tolist()]
        weights = np.zeros((len(site.heads), len(cells)), np.float32)
        for number, row in enumerate(self.source.rows_in_tile(middles, site.name, pixel)):
            self._check_stop()
            each = self._maps(row)
            if not np.array_equal(np.unique(each.cells[each.cells[..., 0] >= 0], axis=0), cells):
                raise BadParameter(
                    f"What attends to a pixel is not known in {site.name}: its windows overlap.",
                    "Ask what the pixel attends to.",
                )
            weights[:, number] = (each.weights * (each.cells == asked).all(axis=-1)).sum(axis=1)
        every = np.broadcast_to(cells, (len(weights), *cells.shape))
        return replace(maps, weights=weights, cells=every, numbers={})

    def _rolled_out(
        self, pixel: tuple[int, int], name: str, residual_weight: float | str
    ) -> HeadMaps:
        if isinstance(residual_weight, str):
            return self._relevance(pixel, name)

        def rows(pixels: Sequence[tuple[int, int]], site: AttentionSite) -> Iterator[HeadMaps]:
            for placed in self.source.rows_in_tile(pixels, site.name, pixel):
                self._check_stop()
                yield self._maps(placed)

        return rolled_out(rows, pixel, stage_of(self.sites, name), residual_weight)

    def _relevance(self, pixel: tuple[int, int], name: str) -> HeadMaps:
        """Return the rollout of weights times gradient, with the importance of all heads on its way."""
        stage = stage_of(self.sites, name, GRADIENT)
        row = self.source.times_gradient(pixel, [site.name for site in stage])
        # In the order of the blocks, which are gone through from the last.
        numbers: dict[str, Any] = dict.fromkeys(f"{IMPORTANCE}.{site.name}" for site in stage)

        def rows(pixels: Sequence[tuple[int, int]], site: AttentionSite) -> Iterator[HeadMaps]:
            for at in pixels:
                self._check_stop()
                found = self._maps(row(at, site.name))
                numbers[f"{IMPORTANCE}.{site.name}"] = found.numbers[IMPORTANCE]
                yield found

        found = rolled_out(rows, pixel, stage, None)
        return replace(found, numbers=numbers, shows="relevance")

    def with_heads(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the names of those sites that have heads to compare; raises `BadModel`, `BadParameter` without any."""
        chosen = [site for site in self.sites if site.name in names]
        found = [site for site in chosen if site.kind not in ONE_CELL and len(site.heads) > 1]
        if not found:
            raise BadParameter(
                f"{', '.join(site.name for site in chosen)} has no heads that could be compared.",
                "Choose another layer.",
            )
        self.source.check_outputs()
        return tuple(site.name for site in found)

    def redundancy(self, query: Query, names: Collection[str]) -> dict[str, Matrix]:
        """Return how alike the heads of sites are around a query, (heads, heads) by the site's name."""
        found = self.compared_heads([query], self.with_heads(names))
        return {name: each.matrix() for name, each in found.items()}

    def compared_heads(
        self, queries: Sequence[Query], names: Sequence[str]
    ) -> dict[str, HeadRedundancy]:
        """Return the redundancy of the heads of sites of `with_heads`, by its name."""
        finest = min(site.stride for site in self.sites if site.name in names)
        inside = checked(queries, self.image)
        pixels = [pixel for query in inside for pixel in query.pixels(finest)]
        found = {name: HeadRedundancy() for name in names}
        # Over the cells of the tiles around the queries; in the layers of a bottleneck over those
        # of all of the image, or `MOST_CELLS` that are drawn once.
        for part in self.source.outputs(pixels, names):
            self._check_stop()
            for site, outputs in part:
                found[site.name].add(outputs)
        return {name: each for name, each in found.items() if each.cells}

    def without_head(self, query: Query, name: str, head: str) -> HeadEffect:
        """Return what one head of a site does to the result around a query.

        Raises `BadParameter` for a head or a network that cannot be left out, `BadRegion` for a box that
        is too large.
        """
        (query,) = checked([query], self.image)
        site = next(site for site in self.sites if site.name == name)
        number = head_number(site, head)
        region = ablated_region(query.box, self.image)

        def report(done: int, total: int) -> None:
            self._emit(Progress(done, total, None))

        if self.source.keeps_steps:
            there, without = self.source.without_head(region, name, number, report)
        else:
            changed = self.source.plan.model.without_head(name, number)
            there = self.source.restored(region, report)
            if self.source.is_by_tile:
                without = self.source.restored(region, report, changed)
            else:
                without = self._restored_by(changed, region, report)
        difference = (without - there).permute(1, 2, 0).contiguous().numpy()
        return HeadEffect(name, head, region, difference)

    def _restored_by(self, model: RestorationModel, region: Region, report: Report) -> Tensor:
        """Return a region restored by another network, which the whole image is swept for."""
        quiet = partial(without_notes, self._emit)
        other = AttentionSession(self.image, model, emit=quiet, stop=self.stop, **self._options)
        with other.source as source:
            source.prepare()
            return source.restored(region, report)

    def _note_invalid(self, query: Query, pixels: Sequence[tuple[int, int]]) -> None:
        invalid = sum(not self.source.is_valid(pixel) for pixel in pixels)
        if invalid:
            part = "" if invalid == len(pixels) else f"{invalid} of {len(pixels)} pixels of "
            self._emit(
                Note(
                    f"{part[:1].upper()}{part[1:]}{query.label} "
                    f"{'is' if invalid == len(pixels) else 'are'} nodata or excluded: the network "
                    "saw a filled value there."
                )
            )


def without_notes(emit: Emit, event: Event) -> None:
    """Pass on what is no note: those on the same image were given already."""
    if not isinstance(event, Note):
        emit(event)


__all__ = ["ALL", "SAMPLES", "AttentionSession", "without_notes"]
