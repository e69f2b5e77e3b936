"""Checks of a model card on the loaded weights, before the engine trusts it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from napari_restore._confined import UNSAID, room_for
from napari_restore.engine.machine.budget import budget_of
from napari_restore.engine.machine.device import Device
from napari_restore.engine.machine.failures import is_out_of_memory, out_of_memory_as
from napari_restore.engine.planning.dependence import Report, dependence
from napari_restore.engine.planning.measurements import kept, kind_of, measurement_file, trying
from napari_restore.errors import BadModel
from napari_restore.models import (
    Context,
    ModelCard,
    OnOutputGrid,
    Reach,
    RestorationModel,
    Statistics,
    content_of,
    context_of,
    definition_of,
    example_image,
    first_line,
    network_in,
    on_output_grid,
    placed_at,
    undisturbed,
)
from napari_restore.questions import Size

_LEAST_SIDE = 256
"""A dependence farther away than half of this may be missed if nothing lies between."""
LARGEST_INPUT = 128 << 20
"""Most bytes of the synthetic image that a model is tried on, whatever its card claims."""
_TRIAL_SIDE = 160
"""Side of the image on which the output of a model without a card is checked first."""
_SEEN: WeakKeyDictionary[RestorationModel, dict[tuple[int, str], Probe]] = WeakKeyDictionary()
"""By the halo of the card, and content."""
_KINDS: dict[Any, Probe] = {}
"""Probes of models without weights, by `kind_of`: a slider need not probe each of its values."""


@dataclass(frozen=True)
class Probe:
    """Result of a probe: the halo to use, and a note if the card's was too small."""

    halo: int
    note: str = ""
    step: int = 1
    """Multiples at which tiles must begin."""
    whole: str = ""
    """Why the model must be given the whole image; empty where tiles with their halo will do."""
    multiples_only: bool = False
    """Whether tiles will do only in images whose sides are multiples of `step`."""
    limit: int = 0
    """Bytes within which that could not be measured; 0: it was."""
    answer: float = 0.0
    """Weighted mean of what the model made of a small image then, by which a later process knows it."""

    def why_whole(self, height: int, width: int) -> str:
        """Return why an image of this size cannot be cut into tiles; empty where it can."""
        if self.multiples_only and (height % self.step or width % self.step):
            return (
                f"its results in tiles are the same only where sides are multiples of {self.step}"
            )
        return self.whole


def probe(
    model: RestorationModel,
    memory: Size | None = None,
    content: str | None = None,
    progress: Report | None = None,
) -> Probe:
    """Check shape, dtype, finiteness and halo of `model`; cached by model and `content`, also on disk.

    Of a model without a card everything that tiles must know is measured, in up to `memory` bytes
    and some seconds, and stated on its card from then on; see `dependence`. Of a card the halo is
    checked on the loaded weights: a NaN planted in one block may reach no output beyond the halo,
    and the gradient of one output block no input beyond it. Where the two disagree, everything
    beyond the halo is changed and the block must stay. (A tolerance test of the seam on random
    weights shows nothing: training makes a network use its whole field.) `content` is the
    `content_of` the model; None: it is computed. `progress` is that of `dependence`. A model of
    another scale than 1 is probed on the grid of its results, in whose pixels sizes are. Raises
    `BadModel` when the output is unusable.
    """
    model = on_output_grid(model)
    known = _SEEN.setdefault(model, {})
    content = content_of(model) if content is None else content
    key = model.card.halo, content
    result = known.get(key)
    if result is None or (result.limit and 2 * result.limit < budget_of(memory)):
        has_weights = bool([*model.parameters(), *model.buffers()])
        kind = None if has_weights else kind_of(model)
        result = _KINDS.get(kind)
        if result is None:
            with undisturbed(model.weighted), trying(model):
                result = _probe_in_room(model, budget_of(memory), content, progress)
            if kind is not None:
                _KINDS[kind] = result
        known[key] = result
    if model.measured and model.card.halo != result.halo:
        # The card claims nothing else: it states what was measured from now on.
        known[result.halo, content] = result
    if model.measured:
        step = max(result.step, model.card.multiple_of)
        state_sizes(model, result.halo, step, model.card.size_step)
    elif result.note and network_in(model) is not None:
        state_sizes(model, result.halo, result.step, model.card.size_step)
    return result


def state_sizes(
    model: RestorationModel, halo: int, multiple_of: int, padded_to: int | None
) -> None:
    """State on the card of `model` what was measured."""
    if model.claimed_step is None:
        model.claimed_step = model.card.multiple_of
    model.card = replace(model.card, halo=halo, multiple_of=multiple_of, padded_to=padded_to)
    if isinstance(model, OnOutputGrid):
        model.state_on_source()


