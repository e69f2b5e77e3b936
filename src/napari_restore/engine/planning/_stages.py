"""Seconds of a command by stage: as calculated, and as earlier runs on this machine have taught."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import psutil

from napari_restore.engine.machine import Device, cores
from napari_restore.engine.planning._measurements import (
    measurement_file,
    read_measurement,
    write_measurement,
)
from napari_restore.engine.planning._plan import Plan
from napari_restore.images import ExportOptions, Image, sample_of, writing_cost

if TYPE_CHECKING:
    from napari_restore.engine.planning._layout import Candidate, LayoutRequest
    from napari_restore.models import RestorationModel

TILE_SECONDS_PER_VALUE = 10e-9
"""Processor time per value of a tile, beside decoding and the model: converting, comparing, storing."""
KNOWN_SECONDS = 0.2
"""Seconds until statistics of the whole image are read from the cache."""
STREAMED_SECONDS_PER_BYTE = 12e-9
"""Seconds per byte of pixels of a file that is decoded once into the cache."""
SAVING_SECONDS_PER_BYTE = 6e-9
"""Processor time per byte of pixels, beside encoding them: reading the result, hashing the file."""
USUAL_SECONDS_PER_BYTE = 12e-9
"""Seconds per byte of pixels where writing cannot be tried."""
MOST_FRAMES = 4
"""Frames of a bracket of which a sample is decoded."""
AROUND_SECONDS = 0.4
"""Seconds of a command from its plan to its end that belong to no stage: what is loaded for a run,
opening its result, ending the process (measured)."""
PRIOR = 1.0
"""Seconds that a stage is taken to have lasted as calculated: a short one, of which much does not
grow with the image, teaches little."""
MOST = 60.0
"""Seconds of earlier runs that are kept, so that a long one is forgotten as well."""
BOUND = 4.0
"""Most by which earlier runs change what is calculated."""
KINDS = 16
"""Kinds of stages that are kept for a model: the latest."""
DISTURBED = 0.25
"""Processors that other programs use from which on a run teaches nothing …"""
IDLE = 0.5
"""… unless so many were idle."""


def stages_of(request: LayoutRequest, choice: Candidate, *, pyramid: bool) -> dict[str, float]:
    """Return the seconds of a run by stage, as calculated; with `pyramid` levels are made as well.

    `choice` was made by rates that are the same for all images, so that the same run always has the
    same tiles; here decoding counts as it is for this one.
    """
    from napari_restore.engine.planning._layout import IO_SECONDS_PER_BYTE

    image = request.image
    context = request.context_cost(choice.layout.workers)[2]
    read = context + request.prepare.seconds
    restore = choice.seconds - read
    decode = None if image.full is not None else _decode_seconds(image)
    usual = IO_SECONDS_PER_BYTE / cores()
    own = usual if decode is None else decode / cores()
    if context and decode is not None:
        read += request.image_bytes * (own - usual)
    if not image.is_prepared:
        read += request.frames * request.image_bytes * STREAMED_SECONDS_PER_BYTE
    if request.context and choice.layout.read_cache_bytes >= request.image_bytes:
        # What the pass over the whole image has decoded is kept for the tiles.
        own = 0.0
    restore += _decoded_bytes(request, choice) * (own - usual)
    values = request.frames * request.result_bytes(pyramid) / image.dtype.itemsize
    restore += values * TILE_SECONDS_PER_VALUE / cores()
    return {"read": read, "restore": max(0.0, restore)}


def _decoded_bytes(request: LayoutRequest, choice: Candidate) -> int:
    """Return the bytes of pixels that a run decodes: each sweep does, unless all stay in the cache."""
    from napari_restore.models import SweptModel

    restored, staged, model = request.result_bytes(pyramid=False), choice.staged, request.model
    if staged is None or staged.known or not isinstance(model, SweptModel):
        return request.frames * restored
    seen = staged.box.pixels * request.pixel_bytes
    if choice.layout.read_cache_bytes >= request.frames * request.image_bytes:
        return request.frames * max(seen, restored)
    sweeps = sum(step.sees_image for step in model.ordered_steps)
    return request.frames * (seen * (sweeps - 1) + restored)


def _decode_seconds(image: Image) -> float | None:
    """Return seconds of one processor per byte of pixels, the mean of the frames of a bracket.

    Those that were aligned take longer. None where nothing was decoded.
    """
    others = () if image.companions is None else image.companions.images
    found = [sample_of(frame).decode_seconds for frame in (image, *others[: MOST_FRAMES - 1])]
    known = [seconds for seconds in found if seconds is not None]
    if len(known) < len(found) or not others:
        return sum(known) / len(known) if known else None
    return (known[0] + len(others) * fmean(known[1:])) / (1 + len(others))


@dataclass(frozen=True)
class Past:
    """Seconds that stages of earlier runs were calculated to take, and took; older ones count less."""

    calculated: float = 0.0
    taken: float = 0.0

    @property
    def ratio(self) -> float:
        ratio = (self.taken + PRIOR) / (self.calculated + PRIOR)
        return min(BOUND, max(1 / BOUND, ratio))

    def then(self, calculated: float, taken: float) -> Past:
        """Return this with one more stage."""
        calculated, taken = calculated + self.calculated / 2, taken + self.taken / 2
        share = min(1.0, MOST / max(calculated, taken))
        return Past(share * calculated, share * taken)


@dataclass(frozen=True)
class Pasts:
    """What a model's stages have taken, by their kinds, the latest last."""

    by_kind: dict[str, Past]


