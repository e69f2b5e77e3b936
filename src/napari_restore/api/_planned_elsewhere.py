"""What a window asks of models that it does not load: plans, cards, weights; both ends of the questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from napari_restore.api._answers import message_types, spec_elsewhere
from napari_restore.api._task_cache import TaskCache
from napari_restore.api._tasks import plan_of, serialised_task
from napari_restore.models import DescribedModel, ModelCard, Parameter

if TYPE_CHECKING:
    import threading

    import numpy as np
    import numpy.typing as npt

    from napari_restore.api._answers import Message, Send, Stop, Subject
    from napari_restore.engine import Event, Plan, Worker
    from napari_restore.images import Image
    from napari_restore.models import Proposal, RestorationModel


# -- who answers ---------------------------------------------------------------------


def planning_answers(cache: TaskCache) -> dict[str, Callable[[Message, Stop, Send], Message]]:
    """Return what answers the questions below in a child process, by command."""

    def plan(task: Message, stop: Stop, send: Send) -> Message:
        from napari_restore.engine import make_plan

        model = cache.model(task["model"], trust=task["trust"])
        image = cache.image(task["image"], task["fingerprint"])
        planned = make_plan(image, model, **task["options"])
        # The run that follows names the model as the plan does.
        cache.keep_model(model)
        return _as_message(planned)

    def plan_again(task: Message, stop: Stop, send: Send) -> Message:
        return _as_message(plan_of(task["task"], trust=task["trust"]))

    def card(task: Message, stop: Stop, send: Send) -> Message:
        return {"found": cache.model(task["model"], trust=task["trust"]).card}

    def weights(task: Message, stop: Stop, send: Send) -> Message:
        from napari_restore.api._fusion import frame_weights

        return {"found": frame_weights(cache.plan(task["task"]))}

    def inspect(task: Message, stop: Stop, send: Send) -> Message:
        from napari_restore.api._models import inspect_model

        found = inspect_model(
            task["path"], trust=task["trust"], emit=lambda event: send(event.to_dict())
        )
        return {"found": _parts_of(found)}

    return {
        "plan": plan,
        "plan again": plan_again,
        "card": card,
        "weights": weights,
        "inspect": inspect,
    }


def _as_message(plan: Plan) -> Message:
    return {"planned": serialised_task(plan), "model": described(plan.model)}


def described(model: RestorationModel) -> DescribedModel:
    """Return what another process is to know of a model."""
    from napari_restore.models import CutModel, identity_of

    return DescribedModel(
        model.card,
        dict(model.spec),
        identity_of(model),
        model.fixed_tile,
        model.is_swept,
        isinstance(model, CutModel),
    )


def _parts_of(found: Proposal) -> dict[str, Any]:
    return {**vars(found), "model": described(found.model), "card": dict(found.card)}


# -- who asks ------------------------------------------------------------------------


def _types() -> dict[str, Any]:
    others = (DescribedModel, ModelCard, Parameter)
    return {**message_types(), **{each.__name__: each for each in others}}


def plan_elsewhere(door: Worker, subject: Subject, options: Mapping[str, Any]) -> Plan:
    """Return what `plan` does, made by a child process; this one need not have torch.

    `subject` has "image", "model" and "trust"; `options` are those of `plan`. Only card and description
    of the plan's model are here. Raises the child's error, and those of `spec_elsewhere`.
    """
    image = subject["image"]
    question = {
        "image": spec_elsewhere(image),
        "fingerprint": image.fingerprint,
        "model": subject["model"],
        "trust": subject["trust"],
        "options": dict(options),
    }
    return _received(door.ask("plan", question, types=_types()), image)


def plan_again_elsewhere(door: Worker, task: Mapping[str, Any], *, trust: bool) -> Plan:
    """Return the plan that `task_of` describes, made by a child process."""
    from napari_restore.images import Image

    answer = door.ask("plan again", {"task": dict(task), "trust": trust}, types=_types())
    image, mosaic = Image.from_spec(task["image"]), task.get("mosaic")
    if mosaic is None:
        return _received(answer, image)
    return _received(answer, Image.from_spec(mosaic), image)


def _received(answer: Message, image: Image, part: Image | None = None) -> Plan:
    from napari_restore.engine import deserialise_plan

    return deserialise_plan(answer["planned"]["plan"], image, answer["model"], part)


def card_elsewhere(door: Worker, subject: Subject) -> ModelCard:
    """Return the card of a model that a child process loads, with its parameters."""
    question = {"model": subject["model"], "trust": subject["trust"]}
    card: ModelCard = door.ask("card", question, types=_types())["found"]
    return card


def frame_weights_elsewhere(door: Worker, plan: Plan) -> npt.NDArray[np.float32]:
    """Return what `frame_weights` does, computed by a child process."""
    weights: npt.NDArray[np.float32] = door.ask("weights", {"task": serialised_task(plan)})["found"]
    return weights


def inspect_elsewhere(
    door: Worker,
    path: str,
    *,
    trust: bool,
    emit: Callable[[Event], None],
    stop: threading.Event | None = None,
) -> Proposal:
    """Return what `inspect_model` does, computed by a child process; of its model the card alone."""
    from napari_restore.engine import event_from_dict
    from napari_restore.models import Proposal

    question = {"path": path, "trust": trust}
    answer = door.ask(
        "inspect", question, lambda event: emit(event_from_dict(event)), stop, _types()
    )
    return Proposal(**answer["found"])
