"""Attributions and attention of a window, computed in a child process: both ends of the questions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_restore.api._attention import attend, attention_session, draw_attention
from napari_restore.api._attribution import attribute, explainers
from napari_restore.api._task_cache import TaskCache
from napari_restore.questions import Region

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_restore.engine import Event, Worker
    from napari_restore.explain import Attribution, MethodInfo, PartialAttribution
    from napari_restore.explain.attention import AttentionSession, HeadEffect, Query, QueryMaps
    from napari_restore.images import Image
    from napari_restore.models import AttentionSite, RestorationModel

    Door: TypeAlias = "Worker | LocalAnswers"

Message = dict[str, Any]
Send = Callable[[Message], None]
Subject = Mapping[str, Any]
"""What is asked about: "image", an `Image`; "model", as `RestorationModel.spec`, and "trust", whether its
code may run; "options" on how the image is read and on the machine."""
NOT_QUEUED = ("attention", "explainers")
"""Questions that are answered beside others: what is clicked does not wait for a file that is written."""


class Stop(threading.Event):
    """A cancellation flag with the interface of a job."""

    def cancel(self) -> None:
        self.set()


class Answers:
    """Answers in the process that computes; keeps images, models and one `AttentionSession`."""

    def __init__(self, cache: TaskCache) -> None:
        self._cache = cache
        self._opening, self._preparing = threading.Lock(), threading.Lock()
        self._session: tuple[str, AttentionSession] | None = None
        self._lent: Any = None
        """Sums on disk of the last attribution, until who asked for them has opened them."""
        self.commands: dict[str, Callable[[Message, Any, Send], Message]] = {
            "attribute": self._attribute,
            "picture": self._picture,
            "explainers": lambda task, stop, send: {"found": list(map(asdict, explainers()))},
            "attention": self._attention,
            "forget": self._forget,
        }

    def _open(self, task: Message) -> tuple[Image, RestorationModel]:
        from napari_restore.images import Image

        image = task["image"]
        with self._opening:
            if not isinstance(image, Image):
                image = self._cache.image(image, task["fingerprint"])
            return image, self._cache.model(task["model"], trust=task["trust"])

    def _attribute(self, task: Message, stop: Stop, send: Send) -> Message:
        image, model = self._open(task)
        question = dict(task["question"])
        box = question.pop("box")
        found = attribute(
            image,
            model,
            None if box is None else Region(*box),
            **question,
            **task["options"],
            emit=lambda event: send(event.to_dict()),
            watch=lambda part: send({"event": "Partial", **part._asdict()}),
            stop=stop,
        )
        parts = found.to_parts()
        self._lent = found.total if "folder" in parts["sums"] else None
        return parts

    def _picture(self, task: Message, stop: Stop, send: Send) -> Message:
        from napari_restore.explain import picture_of

        image, model = self._open(task)
        view, part = image.level_view(task["level"]), Region(*task["part"])
        return {"picture": picture_of(view, model, task["attribution"], part, **task["options"])}

    def _attention(self, task: Message, stop: Stop, send: Send) -> Message:
        from napari_restore.explain.attention import Query

        do = task["do"]
        if do == "prepare":
            return {"sites": list(map(asdict, self._prepared(task, stop, send).sites))}
        query = Query(Region(*task["query"]))
        if do == "write":
            image, model = self._open(task)
            options, layers = task["options"], task["layers"]
            found = attend(image, model, [query], layers=layers, progress=False, **options)
            if task["draws"]:
                draw_attention(found, task["path"], overwrite=True)
            else:
                found.save(task["path"], overwrite=True)
            return {}
        session = self._prepared(task, stop, send)
        if do == "look":
            return asdict(session.look(query, task["layers"]))
        if do == "redundancy":
            return {"matrices": session.redundancy(query, task["layers"])}
        return asdict(session.without_head(query, task["layer"], task["head"]))

    def _prepared(self, task: Message, stop: Stop, send: Send) -> AttentionSession:
        """Return the session of a question, prepared once; another one is forgotten."""
        key = json.dumps([task[name] for name in ("image", "model", "options")], default=id)
        with self._preparing:
            if self._session is None or self._session[0] != key:
                self._forget()
                image, model = self._open(task)
                session = attention_session(
                    image,
                    model,
                    emit=lambda event: send(event.to_dict()),
                    stop=stop,
                    **task["options"],
                )
                session.prepare()
                self._session = key, session
            return self._session[1]

    def _forget(self, *_: Any) -> Message:
        before, self._session = self._session, None
        if before is not None:
            before[1].source.close()
        return {}


class LocalAnswers:
    """Answers in this process, as a `Worker` does: for images that are in memory only."""

    def __init__(self) -> None:
        self._answers = Answers(TaskCache())

    def ask(
        self,
        command: str,
        question: Mapping[str, Any],
        emit: Send = lambda event: None,
        stop: threading.Event | None = None,
    ) -> Message:
        """Return the answer; `emit` is called with events, and `stop` cancels."""
        return self._answers.commands[command](dict(question), stop or Stop(), emit)

    def tell(self, command: str) -> None:
        """Do what has no answer."""
        self.ask(command, {})


# -- who asks ------------------------------------------------------------------------


def _addressed(subject: Subject, door: Door) -> tuple[Door, Message]:
    """Return who answers about `subject`, and what the question says of it."""
    image = subject["image"]
    if image.spec is None:
        return LocalAnswers(), {**subject, "fingerprint": None}
    return door, {**subject, "image": image.spec, "fingerprint": image.fingerprint}


def explainers_of(door: Door) -> list[MethodInfo]:
    """Return what `explainers` does, without importing torch and captum here."""
    from napari_restore.explain import MethodInfo

    return [MethodInfo(**each) for each in door.ask("explainers", {})["found"]]


def attribute_elsewhere(
    door: Door,
    subject: Subject,
    question: Mapping[str, Any],
    *,
    pictures: Door,
    emit: Callable[[Event], None],
    watch: Callable[[PartialAttribution], None],
    stop: threading.Event,
) -> Attribution:
    """Return what `attribute` does, computed by `door`.

    `question` has its arguments box, polygon and level, and the fields of `Attribute`. What is shown of
    the image beside the map is read by `pictures`, when it is shown.
    """
    from napari_restore.engine import event_from_dict
    from napari_restore.explain import Attribution, PartialAttribution

    def receive(event: Message) -> None:
        if event["event"] == "Partial":
            region, values = Region(*event["region"]), event["values"]
            watch(PartialAttribution(region, values, event["done"], event["total"]))
        else:
            emit(event_from_dict(event))

    def picture(part: Region) -> npt.NDArray[np.float32]:
        door, task = _addressed(subject, pictures)
        attribution = {name: parts["record"]["attribution"][name] for name in ("box", "objective")}
        task |= {"level": question["level"], "attribution": attribution, "part": part}
        pixels: npt.NDArray[np.float32] = door.ask("picture", task)["picture"]
        return pixels

    answering, task = _addressed(subject, door)
    parts = answering.ask("attribute", {**task, "question": question}, receive, stop)
    return Attribution.of_parts(parts, subject["image"].level_view(question["level"]), picture)


class AttentionElsewhere:
    """An `AttentionSession` in another process, which prepares it again should it have ended."""

    def __init__(self, door: Door, subject: Subject) -> None:
        self._door, self._task = _addressed(subject, door)
        self.sites: tuple[AttentionSite, ...] = ()
        """Where the model computes attention; known once it is prepared."""

    def prepare(self, emit: Callable[[Event], None], stop: threading.Event) -> None:
        """Load the model, and compute what is needed of the whole image."""
        from napari_restore.engine import event_from_dict
        from napari_restore.models import AttentionSite

        task = {**self._task, "do": "prepare"}
        found = self._door.ask("attention", task, lambda data: emit(event_from_dict(data)), stop)
        self.sites = tuple(AttentionSite(**each) for each in found["sites"])

    def look(self, query: Query, layers: Sequence[str] | None = None) -> QueryMaps:
        """Return the maps of a query in some layers; None: in all."""
        from napari_restore.explain.attention import HeadMaps, Query, QueryMaps
        from napari_restore.models import AttentionSite

        found = self._ask("look", query, layers=layers)
        maps = {
            name: HeadMaps(
                AttentionSite(**each["site"]),
                Region(*each["query"]),
                each["weights"],
                each["cells"],
                Region(*each["image_cells"]),
                each["numbers"],
            )
            for name, each in found["maps"].items()
        }
        asked = Query(Region(*found["query"]["box"]), found["query"]["name"])
        return QueryMaps(asked, maps, found["measures"])

    def redundancy(self, query: Query, layers: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
        """Return how alike the heads of layers are, (heads, heads) by the name of the layer."""
        matrices: dict[str, npt.NDArray[np.float64]]
        matrices = self._ask("redundancy", query, layers=layers)["matrices"]
        return matrices

    def without_head(self, query: Query, layer: str, head: str) -> HeadEffect:
        """Return what one head of a layer does to the result around a query."""
        from napari_restore.explain.attention import HeadEffect

        found = self._ask("without_head", query, layer=layer, head=head)
        return HeadEffect(layer, head, Region(*found["region"]), found["difference"])

    def write(self, query: Query, layers: Sequence[str], path: Path, *, draws: bool) -> None:
        """Write maps or numbers as `Attention.save` does, by the suffix, or draw a figure."""
        self._ask("write", query, layers=layers, path=str(path), draws=draws)

    def close(self) -> None:
        """Let the other process forget it."""
        self._door.tell("forget")

    def _ask(self, do: str, query: Query, **what: Any) -> Message:
        return self._door.ask("attention", {**self._task, "do": do, "query": query.box, **what})
