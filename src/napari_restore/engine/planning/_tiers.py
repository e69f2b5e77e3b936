"""Where the maps of a run lie, sweep by sweep, and what that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_restore.engine.machine._device import cores
from napari_restore.engine.planning._groups import Step
from napari_restore.engine.planning._layout import (
    IO_SECONDS_PER_BYTE,
    SECONDS_PER_TILE,
)
from napari_restore.engine.planning._map_layout import (
    Demand,
    Room,
    StoredMaps,
    bytes_at_peak,
    split,
)
from napari_restore.engine.planning._shared_costs import SharedCosts, SweptRequest
from napari_restore.engine.planning._sweep_cost import SweepCosts
from napari_restore.models import Sweep


class SweepSeconds:
    """Seconds of the sweeps per tile, all workers together."""

    def __init__(
        self,
        request: SweptRequest,
        shared: SharedCosts,
        cost: SweepCosts,
        workers: int,
        batch: int,
    ) -> None:
        # Cores work in parallel, batches on a device one after another.
        lanes = 1 if request.resources.device.is_accelerator else workers
        self.of_sweep: dict[int, float] = {}
        self.of_first: dict[int, float] = {}
        self.reading: dict[int, float] = {}
        pixel_seconds = request.frames * request.pixel_bytes * IO_SECONDS_PER_BYTE / cores()
        last = len(shared.steps) - 1
        for number, part in cost.sweeps.items():
            pixels, step = shared.pixels(number), shared.steps[number]
            self.of_sweep[number] = part.seconds(pixels, batch) / lanes
            if number == last:
                self.of_sweep[number] += SECONDS_PER_TILE / workers
            if number in cost.first:
                self.of_first[number] = cost.first[number].seconds(pixels, batch) / lanes
            sees = isinstance(step, Sweep) and step.sees_image
            self.reading[number] = pixels * pixel_seconds if sees else 0.0


def stored_maps(
    request: SweptRequest, shared: SharedCosts, seconds: SweepSeconds, room: Room
) -> tuple[list[StoredMaps], list[float]]:
    """Return where the maps lie, and the seconds of each step.

    Maps take their places in the order in which they are written, each until its last reader is
    done. What finds no room is made again from the maps before it, which stay as long.
    """
    steps, wanted = shared.steps, request.computing.residuals
    spent = [0.0] * len(steps)
    for number, each in seconds.of_sweep.items():
        if not (shared.related and number < len(steps) - 1):
            spent[number] = shared.tiles_of(request, number) * (each + seconds.reading[number])
    placed: list[StoredMaps] = []
    lost: dict[str, float] = {}
    again: dict[str, float] = {}
    for group in shared.groups:
        tiles = shared.tiles_read(request, group)
        writer = steps[group.first]
        assert isinstance(writer, Sweep)
        seconds_again = seconds.of_sweep[group.first] * group.readers
        seconds_again += sum(lost.get(name, 0.0) * again.get(name, 0.0) for name in writer.reads)
        demand = Demand(
            tiles,
            tuple(shared.map_bytes(request, each) for each in group.maps),
            seconds.of_sweep[group.first],
            seconds.of_first.get(group.first) if len(group.maps) > 1 else None,
            seconds.of_sweep[group.last],
            seconds_again,
        )
        taken = bytes_at_peak(placed, group.first, group.last)
        left = Room(
            has_device=room.has_device,
            device=room.device - taken["device"],
            ram=room.ram - taken["ram"],
            disk=lambda disk=taken["disk"]: room.disk() - disk,  # type: ignore[misc]
            speed=room.speed,
            ram_speed=room.ram_speed,
        )
        chosen = split(demand, left, "recompute" if shared.related else wanted)
        names = [each.name for each in group.maps]
        kept = {"none": len(names), "first": len(names) - 1, "all": 0}[chosen.recompute]
        stored = StoredMaps(
            names=tuple(names[len(names) - kept :]),
            again=tuple(names[: len(names) - kept]),
            file=group.file,
            dtype=group.maps[0].dtype or request.computing.kept_dtype,
            slots=chosen.slots,
            record_bytes=chosen.record_bytes,
            tiles=tiles,
            everywhere=group.everywhere and not request.known,
            first=group.first,
            last=group.last,
        )
        if not stored.is_complete:
            keep_longer(placed, steps, writer.reads, group.last)
        placed.append(stored)
        share = 1.0 - chosen.slots.total / tiles if tiles else 0.0
        lost |= dict.fromkeys(names, share)
        again |= dict.fromkeys(names, seconds_again)
        if not shared.related:
            spent[group.first] += chosen.encode_seconds - tiles * demand.encode_seconds
        spent[group.last] += chosen.decode_seconds - tiles * demand.decode_seconds
    return placed, spent


def keep_longer(
    placed: list[StoredMaps], steps: Sequence[Step], names: Sequence[str], last: int
) -> None:
    """Keep maps until step `last`, and what they are made again from: others are made from them."""
    for at, each in enumerate(placed):
        if set(names).intersection((*each.names, *each.again)) and each.last < last:
            placed[at] = replace(each, last=last)
            writer = steps[each.first]
            if not each.is_complete and isinstance(writer, Sweep):
                keep_longer(placed, steps, writer.reads, last)
