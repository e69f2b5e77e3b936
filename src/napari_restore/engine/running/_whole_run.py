"""Run of the step that takes a map as a whole, layer by layer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from napari_restore.engine.ledger._kept_layers import KeptLayers
from napari_restore.engine.machine._device import Device, cores
from napari_restore.engine.machine._device_memory import DeviceMemory
from napari_restore.engine.machine._failures import (
    FAILURES,
    as_failure,
    clear_frames,
    is_out_of_memory,
)
from napari_restore.engine.machine._new_thread import on_new_thread
from napari_restore.engine.machine._precision import computing
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.running._events import Emit, Note, Progress
from napari_restore.engine.running._tokens import TokenStore
from napari_restore.errors import Cancelled, OutOfMemory
from napari_restore.models import Routing, WholeStep


class WholeRun:
    """Passes a plan's tokens through its whole step. `on_backoff` is called if memory ran out.

    With `kept`, the input of every layer is left there, with what the layer decided.
    """

    def __init__(
        self,
        plan: Plan,
        emit: Emit,
        stop: threading.Event,
        on_backoff: Callable[[], None],
        device_memory: DeviceMemory,
        kept: KeptLayers | None = None,
    ) -> None:
        self._kept = kept
        self._plan, self._emit, self._stop = plan, emit, stop
        self._on_backoff, self._device_memory = on_backoff, device_memory

    def relate(self, step: WholeStep, tokens: TokenStore) -> None:
        """Pass the map through the layers, on the processor if the device is too small."""
        layout, model = self._plan.staged, self._plan.model
        assert layout is not None
        if not layout.bottleneck_on_host and self._fits_device(step, tokens):
            return
        model.to("cpu")
        try:
            self._layers(step, Device("cpu", ""), tokens)
        finally:
            model.to(self._plan.device.torch)

    def _fits_device(self, step: WholeStep, tokens: TokenStore) -> bool:
        """Relate the tokens on the device; return False if it ran out of memory."""
        try:
            self._layers(step, self._plan.device, tokens)
            return True
        except OutOfMemory as error:
            if not self._plan.device.is_accelerator:
                raise
            clear_frames(error)
            self._on_backoff()
        self._plan.device.empty_cache()
        self._emit(Note("The bottleneck did not fit the device; the processor takes it."))
        return False

    def _layers(self, step: WholeStep, device: Device, tokens: TokenStore) -> None:
        """Pass the grid through the layers that are not done yet; keep the slow ones' output."""
        progress = LayerProgress(step.layers, self._emit, self._stop)
        memory = self._device_memory if device == self._plan.device else None
        precision = self._plan.computing.precision

        def run() -> None:
            torch.set_num_threads(cores())
            watched = memory.watched() if memory is not None else ExitStack()
            with torch.inference_mode(), computing(device, precision), watched:
                grid, start = self._start(step, device.torch, tokens, progress.check)
                for layer in range(start, step.layers):
                    progress.report(layer)
                    grid = self._layer(step, layer, grid, progress)
                    if self._kept is None and layer + 1 < step.layers:
                        tokens.checkpoint(grid, layer + 1, progress.check)
                if not tokens.is_finished:
                    tokens.finish(grid, progress.check)

        try:
            on_new_thread(run, "bottleneck", self._stop)
        except FAILURES as error:
            if is_out_of_memory(error):
                raise OutOfMemory(
                    "Out of memory in the bottleneck; encoded tiles are kept.",
                    "Close other programs, then run the same command again.",
                ) from error
            raise as_failure(self._plan.model, error) from error

    def _start(
        self,
        step: WholeStep,
        device: torch.device,
        tokens: TokenStore,
        tick: Callable[[], None],
    ) -> tuple[Tensor, int]:
        """Return the grid on `device`, and the layer it is to go through next."""
        if self._kept is None:
            grid, start = tokens.load(device, tick)
        else:
            grid, start = self._kept.latest(device, tick) or (tokens.encoded_grid(device, tick), -1)
        return (step.begin(grid), 0) if start < 0 else (grid, start)

    def _layer(self, step: WholeStep, layer: int, grid: Tensor, progress: LayerProgress) -> Tensor:
        """Return the output of a layer, its input kept where it is to be."""
        if self._kept is None:
            return step.layer(layer, grid, progress.within(layer))
        model = self._plan.swept
        self._kept.put_input(layer, grid, progress.check)
        routing = Routing(records=True)
        grid = step.layer(layer, grid, progress.within(layer), routing)
        self._kept.finish(layer, model.kept_of_layer(layer, routing))
        return grid


class LayerProgress:
    """Progress of the bottleneck's layers, with the time left; stops when `stop` is set."""

    def __init__(self, layers: int, emit: Emit, stop: threading.Event) -> None:
        self._layers, self._emit, self._stop = layers, emit, stop
        self._began = time.perf_counter()
        self._first: float | None = None

    def check(self) -> None:
        """Raise `Cancelled` if the run is to stop."""
        if self._stop.is_set():
            raise Cancelled("Cancelled in the bottleneck.")

    def report(self, done: float) -> None:
        """Emit `Progress` of so many layers, the last of them in part; raises `Cancelled`."""
        self.check()
        if self._first is None:
            self._first = done
        spent = time.perf_counter() - self._began
        left = None
        if done > self._first:
            left = spent / (done - self._first) * (self._layers - done)
        self._emit(Progress(int(100 * done), 100 * self._layers, left))

    def within(self, layer: int) -> Callable[[float], None]:
        """Return the callback of a layer that reports its share done, 0 … 1."""
        return lambda share: self.report(layer + share)
