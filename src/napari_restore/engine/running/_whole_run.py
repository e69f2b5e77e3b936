"""Run of the step that takes a map as a whole, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from napari_restore._points import reached
from napari_restore.engine.ledger.kept_layers import KeptLayers
from napari_restore.engine.machine.device import Device, cores
from napari_restore.engine.machine.failures import (
    FAILURES,
    as_failure,
    clear_frames,
    is_out_of_memory,
)
from napari_restore.engine.machine.precision import computing
from napari_restore.engine.machine.threads import on_new_thread
from napari_restore.engine.running.events import Note
from napari_restore.engine.running.state import RunState
from napari_restore.engine.running.tokens import TokenStore
from napari_restore.errors import Cancelled, OutOfMemory
from napari_restore.models import Routing, WholeStep


class WholeRun:
    """Passes the tokens of a run through its whole step; `kept` takes the input and choices of every layer."""

    def __init__(
        self, state: RunState, step: WholeStep, tokens: TokenStore, kept: KeptLayers | None
    ) -> None:
        self._state, self._plan = state, state.plan
        self._step, self._tokens, self._kept = step, tokens, kept

    def relate(self) -> None:
        """Pass the map through the layers, on the processor if the device is too small."""
        if not self._plan.sweeps.bottleneck_on_host and self._fits_device():
            return
        model = self._plan.model
        model.to("cpu")
        try:
            self._layers(Device("cpu", ""))
        finally:
            model.to(self._plan.device.torch)

    def _fits_device(self) -> bool:
        """Relate the tokens on the device; return False if it ran out of memory."""
        try:
            self._layers(self._plan.device)
            return True
        except OutOfMemory as error:
            if not self._plan.device.is_accelerator:
                raise
            clear_frames(error)
            self._state.totals.backoffs += 1
        self._plan.device.empty_cache()
        self._state.emit(Note("The bottleneck did not fit the device; the processor takes it."))
        return False

    def _layers(self, device: Device) -> None:
        """Pass the grid through the layers that are not done yet; keep the slow ones' output."""
        step, tokens = self._step, self._tokens
        is_planned = device == self._plan.device

        def run() -> None:
            torch.set_num_threads(cores())
            watched = self._state.device_memory.watched() if is_planned else nullcontext()
            precision = self._plan.computing.precision
            with torch.inference_mode(), computing(device, precision), watched:
                grid, start = self._start(device.torch)
                # In hundredths of a layer.
                progress = self._state.progress(100 * start)

                def report(layer: int, share: float = 0.0) -> None:
                    self._check()
                    progress(int(100 * (layer + share)), 100 * step.layers)
                    reached("bottleneck step")

                for layer in range(start, step.layers):
                    report(layer)
                    grid = self._layer(layer, grid, partial(report, layer))
                    if self._kept is None and layer + 1 < step.layers:
                        tokens.checkpoint(grid, layer + 1, self._check)
                if not tokens.is_finished:
                    tokens.finish(grid, self._check)

        try:
            on_new_thread(run, "bottleneck", self._state.stop)
        except FAILURES as error:
            if is_out_of_memory(error):
                raise OutOfMemory(
                    "Out of memory in the bottleneck; encoded tiles are kept.",
                    "Close other programs, then run the same command again.",
                ) from error
            raise as_failure(self._plan.model, error) from error

    def _start(self, device: torch.device) -> tuple[Tensor, int]:
        """Return the grid on `device`, and the layer it is to go through next."""
        tokens, check = self._tokens, self._check
        if self._kept is None:
            grid, start = tokens.load(device, check)
        else:
            latest = self._kept.latest(device, check)
            grid, start = latest or (tokens.encoded_grid(device, check), -1)
        return (self._step.begin(grid), 0) if start < 0 else (grid, start)

    def _layer(self, layer: int, grid: Tensor, tick: Callable[[float], None]) -> Tensor:
        """Return the output of a layer, its input kept where it is to be."""
        if self._kept is None:
            return self._step.layer(layer, grid, tick)
        self._kept.put_input(layer, grid, self._check)
        routing = Routing(records=True)
        grid = self._step.layer(layer, grid, tick, routing)
        self._kept.finish(layer, self._plan.swept.kept_of_layer(layer, routing))
        return grid

    def _check(self) -> None:
        """Raise `Cancelled` if the run is to stop."""
        if self._state.stop.is_set():
            raise Cancelled("Cancelled in the bottleneck.")
