"""Events of a running job, the same for window, command line and Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from napari_restore.engine._region import Region
from napari_restore.errors import Message


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able, and `event` with the class name."""
        return {"event": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Note(Event):
    """A sentence for the user; the run goes on."""

    text: Message

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "text", Message(text))


@dataclass(frozen=True)
class ImageStarted(Event):
    """The next of several images begins: the `number`-th of `images`, counted from 1."""

    name: str
    number: int
    images: int


@dataclass(frozen=True)
class Phase(Event):
    """A new phase of the run begins; `name` is its text in a progress bar."""

    name: str


@dataclass(frozen=True)
class Progress(Event):
    """`done` of `total` steps of the phase; `seconds_left` is None until it can be estimated."""

    done: int
    total: int
    seconds_left: float | None = None
    detail: str = ""
    """Of a cluster: rate, and bytes read and written by all workers."""

    def to_dict(self) -> dict[str, Any]:
        data = super().to_dict()
        if not self.detail:
            del data["detail"]
        return data


def seconds_left(
    done: int, total: int, seconds: float, ahead: float = 0.0, predicted: float = 0.0
) -> float | None:
    """Return the seconds to the end of a command of whose present phase `done` of `total` is done.

    The phase took `seconds` so far and was predicted to take `predicted`; `ahead` are those predicted
    of what follows. None until it can be estimated.
    """
    if done <= 0:
        return None
    at_this_rate = seconds / done * (total - done)
    # What a phase does after its last step, as a file that is encoded when it has its pixels.
    return max(at_this_rate, predicted - seconds) + ahead


@dataclass(frozen=True)
class TileDone(Event):
    """The core `region` of a tile can be read from the result."""

    region: Region


@dataclass(frozen=True)
class Finished(Event):
    """The run is complete, with its `record`."""

    record: dict[str, Any]


@dataclass(frozen=True)
class Stopped(Event):
    """The run was cancelled; finished tiles are kept."""

    record: dict[str, Any]


Emit: TypeAlias = Callable[[Event], None]


def event_from_dict(data: dict[str, Any]) -> Event:
    """Return the event that `Event.to_dict` wrote."""
    fields = dict(data)
    kinds = (Note, ImageStarted, Phase, Progress, TileDone, Finished, Stopped)
    kind = {c.__name__: c for c in kinds}[fields.pop("event")]
    if kind is TileDone:
        fields["region"] = Region(*fields["region"])
    return kind(**fields)
