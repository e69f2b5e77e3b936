"""Synthetic haze, training and scores."""

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
    tell: Callable[[Any], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Make hazy and clear pictures of the same scenes; see docs/training.md.

    Parameters
    ----------
    source
        A folder of clear pictures, or an index.
    output
        A new folder: ``hazy/``, ``clear/``, ``truth/``, ``haze.json``, ``contact.jpg``.
    spectrum
        How haze is spread: a name of `training.haze.SPECTRA`.
    seed
        Each picture's haze follows from it and from the picture's name.
    scene
        "aerial", "natural" or "auto".
    strength
        Range (low, high) of exp(−mean optical depth); of natural scenes see `draw_haze`.
    depth
        A folder of distances, files with the stems of their pictures.
    size
        Larger pictures are reduced to so many pixels along the longer side.
    split
        Only this split of an index.
    bands
        Which are red, green and blue where a file does not tell: "red=3,green=2,blue=1".
    training
        Instead of pairs a contact sheet of so many crops as a network in training
        sees them; of the split "train" by default.
    overwrite
        Replace an earlier output.
    tell
        Called with events: notes and progress.
    cancelled
        Asked whether to stop; then `Cancelled` is raised and nothing written.

    Returns
    -------
    dict
        What stands in ``haze.json``.

    Raises
    ------
    napari_restore.errors.InputError
        With one sentence naming the cause; nothing was written.
    """
    from napari_restore.training import data
    from napari_restore.training.haze import STRENGTH

    if training is not None:
        asked = {"strength": strength, "depth": depth, "size": size, "bands": bands}
        asked |= {"spectrum": spectrum, "scene": None if scene == "auto" else scene}
        for name, value in asked.items():
            if value is not None:
                raise BadParameter(
                    f"{name} says nothing about training crops.", f"Leave {name} or training out."
                )

    def progress(done: int, total: int) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("Stopped.", "Nothing was written.")
        if tell is not None:
            tell(Progress(done, total))

    def note(text: str) -> None:
        if tell is not None:
            tell(Note(text))

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
    tell: Callable[[Any], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train what a CONFIG.toml says, or go on where its run stopped; see docs/training.md.

    `tell` is given events, `cancelled` is asked between two steps. Returns an account:
    status ("done", or "stopped" at the time limit), step, seconds, figures, weights,
    sha256.

    Raises
    ------
    napari_restore.errors.Cancelled, napari_restore.errors.OutOfMemory
        Everything up to there is saved.
    napari_restore.errors.InputError
        With one sentence naming the cause.
    """
    from napari_restore.training.loop import train

    return train(Path(config), device, tell, cancelled)


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
    tell: Callable[[Any], None] | None = None,
    run: Callable[[Plan], Result] | None = None,
    extra: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Restore hazy pictures with several models and score them against the clear ones.

    Parameters
    ----------
    models
        Ids or files, with parameters as in "dcp:omega=0.9", or loaded models. Beside
        them stand the untouched input and the classical methods.
    pairs
        A folder or a CSV file of pairs. This or `data`.
    data
        An index or a folder of clear scenes, to be hazed in memory.
    split, scene, longest
        Which of them: of an index; of one kind only; reduced to so many pixels a side
        (None: as they are).
    spectrum, seed
        How they are hazed.
    output
        A folder for scores.csv, summary.json, table.tex and strips. Scores that lie
        there already are not made again.
    baselines
        Whether classical methods stand beside.
    metrics
        Names; the first decides what is best.
    clear
        Also score how far models change the clear pictures themselves.
    strips
        How many of the worst, median and best images are shown; -1 for all.
    keep
        Write the hazed scenes to `output`.
    overwrite
        Replace files that are not of an evaluation.
    weights
        Those of the one model.
    parameters
        Of every model.
    trust
        Run Python files of models.
    bands
        Which band of pairs is what, as `open_image` takes it.
    tell
        Called with each event.
    run
        Called with each plan, to run it to its end.
    extra
        More fields for summary.json.
    options
        Those of `plan` for every picture: memory, device, black, white and the like.

    Returns
    -------
    dict
        The account, in `evaluation` of it images, mean, methods, comparisons, failed.

    Raises
    ------
    napari_restore.errors.InputError
        Nothing can be evaluated, with one sentence naming the cause. A picture that
        fails is only told of in the account.
    napari_restore.errors.Cancelled
        `run` raised it. Scores so far are kept in `output`.
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
        tell or (lambda event: None),
        extra or {},
    )


def scores_as_text(account: Mapping[str, Any]) -> str:
    """The table of `evaluate` for people."""
    from napari_restore.training.score import text_table

    return text_table(account["evaluation"])
