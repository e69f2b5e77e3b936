"""Attention of a model for some queries in an image, with the record that repeats it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from napari_restore.engine import Emit, Note, Phase, Progress, Region
from napari_restore.errors import BadParameter, BadRegion, option
from napari_restore.explain.attention.ablation import ablated_region
from napari_restore.explain.attention.attention import Attention
from napari_restore.explain.attention.attribution_rank import AttributionMap
from napari_restore.explain.attention.head_maps import QueryMaps
from napari_restore.explain.attention.measures import ONE_CELL, summary_of
from napari_restore.explain.attention.queries import Query, checked
from napari_restore.explain.attention.redundancy import HeadRedundancy
from napari_restore.explain.attention.rollout import GRADIENT, stage_of
from napari_restore.explain.attention.session import ALL, AttentionSession, without_notes
from napari_restore.images import Image
from napari_restore.models import RANDOM_WEIGHTS, AttentionSite, RestorationModel, random_twin
from napari_restore.questions import Attend


def attend(
    image: Image,
    model: RestorationModel,
    queries: Sequence[Query],
    settings: Attend,
    *,
    layers: str | Sequence[str] = ALL,
    emit: Emit = lambda event: None,
    stop: threading.Event | None = None,
    **options: Any,
) -> Attention:
    """Return what each head of `layers` looks at for each query.

    Arguments are described by `napari_restore.attend`; for `settings` see `HeadEffect`,
    `HeadRedundancy`, `sampled` and `rolled_out`. Where they ask for a sample, `queries` are none, or
    the one box it is drawn in.
    """
    _check_queries(queries, settings)
    ranks = _attribution(queries, settings, image)
    twin = random_twin(model) if settings.random_twin else None
    session = AttentionSession(image, model, emit=emit, stop=stop, **options)
    inside = checked(queries, image)
    names = session.site_names(layers, attended_by=settings.attended_by)
    if settings.rollout:
        _check_rollout(session, names, settings)
    if settings.ablate:
        _check_ablation(session, names, () if settings.sample else inside)
    compared = session.with_heads(names) if settings.redundancy else ()
    answers_of = partial(_answers, names=names, emit=emit, ranks=ranks)
    alike: dict[str, HeadRedundancy] = {}
    other: list[QueryMaps] = []
    with session.source:
        session.prepare()
        asked = _drawn(session, inside, settings, emit) if settings.sample else inside
        emit(Phase("Reading the attention of the queries"))
        found = list(answers_of(session, asked, settings))
        if compared:
            emit(Phase("Comparing the heads"))
            alike = session.compared_heads(asked, compared)
        if twin is not None:
            emit(Phase("The same network with random weights"))
            quiet = partial(without_notes, emit)
            again = AttentionSession(image, twin, emit=quiet, stop=stop, **options)
            with again.source:
                again.prepare()
                answers = answers_of(again, asked, replace(settings, ablate=False))
                other = [replace(answer, maps={}) for answer in answers]
    record = session.source.finished_record()
    record["attention"] = _described(
        found, other, names, session.sites, settings, model.card.weights_sha256
    )
    record["attention"]["question"] = {
        "queries": [query.to_dict() for query in inside],
        "layers": layers if isinstance(layers, str) else list(layers),
        **asdict(settings),
    }
    if alike:
        record["attention"]["redundancy"] = {name: each.to_dict() for name, each in alike.items()}
    matrices = {name: each.matrix() for name, each in alike.items()}
    picture = session.source.picture
    return Attention(tuple(found), record, image, picture, tuple(other), matrices)


def _answers(
    session: AttentionSession,
    queries: Sequence[Query],
    settings: Attend,
    names: tuple[str, ...],
    emit: Emit,
    ranks: AttributionMap | None,
) -> Iterator[QueryMaps]:
    """Yield the maps of each query at the sites of `names`, with the effects of heads that are left out."""
    # Experts are no heads: what routes to them cannot be left out.
    left_out = [
        (site, head)
        for site in session.sites
        if settings.ablate and site.name in names and site.kind not in ONE_CELL
        for head in site.heads
    ]
    for number, query in enumerate(queries):
        emit(Progress(number, len(queries), None))
        answer = session.attend(
            query,
            names,
            attended_by=settings.attended_by,
            rollout=settings.residual_weight if settings.rollout else None,
        )
        if ranks is not None:
            answer = ranks.with_ranks(answer)
        effects = []
        for site, head in left_out:
            emit(Phase(f"Without head {head} of {site.title}"))
            effects.append(session.without_head(answer.query, site.name, head))
        yield answer.with_effects(effects)


def _check_queries(queries: Sequence[Query], settings: Attend) -> None:
    """Raise `BadParameter` for no query, and for queries or numbers that a sample does not take."""
    sample = settings.sample
    if sample is None:
        if not queries:
            raise BadParameter("There is no query.", "Give the pixel whose attention is shown.")
        return
    _check_number("sample", sample, 1)
    _check_number("seed", settings.seed, 0)
    if len(queries) > 1 or any(query.is_point for query in queries):
        raise BadParameter(
            "A sample draws its own queries.",
            f"Leave out the pixels, or {option('sample')}; one box may be given to draw in.",
        )


def _attribution(queries: Sequence[Query], settings: Attend, image: Image) -> AttributionMap | None:
    """Open the map that heads are compared with; raises `BadParameter` for several queries."""
    if settings.attribution is None:
        return None
    if settings.sample is not None or len(queries) > 1:
        raise BadParameter(
            "An attribution is that of one box, but there are several queries.",
            f"Ask about one pixel or box, or leave out {option('attribution')}.",
        )
    return AttributionMap.of(Path(settings.attribution), image)


def _check_number(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadParameter(
            f"{option(name)} takes no {value!r}.", f"Give a whole number of {least} or more."
        )


def _drawn(
    session: AttentionSession, inside: Sequence[Query], settings: Attend, emit: Emit
) -> tuple[Query, ...]:
    """Return the queries of a sample; raises `BadRegion` where no valid pixel was drawn."""
    image, wanted = session.image, settings.sample or 0
    box = inside[0].box if inside else Region(0, 0, image.height, image.width)
    # Those of all layers, so that the choice does not depend on which are asked for.
    rows, columns = Query(box).cells(min(site.stride for site in session.sites))
    count = min(wanted, rows * columns)
    queries = sampled(box, count, settings.seed, session.source.is_valid)
    if not queries:
        raise BadRegion(
            f"None of the pixels drawn in {Query(box).label} is valid.", "Choose another box."
        )
    if len(queries) < wanted:
        cells = f"There are {rows * columns} cells, " if count < wanted else ""
        emit(
            Note(
                f"{cells or 'Some parts have no valid pixel among those drawn, '}so that "
                f"{len(queries)} queries are asked in place of {wanted}."
            )
        )
    return queries


def _described(
    found: Sequence[QueryMaps],
    other: Sequence[QueryMaps],
    names: Sequence[str],
    sites: Sequence[AttentionSite],
    settings: Attend,
    weights: str | None,
) -> dict[str, Any]:
    """Return what a record has of the answers; of a sample the summary in place of each one's numbers."""
    queries = [each.query.to_dict() for each in found]
    layers = [found[0].maps[name].to_dict() for name in names]
    described: dict[str, Any] = {
        "layers": layers,
        "attended_by": settings.attended_by,
        "queries": queries,
    }
    if other:
        described["random_twin"] = RANDOM_WEIGHTS
    if settings.rollout:
        weight = settings.residual_weight
        blocks = {name: [site.name for site in stage_of(sites, name, weight)] for name in names}
        described["rollout"] = {"residual_weight": weight, "blocks": blocks}
    if settings.sample is None:
        for query, each in zip(queries, found, strict=True):
            query["measures"] = dict(each.measures)
        for query, each in zip(queries, other, strict=False):
            query["random_twin"] = dict(each.measures)
        return described
    kinds = {layer["name"]: layer["kind"] for layer in layers}
    summary = summary_of([each.measures for each in found], kinds, weights)
    if other:
        summary += summary_of([each.measures for each in other], kinds, RANDOM_WEIGHTS)
    return described | {"sample": settings.sample, "seed": settings.seed, "summary": summary}


