"""Memory that batches of tiles take while they are swept."""

from __future__ import annotations

from napari_restore.engine.planning._calibrate import SCRATCH_BYTES
from napari_restore.engine.planning._grid import count_bytes
from napari_restore.engine.planning._groups import is_shallow, whole_maps
from napari_restore.engine.planning._layout import (
    READ_AHEAD,
    WRITE_BEHIND,
)
from napari_restore.engine.planning._shared_costs import SharedCosts, SweptRequest
from napari_restore.engine.planning._sweep_cost import SweepCosts
from napari_restore.models import Map, Sweep


class Need:
    """Most bytes of batches of tiles during any sweep."""

    def __init__(
        self,
        request: SweptRequest,
        shared: SharedCosts,
        cost: SweepCosts,
        workers: int,
        batch: int,
        again: frozenset[str] = frozenset(),
    ) -> None:
        """Count with the maps `again` being made again, from those before them."""
        self._request, self._shared, self._cost = request, shared, cost
        self._workers, self._batch, self._again = workers, batch, again
        numbers = list(cost.sweeps)
        self.on_device = max(self._on_device(number) for number in numbers)
        self.on_host = max(self._on_host(number) for number in numbers)

    def _computed(self, number: int, around: int = 0) -> int:
        """Return the bytes of computing a batch, or maps that are made again for it.

        `around` are the pixels around a tile that these are needed for.
        """
        steps, shared = self._shared.steps, self._shared
        step = steps[number]
        assert isinstance(step, Sweep)
        around = -(-around // step.block) * step.block
        own, around = around == 0, around + step.halo
        # What does not follow from a tile's own pixels is made again tile by tile.
        batch = self._batch if own or is_shallow(step) else 1
        pixels = batch * (shared.tile + 2 * around) ** 2
        most = self._cost.sweeps[number].bytes(pixels)
        for other, writer in enumerate(steps[:number]):
            if not isinstance(writer, Sweep):
                continue
            names = {each.name for each in writer.writes}.intersection(step.reads)
            if names and (is_shallow(writer) or names & self._again):
                most = max(most, self._computed(other, around))
        return most

    def _maps(self, number: int) -> tuple[int, int]:
        """Return the bytes of the maps that a tile reads with its halo, and that it leaves."""
        shared, steps = self._shared, self._shared.steps
        step = steps[number]
        assert isinstance(step, Sweep)
        whole = whole_maps(steps)
        maps = {each.name: each for s in steps if isinstance(s, Sweep) for each in s.writes}
        swell = shared.pixels(number) / shared.tile**2
        read = sum(
            shared.token_tile if name in whole else int(swell * self._bytes(maps[name]))
            for name in step.reads
        )
        left = sum(
            shared.token_tile if each.name in whole else self._bytes(each) for each in step.writes
        )
        return read, left

    def _bytes(self, one: Map) -> int:
        return self._shared.map_bytes(self._request, one)

    def _on_device(self, number: int) -> int:
        if not self._request.resources.device.is_accelerator:
            return 0
        read, left = self._maps(number)
        model_input = self._shared.pixels(number) * 4 * self._request.planes
        copied = 2 * max(read if number == len(self._shared.steps) - 1 else left, left)
        return self._computed(number) + self._batch * (model_input + copied)

    def _on_host(self, number: int) -> int:
        request, batch, workers = self._request, self._batch, self._workers
        read, left = self._maps(number)
        step = self._shared.steps[number]
        assert isinstance(step, Sweep)
        pixels, pixel = self._shared.pixels(number), request.pixel_bytes
        # Validity and an excluding mask, a byte each.
        source = pixels * request.frames * (pixel + 2)
        model_input = pixels * 4 * request.planes
        if number == len(self._shared.steps) - 1:
            left = self._shared.tile**2 * (pixel * 4 // 3 + request.maps_bytes)
        if step.counts is not None:
            left += count_bytes(step.counts, self._shared.tiling)
        computed = 0
        if not request.resources.device.is_accelerator:
            computed = workers * (self._computed(number) + SCRATCH_BYTES + batch * read)
        host = workers * batch * (source + 2 * model_input)
        queued = READ_AHEAD * batch * (source + read)
        return computed + host + queued + (WRITE_BEHIND + batch) * left