def corrected(model: RestorationModel, memory: int, content: str) -> Probe:
    """Measure `model`, whose tiles differ from the whole with the halo and steps of its card."""
    claimed = model.card
    with undisturbed(model.weighted):
        result = _measured(model, memory)
    result = replace(result, note="" if result.whole else _corrected_note(claimed, result))
    state_sizes(model, result.halo, result.step, claimed.size_step)
    _SEEN.setdefault(model, {})[result.halo, content] = result
    return result


def _corrected_note(claimed: ModelCard, found: Probe) -> str:
    return (
        f"The card of {claimed.id} says multiples of {claimed.multiple_of} pixels and a halo of "
        f"{claimed.halo}; measured and used: {found.step} and {found.halo}."
    )


def presumed(model: RestorationModel) -> Probe:
    """Return what was found before, else trust the card: for drafts, where a seam does no harm."""
    known, step = _SEEN.get(model), model.card.multiple_of
    return list(known.values())[-1] if known else Probe(-(-model.card.halo // step) * step)


def example_statistics(model: RestorationModel, x: Tensor) -> Statistics:
    """Return statistics of a synthetic image, so that a model can be probed without a real one."""
    context = example_context(x)
    statistics = model.prepare(context, lambda v: v.astype("float64"), tuple(range(x.shape[1])))
    # Copies: tensors computed in inference mode could not be probed by gradients.
    statistics = {name: value.to(x.device, copy=True) for name, value in statistics.items()}
    return placed_at(statistics, [(0, 0)] * len(x), 1.0, x) if model.card.placed else statistics


def example_context(x: Tensor) -> Context:
    """Return the context of the first image of `x` (N, C, H, W) in model range."""
    return context_of(x[0].permute(1, 2, 0).contiguous().numpy(force=True))


def example_input(model: RestorationModel, height: int, width: int) -> Tensor:
    """Return (1, C, height, width) noise in [0.1, 0.9] with the model's bands, on its device; raises `BadModel`."""
    bands = model.card.planes_tried
    # What the card claims may take more than `LARGEST_INPUT`.
    if bands * height * width * 4 > LARGEST_INPUT:
        raise BadModel(
            f"Model {model.card.id} would have to be tried on {bands} bands of {width} × {height}.",
            "Check its card: halo, bands, min_size and multiple_of.",
        )
    return example_image(model, height, width)


def largest_side(model: RestorationModel) -> int:
    """Return the side in pixels of the largest square that `example_input` makes for `model`."""
    return math.isqrt(LARGEST_INPUT // (4 * model.card.planes_tried))


def _probe_in_room(
    model: RestorationModel, memory: int, content: str, progress: Report | None
) -> Probe:
    """Return the probe of an earlier process, or a new one; raises `OutOfMemory` by what the card claims."""

    def measure() -> Probe:
        return replace(_new_probe(model, memory, progress), answer=_answer(model))

    def holds(found: Probe) -> bool:
        enough = not found.limit or 2 * found.limit >= memory
        return enough and math.isclose(_answer(model), found.answer, rel_tol=1e-5)

    no_room = f"There is not enough memory to try model {model.card.id}."
    hint = "Check its card: halo, bands, min_size and multiple_of."
    device = Device(str(example_input(model, 1, 1).device), "")
    with out_of_memory_as(no_room, hint), room_for(max(memory, UNSAID)), device.confined():
        if model.card.scope != "local":
            return _probe(model)
        about = model.card.halo, content, definition_of(model)
        file = measurement_file(Probe.__name__, model, device, about)
        found: Probe = kept(file, model.card.id, Probe, measure, holds)
        return found


def _new_probe(model: RestorationModel, memory: int, progress: Report | None) -> Probe:
    # Programs of one size are cut into windows that they have measured.
    fixed = getattr(getattr(model, "network", None), "fixed", None)
    if model.measured and fixed is None:
        return _measured(model, memory, progress)
    if network_in(model) is not None:
        return _without_gradients(model, fixed, memory, progress)
    return _probe(model)


def _answer(model: RestorationModel) -> float:
    """Return the weighted mean of what `model` makes of a small image: other code makes another."""
    step = model.card.size_step
    side = -(-max(model.card.min_size, _TRIAL_SIDE) // step) * step
    x = example_input(model, side, side)
    y = _check_output(model, x, example_statistics(model, x))
    weights = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
    return float((y.cpu().double().abs() * weights).mean())


def _measured(model: RestorationModel, memory: int, progress: Report | None = None) -> Probe:
    """Return the probe of a model without a card."""
    card = model.card
    side = -(-_TRIAL_SIDE // card.size_step) * card.size_step
    _check_output(model, example_input(model, side, side), {})
    found = dependence(model, memory, progress)
    whole, graph = found.whole, network_in(model)
    if whole and graph is not None and (taken := graph.file.taking_all()):
        whole = f"{whole} (it has {taken})"
    note = "" if whole else _without_card(model, found.step, found.halo)
    limit = memory if found.limited else 0
    return Probe(found.halo, note, found.step, whole, found.multiples_only, limit)


def _without_gradients(
    model: RestorationModel, fixed: tuple[int, ...] | None, memory: int, progress: Report | None
) -> Probe:
    """Return the probe of a model with a card that has no gradients: it is measured as without one."""
    card, step = model.card, model.card.multiple_of
    claimed = -(-card.halo // step) * step
    # It may take one size (N, C, H, W) only.
    if fixed is not None:
        x = example_input(model, *fixed[2:])
        _check_output(model, x, {})
        return Probe(claimed, step=step)
    found = _measured(model, memory, progress)
    if found.whole or (found.halo <= claimed and step % found.step == 0):
        return replace(found, halo=claimed, step=step, note="")
    return replace(found, note=_corrected_note(card, found))


def _without_card(model: RestorationModel, step: int, halo: int) -> str:
    card = model.card
    bands = f"{card.bands} band{'s' if card.bands != 1 else ''}"
    known = "is known by its weights" if model.structure else "has no card"
    # In pixels of the image.
    step, halo = (math.ceil(each / card.ratio) for each in (step, halo))
    scale = "" if card.ratio == 1 else f" and a scale of {card.ratio}"
    return (
        f"{card.id} {known}: {bands}, multiples of {step} pixels and a halo of {halo}{scale} were "
        "measured."
    )


def _probe(model: RestorationModel) -> Probe:
    card = model.card
    if card.scope != "local":
        # Its tiles are fixed; how they depend on each other is not described by a halo.
        x = example_input(model, card.min_size, card.min_size)
        _check_output(model, x, example_statistics(model, x))
        return Probe(card.halo)
    step = card.multiple_of
    side = -(-max(2 * max(card.halo, step) + 5 * step, card.min_size, _LEAST_SIDE) // step) * step
    x = example_input(model, side, side)
    statistics = example_statistics(model, x)
    _check_output(model, x, statistics)
    for _ in range(3):
        low = side // 2 // step * step
        reach = Reach(partial(model, statistics=statistics), x, *[(low, low + step)] * 2)
        measured, spread = reach.of_gradient() or 0, reach.of_nan()
        if spread > max(measured, card.halo):
            # Running sums carry a NaN to the far edge without depending on it.
            margin = -(-max(measured, card.halo) // step) * step
            measured = margin if reach.is_within(margin) else spread
        if measured < side // 2 - step:
            break
        # The dependence reached the edge of the probe: try a wider one.
        side = -(-2 * side // step) * step
        x = example_input(model, side, side)
        statistics = example_statistics(model, x)
    else:
        far = f"its pixels depend on others more than {side // 4} pixels away"
        return Probe(card.halo, step=step, whole=far)
    needed = -(-measured // step) * step
    if model.measured:
        return Probe(needed, _without_card(model, step, needed), step)
    if needed > card.halo:
        return Probe(
            needed,
            f"The card of {card.id} says halo {card.halo}; measured and used: {needed}.",
            step,
        )
    # A halo that is no multiple of the model's steps would shift tiles out of phase.
    return Probe(-(-card.halo // step) * step, step=step)


def _check_output(model: RestorationModel, x: Tensor, statistics: Statistics) -> Tensor:
    card = model.card
    try:
        with torch.inference_mode():
            y = model(x, statistics)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise BadModel(
            f"Model {card.id} fails on an image of {x.shape[1]} bands: {first_line(error)}.",
            "Check its card: bands, min_size and multiple_of.",
        ) from error
    wanted = model.shape_for(x.shape)
    if not isinstance(y, Tensor) or y.shape != wanted:
        shape = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise BadModel(
            f"Model {card.id} returns {shape} for an input of {tuple(x.shape)}.",
            "A restoration model returns an image of the same size and bands.",
        )
    if not torch.isfinite(y).all():
        raise BadModel(f"Model {card.id} returns NaN or infinity.", "Check its weights.")
    return y
