"""A complete evaluation: images, methods and outputs."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from napari_restore.extension import (
    MOST_SCALE,
    MOST_SHRINK,
    BadParameter,
    Event,
    InputError,
    Metric,
    Note,
    Pathlike,
    Plan,
    Result,
    StoreBusy,
    is_scale,
    lock_file,
    metric_of,
    option,
    owner_in,
)
from napari_restore_lab._questions import Evaluate
from napari_restore_lab.score._case_task import CaseItem, ScoringTask, items_of, keeping
from napari_restore_lab.score._cases import Case, PairCase, drop_others, scene_cases
from napari_restore_lab.score._evaluate import CaseAnswer, Outcome, Scoring, evaluate, merged, show
from napari_restore_lab.score._journal import ScoreJournal
from napari_restore_lab.score._methods import INPUT, EvaluatedMethod, ratio_at, ratio_of
from napari_restore_lab.score._outputs import PREVIEWS, WORK, check_folder, strips_of, write_outputs
from napari_restore_lab.score._pairs import find_pairs
from napari_restore_lab.score._statistics import compare, spread_of
from napari_restore_lab.score._strips import Previews

Spread = Callable[
    [ScoringTask, Iterator[CaseItem], Sequence[Case]], Iterator[tuple[int, CaseAnswer]]
]
"""Is given the items of all cases, and the cases; yields the number of each item and its answer."""


def perform(  # noqa: PLR0913 - what is scored, how it is run, and consent belong not together
    load: Callable[[], list[EvaluatedMethod]],
    pairs: Pathlike | None,
    settings: Evaluate,
    plan: Callable[..., Plan],
    run: Callable[[Plan], Result],
    emit: Callable[[Event], None],
    extra: Mapping[str, Any],
    spread: Spread | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Evaluate and write the outputs; return the summary with the fields of `extra`.

    `load` returns the methods. `plan` is called with an image, a model and the keyword `scratch`; `run` runs a plan. Where given,
    `spread` lets other processes score the cases. Raises `InputError`, `Cancelled`, `ResourceError`.
    """
    began = time.monotonic()
    metrics = {name: metric_of(name) for name in settings.metrics}
    if not metrics:
        raise BadParameter("There is no metric to score with.", "Name psnr, for instance.")
    _check(pairs, settings)
    # Models are loaded before the images of a large data set are read, to report errors early.
    methods = load()
    settings = _sized(settings, methods)
    cases, note = _cases_of(pairs, settings)
    if len(methods) == 1:
        raise BadParameter("There is no method to evaluate.", f"Name one with {option('models')}.")
    folder = None if settings.output is None else Path(settings.output)
    if folder is not None:
        check_folder(folder, overwrite=overwrite)
        if settings.keep:
            drop_others(folder, cases)

    if note:
        emit(Note(note))
    previews = Previews(folder / PREVIEWS if folder is not None and settings.strips else None)
    with _scratch(folder) as scratch:
        scoring = Scoring(
            methods,
            metrics,
            lambda image, model: plan(image, model, scratch=str(scratch)),
            run,
            emit,
            settings.clear,
            keeping(settings, overwrite=overwrite),
        )
        journal = ScoreJournal(folder)
        if spread is None:
            outcome = evaluate(cases, scoring, journal, previews)
        else:
            task = ScoringTask.of(methods, settings, overwrite=overwrite)
            scored = spread(task, items_of(cases, journal, settings), cases)
            outcome = merged(scored, journal, emit)
        evaluation = summary_of(outcome, methods, metrics)
        strips = strips_of(evaluation, outcome.rows, settings.strips)
        # Previews of stored scores may be missing.
        show(
            cases,
            {strip.place: {name: key for name, key, _ in strip.columns} for strip in strips},
            scoring,
            previews,
        )
    summary = {
        "status": "failed" if _all_failed(outcome, methods) else "done",
        "version": version("napari-restore"),
        "versions": {name: version(name) for name in ("numpy", "torch")},
        **extra,
        "source": _source(pairs, settings),
        "output": None if folder is None else str(folder),
        "evaluation": evaluation,
        "devices": sorted({row["device"] for row in outcome.rows}),
        "seconds": round(time.monotonic() - began, 3),
        "notes": [note] if note else [],
    }
    if folder is None:
        return summary
    return write_outputs(folder, summary, previews, strips)


