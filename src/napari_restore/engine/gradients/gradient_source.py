"""Image and model of a plan, prepared for gradients: all that the scopes share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore._heap import keep_freed_memory, release_freed_memory, return_freed_memory
from napari_restore.engine._region import Region, cut_on_grid
from napari_restore.engine.machine.budget import PeakMemory
from napari_restore.engine.machine.failures import FAILURES, as_failure
from napari_restore.engine.machine.precision import computing
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.running.events import Event
from napari_restore.engine.running.run import Run, count_first
from napari_restore.errors import Cancelled
from napari_restore.models import Statistics

Picture = Callable[[Region], Tensor]
"""Returns a box of an image: (1, C, h, w) float32 in model range, on the plan's device."""


class ReducedImage(NamedTuple):
    """A reduced image in model range."""

    picture: Tensor
    """(1, C, h, w)."""
    valid: Tensor
    """(1, 1, h, w) float, 0 or 1."""
    step: int
    """Level-0 pixels per pixel along a side."""


class GradientSource:
    """The pixels of a plan's image in model range, and its model with statistics; raises `Cancelled`."""

    # Statistics are computed from the image itself and stay constant, whatever picture the model is
    # given, unless `show` replaces them; so does what sweeps of the model count from it. Within
    # `with` time and memory are measured, for `finished_record`.
    def __init__(self, plan: Plan, emit: Callable[[Event], None], stop: threading.Event) -> None:
        return_freed_memory()
        # What planning left in the heap must not lie beside the pass over the image …
        release_freed_memory()
        self._began = time.perf_counter()
        whole = Region(0, 0, plan.image.height, plan.image.width)
        self.swept_box = plan.seen if plan.model.is_swept else whole
        """Pixels that the sweeps of the model see; those of the image for a local one."""
        self.plan, self.stop = count_first(plan, emit, stop), stop
        self._run: Run = Run(self.plan, emit, stop, keep=True)
        self.work = self._run.open()
        """`TileWork` with the statistics of the image; `show` replaces them."""
        # … nor what that took beside what follows.
        release_freed_memory()
        keep_freed_memory()
        self._memory = PeakMemory(plan.memory)
        self._own_statistics = self.work
        self.size = (plan.image.height, plan.image.width)
        self._radiometry = self.work.radiometry

    def __enter__(self) -> Self:
        self._memory.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.__exit__()
        release_freed_memory()

    def finished_record(self, predicted_bytes: int) -> dict[str, Any]:
        """Return the record of a finished run, as `Run` gives it; raises `SourceChanged`.

        `predicted_bytes` is the predicted addition to the idle process.
        """
        run = self._run
        run.state.check_source()
        record = run.record("done", time.perf_counter() - self._began, self._memory)
        record["plan"]["predicted_peak_ram_bytes"] = self._memory.start + predicted_bytes
        return record

    def show(self, statistics: Statistics | None) -> None:
        """Give the model `statistics` from now on; None: those of the image."""
        self.work = (
            self._own_statistics
            if statistics is None
            else replace(self._own_statistics, statistics=statistics)
        )

    @property
    def range(self) -> dict[str, float]:
        """Black and white of the image, as options of a plan for an image like it."""
        black = self._radiometry.black
        result = {"white": float(self._radiometry.white)}
        if len(set(map(float, black))) == 1:
            result["black"] = float(black[0])
        return result

    @property
    def statistics(self) -> Statistics:
        """Statistics of the image."""
        return self._own_statistics.statistics

    @cached_property
    def overview(self) -> ReducedImage:
        """The image as its context shows it, on the plan's device."""
        context = self._run.context()
        values = np.nan_to_num(context.overview)
        chosen = self._radiometry.to_model_tile(values, self.plan.bands)
        known = np.isfinite(context.overview).all(axis=2)
        take = self.plan.device.take
        picture = torch.from_numpy(chosen).permute(2, 0, 1).contiguous()[None]
        valid = torch.from_numpy(known.astype(np.float32))[None, None]
        return ReducedImage(take(picture), take(valid), context.factor)

    def check(self) -> None:
        """Raise `Cancelled` if `stop` is set."""
        if self.stop.is_set():
            raise Cancelled("Cancelled; nothing was written.", "Run it again.")

    def valid(self, box: Region) -> Tensor | None:
        """Return (1, 1, h, w) bool which pixels count; None where all do."""
        return self._mask(self._run.state.reader.valid(box))

    def _mask(self, mask: npt.NDArray[np.bool_] | None) -> Tensor | None:
        """Return `mask` (h, w) as (1, 1, h, w) on the device."""
        return None if mask is None else self.plan.device.take(torch.from_numpy(mask)[None, None])

    def known(self, box: Region) -> Tensor | None:
        """Return the pixels (1, frames, h, w) bool that the model is to count; None: all."""
        reader = self._run.state.reader
        if not reader.uses_validity:
            return None
        masks = self.work.frames_known(reader.representative(box), reader.companions_valid(box))
        return None if masks is None else self.plan.device.take(torch.from_numpy(masks[None]))

    def counted(self, box: Region) -> Tensor | None:
        """Return the pixels (1, 1, h, w) bool that sweeps count; None: all."""
        known = self._mask(self._run.state.reader.representative(box))
        return self.valid(box) if known is None else known

    def image(self, box: Region) -> Tensor:
        """Return the source's pixels of a box, (1, C, h, w) in model range, of a bracket those of all frames."""
        # They are filled where pixels do not count.
        values = self.work.to_model(self._run.state.reader.read(box, box))
        return self.plan.device.take(torch.from_numpy(values)[None])

    @property
    def planes(self) -> int:
        """Planes of `image`: the model's bands, of a bracket those of all frames."""
        return len(self.plan.bands) * len(self.plan.image.frames)

    @property
    def own(self) -> slice:
        """Planes of `image` that are the image's own; of a bracket those of its reference."""
        bands = len(self.plan.bands)
        return slice(self.work.reference * bands, (self.work.reference + 1) * bands)

    def repeated(self, box: Region) -> Tensor:
        """Return `image` with the image itself in place of every frame of a bracket."""
        x = self.image(box)
        own = x[:, self.own]
        return own.repeat(1, x.shape[1] // own.shape[1], 1, 1)

    def input_box(self, box: Region) -> Region:
        """Return the input box of a local model for `box`: with the halo, around the cells of the model's steps."""
        step = self.plan.model.card.multiple_of
        core = box.align(step).intersect(Region(0, 0, *self.size))
        return self.plan.input_box(core, step=step)

    def output(self, x: Tensor, input_box: Region) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the model's output and maps of a picture `x` of `input_box`, as in a run."""
        model = self.plan.model
        with self.computing():
            statistics = self.work.statistics_at([input_box], x)
            return model.forward_with_maps(x, statistics, self.known(input_box))

    def side_maps(self, x: Tensor, input_box: Region) -> dict[str, Tensor]:
        """Return the maps that `output` returns, for less where the model can."""
        with self.computing():
            statistics = self.work.statistics_at([input_box], x)
            return self.plan.model.side_maps(x, statistics, self.known(input_box))

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute gradients with respect to pixels only, in float32; failures are raised as those of a tile."""
        model = self.plan.model
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        threads = torch.get_num_threads()
        try:
            # Sums divided among threads must not be divided in the backward pass either. Tiles of
            # sweeps have threads of their own; a step that takes a map as a whole has all of them.
            one = None if model.is_swept else self.plan.layout.invariance.threads
            torch.set_num_threads(one or threads)
            with self.work.memory.watched(), computing(self.plan.device, "float32"):
                yield
        except FAILURES as error:
            raise as_failure(model, error) from error
        finally:
            torch.set_num_threads(threads)
            for parameter in trained:
                parameter.requires_grad_(True)


EDGE = 1024
"""Side in pixels of the pieces that a box is computed in."""
Compute = Callable[[Tensor, Region], Mapping[str, Tensor]]
"""Returns planes (1, 1 or C, h, w) of a picture of the given input box, by name."""


def restored(source: GradientSource, box: Region) -> Tensor:
    """Return the model's output for `box`, (1, C, h, w) in model range, as in a run."""
    return _in_pieces(source, box, lambda x, where: {"output": source.output(x, where)[0]})[
        "output"
    ]


def side_maps(source: GradientSource, box: Region) -> dict[str, Tensor]:
    """Return the maps that the model's card names for `box`, each (1, 1 or C, h, w), as in a run."""
    return _in_pieces(source, box, source.side_maps)


def _in_pieces(source: GradientSource, box: Region, compute: Compute) -> dict[str, Tensor]:
    whole: dict[str, Tensor] = {}
    for core in cut_on_grid(box, EDGE):
        source.check()
        input_box = source.input_box(core)
        with torch.no_grad():
            planes = compute(source.image(input_box), input_box)
        inner = core.within(input_box)
        in_box = core.within(box)
        for name, values in planes.items():
            spread = values.expand(-1, -1, *input_box.shape)
            if name not in whole:
                whole[name] = spread.new_empty(1, spread.shape[1], *box.shape)
            whole[name][(..., *in_box)] = spread[(..., *inner)]
    return whole
