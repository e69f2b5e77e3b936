"""Start of a plan's run, and the warm-up for one."""

from __future__ import annotations

import threading

import torch

from napari_restore.engine.memory._device import keep_freed_memory
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.planning._probe import example_input, example_statistics
from napari_restore.engine.running._local_run import LocalRun
from napari_restore.engine.running._new_thread import on_new_thread
from napari_restore.engine.running._run import Emit, Run, trim_results
from napari_restore.engine.staged._run import StagedRun


def run_of(
    plan: Plan,
    emit: Emit,
    stop: threading.Event | None = None,
    keep: bool = False,
    wait: bool = False,
) -> Run:
    """Return the run for the scope of the plan's model; see `Run`."""
    kind = LocalRun if plan.staged is None else StagedRun
    return kind(plan, emit, stop, keep, wait)


def warm_up(plan: Plan) -> None:
    """Do the one-off work of a first run of `plan`; writes no pixel."""
    keep_freed_memory()
    trim_results()
    if plan.image.reader.random_access and not plan.needs_context_pass:
        run_of(plan, lambda event: None, keep=True).open()
    device = plan.device.torch
    model = plan.model.to(device).eval()

    def call() -> None:
        # Libraries choose kernels for a thread count at the first call.
        torch.set_num_threads(plan.layout.threads)
        with torch.inference_mode():
            side = -(-max(256, model.card.min_size) // model.card.multiple_of)
            x = example_input(model, *(side * model.card.multiple_of,) * 2)
            model(x, example_statistics(model, x))

    on_new_thread(call, "warm-up")
