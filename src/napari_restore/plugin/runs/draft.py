"""Drafts, shown before the true pixels: a coarser level, or one tile."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_restore import Region
from napari_restore.errors import RestoreError
from napari_restore.plugin.layers.placing import in_data
from napari_restore.plugin.runs._run_sequence import RunStep
from napari_restore.plugin.state.request import Area, RunRequest

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Plan
    from napari_restore.models import ModelCard

TRUE_SECONDS = 1.0
"""A live result has true pixels where the plan of the view takes no longer."""
DRAFT_SECONDS = 0.3
"""A draft uses a coarser level until it takes no longer."""
SCREEN_SECONDS = 8.0
"""A bracket is drafted again at the screen's own level where that takes no longer."""
FIRST_TILE = 512
"""Side in pixels of the tile that is shown while statistics of the whole image are computed."""


@dataclass(frozen=True)
class Viewport:
    """The part of a layer that a viewer shows."""

    region: Region
    level: int
    """The finest level of which the screen shows every pixel."""


def viewport_of(viewer: ViewerModel, layer: ImageLayer, region: Region) -> Viewport:
    """Return how finely the screen shows `region`, the visible one, of `layer`."""
    centre = np.array(viewer.scene.camera.center[-2:])
    step = 1 / viewer.scene.camera.zoom
    points = [centre, centre + np.array([step, 0]), centre + np.array([0, step])]
    here, down, across = in_data(viewer, layer, points)
    pixels = min(np.linalg.norm(down - here), np.linalg.norm(across - here))
    return Viewport(region, max(0, math.floor(math.log2(max(1.0, float(pixels))))))


def live_steps(request: RunRequest, viewport: Viewport, true: Plan) -> Iterable[RunStep]:
    """Return the steps of a live result: the true pixels, a draft before them, or a draft only."""
    exact = RunStep(true, False)
    if _seconds(true) <= TRUE_SECONDS:
        return [exact]
    if request.image.companions is not None:
        return _bracket_steps(request, viewport, true)
    if true.image_seconds and request.options.reading.extent == "image":
        # Encoding a whole image is no matter of a moment: the model knows the view only.
        true = request.plan(extent="region")
        exact = RunStep(true, True)
    draft = draft_of(request, viewport, true)
    alone = request.plan(extent="draft") if true.needs_context_pass else true
    if draft is None or _seconds(alone) <= TRUE_SECONDS:
        return [exact] if draft is None else [draft, exact]
    return [draft]


def _bracket_steps(request: RunRequest, viewport: Viewport, true: Plan) -> Iterator[RunStep]:
    """Yield a draft that comes at once, and one with the pixels of the screen."""
    # Each is planned when it is wanted, and the level of the first is guessed: a plan takes a tenth
    # of the time that a slider may take.
    levels = range(max(1, viewport.level), len(request.image.level_shapes))
    whole = request.image.height * request.image.width
    seconds = _seconds(true) * viewport.region.height * viewport.region.width / whole
    quick = (level for level in levels if seconds / 4**level <= DRAFT_SECONDS)
    draft = None
    if levels:
        draft = _draft_at(request, viewport, true, next(quick, levels[-1]))
    if draft is not None:
        yield draft
    if viewport.level > 0:
        finer = _draft_at(request, viewport, true, viewport.level)
    elif not true.sweeps_image:
        finer = RunStep(true, False)
    else:
        # The coarse levels follow from the view only.
        finer = RunStep(request.plan(extent="region"), True)
    if finer is None or (draft is not None and finer.scale >= draft.scale):
        return
    if draft is None or _seconds(finer.plan) <= SCREEN_SECONDS:
        yield finer


def first_step(request: RunRequest, viewport: Viewport, true: Plan) -> RunStep | None:
    """Return a draft to show while statistics of the whole image are computed, or None."""
    # A global model must do more than step at it. None where nothing can be made, or the true
    # pixels do not need it.
    waits = true.image_seconds > TRUE_SECONDS
    if not (true.needs_context_pass or waits):
        return None
    try:
        draft = draft_of(request, viewport, true)
        draft = draft if draft or waits else _first_tile(request, viewport)
        # A model that maps the image has to wait for all of it where no small level is made.
        return None if draft is None or draft.plan.needs_context_pass else draft
    except RestoreError as error:
        logging.getLogger(__name__).info("nothing is shown first: %s", error)
        return None