def learnt(model: RestorationModel, device: Device) -> dict[str, float]:
    """Return actual over calculated seconds of stages in earlier runs, by their kinds."""
    return {kind: past.ratio for kind, past in _read(_file(model, device)).items()}


def learn(plan: Plan, stage: str, seconds: float) -> None:
    """Note that a stage of `plan` took so long: what is predicted of the next one follows from it."""
    kind, calculated = plan.prediction.kinds.get(stage), plan.prediction.calculated.get(stage)
    if kind is None or not calculated:
        return
    file = _file(plan.model, plan.device)
    known = _read(file)
    known[kind] = known.pop(kind, Past()).then(calculated, seconds)
    write_measurement(file, plan.model, Pasts(dict(list(known.items())[-KINDS:])))


def _file(model: RestorationModel, device: Device) -> Path:
    return measurement_file("Pasts", model, device, "")


def _read(file: Path) -> dict[str, Past]:
    found: Pasts | None = read_measurement(file, Pasts)
    return {} if found is None else dict(found.by_kind)


class Stopwatch:
    """Seconds since it was made, and whether other programs needed the processors meanwhile."""

    def __init__(self) -> None:
        self._began, self._own, self._all = time.perf_counter(), time.process_time(), _times()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def is_disturbed(self) -> bool:
        """Whether the seconds say little of this program."""
        seconds, own = self.seconds, time.process_time() - self._own
        busy, idle = (now - then for now, then in zip(_times(), self._all, strict=True))
        return busy - own > DISTURBED * seconds and idle < IDLE * seconds


def _times() -> tuple[float, float]:
    """Return the busy and the idle seconds of all processors."""
    now = psutil.cpu_times()
    idle = now.idle + getattr(now, "iowait", 0.0)
    # Time of guests is part of that of their users.
    return now.user + getattr(now, "nice", 0.0) + now.system, idle


def of_command(plan: Plan, output: Path, options: ExportOptions, start: float) -> Plan:
    """Return `plan` with the seconds of all of a command: also its start, and writing `output`.

    `start` are the seconds that have passed since the command began. Sending the file to a server
    is not counted.
    """
    image = plan.part or plan.image
    height, width = plan.region.shape
    if plan.target.mask is not None and options.clip is None:
        height, width = image.height, image.width
    size = height * width * image.bands * image.dtype.itemsize
    workers = min(cores(), options.workers)
    seconds = 0.0
    # Else tiles are written where the output is to be.
    if not plan.store.name.endswith(".unfinished"):
        cost = writing_cost(image, output, options)
        seconds = SAVING_SECONDS_PER_BYTE * size / workers
        if cost is None:
            seconds += USUAL_SECONDS_PER_BYTE * size
        else:
            seconds += cost.seconds(height * width, workers)
    kind, before = kind_of_file(output, options), plan.prediction
    stages = {"start": start + AROUND_SECONDS, **before.stages}
    if plan.needs_context and not plan.needs_context_pass:
        # A process that goes on, as that of the window, keeps them.
        stages["read"] += KNOWN_SECONDS
    stages["write"] = seconds * learnt(plan.model, plan.device).get(kind, 1.0)
    predicted = replace(
        before,
        stages=stages,
        calculated={**before.calculated, "write": seconds},
        kinds={**before.kinds, "write": kind},
    )
    return replace(plan, prediction=predicted)


def kind_of_file(path: Path, options: ExportOptions) -> str:
    """Return what writing takes depends on, beside the pixels."""
    about = [path.suffix.lower(), options.compress, f"level {options.level or 1}"]
    about += ["COG"] if options.cog else []
    about += ["16 bits"] if options.bit_depth == 16 else []
    about += [] if options.overviews else ["no overviews"]
    about += [name for name in ("profile", "resize", "sharpen") if getattr(options, name)]
    return f"write {' '.join(about)}"
