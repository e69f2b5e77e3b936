"""A complete evaluation: images, methods and outputs."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from napari_restore._options import Pathlike
from napari_restore.engine import Event, Note, Plan, Result
from napari_restore.errors import BadParameter, InputError, option
from napari_restore.metrics import DEFAULT, metric_of
from napari_restore.models import RestorationModel
from napari_restore.training.data._scenes import Kind
from napari_restore.training.score._cases import (
    LONGEST,
    Case,
    HazedCase,
    PairCase,
    drop_others,
    hazed_cases,
)
from napari_restore.training.score._evaluate import EvaluationSettings, Outcome, evaluate, show
from napari_restore.training.score._journal import Journal
from napari_restore.training.score._methods import Method, methods_of
from napari_restore.training.score._outputs import (
    PREVIEWS,
    WORK,
    check_folder,
    strips_of,
    write_outputs,
)
from napari_restore.training.score._pairs import find_pairs
from napari_restore.training.score._strips import Previews
from napari_restore.training.score._summary import summary_of


@dataclass(frozen=True)
class Request:
    """Arguments of an evaluation, and their defaults; see `napari_restore.api.evaluate`."""

    models: Sequence[str | RestorationModel]
    pairs: Pathlike | None = None
    data: Pathlike | None = None
    split: str = "dev"
    spectrum: str = "plumes"
    seed: int = 7
    scene: Kind | None = None
    longest: int | None = LONGEST
    output: Pathlike | None = None
    baselines: bool = True
    metrics: Sequence[str] = DEFAULT
    clear: bool = False
    strips: int = 3
    keep: bool = False
    overwrite: bool = False
    weights: str | None = None
    parameters: Mapping[str, Any] | None = None
    trust: bool = False
    bands: str | None = None


def perform(
    request: Request,
    plan: Callable[..., Plan],
    run: Callable[[Plan], Result],
    emit: Callable[[Event], None],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Evaluate and write the outputs; return the summary with the fields of `extra`.

    `plan` is called with an image, a model and the keyword `scratch`; `run` runs a plan. Raises `InputError`, `Cancelled`, `ResourceError`.
    """
    began = time.monotonic()
    metrics = {name: metric_of(name) for name in request.metrics}
    if not metrics:
        raise BadParameter("There is no metric to score with.", "Name psnr, for instance.")
    cases, note = _cases_of(request)
    # Models are loaded before the images of a large data set are read, to report errors early.
    methods = methods_of(
        request.models,
        weights=request.weights,
        parameters=request.parameters,
        baselines=request.baselines,
        trust=request.trust,
    )
    if len(methods) == 1:
        raise BadParameter("There is no method to evaluate.", f"Name one with {option('models')}.")
    folder = None if request.output is None else Path(request.output)
    if folder is not None:
        check_folder(folder, overwrite=request.overwrite)
        if request.keep:
            drop_others(folder, cases)

    def keep(case: Case) -> None:
        if request.keep and folder is not None and isinstance(case, HazedCase):
            case.keep(folder, overwrite=request.overwrite)

    if note:
        emit(Note(note))
    previews = Previews(folder / PREVIEWS if folder is not None and request.strips else None)
    with _scratch(folder) as scratch:
        settings = EvaluationSettings(
            methods,
            metrics,
            lambda image, model: plan(image, model, scratch=str(scratch)),
            run,
            emit,
            request.clear,
            keep,
        )
        outcome = evaluate(cases, settings, Journal(folder), previews)
        evaluation = summary_of(outcome, methods, metrics)
        strips = strips_of(evaluation, outcome.rows, request.strips)
        # Previews of stored scores may be missing.
        show(
            cases,
            {strip.place: {name: key for name, key, _ in strip.columns} for strip in strips},
            settings,
            previews,
        )
    summary = {
        "status": "failed" if _all_failed(outcome, methods) else "done",
        "version": version("napari-restore"),
        "versions": {name: version(name) for name in ("numpy", "torch")},
        **extra,
        "source": _source(request),
        "output": None if folder is None else str(folder),
        "evaluation": evaluation,
        "devices": sorted({row["device"] for row in outcome.rows}),
        "seconds": round(time.monotonic() - began, 3),
        "notes": [note] if note else [],
    }
    if folder is None:
        return summary
    return write_outputs(folder, summary, previews, strips)


def _cases_of(request: Request) -> tuple[list[Case], str]:
    """Return the cases, and a note on excluded images."""
    if (request.pairs is None) == (request.data is None):
        raise InputError(
            "Either pairs or clear pictures are needed.",
            f"Give {option('pairs', 'FOLDER')} or {option('data', 'INDEX')}, one of the two.",
        )
    if request.keep and (request.data is None or request.output is None):
        raise BadParameter(
            "Only pictures with synthetic haze can be kept, in a folder.",
            f"Use {option('keep', True)} with {option('data')} and {option('output')}.",
        )
    if request.pairs is not None:
        found = find_pairs(Path(request.pairs))
        return [PairCase(pair, request.bands) for pair in found.pairs], found.note
    assert request.data is not None
    cases = hazed_cases(
        Path(request.data),
        split=request.split,
        spectrum=request.spectrum,
        seed=request.seed,
        kind=request.scene,
        longest=request.longest,
    )
    return cases, ""


def _source(request: Request) -> dict[str, Any]:
    if request.pairs is not None:
        return {"pairs": str(Path(request.pairs))}
    assert request.data is not None
    return {
        "data": str(Path(request.data)),
        "split": request.split,
        "spectrum": request.spectrum,
        "seed": request.seed,
        "scene": request.scene,
        "longest": request.longest,
    }


def _all_failed(outcome: Outcome, methods: Sequence[Method]) -> bool:
    scored = {row["method"] for row in outcome.rows}
    return bool(outcome.failures) and not scored & {m.label for m in methods if m.kind != "input"}


@contextlib.contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    """Yield the folder of restored pixels until they are scored.

    In the output folder they survive an interruption, so that a large image continues from its
    tiles; never in the cache, which may contain results of the user.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="napari-restore-") as name:
            yield Path(name)
        return
    scratch = folder / WORK
    scratch.mkdir(exist_ok=True)
    yield scratch
    shutil.rmtree(scratch, ignore_errors=True)
