"""Attention of a model for some places of an image, with the record that repeats it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from napari_restore.engine import Phase, Progress
from napari_restore.errors import BadParameter
from napari_restore.explain.attention._attention import Attention
from napari_restore.explain.attention._queries import Query, checked
from napari_restore.explain.attention._session import ALL, AttentionSession, Emit
from napari_restore.images import Image
from napari_restore.models import RestorationModel


def attend(
    image: Image,
    model: RestorationModel,
    queries: Sequence[Query],
    *,
    layers: str | Sequence[str] = ALL,
    attended_by: bool = False,
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
    emit, stop
        Callback for events; an event that cancels the run when set, which raises `Cancelled`.
    options
        How the image is read, and the machine's resources, as for `make_plan`.
    """
    if not queries:
        raise BadParameter("There is no query.", "Give the pixel whose attention is shown.")
    session = AttentionSession(image, model, emit=emit, stop=stop, **options)
    inside = checked(queries, image)
    names = session.site_names(layers)
    if attended_by and layers == ALL:
        names = tuple(s.name for s in session.sites if s.kind in ("sparse", "full"))
    with session.source:
        session.prepare()
        emit(Phase("Reading the attention of the queries"))
        found = []
        for number, query in enumerate(inside):
            emit(Progress(number, len(inside), None))
            found.append(session.look(query, names, attended_by=attended_by))
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
        },
    }
    return Attention(tuple(found), record, image, session.source.picture)
