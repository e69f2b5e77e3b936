"""Which maps of a model are kept together, who reads them, and how far around a tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_restore.engine.ledger._map_records import FILE
from napari_restore.errors import BadModel
from napari_restore.models import RESTORED, Map, Sweep, SweptModel, WholeStep

Step = Sweep | WholeStep


@dataclass(frozen=True)
class Group:
    """Maps that one sweep writes, with the same last reader and floats."""

    maps: tuple[Map, ...]
    first: int
    """The step that writes them."""
    last: int
    """The last step that reads them."""
    readers: int
    """Steps that read them."""
    file: str
    shallow: bool
    """Whether they follow from a tile's own pixels alone; see `is_shallow`."""
    everywhere: bool
    """Whether they are read on all tiles, not only around the target."""


def is_shallow(writer: Sweep) -> bool:
    """Return whether a sweep's maps are made again from a tile's own pixels alone."""
    return writer.halo == 0 and not writer.reads and writer.sees_image


def groups_of(steps: Sequence[Step]) -> list[Group]:
    """Return the maps that lie on tiers; those of a `WholeStep` are kept otherwise."""
    whole = whole_maps(steps)
    found: list[Group] = []
    for first, step in enumerate(steps):
        if isinstance(step, WholeStep):
            continue
        together: dict[tuple[int, str | None], list[Map]] = {}
        for each in step.writes:
            readers = readers_of(steps, each.name)
            if readers and each.name not in whole:
                together.setdefault((readers[-1], each.dtype), []).append(each)
        for (last, _), maps in together.items():
            number = len(found)
            found.append(
                Group(
                    tuple(maps),
                    first,
                    last,
                    max(len(readers_of(steps, each.name)) for each in maps),
                    FILE if number == 0 else f"residuals.{number}.slab",
                    is_shallow(step),
                    any(readers_of(steps, each.name) != [len(steps) - 1] for each in maps),
                )
            )
    return found


def readers_of(steps: Sequence[Step], name: str) -> list[int]:
    """Return the numbers of the sweeps that read a map."""
    return [n for n, step in enumerate(steps) if isinstance(step, Sweep) and name in step.reads]


def whole_maps(steps: Sequence[Step]) -> set[str]:
    """Return the names of the maps that a `WholeStep` reads or writes."""
    whole = [step for step in steps if isinstance(step, WholeStep)]
    return {one.name for step in whole for one in (step.reads, step.writes)}


def margins_of(steps: Sequence[Step]) -> dict[str, int]:
    """Return the most pixels around a tile that readers of each map take."""
    margins: dict[str, int] = {}
    for step in steps:
        if isinstance(step, Sweep):
            for name in step.reads:
                margins[name] = max(margins.get(name, 0), step.halo)
    return margins


def check_steps(model: SweptModel) -> None:
    """Raise `BadModel` for steps that do not fit each other."""
    steps = model.steps()
    problem = _problem(steps, model.multiple)
    kept = [each for step in steps if isinstance(step, Sweep) for each in step.writes]
    if not model.pads and any(each.stride > 1 for each in kept):
        problem = problem or "maps of larger cells are kept of an image that is not padded"
    if problem:
        raise BadModel(
            f"The sweeps of {model.card.id} do not fit each other: {problem}.",
            "A swept model lists its sweeps in order, the last of which restores pixels.",
        )


def _problem(steps: Sequence[Step], multiple: int) -> str:
    last = steps[-1] if steps else None
    if not isinstance(last, Sweep) or RESTORED not in [each.name for each in last.writes]:
        return f"the last one does not write {RESTORED!r}"
    if not last.sees_image or last.counts is not None:
        return "the last one must see the image, and counts nothing"
    if sum(isinstance(step, WholeStep) for step in steps) > 1:
        return "more than one takes a map as a whole"
    if len({step.name for step in steps}) < len(steps):
        return "two have the same name"
    return _problem_of_maps(steps, multiple)


def _problem_of_maps(steps: Sequence[Step], multiple: int) -> str:
    known: dict[str, Map] = {}
    whole = whole_maps(steps)
    for step in steps:
        reads = (step.reads.name,) if isinstance(step, WholeStep) else step.reads
        missing = [name for name in reads if name not in known]
        if missing:
            return f"{step.name!r} reads {missing[0]!r}, which none before it writes"
        if isinstance(step, Sweep) and step.halo and whole.intersection(reads):
            return f"{step.name!r} reads a map taken as a whole, and has a halo"
        writes = (step.writes,) if isinstance(step, WholeStep) else step.writes
        if isinstance(step, Sweep) and _ends_within_a_cell(step, known, multiple):
            return f"the halo of {step.name!r} or its tiles end within a cell"
        known |= {each.name: each for each in writes}
    return ""


def _ends_within_a_cell(step: Sweep, known: Mapping[str, Map], multiple: int) -> bool:
    """Return whether a box of the sweep may have a part of a cell of its maps."""
    counted = () if step.counts is None else step.counts.features
    maps = (*(known[name] for name in step.reads), *step.writes, *counted)
    return any(step.halo % each.stride or multiple % each.stride for each in maps)
