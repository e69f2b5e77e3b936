"""Restores and scores every case with every method, through the same engine as `restore`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.extension import (
    Cancelled,
    DiskFull,
    Event,
    Image,
    ImageStarted,
    InputError,
    Metric,
    Note,
    OutOfMemory,
    Phase,
    Plan,
    Progress,
    Region,
    RestoreError,
    Result,
    block_too_large,
    is_disk_full,
)
from napari_restore_lab.score._cases import Case, OpenCase
from napari_restore_lab.score._journal import ScoreJournal
from napari_restore_lab.score._methods import EvaluatedMethod, nearest
from napari_restore_lab.score._scores import (
    ClearReference,
    ScoredRange,
    box_of,
    change_of,
    codes_of,
    reference_of,
    scale_of,
    scores_of,
)
from napari_restore_lab.score._strips import CLEAR, Previews

VERSION = 2
"""Version of the scores: stored ones of another version are computed again."""


@dataclass(frozen=True)
class Scoring:
    """Methods, metrics and callbacks of an evaluation."""

    methods: Sequence[EvaluatedMethod]
    metrics: Mapping[str, Metric]
    plan: Callable[[Image, Any], Plan]
    """Plans an image and a model."""
    run: Callable[[Plan], Result]
    """Runs a plan; raises `Cancelled` when the user cancels it."""
    emit: Callable[[Event], None] = lambda event: None
    with_clear: bool = False
    """Whether to score changes of the clear images, too."""
    keep: Callable[[Case], None] = lambda case: None
    """Called with each case before it is scored."""


@dataclass
class Outcome:
    """Rows and failures of an evaluation."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """For each image and method: key, image, group, scene (its clear picture), method, kind,
    values, valid_share, seconds."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    """image, group, method ("" for all of them), type, message, hint, exit_code."""
    ran: bool = False
    """Whether any model was run."""

    def add(self, other: Outcome) -> None:
        """Append rows and failures of another one."""
        self.rows += other.rows
        self.failures += other.failures
        self.ran |= other.ran


CaseAnswer = tuple[Outcome, list[dict[str, Any]]]
"""The outcome of one case, and what was added to its journal."""


def evaluate(
    cases: Sequence[Case], scoring: Scoring, journal: ScoreJournal, previews: Previews
) -> Outcome:
    """Score every case; scores in `journal` are not computed again.

    A failure of an image or method is recorded, and the others continue. Raises `Cancelled` and
    `DiskFull`, which would affect the next image, too.
    """
    outcome, began, fresh = Outcome(), time.monotonic(), 0
    for number, case in enumerate(cases, start=1):
        scoring.emit(ImageStarted(case.name, number, len(cases)))
        part = score_case(case, scoring, journal, previews)
        outcome.add(part)
        _note_failures(part, scoring.emit)
        fresh += part.ran
        # Images with stored scores do not count for the remaining time.
        left = (time.monotonic() - began) / fresh * (len(cases) - number) if fresh else None
        scoring.emit(Phase("images"))
        scoring.emit(Progress(number, len(cases), left))
    return outcome


def merged(
    answers: Iterable[tuple[int, CaseAnswer]], journal: ScoreJournal, emit: Callable[[Event], None]
) -> Outcome:
    """Merge what other processes have scored, as it comes, by the numbers of their cases."""
    parts: dict[int, Outcome] = {}
    for number, (part, added) in answers:
        for row in added:
            journal.add(row)
        _note_failures(part, emit)
        parts[number] = part
    outcome = Outcome()
    for number in sorted(parts):
        outcome.add(parts[number])
    return outcome


def score_case(case: Case, scoring: Scoring, journal: ScoreJournal, previews: Previews) -> Outcome:
    """Score a case with every method; raises `Cancelled` and `DiskFull`."""
    outcome = Outcome()
    try:
        scoring.keep(case)
        opened = case.open()
        box_of(opened.on_grid, opened.clear)
    except (RestoreError, OSError, MemoryError) as error:
        outcome.ran = True
        _failed(outcome, case, "", error)
        return outcome
    one = _CaseEvaluation(case, opened, scoring, journal, previews)
    for method in scoring.methods:
        try:
            outcome.rows.append(one.row_of(method))
        except (RestoreError, OSError, MemoryError) as error:
            _failed(outcome, case, method.label, error)
    outcome.ran = one.ran
    return outcome


def show(
    cases: Sequence[Case],
    wanted: Mapping[tuple[str, str], Mapping[str, str]],
    scoring: Scoring,
    previews: Previews,
) -> None:
    """Create missing previews; `wanted` maps (group, image) to row keys by label.

    Failures are reported as notes.
    """
    by_label = {method.label: method for method in scoring.methods}
    for case in cases:
        place = (case.group, case.name)
        if all(previews.has(*place, *one) for one in wanted.get(place, {}).items()):
            continue
        try:
            one = _CaseEvaluation(case, case.open(), scoring, ScoreJournal(None), previews)
            for label, key in wanted[place].items():
                if label in by_label:
                    one.show(by_label[label], key)
        except (RestoreError, OSError, MemoryError) as error:
            known = _as_restore_error(error)
            if isinstance(known, (Cancelled, DiskFull)):
                raise known from error
            scoring.emit(Note(f"{case.name}: {known.sentence.marked}"))


class _CaseEvaluation:
    """Scores one case for several methods; the clear image is read at most once."""

    def __init__(
        self,
        case: Case,
        opened: OpenCase,
        scoring: Scoring,
        journal: ScoreJournal,
        previews: Previews,
    ) -> None:
        self._case, self._opened, self._scoring = case, opened, scoring
        self._journal, self._previews = journal, previews
        self._reference: tuple[ScoredRange, ClearReference] | None = None
        self.ran = False

    def row_of(self, method: EvaluatedMethod) -> dict[str, Any]:
        """Return the scores of one method, from the journal or computed."""
        clear = self._opened.clear
        planned = self._plan(method)
        if clear.block_bytes > planned.memory:
            raise block_too_large(clear, planned.memory, clear.block_bytes)
        own = () if method.filter is None else (method.label,)
        if self._opened.ratio != 1:
            own = (*own, str(self._opened.ratio))
        key = _digest(planned.output_key, clear.fingerprint, VERSION, *own)
        names = {
            "key": key,
            "image": self._case.name,
            "group": self._case.group,
            "scene": clear.fingerprint,
            "method": method.label,
            "kind": method.kind,
        }
        row = self._journal.row(key) or {"values": {}}
        metrics = self._scoring.metrics
        wanted = {name: metrics[name] for name in metrics if name not in row["values"]}
        if wanted:
            known = row["values"]
            row |= {**names, **self._scored(planned, method, key, wanted)}
            row["values"] = {**known, **row["values"]}
            self._journal.add(row)
        row |= names
        is_input = method.kind == "input"
        # A filter is given the strength of the degradation: for a clear picture nothing.
        scores_clear = self._scoring.with_clear and method.filter is None
        if scores_clear and not is_input and not row.get("clear_values"):
            row |= self._scored_clear(method)
            self._journal.add(row)
        row["values"] = {name: row["values"][name] for name in metrics}
        if is_input:
            # An identity model, if requested, shares this row.
            return {name: value for name, value in row.items() if not name.startswith("clear_")}
        return row

    def _plan(self, method: EvaluatedMethod) -> Plan:
        image = self._opened.for_model(method.model.card.inputs)
        return self._scoring.plan(image, method.model)

    def show(self, method: EvaluatedMethod, key: str) -> None:
        """Create the previews for strips where they are missing."""
        place, clear = (self._case.group, self._case.name), self._opened.clear
        if not (
            self._previews.has(*place, method.label, key)
            and self._previews.has(*place, CLEAR, clear.fingerprint)
        ):
            planned = self._plan(method)
            self._scored(planned, method, key, {})

    def _scored(
        self, planned: Plan, method: EvaluatedMethod, key: str, metrics: Mapping[str, Metric]
    ) -> dict[str, Any]:
        pixels, record, seconds = self._restored(planned, method.label)
        scale = scale_of(self._opened.hazy, record)
        given = pixels
        if method.kind != "model":
            pixels = nearest(pixels, self._opened.ratio)
        if method.filter is not None:
            began = time.monotonic()
            light = method.filter(scale.light(given), self._opened.level)
            pixels = _with_light(pixels, light, scale)
            seconds = time.monotonic() - began
        reference = self._reference_for(scale)
        values = scores_of(pixels, reference, scale, metrics)
        place, clear = (self._case.group, self._case.name), self._opened.clear
        self._previews.keep(*place, method.label, key, lambda: scale.codes(pixels))
        self._previews.keep(*place, CLEAR, clear.fingerprint, lambda: codes_of(reference.light))
        return {
            "values": values,
            "valid_share": round(float(reference.valid.mean()), 6),
            "seconds": round(seconds, 3),
            "device": record["device"],
        }

    def _scored_clear(self, method: EvaluatedMethod) -> dict[str, Any]:
        clear = self._opened.clear
        planned = self._scoring.plan(clear, method.model)
        known = self._journal.values_of_clear(planned.key)
        if known is not None:
            return {"clear_key": planned.key, "clear_values": known}
        pixels, record, _ = self._restored(planned, f"{method.label} on the clear picture")
        box = (0, 0, clear.height, clear.width)
        scale, valid = scale_of(clear, record), clear.read_valid(box)
        if self._opened.valid is not None and self._opened.valid.shape == valid.shape:
            valid &= self._opened.valid
        return {
            "clear_key": planned.key,
            "clear_values": change_of(pixels, clear.read(box), scale, valid),
        }

    def _restored(
        self, planned: Plan, phase: str
    ) -> tuple[npt.NDArray[Any], dict[str, Any], float]:
        """Run a plan; return pixels (h, w, bands), record, and seconds."""
        self.ran = True
        self._scoring.emit(Phase(phase))
        began = time.monotonic()
        result = self._scoring.run(planned)
        seconds = time.monotonic() - began
        try:
            whole = Region(0, 0, planned.image.height, planned.image.width)
            return result.read(whole), result.record, seconds
        finally:
            result.store.remove()

    def _reference_for(self, scale: ScoredRange) -> ClearReference:
        if self._reference is None or self._reference[0] != scale:
            opened = self._opened
            reference = reference_of(
                opened.on_grid, opened.clear, scale, opened.valid, opened.bracket
            )
            self._reference = (scale, reference)
        return self._reference[1]


def _with_light(
    pixels: npt.NDArray[Any], light: npt.NDArray[np.float32], scale: ScoredRange
) -> npt.NDArray[Any]:
    """Return pixels (h, w, bands) with other display values, rounded as an output would be."""
    changed = pixels.copy()
    changed[..., scale.bands] = scale.pixels(light, pixels.dtype)
    return changed


def _failed(outcome: Outcome, case: Case, method: str, error: BaseException) -> None:
    """Record a failure; raise those that would affect all cases."""
    known = _as_restore_error(error)
    if isinstance(known, (Cancelled, DiskFull)):
        # Not itself as its own cause: what sends it to another process follows the causes.
        raise known from (None if known is error else error)
    outcome.failures.append(
        {
            "image": case.name,
            "group": case.group,
            "method": method,
            "type": type(known).__name__,
            "message": known.message,
            "hint": known.hint,
            "exit_code": known.exit_code,
        }
    )


def _note_failures(part: Outcome, emit: Callable[[Event], None]) -> None:
    for failure in part.failures:
        where = ", ".join(filter(None, (failure["image"], failure["method"])))
        sentence = f"{failure['message'].marked} {failure['hint'].marked}".strip()
        emit(Note(f"{where}: {sentence}"))


def _as_restore_error(error: BaseException) -> RestoreError:
    if isinstance(error, RestoreError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory("The machine ran out of memory.", "Evaluate smaller pictures.")
    if is_disk_full(error):
        return DiskFull("No space is left for the scores.", "Free some, then continue.")
    return InputError(f"{error}.", "Check the file.")


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
