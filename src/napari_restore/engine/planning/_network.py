"""Bytes of maps, tokens and counts that the workers of a cluster write and read."""

from __future__ import annotations

from dataclasses import dataclass

from napari_restore._format import format_size
from napari_restore.engine.machine._precision import dtype_of
from napari_restore.engine.planning._grid import TOKEN_BYTES, Grid, count_bytes
from napari_restore.engine.planning._map_layout import SweptLayout
from napari_restore.models import Sweep, SweptModel, WholeStep


@dataclass(frozen=True)
class NetworkBytes:
    """Bytes of a run of sweeps that go over the network, beside those of the image."""

    written: int
    read: int

    def note(self) -> str:
        """Return text for the user."""
        return (
            f"Workers write {format_size(self.written)} of maps and counts to the shared folder, "
            f"and {format_size(self.read)} are read from it."
        )


def network_bytes(layout: SweptLayout, model: SweptModel, tile: int) -> NetworkBytes:
    """Return the bytes that workers share in a run with tiles of `tile` pixels.

    A reader takes its halo as well. The process that merges counts, and takes a map as a whole,
    reads them once.
    """
    grid = Grid(layout.box, tile, model.padded_to)
    slots = {name: each for each in layout.maps for name in each.names}
    sweeps = [step for step in model.steps() if isinstance(step, Sweep)]
    declared = {each.name: each for step in sweeps for each in step.writes}
    written = sum(each.bytes["disk"] for each in layout.maps)
    read = 0.0
    for step in sweeps:
        for name in step.reads:
            if name in slots:
                one, kept = declared[name], slots[name]
                cells = ((tile + 2 * step.halo) / one.stride) ** 2
                read += kept.slots.disk * one.channels * cells * dtype_of(kept.dtype).itemsize
        if step.counts is not None and not layout.known:
            counted = grid.count * count_bytes(step.counts, grid)
            written, read = written + counted, read + counted
    for whole in model.steps():
        if isinstance(whole, WholeStep):
            tokens = layout.tokens * whole.reads.channels * TOKEN_BYTES
            # The related ones are written once more, and decoding reads both.
            written, read = written + 2 * tokens, read + 3 * tokens
    return NetworkBytes(int(written), int(read))