def draft_of(request: RunRequest, viewport: Viewport, true: Plan) -> RunStep | None:
    """Return a draft of the visible part of `request`; None if no level for it is made."""
    draft, last = None, len(request.image.level_shapes) - 1
    level = max(1, viewport.level)
    while level <= last:
        found = _draft_at(request, viewport, true, level)
        step = 1
        if found is not None:
            draft = found
            too_slow = _seconds(found.plan) / DRAFT_SECONDS
            if too_slow <= 1:
                break
            # A level has a quarter of the pixels: the levels between are too slow as well.
            step = max(1, math.ceil(math.log(too_slow, 4)))
        level = level + 1 if level == last else min(level + step, last)
    return draft


def _draft_at(request: RunRequest, viewport: Viewport, true: Plan, level: int) -> RunStep | None:
    """Return a draft on `level` of the image; None where that is not made, or not halved evenly."""
    image = request.image
    visible = _visible(request, viewport)
    scale = image.level_scale(level)
    if not visible or scale is None:
        return None
    targets = tuple(smaller(part, scale, image.level_shapes[level]) for part in visible)
    if not all(image.has_landed(target, level) for target in targets):
        return None
    small = replace(
        request,
        image=image.level_view(level),
        parameters=scaled_parameters(true.model.card, dict(request.parameters), scale),
        area=Area(targets, request.area.mask, request.area.soft),
        options=request.options.replacing(tile=None),
    )
    rough = true.needs_context_pass or true.sweeps_image
    return RunStep(small.plan(extent="draft" if rough else "image"), True, scale)


def _visible(request: RunRequest, viewport: Viewport) -> list[Region]:
    """Return the parts of the targets that are in view."""
    parts = (target.intersect(viewport.region) for target in request.area.targets)
    return [part for part in parts if not part.is_empty]


def _seconds(plan: Plan) -> float:
    """Return the seconds of `plan` once the worker has what the model makes of the whole image."""
    return plan.prediction.seconds - plan.prediction.prepare_seconds


def _first_tile(request: RunRequest, viewport: Viewport) -> RunStep | None:
    """Plan one tile in the middle of the view, with statistics of a part of the image."""
    centre = viewport.region
    y, x = (centre.y0 + centre.y1) // 2, (centre.x0 + centre.x1) // 2
    corner = Region(y, x, y, x).expand(FIRST_TILE // 2)
    parts = _visible(request, viewport)
    if not parts:
        return None
    tile = next((t for part in parts if not (t := part.intersect(corner)).is_empty), parts[0])
    tile = tile.intersect(Region(tile.y0, tile.x0, tile.y0 + FIRST_TILE, tile.x0 + FIRST_TILE))
    area = replace(request.area, targets=(tile,))
    return RunStep(replace(request, area=area).plan(extent="draft", tile=FIRST_TILE), True)


def smaller(region: Region, scale: int, size: tuple[int, int]) -> Region:
    """Return `region` in pixels `scale` times as large, grown to whole ones inside `size`."""
    return region.scale(Fraction(1, scale)).intersect(Region(0, 0, *size))


def scaled_parameters(
    card: ModelCard, given: dict[str, Any], scale: int
) -> tuple[tuple[str, Any], ...]:
    """Return `given` for an image `scale` times smaller: lengths in pixels shrink with it."""
    values = dict(given)
    for parameter in card.parameters:
        if parameter.unit != "px":
            continue
        value = float(given.get(parameter.name, parameter.default)) / scale
        low = 1.0 if parameter.minimum is None else max(1.0, parameter.minimum)
        kind = type(parameter.default)
        values[parameter.name] = kind(max(low, round(value) if kind is int else value))
    return tuple(sorted(values.items()))
