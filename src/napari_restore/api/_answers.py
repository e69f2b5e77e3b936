"""Attributions and attention of a window, computed in a child process: both ends of the questions."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_restore import engine, explain, images, models
from napari_restore.api._attention import attend, attention_session, draw_attention
from napari_restore.api._attribution import attribute
from napari_restore.api._models import code_file
from napari_restore.api._task_cache import TaskCache
from napari_restore.api._tasks import command_of
from napari_restore.errors import Cancelled, RestoreError, SourceChanged
from napari_restore.questions import Reading, Region, part_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_restore.engine import Event, Worker
    from napari_restore.explain import Attribution, MethodInfo, PartialAttribution
    from napari_restore.explain.attention.ablation import HeadEffect
    from napari_restore.explain.attention.head_maps import QueryMaps
    from napari_restore.explain.attention.queries import Query
    from napari_restore.explain.attention.session import AttentionSession
    from napari_restore.images import Image
    from napari_restore.models import AttentionSite, RestorationModel

    Door: TypeAlias = "Worker | Answers"

Message = dict[str, Any]
Send = Callable[[Message], None]
Subject = Mapping[str, Any]
"""What is asked about: "image", an `Image`; "model", as `RestorationModel.spec`, and "trust", whether its
code may run; "options" on how the image is read and on the machine."""
ANSWERS = f"{__name__}:answers."
"""Where the child has its `Answers`."""


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

    def _open(self, task: Message) -> tuple[Image, RestorationModel]:
        image = task["image"]
        with self._opening:
            if not isinstance(image, images.Image):
                image = self._cache.image(image, task["fingerprint"])
            return image, self._cache.model(task["model"], trust=task["trust"])

    def attribute(self, task: Message, stop: Stop, send: Send) -> Message:
        """Return the parts of an attribution."""
        image, model = self._open(task)
        question, ratio = dict(task["question"]), model.card.ratio
        # Only here is the model loaded that knows the scale of its results.
        if question.get("box") is not None:
            question["box"] = question["box"].scale(ratio)
        if question.get("polygon") is not None:
            question["polygon"] = [(y * ratio, x * ratio) for y, x in question["polygon"]]
        found = attribute(
            image,
            model,
            **question,
            **task["options"],
            emit=lambda event: send(event.to_dict()),
            watch=lambda part: send({"event": "Partial", "part": part}),
            stop=stop,
        )
        parts = found.to_parts()
        self._lent = found.total if "folder" in parts["sums"] else None
        return parts

    def picture(self, task: Message, stop: Stop, send: Send) -> npt.NDArray[np.float32]:
        """Return what is shown of the image beside a map."""
        image, model = self._open(task)
        view, about = image.level_view(task["level"]), task["attribution"]
        return explain.picture_of(view, model, about, task["part"], **task["options"])

    def explainers(self, task: Message, stop: Stop, send: Send) -> list[MethodInfo]:
        """Return the methods that there are."""
        return explain.method_list()

    def prepare(self, task: Message, stop: Stop, send: Send) -> tuple[AttentionSite, ...]:
        """Return where the model computes attention, in a session that is prepared."""
        return self._prepared(task, stop, send).sites

    def ask(self, task: Message, stop: Stop, send: Send) -> Any:
        """Return what the session says: `do` is its method, one of those of `AttentionElsewhere`."""
        session = self._prepared(task, stop, send)
        return getattr(session, task["do"])(*task["with"], **task["named"])

    def write(self, task: Message, stop: Stop, send: Send) -> None:
        """Write the maps of a query, or their figure."""
        image, model = self._open(task)
        query, layers, path, draws = task["with"]
        named = task["named"] | task["options"]
        found = attend(image, model, [query], layers=layers, progress=False, **named)
        if draws:
            draw_attention(found, path, overwrite=True)
        else:
            found.save(path, overwrite=True)

    def _prepared(self, task: Message, stop: Stop, send: Send) -> AttentionSession:
        """Return the session of a question, prepared once; another one is forgotten."""
        key = json.dumps([task[name] for name in ("image", "model", "options")], default=id)
        with self._preparing:
            if self._session is None or self._session[0] != key:
                self.forget()
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

    def forget(self, *_: Any) -> None:
        """Forget the session."""
        before, self._session = self._session, None
        if before is not None:
            before[1].source.close()

    def call(
        self,
        function: str,
        question: Message,
        emit: Send = lambda event: None,
        stop: threading.Event | None = None,
        **how: bool,
    ) -> Any:
        """Answer in this process, as a `Worker` does: for images that are in memory only."""
        return getattr(self, function.removeprefix(ANSWERS))(question, stop or Stop(), emit)


_cache = TaskCache()
answers = Answers(_cache)
"""Those of a child process."""


def run(task: Message, call: Any, send: Send) -> None:
    """Run a plan."""
    plan = _cache.plan(task)
    part = models.changed_part(plan.model, task)
    if part is not None:
        raise SourceChanged(
            f"The {part} of {plan.model.card.id} changed just now.", "Run it again."
        )
    # The parent has the `Stopped` event already.
    with contextlib.suppress(Cancelled):
        for event in call.attached(engine.Job(plan, keep=True, wait=True)):
            send(event.to_dict())


def warm(task: Message, call: Any, send: Send) -> None:
    """Load the libraries and what `task` needs; errors are reported when it is run."""
    if task:
        with contextlib.suppress(RestoreError):
            engine.warm_up(_cache.plan(task))


def message_types() -> dict[str, Any]:
    """Return the classes in questions and answers, by name; without importing torch."""
    from napari_restore.explain.attention.ablation import HeadEffect
    from napari_restore.explain.attention.head_maps import HeadMaps, QueryMaps
    from napari_restore.explain.attention.queries import Query

    maps = (explain.MethodInfo, explain.OverviewShares, explain.PartialAttribution)
    rows = (models.AttentionSite, Query, HeadEffect, HeadMaps, QueryMaps)
    return {each.__name__: each for each in (Region, *maps, *rows)}


# -- who asks ------------------------------------------------------------------------


def _addressed(subject: Subject, door: Door) -> tuple[Door, Message]:
    """Return who answers about `subject`, and what the question says of it."""
    image = subject["image"]
    if image.spec is None:
        return Answers(TaskCache()), {**subject, "fingerprint": None}
    return door, {**subject, "image": image.spec, "fingerprint": image.fingerprint}


def explainers_of(door: Door) -> list[MethodInfo]:
    """Return what `explainers` does, without importing torch and captum here."""
    found: list[MethodInfo] = door.call(f"{ANSWERS}explainers", {}, beside=True)
    return found


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

    `question` has its arguments box, polygon and level, and the fields of `Attribute`; box and polygon
    are in pixels of the image, for results of any scale. What is shown of the image beside the map is read by
    `pictures`, when it is shown.
    """

    def receive(event: Message) -> None:
        if event["event"] == "Partial":
            watch(event["part"])
        else:
            emit(engine.event_from_dict(event))

    def picture(part: Region) -> npt.NDArray[np.float32]:
        door, task = _addressed(subject, pictures)
        attribution = {name: parts["record"]["attribution"][name] for name in ("box", "objective")}
        task |= {"level": question["level"], "attribution": attribution, "part": part}
        pixels: npt.NDArray[np.float32] = door.call(f"{ANSWERS}picture", task)
        return pixels

    answering, task = _addressed(subject, door)
    task["question"] = question
    parts = answering.call(f"{ANSWERS}attribute", task, receive, stop)
    image = subject["image"].level_view(question["level"])
    return explain.Attribution.of_parts(parts, image, picture)


