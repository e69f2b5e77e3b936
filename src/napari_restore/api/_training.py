"""Synthetic haze, training and evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_restore.engine import Note, Progress
from napari_restore.errors import BadParameter, Cancelled

if TYPE_CHECKING:
    from napari_restore.engine import Plan, Result

Pathlike = str | os.PathLike[str]


def haze(
    source: Pathlike,
    output: Pathlike,
    *,
    spectrum: str | None = None,
    seed: int = 0,
    scene: str = "auto",
    strength: Sequence[float] | None = None,
    depth: Pathlike | None = None,
    size: int | None = None,
    split: str | None = None,
    bands: str | None = None,
    training: int | None = None,
    overwrite: bool = False,
    emit: Callable[[Any], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Write pairs of hazy and clear images of the same scenes; see docs/training.md.

    Parameters
    ----------
    source
        A folder of clear images, or an index.
    output
        A new folder: ``hazy/``, ``clear/``, ``truth/``, ``haze.json``, ``contact.jpg``.
    spectrum
        Spatial distribution of haze: a name of `training.haze.SPECTRA`.
    seed
        Seed of the haze, combined with the name of each image.
    scene
        "aerial", "natural" or "auto".
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
    from napari_restore.training.haze import STRENGTH

    if training is not None:
        pair_options = {"strength": strength, "depth": depth, "size": size, "bands": bands}
        pair_options |= {"spectrum": spectrum, "scene": None if scene == "auto" else scene}
        for name, value in pair_options.items():
            if value is not None:
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
            seed,
            split=split or "train",
            overwrite=overwrite,
            progress=progress,
        )
    options = data.PairOptions(
        spectrum=spectrum or "octaves",
        seed=seed,
        scene=scene,  # type: ignore[arg-type]
        strength=STRENGTH if strength is None else (strength[0], strength[1]),
        distances=None if depth is None else Path(depth),
        size=size,
        split=split,
        bands=bands,
    )
    return data.make_pairs(
        Path(source),
        Path(output),
        options,
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


def evaluate(
    models: Sequence[Any],
    pairs: Pathlike | None = None,
    *,
    data: Pathlike | None = None,
    split: str = "dev",
    spectrum: str = "plumes",
    seed: int = 7,
    scene: Literal["aerial", "natural"] | None = None,
    longest: int | None = 1024,
    output: Pathlike | None = None,
    baselines: bool = True,
    metrics: Sequence[str] = ("psnr", "ssim", "ciede2000"),
    clear: bool = False,
    strips: int = 3,
    keep: bool = False,
    overwrite: bool = False,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    trust: bool = False,
    bands: str | None = None,
    emit: Callable[[Any], None] | None = None,
    run: Callable[[Plan], Result] | None = None,
    extra: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
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
        An index or a folder of clear scenes, to be hazed in memory.
    split, scene, longest
        Split of an index; scenes of one kind only; longest side in pixels to which images are
        reduced (None: full size).
    spectrum, seed
        Settings of the synthetic haze.
    output
        A folder for scores.csv, summary.json, table.tex and strips. Scores that
        exist already are not computed again.
    baselines
        Whether to score the classical methods, too.
    metrics
        Names of metrics; the first ranks the models.
    clear
        Also score how far models change the clear pictures themselves.
    strips
        Number of the worst, median and best images to show each; -1 for all.
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
    from napari_restore.training.score import Request, perform

    settings = dict(options or {})
    return perform(
        Request(
            models,
            pairs=None if pairs is None else Path(pairs),
            data=None if data is None else Path(data),
            split=split,
            spectrum=spectrum,
            seed=seed,
            scene=scene,
            longest=longest,
            output=None if output is None else Path(output),
            baselines=baselines,
            metrics=metrics,
            clear=clear,
            strips=strips,
            keep=keep,
            overwrite=overwrite,
            weights=weights,
            parameters=parameters or {},
            trust=trust,
            bands=bands,
        ),
        lambda image, model, **more: make_plan(image, model, **settings, **more),
        run or (lambda planned: Job(planned).result()),
        emit or (lambda event: None),
        extra or {},
    )


def scores_text(scores: Mapping[str, Any]) -> str:
    """Return the result of `evaluate` as a text table."""
    from napari_restore.training.score import text_table

    return text_table(scores["evaluation"])
