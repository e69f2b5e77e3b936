"""Synthetic haze, training and evaluation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore.extension import (
    BadParameter,
    Cancelled,
    Job,
    ModelOptions,
    Note,
    Pathlike,
    Progress,
    RestoreKeywords,
    documents_options,
    option,
    part_of,
    without,
)
from napari_restore_lab import data, loop
from napari_restore_lab._cluster import scored_on
from napari_restore_lab._keywords import EvaluateKeywords, HazePairsKeywords
from napari_restore_lab._questions import Evaluate, HazePairs
from napari_restore_lab.score import methods_of, perform, plan_to_score, text_table

if TYPE_CHECKING:
    from napari_restore.extension import Plan, Result


class EvaluateOptions(EvaluateKeywords, ModelOptions, total=False):
    """Options of `evaluate` beside models and images."""

    overwrite: bool


@documents_options(HazePairsKeywords, HazePairs)
def haze(
    source: Pathlike,
    output: Pathlike,
    *,
    training: int | None = None,
    overwrite: bool = False,
    emit: Callable[[Any], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    **options: Unpack[HazePairsKeywords],
) -> dict[str, Any]:
    """Write pairs of hazy and clear images of the same scenes; see docs/training/haze.md.

    Parameters
    ----------
    source
        A folder of clear images, or an index.
    output
        A new folder: ``hazy/``, ``clear/``, ``truth/``, ``haze.json``, ``contact.jpg``.
    {options}
    training
        Instead of pairs a contact sheet of so many crops as a network in training
        sees them; of the split "train" by default.
    overwrite
        Replace an earlier output.
    emit
        Callback for events: notes and progress.
    cancelled
        Called between images; `Cancelled` is raised once it returns true, and nothing written.

    Returns
    -------
    dict
        The contents of ``haze.json``.

    Raises
    ------
    napari_restore.errors.InputError
        With one sentence naming the cause; nothing was written.
    """
    given: dict[str, Any] = {name: v for name, v in options.items() if v is not None}
    if training is not None:
        for name, value in given.items():
            if name not in ("seed", "split") and (name, value) != ("scene", "auto"):
                raise BadParameter(
                    f"{option(name)} has no effect on training crops.",
                    f"Leave {option(name)} or {option('training')} out.",
                )

    def progress(done: int, total: int) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("Stopped.", "Nothing was written.")
        if emit is not None:
            emit(Progress(done, total))

    def note(text: str) -> None:
        if emit is not None:
            emit(Note(text))

    if training is not None:
        return data.draw_training(
            Path(source),
            Path(output),
            training,
            given.get("seed", 0),
            split=given.get("split", "train"),
            overwrite=overwrite,
            progress=progress,
        )
    return data.make_pairs(
        Path(source),
        Path(output),
        HazePairs(**given),
        overwrite=overwrite,
        progress=progress,
        note=note,
        cancelled=cancelled,
    )


def train(
    config: Pathlike,
    *,
    device: str = "auto",
    trust: bool = False,
    emit: Callable[[Any], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train by a CONFIG.toml, or continue its interrupted run; see docs/training.md.

    `trust` lets the Python code of ``[model] factory`` run. `emit` is a callback for events,
    `cancelled` is called between two steps. Returns a report:
    status ("done", or "stopped" at the time limit), step, seconds, figures, weights,
    sha256.

    Raises
    ------
    napari_restore.errors.Cancelled, napari_restore.errors.OutOfMemory
        The training so far is saved.
    napari_restore.errors.InputError
        With one sentence naming the cause.
    """
    return loop.train(Path(config), device, trust, emit, cancelled)


@documents_options(EvaluateOptions, Evaluate)
def evaluate(
    models: Sequence[Any],
    pairs: Pathlike | None = None,
    *,
    emit: Callable[[Any], None] | None = None,
    run: Callable[[Plan], Result] | None = None,
    extra: Mapping[str, Any] | None = None,
    options: RestoreKeywords | None = None,
    cluster: Any = None,
    stop: threading.Event | None = None,
    **settings: Unpack[EvaluateOptions],
) -> dict[str, Any]:
    """Restore hazy images with several models and score them against the clear ones.

    Parameters
    ----------
    models
        Ids or files, with parameters as in "dcp:omega=0.9", or loaded models. The
        unchanged input and the classical methods are scored, too.
    pairs
        A folder or a CSV file of pairs. This or `data`.
    {options}
    weights
        Weights of a single model.
    parameters
        Parameters of every model.
    trust
        Run Python files of models.
    overwrite
        Replace files that are not of an evaluation.
    emit
        Callback for events.
    run
        Called with each plan; returns its result.
    extra
        Further fields of summary.json.
    options
        Options of `plan` for every image: memory, device, black, white and the like.
    cluster, stop
        Any that `connect` takes or returns: its workers score the images, one each, instead of `run`;
        and an event that cancels them when set.

    Returns
    -------
    dict
        The summary; its `evaluation` has images, mean, methods, comparisons, failed.

    Raises
    ------
    napari_restore.errors.InputError
        Nothing can be evaluated, with one sentence naming the cause. The error of a
        single image is in the summary.
    napari_restore.errors.Cancelled
        Raised by `run`. Scores so far are kept in `output`.
    napari_restore.errors.DiskFull
        No space is left; likewise.
    """
    loading: Any = without(settings, Evaluate)
    overwrite = loading.pop("overwrite", False)
    asked = Evaluate(**part_of(settings, Evaluate))

    tell = emit or (lambda event: None)
    return perform(
        lambda: methods_of(
            models, baselines=asked.baselines, degradation=asked.degradation, **loading
        ),
        pairs,
        asked,
        partial(plan_to_score, options or {}),
        run or (lambda planned: Job(planned).result()),
        tell,
        extra or {},
        None if cluster is None else scored_on(cluster, options or {}, tell, stop),
        overwrite=overwrite,
    )


def scores_text(scores: Mapping[str, Any]) -> str:
    """Return the result of `evaluate` as a text table."""
    return text_table(scores["evaluation"])