def attention_command(
    subject: Subject,
    query: Query,
    layers: Sequence[str],
    output: Path,
    *,
    device: str = "auto",
    attended_by: bool = False,
) -> str:
    """Return the command that writes the maps of a query; raises `InputError` where there is none."""
    image, model, task = subject["image"], subject["model"], None
    if image.spec is not None:
        code = code_file(str(model["model"])) is not None
        options = part_of(subject["options"], Reading)
        question = {"queries": [query.to_dict()], "layers": list(layers)}
        question |= {"attended_by": attended_by}
        task = {"image": image.spec, "model": {**model, "code": code}}
        task |= {"question": question, "options": options}
    about = {"task": task, "input": {"size": (image.height, image.width)}}
    return command_of(about, output, device=device)


class AttentionElsewhere:
    """An `AttentionSession` in another process, which prepares it again should it have ended."""

    def __init__(self, door: Door, subject: Subject) -> None:
        self._door, self._task = _addressed(subject, door)
        self.sites: tuple[AttentionSite, ...] = ()
        """Where the model computes attention; known once it is prepared."""

    def prepare(self, emit: Callable[[Event], None], stop: threading.Event) -> None:
        """Load the model, and compute what is needed of the whole image."""
        self.sites = self._door.call(
            f"{ANSWERS}prepare",
            self._task,
            lambda data: emit(engine.event_from_dict(data)),
            stop,
            beside=True,
        )

    def attend(
        self, query: Query, layers: Sequence[str] | None = None, *, attended_by: bool = False
    ) -> QueryMaps:
        """Return the maps of a query in some layers (None: in all), or of what attends to it."""
        found: QueryMaps = self._ask("attend", query, layers, attended_by=attended_by)
        return found

    def redundancy(self, query: Query, layers: Sequence[str]) -> dict[str, Any]:
        """Return how alike the heads of layers are, (heads, heads) by the name of the layer."""
        found: dict[str, Any] = self._ask("redundancy", query, layers)
        return found

    def without_head(self, query: Query, layer: str, head: str) -> HeadEffect:
        """Return what one head of a layer does to the result around a query."""
        found: HeadEffect = self._ask("without_head", query, layer, head)
        return found

    def write(
        self, query: Query, layers: Sequence[str], path: Path, *, draws: bool, attended_by: bool
    ) -> None:
        """Write maps or numbers as `Attention.save` does, by the suffix, or draw a figure."""
        task = {"with": (query, layers, str(path), draws), "named": {"attended_by": attended_by}}
        self._door.call(f"{ANSWERS}write", {**self._task, **task}, beside=True)

    def close(self) -> None:
        """Let the other process forget it."""
        if isinstance(self._door, Answers):
            self._door.forget()
        elif self._door.process is not None:
            self._door.submit(f"{ANSWERS}forget", {}, lambda event: None)

    def _ask(self, do: str, *arguments: Any, **named: Any) -> Any:
        task = {**self._task, "do": do, "with": arguments, "named": named}
        return self._door.call(f"{ANSWERS}ask", task, beside=True)
