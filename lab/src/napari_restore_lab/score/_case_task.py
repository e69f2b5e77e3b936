"""Cases that other processes score: what they are told, and what they do."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from napari_restore.extension import (
    BadParameter,
    Image,
    Plan,
    RestorationModel,
    Result,
    Run,
    identity_of,
    make_plan,
    metric_of,
)
from napari_restore_lab._questions import Evaluate
from napari_restore_lab.score._cases import Case, SceneCase
from napari_restore_lab.score._evaluate import CaseAnswer, Scoring, score_case
from napari_restore_lab.score._journal import JournalPart, ScoreJournal
from napari_restore_lab.score._methods import CLASSICAL, EvaluatedMethod, Kind
from napari_restore_lab.score._outputs import PREVIEWS, WORK
from napari_restore_lab.score._strips import Previews


class MethodTask(NamedTuple):
    """A method, as another process loads it."""

    label: str
    kind: Kind
    spec: dict[str, Any]
    identity: dict[str, str | None]
    """As `identity_of` of its model."""
    has_filter: bool


@dataclass(frozen=True)
class ScoringTask:
    """Methods and settings of an evaluation, for another process."""

    methods: tuple[MethodTask, ...]
    settings: Evaluate
    """With an absolute `output`."""
    overwrite: bool = False
    """Whether pictures that are kept may replace files of others."""

    @classmethod
    def of(
        cls, methods: Sequence[EvaluatedMethod], settings: Evaluate, *, overwrite: bool = False
    ) -> Self:
        """Return the task; raises `BadParameter` for a model that exists only in memory."""
        if not all(method.model.spec for method in methods):
            raise BadParameter("Models must be files for a cluster.", "Save the model in a file.")
        told = tuple(
            MethodTask(
                method.label,
                method.kind,
                dict(method.model.spec),
                identity_of(method.model),
                method.filter is not None,
            )
            for method in methods
        )
        output = None if settings.output is None else os.path.abspath(settings.output)
        return cls(told, replace(settings, output=output), overwrite)


class CaseItem(NamedTuple):
    """A case for another process."""

    number: int
    """Its position among all."""
    case: Case
    """With absolute paths."""
    known: JournalPart
    """What is known of its scores."""


def items_of(
    cases: Sequence[Case], journal: ScoreJournal, settings: Evaluate
) -> Iterator[CaseItem]:
    """Yield every case with what the journal has of it."""
    for number, case in enumerate(cases):
        part = journal.part(case.group, case.name, clear=settings.clear)
        yield CaseItem(number, case.absolute(), part)


def keeping(settings: Evaluate, *, overwrite: bool) -> Callable[[Case], None]:
    """Return what keeps the pictures of a case where that is wanted."""
    folder = settings.output

    def keep(case: Case) -> None:
        if settings.keep and folder is not None and isinstance(case, SceneCase):
            case.keep(Path(folder), overwrite=overwrite)

    return keep


def score_item(
    task: ScoringTask,
    item: CaseItem,
    load: Callable[[MethodTask], RestorationModel],
    options: Mapping[str, Any],
    stop: threading.Event,
) -> CaseAnswer:
    """Score a case in this process; return its outcome, and what the journal lacks.

    `load` loads the model of a method, `options` are those of `make_plan`. Raises
    `Cancelled` after `stop` is set, and `DiskFull`.
    """
    settings = task.settings
    folder = None if settings.output is None else Path(settings.output)
    journal = ScoreJournal.of_part(item.known)

    def run(planned: Plan) -> Result:
        # The worker of a client that was lost may still compute the same.
        record = Run(planned, lambda event: None, stop, wait=True).run()
        return Result.of_run(planned, record)

    with _scratch(folder, item.number) as scratch:
        scoring = Scoring(
            [_method(each, settings, load) for each in task.methods],
            {name: metric_of(name) for name in settings.metrics},
            partial(plan_to_score, options, scratch=scratch),
            run,
            with_clear=settings.clear,
            keep=keeping(settings, overwrite=task.overwrite),
        )
        previews = Previews(folder / PREVIEWS if folder is not None and settings.strips else None)
        return score_case(item.case, scoring, journal, previews), journal.added


def plan_to_score(options: Mapping[str, Any], image: Image, model: Any, scratch: Any) -> Plan:
    """Return the plan of a run that is scored as the model returns it: a photo gets no exposure."""
    return make_plan(image, model, **{"exposure": 0.0, **options, "scratch": scratch})


def _method(
    told: MethodTask,
    settings: Evaluate,
    load: Callable[[MethodTask], RestorationModel],
) -> EvaluatedMethod:
    function = CLASSICAL[settings.degradation][told.label] if told.has_filter else None
    return EvaluatedMethod(told.label, told.kind, load(told), function)


@contextmanager
def _scratch(folder: Path | None, number: int) -> Iterator[str]:
    """Yield a folder of its own for the restored pixels of a case: no two workers write there.

    In the output folder, the next worker goes on from the tiles of one that was lost.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="napari-restore-") as name:
            yield name
        return
    yield str(folder / WORK / str(number))
