"""Tiles that sweeps work on where nothing is left to count: those of the target, and around it."""

from __future__ import annotations

from collections.abc import Sequence

from napari_restore.engine._region import Region
from napari_restore.engine.planning._grid import Grid
from napari_restore.engine.planning._groups import Step
from napari_restore.engine.planning._tiles import tile_sizes
from napari_restore.models import Sweep


class Surroundings:
    """Boxes of whole tiles that sweeps need of each other to restore the `targets`, for a plan.

    A sweep works on the tiles whose maps later sweeps read, with their halos; so the boxes grow
    from the last sweep to the first.
    """

    def __init__(self, steps: Sequence[Step], grid: Grid, targets: Sequence[Region]) -> None:
        self._grid = grid
        self._of_map: dict[str, list[Region]] = {}
        self._of_step: dict[int, list[Region]] = {}
        tile = grid.tile
        last = len(steps) - 1
        for number in range(last, -1, -1):
            step = steps[number]
            if not isinstance(step, Sweep):
                continue
            boxes = [target.align(tile) for target in targets] if number == last else []
            for written in step.writes:
                boxes = _united(boxes, self._of_map.get(written.name, []))
            self._of_step[number] = boxes
            read = [box.expand(step.halo).align(tile) for box in boxes]
            for name in step.reads:
                self._of_map[name] = _united(self._of_map.get(name, []), read)

    def tiles_of_step(self, number: int) -> int:
        """Return how many tiles a sweep works on, at most."""
        return self._count(self._of_step[number])

    def tiles_of_maps(self, names: Sequence[str]) -> int:
        """Return the tiles of which any of these maps is read, at most."""
        boxes: list[Region] = []
        for name in names:
            boxes = _united(boxes, self._of_map.get(name, []))
        return self._count(boxes)

    def _count(self, boxes: Sequence[Region]) -> int:
        grid = self._grid
        inside = [each for box in boxes if not (each := box.intersect(grid.box)).is_empty]
        size = (grid.box.y1, grid.box.x1)
        return min(grid.count, tile_sizes(inside, size, grid.tile, 0, grid.tile).count)


def _united(some: list[Region], others: list[Region]) -> list[Region]:
    """Return the boxes of each target that contain both."""
    if not (some and others):
        return some or others
    return [one.union(other) for one, other in zip(some, others, strict=True)]


def tiles_read(steps: Sequence[Step], grid: Grid, target: Sequence[int]) -> dict[str, list[int]]:
    """Return by map the tiles that are read of it to restore those of `target`, which come first."""
    read: dict[str, list[int]] = {}
    last = len(steps) - 1
    for number in range(last, -1, -1):
        step = steps[number]
        if not isinstance(step, Sweep):
            continue
        written = [read.get(each.name, []) for each in step.writes]
        own = target if number == last else [tile for tiles in written for tile in tiles]
        near = with_neighbours(own, grid, step.halo)
        for name in step.reads:
            read[name] = list(dict.fromkeys([*read.get(name, []), *near]))
    return read


def with_neighbours(order: Sequence[int], grid: Grid, halo: int) -> list[int]:
    """Return tiles and, after them, those that their halo reaches."""
    own = list(dict.fromkeys(order))
    if not halo:
        return own
    near = (other for tile in own for other in grid.touched(grid.around(grid.cells(tile), halo)))
    return list(dict.fromkeys([*own, *near]))
