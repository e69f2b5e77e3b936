"""Synthetic haze, training and evaluation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore._options import EvaluateOptions, EvaluationSettings, HazeOptions, Pathlike
from napari_restore.api._options import (
    PlanOptions,
    documents_options,
)
from napari_restore.api._scores_on_cluster import scored_on
from napari_restore.engine import Note, Progress
from napari_restore.errors import BadParameter, Cancelled

if TYPE_CHECKING:
    from napari_restore.engine import Plan, Result


@documents_options(HazeOptions)
def haze(
    source: Pathlike,
    output: Pathlike,
    *,
    training: int | None = None,
    overwrite: bool = False,
    emit: Callable[[Any], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    **options: Unpack[HazeOptions],
) -> dict[str, Any]:
    """Write pairs of hazy and clear images of the same scenes; see docs/training.md.

    Parameters
    ----------
    source
        A folder of clear images, or an index.
    output
        A new folder: ``hazy/``, ``clear/``, ``truth/``, ``haze.json``, ``contact.jpg``.
    spectrum
        Spatial distribution of haze: a name of `training.haze.SPECTRA`, "octaves" by default.
    seed
        Seed of the haze, combined with the name of each image; 0 by default.
    scene
        "aerial", "natural" or "auto" (default).
    strength
        Range (low, high) of exp(−mean optical depth); of natural scenes see `draw_haze`.
    depth
        A folder of distance maps, files with the stems of their images.
    size
        Larger images are reduced to so many pixels along the longer side.
    split
        Only this split of an index.
    bands
        Bands of files without colour information: "red=3,green=2,blue=1".
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
    from napari_restore.training import data

    given: dict[str, Any] = {name: v for name, v in options.items() if v is not None}
    if training is not None:
        for name, value in given.items():
            if name not in ("seed", "split") and (name, value) != ("scene", "auto"):
                raise BadParameter(
                    f"{name} has no effect on training crops.", f"Leave {name} or training out."
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
        data.PairOptions(**given),
        overwrite=overwrite,
        progress=progress,
        note=note,
        cancelled=cancelled,
    )


def train(
    config: Pathlike,
    *,
    device: str = "auto",
    emit: Callable[[Any], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train by a CONFIG.toml, or continue its interrupted run; see docs/training.md.

    `emit` is a callback for events, `cancelled` is called between two steps. Returns a report:
    status ("done", or "stopped" at the time limit), step, seconds, figures, weights,
    sha256.

    Raises
    ------
    napari_restore.errors.Cancelled, napari_restore.errors.OutOfMemory
        The training so far is saved.
    napari_restore.errors.InputError
        With one sentence naming the cause.
    """
    from napari_restore.training.loop import train

    return train(Path(config), device, emit, cancelled)


@documents_options(EvaluateOptions, EvaluationSettings)
def evaluate(
    models: Sequence[Any],
    pairs: Pathlike | None = None,
    *,
    emit: Callable[[Any], None] | None = None,
    run: Callable[[Plan], Result] | None = None,
    extra: Mapping[str, Any] | None = None,
    options: PlanOptions | None = None,
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
    data
        An index or a folder of clear scenes, to be degraded in memory.
    split, scene, longest
        Split of an index, by default "dev"; scenes of one kind only; longest side in pixels to which
        images are reduced, by default 1024 (None: full size).
    degradation, level
        What `data` is degraded by: "haze" (default), "noise", "lowlight", or "bracket", three
        exposures of a wider scene. The level is the standard deviation of noise in 255ths, the
        factor of light that is missing, or the steps of the bracket in EV; by default 15, 25 and
        50, 5 and 12, or 2.
    spectrum, seed
        Settings of the synthetic degradation, by default "plumes" and 7.
    output
        A folder for scores.csv, summary.json, table.tex and strips. Scores that
        exist already are not computed again.
    baselines
        Whether to score the classical methods, too (default).
    metrics
        Names of metrics, by default psnr, ssim and ciede2000; the first ranks the models.
    clear
        Also score how far models change the clear pictures themselves.
    strips
        Number of the worst, median and best images to show each, by default 3; -1 for all.
    keep
        Write the hazy scenes to `output`.
    overwrite
        Replace files that are not of an evaluation.
    weights
        Weights of a single model.
    parameters
        Parameters of every model.
    trust
        Run Python files of models.
    bands
        Band roles of pairs, as for `open_image`.
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
    from napari_restore.engine import Job, make_plan
    from napari_restore.training.score import perform

    tell = emit or (lambda event: None)
    return perform(
        models,
        pairs,
        EvaluationSettings(**settings),
        lambda image, model, scratch: make_plan(
            image, model, **{**(options or {}), "scratch": scratch}
        ),
        run or (lambda planned: Job(planned).result()),
        tell,
        extra or {},
        None if cluster is None else scored_on(cluster, options or {}, tell, stop),
    )


def scores_text(scores: Mapping[str, Any]) -> str:
    """Return the result of `evaluate` as a text table."""
    from napari_restore.training.score import text_table

    return text_table(scores["evaluation"])