def _sized(settings: Evaluate, methods: Sequence[EvaluatedMethod]) -> Evaluate:
    """Return the settings for the size of the results, which is that of the clear pictures."""
    ratio = ratio_of(methods)
    if ratio in (None, 1) and settings.degradation != "size":
        return settings
    leave = f"leave {option('degradation')} and {option('level')} out"
    if ratio == 1:
        raise BadParameter(
            "The results of the models have the size of their input.",
            f"Name a model for super-resolution, or {leave}.",
        )
    if ratio is None and settings.level is None:
        raise BadParameter(
            "Without a model no scale is known.", f"Give it as {option('level', '2')}."
        )
    asked = float(ratio or 1) if settings.level is None else settings.level
    scale = ratio_at(asked)
    if ratio not in (None, scale):
        raise BadParameter(
            f"The results of the models have scale {ratio}, not {asked:g}.",
            f"Name models of that scale, or {leave}.",
        )
    if scale == 1 or not is_scale(scale):
        raise BadParameter(
            f"{asked:g} is no scale of results.",
            f"Give {option('level', '2')} or another whole number up to {MOST_SCALE}, or 1 over one "
            f"up to {MOST_SHRINK}.",
        )
    if settings.clear:
        raise BadParameter(
            "Clear pictures are not compared with results of another size.",
            f"Leave {option('clear', True)} out.",
        )
    return replace(settings, degradation="size", level=float(scale))


def _check(pairs: Pathlike | None, settings: Evaluate) -> None:
    """Raise `InputError` for settings that do not go together."""
    if (pairs is None) == (settings.data is None):
        raise InputError(
            "Either pairs or clear pictures are needed.",
            f"Give {option('pairs', 'FOLDER')} or {option('data', 'INDEX')}, one of the two.",
        )
    if settings.level is not None and settings.degradation == "haze":
        raise BadParameter(
            "Haze has no level.", f"Name the {option('degradation')}: noise, lowlight, size …"
        )
    if settings.keep and (settings.data is None or settings.output is None):
        raise BadParameter(
            "Only pictures with a synthetic degradation can be kept, in a folder.",
            f"Use {option('keep', True)} with {option('data')} and {option('output')}.",
        )
    if pairs is not None:
        if settings.degradation == "bracket":
            raise BadParameter(
                "Pairs have one degraded image each, not a bracket.",
                f"Give clear pictures by {option('data')}: brackets are made of them.",
            )
        if settings.degradation == "noise" and settings.baselines and settings.level is None:
            raise BadParameter(
                "The classical methods against noise need to know how strong it is.",
                f"Give {option('level', '25')}, or add {option('baselines', False)}.",
            )


def _cases_of(pairs: Pathlike | None, settings: Evaluate) -> tuple[list[Case], str]:
    """Return the cases, and a note on excluded images."""
    if pairs is not None:
        found = find_pairs(Path(pairs))
        level = settings.level or 0.0
        ratio = ratio_at(level) if settings.degradation == "size" else Fraction(1)
        return [PairCase(pair, settings.bands, level, ratio) for pair in found.pairs], found.note
    return scene_cases(settings), ""


def _source(pairs: Pathlike | None, settings: Evaluate) -> dict[str, Any]:
    if pairs is not None:
        return {"pairs": str(Path(pairs))}
    assert settings.data is not None
    return {
        "data": str(Path(settings.data)),
        "split": settings.split,
        **(
            {"spectrum": settings.spectrum}
            if settings.degradation == "haze"
            else {"degradation": settings.degradation, "level": settings.level}
        ),
        "seed": settings.seed,
        "scene": settings.scene,
        "longest": settings.longest,
    }


def _all_failed(outcome: Outcome, methods: Sequence[EvaluatedMethod]) -> bool:
    scored = {row["method"] for row in outcome.rows}
    return bool(outcome.failures) and not scored & {m.label for m in methods if m.kind != "input"}


