"""Attention of a model for some places of an image, with the record that repeats it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from napari_restore.engine import Phase, Progress, Region
from napari_restore.errors import BadParameter
from napari_restore.explain.attention._ablation import ablated_region
from napari_restore.explain.attention._attention import Attention
from napari_restore.explain.attention._measures import ONE_CELL
from napari_restore.explain.attention._queries import Query, checked
from napari_restore.explain.attention._session import ALL, AttentionSession, Emit, QueryMaps
from napari_restore.images import Image
from napari_restore.models import RestorationModel


def attend(
    image: Image,
    model: RestorationModel,
    queries: Sequence[Query],
    *,
    layers: str | Sequence[str] = ALL,
    attended_by: bool = False,
    ablate: bool = False,
    emit: Emit = lambda event: None,
    stop: threading.Event | None = None,
    **options: Any,
) -> Attention:
    """Return what each head of `layers` looks at for each query.

    Parameters
    ----------
    image, model
        As `make_plan` takes them.
    queries
        Points or boxes of level-0 pixels.
    layers
        Names of `model.attention_sites()`, or ``"all"``.
    attended_by
        The other way around: which cells attend to the query's; of the layers of a bottleneck.
    ablate
        Whether to run the network without each head of `layers`, one after the other, around every
        query; see `HeadEffect`.
    emit, stop
        Callback for events; an event that cancels the run when set, which raises `Cancelled`.
    options
        How the image is read, and the machine's resources, as for `make_plan`.
    """
    if not queries:
        raise BadParameter("There is no query.", "Give the pixel whose attention is shown.")
    session = AttentionSession(image, model, emit=emit, stop=stop, **options)
    inside = checked(queries, image)
    names = session.site_names(layers, attended_by=attended_by)
    if ablate:
        _check_ablation(session, names, inside)
    with session.source:
        session.prepare()
        emit(Phase("Reading the attention of the queries"))
        found = []
        for number, query in enumerate(inside):
            emit(Progress(number, len(inside), None))
            answer = session.look(query, names, attended_by=attended_by)
            found.append(_ablated(session, answer, names, emit) if ablate else answer)
    record = session.source.finished_record()
    sites = [next(iter(found)).maps[name].to_dict() for name in names]
    record["attention"] = {
        "layers": sites,
        "attended_by": attended_by,
        "queries": [{**each.query.to_dict(), "measures": dict(each.measures)} for each in found],
        "question": {
            "queries": [query.to_dict() for query in inside],
            "layers": layers if isinstance(layers, str) else list(layers),
            "attended_by": attended_by,
            "ablate": ablate,
        },
    }
    return Attention(tuple(found), record, image, session.source.picture)


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
    whole = Region(0, 0, session.image.height, session.image.width)
    for query in queries:
        ablated_region(query.box, whole)


def _ablated(
    session: AttentionSession, answer: QueryMaps, names: Sequence[str], emit: Emit
) -> QueryMaps:
    """Return an answer with what every head of the sites does to the result."""
    effects = []
    for site in session.sites:
        # Experts are no heads: what routes to them cannot be left out.
        if site.name in names and site.kind not in ONE_CELL:
            for head in site.heads:
                emit(Phase(f"Without head {head} of {site.title}"))
                effects.append(session.without_head(answer.query, site.name, head))
    return answer.with_effects(effects)
