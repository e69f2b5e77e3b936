"""Statistics that a model prepares from the whole image: cached, and written for other processes."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_restore._replacing import replacing
from napari_restore.engine.machine.device import cores
from napari_restore.engine.machine.failures import out_of_memory_as
from napari_restore.engine.machine.threads import on_new_thread
from napari_restore.engine.masks.mask_strength import MaskStrength
from napari_restore.engine.planning.identity import prepared_key
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.planning.source import reads_overview
from napari_restore.engine.statistics.context import ROUGH, context_key
from napari_restore.engine.statistics.kept import find_prepared, keep_prepared
from napari_restore.errors import ResourceError, option
from napari_restore.images import Image, Radiometry
from napari_restore.models import Context, RestorationModel, Statistics, path_limit

KEPT = 4
"""Images per model whose prepared statistics are cached: they are small, contexts are not …"""
KEPT_BYTES = 64 << 20
"""… but for maps: those of all models together may take this much, and the latest always stays."""
Around = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, eq=False)
class Prepared:
    """The part of the context that a run needs."""

    statistics: Statistics
    """On the processor, whatever device the model runs on."""
    fill: npt.NDArray[np.float32]
    """(C,) values in model range for pixels that do not count."""
    radiometry: Radiometry

    @property
    def bytes(self) -> int:
        """Bytes of the statistics."""
        return sum(value.numel() * value.element_size() for value in self.statistics.values())


_KNOWN: WeakKeyDictionary[RestorationModel, OrderedDict[str, Prepared]] = WeakKeyDictionary()


def prepare(
    plan: Plan,
    exclude: MaskStrength | None,
    context: Callable[[bool], Context],
    keep: bool = False,
    around: Around = nullcontext,
) -> Prepared:
    """Return what `plan` needs of its image's `context`; its model moves to the plan's device.

    `context` is given whether the overview is needed. With `keep` the result stays in memory for
    the next run of the same model on the same image. On disk it stays where the overview does not.
    The model prepares inside `around`, which may raise before it begins.
    """
    plan.model.to(plan.device.torch)
    keep = keep and plan.reading.context is None
    known = _KNOWN.setdefault(plan.model, OrderedDict()) if keep else OrderedDict()
    key = ""
    if keep:
        extent = plan.reading.extent
        key = context_key(plan.image, exclude, plan.described, extent=extent) + _which(plan)
    # As the newest; another run may drop it meanwhile.
    if (found := known.pop(key, None)) is not None:
        known[key] = found
        return found
    bands = plan.bands
    earlier, place = None, _place(plan, exclude)
    if plan.needs_context and place is not None:
        earlier = find_prepared(*place)
    wants = reads_overview(plan.model) and earlier is None
    computed = context(wants) if plan.needs_context else None
    radiometry = plan.radiometry(computed)
    statistics: Statistics = {}
    fill = np.full(len(bands), 0.5, np.float32)
    if computed is not None:
        medians = np.array([computed.percentile(50, (b,)) for b in range(computed.bands)])
        fill = radiometry.to_model(medians)[list(bands)].astype(np.float32)
        made = _statistics(plan, computed, radiometry, around, earlier)
        if place is not None and earlier is None:
            kept = {name: made[name] for name in made if name not in plan.model.derived}
            keep_prepared(*place, kept)
        # Its overview need not be in memory beside two copies of each map.
        computed = None
        statistics = {name: value.to("cpu", copy=True) for name, value in made.items()}
    elif plan.model.card.needs_context:
        raise AssertionError("the plan forgot the context")
    prepared = Prepared(statistics, fill, radiometry)
    known[key] = prepared
    while len(known) > KEPT:
        known.popitem(last=False)
    if keep:
        _shrink(prepared)
    return prepared


def _statistics(
    plan: Plan,
    computed: Context,
    radiometry: Radiometry,
    around: Around,
    earlier: Statistics | None,
) -> Statistics:
    """Return the statistics of the whole image from the model: tensors may be its own."""
    # An `earlier` run may have kept those from which the others are derived.

    def body() -> Statistics:
        torch.set_num_threads(cores())
        with around(), torch.no_grad():
            model = plan.model.eval()
            if earlier is None:
                made = model.prepare(computed, radiometry.to_model, plan.bands)
            else:
                own = {k: plan.device.take(v) for k, v in earlier.items()}
                made = model.derive(own, computed)
            if plan.reading.other_bands == "correct":
                limit = path_limit(computed, radiometry.to_model)
                made = {**made, "path_limit": torch.from_numpy(limit)}
            return made

    with out_of_memory_as(
        f"Out of memory on {plan.device.name} while the model processed the whole image.",
        f"Close other programs that use it, or use {option('device', 'cpu')}.",
    ):
        return on_new_thread(body, "prepare")


def _shrink(newest: Prepared) -> None:
    """Drop maps until the cache fits: those of other models first, then older ones."""
    total = sum(each.bytes for known in _KNOWN.values() for each in known.values())
    for known in sorted(_KNOWN.values(), key=lambda known: newest in known.values()):
        for key, each in list(known.items()):
            if total <= KEPT_BYTES:
                return
            if each is not newest:
                known.pop(key, None)
                total -= each.bytes


def _place(plan: Plan, exclude: MaskStrength | None) -> tuple[str, str] | None:
    """Return under which keys statistics are kept on disk; None where they are not."""
    reading = plan.reading
    if reading.context is not None or reading.extent in ROUGH or not reads_overview(plan.model):
        return None
    return context_key(plan.image, exclude, plan.described), _which(plan)


def _which(plan: Plan) -> str:
    return prepared_key(plan.image, plan.model, plan.content, plan.reading, plan.bands, plan.device)


FILL = "fill"
BLACK = "black"
STATISTIC = "statistic."


def write_prepared(path: Path, prepared: Prepared) -> None:
    """Write `prepared` to a .safetensors file: numbers and text, no code."""
    radiometry = prepared.radiometry
    tensors = {f"{STATISTIC}{k}": v.contiguous() for k, v in prepared.statistics.items()}
    tensors[FILL] = torch.from_numpy(prepared.fill)
    tensors[BLACK] = torch.from_numpy(np.array(radiometry.black, np.float64))
    about = {
        "white": radiometry.white.hex(),
        "reasons": [radiometry.black_reason, radiometry.white_reason],
    }
    with replacing(path) as part:
        save_file(tensors, part, {"radiometry": json.dumps(about)})


def read_prepared(path: Path, image: Image) -> Prepared:
    """Return what `write_prepared` wrote for `image`; raises `ResourceError` where it cannot."""
    try:
        with safe_open(path, "pt") as file:
            tensors: dict[str, torch.Tensor] = {k: file.get_tensor(k) for k in file.keys()}
            about: dict[str, Any] = json.loads(file.metadata()["radiometry"])
        black_reason, white_reason = about["reasons"]
        radiometry = Radiometry(
            tensors.pop(BLACK).numpy(),
            float.fromhex(about["white"]),
            black_reason,
            white_reason,
            image.working_space,
        )
        fill = tensors.pop(FILL).numpy()
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ResourceError(
            f"The statistics of the image in {path} cannot be read ({error}).",
            f"Name a folder that all workers share with {option('scratch')}.",
        ) from error
    statistics = {name.removeprefix(STATISTIC): value for name, value in tensors.items()}
    return Prepared(statistics, fill, radiometry)
