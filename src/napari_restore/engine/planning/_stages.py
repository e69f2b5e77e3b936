"""Seconds of a run and of a command by stage, from one measurement of the method on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_restore.engine.machine.device import cores
from napari_restore.engine.planning.plan import Plan

if TYPE_CHECKING:
    from napari_restore.engine.planning.layout import Candidate, LayoutRequest

TILE_SECONDS_PER_VALUE = 10e-9
"""Processor time per value of a tile, beside decoding and the model: converting, comparing, storing."""
STREAMED_SECONDS_PER_BYTE = 12e-9
"""Seconds per byte of pixels of a file that is decoded once into the cache."""
WRITTEN_SECONDS_PER_BYTE = 18e-9
"""Seconds per byte of pixels of a compressed file: reading the result, encoding, hashing the file."""
AROUND_SECONDS = 0.4
"""Seconds of a command from its plan to its end that belong to no stage: what is loaded for a run,
opening its result, ending the process (measured)."""


def stages_of(request: LayoutRequest, choice: Candidate, *, pyramid: bool) -> dict[str, float]:
    """Return the seconds of a run by stage; with `pyramid` levels are made as well."""
    from napari_restore.engine.planning.layout import IO_SECONDS_PER_BYTE

    image = request.image
    read = request.context_cost(choice.layout.workers)[2] + request.prepare.seconds
    restore = choice.seconds - read
    if not image.is_prepared:
        read += request.frames * request.image_bytes * STREAMED_SECONDS_PER_BYTE
    if request.context and choice.layout.read_cache_bytes >= request.image_bytes:
        # What the pass over the whole image has decoded is kept for the tiles.
        decoded = request.frames * request.result_bytes(pyramid=False)
        restore -= decoded * IO_SECONDS_PER_BYTE / cores()
    values = request.frames * request.result_bytes(pyramid) / image.dtype.itemsize
    restore += values * TILE_SECONDS_PER_VALUE / cores()
    return {"read": read, "restore": max(0.0, restore)}


def of_command(plan: Plan, seconds: float, *, clipped: bool) -> Plan:
    """Return `plan` with the seconds of all of a command: also its start, and writing its output.

    `seconds` have passed since the command began. With `clipped` the output has the region of the plan
    only. Sending the file to a server is not counted.
    """
    image = plan.image
    height, width = plan.region.shape
    if plan.target.mask is not None and not clipped:
        height, width = image.height, image.width
    size = height * width * image.bands * image.dtype.itemsize
    # Else tiles are written where the output is to be.
    if plan.store.name.endswith(".unfinished"):
        size = 0
    stages = {"start": seconds + AROUND_SECONDS, **plan.prediction.stages}
    stages["write"] = WRITTEN_SECONDS_PER_BYTE * size
    return replace(plan, prediction=replace(plan.prediction, stages=stages))