@contextlib.contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    """Yield the folder of restored pixels until they are scored.

    In the output folder they survive an interruption, so that a large image continues from its
    tiles; never in the cache, which may contain results of the user. One process writes: raises
    `StoreBusy` for another one.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="napari-restore-") as name:
            yield Path(name)
        return
    scratch = folder / WORK
    scratch.mkdir(exist_ok=True)
    locked = lock_file(scratch / "writer")
    if locked is None:
        raise StoreBusy(
            f"Another evaluation (process {owner_in(scratch / 'writer')}) writes to {folder}.",
            f"Wait until it is done, or name another folder after {option('output')}.",
        )
    try:
        yield scratch
    finally:
        locked.release()
    shutil.rmtree(scratch, ignore_errors=True)


TEST = (
    "two-sided sign-flip (randomisation) test of the mean paired difference, one for each scene "
    "(clear picture): exact up to 14 scenes, else 20000 random signs of a fixed seed"
)
Row = Mapping[str, Any]
Place = tuple[str, str]
"""Group and name of an image."""


def summary_of(
    outcome: Outcome, methods: Sequence[EvaluatedMethod], metrics: Mapping[str, Metric]
) -> dict[str, Any]:
    """Return the summary of an evaluation, JSON-able except for NaN and infinity.

    Figures of methods are over the images that all of them finished; see `_compared`. `n`: number
    of images, `scenes`: number of clear images.
    `images`: all scores. `mean`: of the first model. `methods`: spreads,
    also by group. `classical`: the label of the best classical method by the first
    metric. `comparisons`: each model with it and with the input.
    """
    tables = {method.label: _by_place(outcome.rows, method.label) for method in methods}
    places, complete = _compared(methods, tables, _places(outcome.rows))
    groups = sorted({group for group, _ in places if group})
    scene_from_dict = {(row["group"], row["image"]): row["scene"] for row in outcome.rows}
    scenes = [scene_from_dict[place] for place in places]

    def values(label: str, metric: str, group: str | None = None) -> list[float]:
        if label not in complete:
            return []
        return [
            tables[label][place]["values"][metric]
            for place in places
            if group is None or place[0] == group
        ]

    def means(label: str, group: str | None = None) -> dict[str, float]:
        return {name: spread_of(values(label, name, group)).mean for name in metrics}

    method_entries: list[dict[str, Any]] = []
    for method in methods:
        card = method.model.card
        entry: dict[str, Any] = {
            "label": method.label,
            "kind": method.kind,
            "model": {
                "id": card.id,
                "weights_sha256": card.weights_sha256,
                "parameters": dict(card.values),
            },
            "metrics": {name: spread_of(values(method.label, name)).to_dict() for name in metrics},
            "groups": {group: means(method.label, group) for group in groups},
            "seconds": sum(float(row["seconds"]) for row in tables[method.label].values()),
        }
        if clear := _clear(tables[method.label]):
            entry["clear"] = clear
        method_entries.append(entry)
    first = next(iter(metrics))
    best = _best([m.label for m in methods if m.kind == "classical"], first, metrics[first], means)
    models = [method.label for method in methods if method.kind == "model"]
    comparisons = [
        {
            "method": label,
            "other": other,
            "metric": name,
            **compare(
                values(label, name),
                values(other, name),
                scenes,
                higher_is_better=metric.higher_is_better,
            ).to_dict(),
        }
        for label in models
        for other in (best, INPUT)
        if other in complete and label in complete
        for name, metric in metrics.items()
    ]
    return {
        "images": _images(outcome.rows),
        "mean": _mean(models[0] if models else best, best, metrics, means),
        "n": len(places),
        "scenes": len(set(scenes)),
        "metrics": {
            name: {
                "title": metric.title or name,
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "decimals": metric.decimals,
            }
            for name, metric in metrics.items()
        },
        "groups": groups,
        "methods": method_entries,
        "classical": best,
        "comparisons": comparisons,
        "test": TEST,
        "failed": outcome.failures,
    }


def _compared(
    methods: Sequence[EvaluatedMethod],
    tables: Mapping[str, Mapping[Place, Row]],
    places: Sequence[Place],
) -> tuple[list[Place], set[str]]:
    """Return the compared images, and the labels of the methods that finished all of them.

    A method that finished nothing does not exclude images, nor does a classical baseline: it has
    no figures if it lacks an image.
    """
    required = [m.label for m in methods if m.kind == "model" and tables[m.label]]
    required = required or [m.label for m in methods if tables[m.label]]
    common = [place for place in places if all(place in tables[label] for label in required)]
    complete = {
        label
        for label, table in tables.items()
        if table and all(place in table for place in common)
    }
    return common, complete


def _by_place(rows: Sequence[Row], label: str) -> dict[Place, Row]:
    return {(row["group"], row["image"]): row for row in rows if row["method"] == label}


def _places(rows: Sequence[Row]) -> list[Place]:
    return list(dict.fromkeys((row["group"], row["image"]) for row in rows))


def _images(rows: Sequence[Row]) -> list[dict[str, Any]]:
    found: dict[Place, dict[str, Any]] = {}
    for row in rows:
        image = found.setdefault(
            (row["group"], row["image"]),
            {
                "image": row["image"],
                "group": row["group"],
                "valid_share": row["valid_share"],
                "methods": {},
            },
        )
        image["methods"][row["method"]] = {
            **row["values"],
            **(row.get("clear_values") or {}),
            "seconds": row["seconds"],
        }
    return list(found.values())


def _clear(table: Mapping[Place, Row]) -> dict[str, float]:
    """Return means over the clear images, each counted once."""
    by_picture = {
        row["clear_key"]: row["clear_values"]
        for row in table.values()
        if row.get("clear_key") and row.get("clear_values")
    }
    names = ("clear_psnr", "clear_change", "clear_unchanged")
    return {
        name: spread_of([float(values[name]) for values in by_picture.values()]).mean
        for name in names
        if by_picture
    }


def _best(labels: Sequence[str], name: str, metric: Metric, means: Any) -> str | None:
    known = {label: means(label)[name] for label in labels}
    known = {label: value for label, value in known.items() if not math.isnan(value)}
    if not known:
        return None
    return (max if metric.higher_is_better else min)(known, key=lambda label: known[label])


def _mean(
    label: str | None, best: str | None, metrics: Mapping[str, Metric], means: Any
) -> dict[str, float | None]:
    """Return the main figures of the first model."""
    first_means = means(label) if label is not None else {}
    return {
        **{name: first_means.get(name) for name in metrics},
        "input_psnr": means(INPUT).get("psnr"),
        "classical_psnr": means(best).get("psnr") if best is not None else None,
    }