def _check_rollout(session: AttentionSession, names: Sequence[str], settings: Attend) -> None:
    """Raise `BadParameter` for a site without a rollout, and for questions about heads."""
    weight = settings.residual_weight
    for name in names:
        stage_of(session.sites, name, weight)
    if settings.ablate or settings.attended_by:
        raise BadParameter(
            "A rollout is what a pixel attends to, over all heads.",
            f"Leave out {option('attended_by' if settings.attended_by else 'ablate')}.",
        )
    if weight != GRADIENT and (isinstance(weight, str) or not 0 <= weight <= 1):
        raise BadParameter(
            f"{option('residual_weight')} takes no {weight!r}.",
            f"Give a number from 0 to 1, or {GRADIENT}.",
        )


def _check_ablation(
    session: AttentionSession, names: Sequence[str], queries: Sequence[Query]
) -> None:
    """Raise `BadParameter` or `BadRegion` where no head can be left out, before all computation."""
    sites = [site for site in session.sites if site.name in names and site.kind not in ONE_CELL]
    if not sites:
        raise BadParameter(
            f"{', '.join(names)} has no heads that could be left out.", "Choose another layer."
        )
    session.source.plan.model.without_head(sites[0].name, 0)
    for query in queries:
        ablated_region(query.box, session.image)


DRAWS = 64
"""Pixels that are drawn in a stratum, at most, until one is valid."""


def strata(box: Region, count: int) -> list[Region]:
    """Return at most `count` boxes that divide `box`, nearly square and of nearly the same area."""
    # Rows of them, each as high as its share of the boxes. There are fewer where some would have no
    # pixel.
    rows = round(math.sqrt(count * box.height / box.width))
    rows = min(max(rows, 1), count)
    in_row = [count // rows + (row < count % rows) for row in range(rows)]
    found, before = [], 0
    for number in in_row:
        top, bottom = (box.height * edge // count for edge in (before, before + number))
        before += number
        edges = [box.width * edge // number for edge in range(number + 1)]
        found += [
            Region(box.y0 + top, box.x0 + left, box.y0 + bottom, box.x0 + right)
            for left, right in pairwise(edges)
        ]
    return [each for each in found if not each.is_empty]


def sampled(
    box: Region, count: int, seed: int, is_valid: Callable[[tuple[int, int]], bool]
) -> tuple[Query, ...]:
    """Return a query in each of `count` strata of `box`, unless none of `DRAWS` pixels there is valid."""
    found: list[Query] = []
    for number, part in enumerate(strata(box, count)):
        # Every stratum has random numbers of its own: a pixel that is not valid changes no query of
        # another.
        rng = np.random.default_rng((seed, number))
        drawn = (
            (int(rng.integers(part.y0, part.y1)), int(rng.integers(part.x0, part.x1)))
            for _ in range(DRAWS)
        )
        found += [Query.point(*pixel) for pixel in islice(filter(is_valid, drawn), 1)]
    return tuple(found)
