"""Start of a plan's run, and the warm-up for one."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import torch

from napari_restore._heap import keep_freed_memory
from napari_restore.engine.ledger._store import free_path
from napari_restore.engine.machine._new_thread import on_new_thread
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.planning._probe import example_input, example_statistics
from napari_restore.engine.running._local_run import LocalRun
from napari_restore.engine.running._run import Emit, Run, trim_results
from napari_restore.engine.running._steps_run import SweptRun


def run_of(
    plan: Plan,
    emit: Emit,
    stop: threading.Event | None = None,
    keep: bool = False,
    wait: bool = False,
) -> Run:
    """Return the run for the scope of the plan's model; see `Run`."""
    kind = LocalRun if plan.staged is None else SweptRun
    return kind(plan, emit, stop, keep, wait)


def begun_anew(plan: Plan) -> Plan:
    """Return `plan` without finished tiles: in an empty folder, another one where its own is in use."""
    store, settled = free_path(plan.store), plan.settled
    if settled is not None and settled.is_relative_to(plan.store):
        settled = store / settled.relative_to(plan.store)
    return replace(plan, store=store, settled=settled)


def settled(plan: Plan, emit: Emit, stop: threading.Event | None = None) -> Plan:
    """Return `plan` with nothing left to settle: its model then depends on a halo only.

    The sweeps that count are run first. A plan is returned as it is if its model is local, or takes
    a map as a whole.
    """
    if plan.staged is None or (reach := plan.swept.reach) is None:
        return plan
    parent = plan.store.parent
    parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own: another run may be writing to that of the plan.
    with tempfile.TemporaryDirectory(prefix="settling.", dir=parent) as folder:
        SweptRun(replace(plan, store=Path(folder)), emit, stop).settle()
    return replace(plan, staged=None, layout=replace(plan.layout, halo=reach))


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
