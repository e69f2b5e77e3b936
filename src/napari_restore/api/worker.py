"""The child process of a window: carries out tasks one by one, tells events as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TextIO

from napari_restore.errors import Cancelled, RestoreError, SourceChanged

if TYPE_CHECKING:
    from napari_restore.engine import Job, Plan
    from napari_restore.images import Image
    from napari_restore.models import RestorationModel

Message = dict[str, Any]
KEPT_IMAGES = 8
KEPT_MODELS = 8
NICE = 10
"""A tenth of the window's claim on a processor: it draws first, this takes what is left."""


def main() -> None:
    """Carry out what stdin asks for, line by line, until it is closed."""
    # Whatever else prints, in Python or below it, must not end up among the events.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(NICE)
    boss, kept = _Boss(), _Kept()
    threading.Thread(target=boss.listen, daemon=True).start()
    while (message := boss.tasks.get()) is not None:
        tell = _Told(told, message["task"])
        try:
            if message["command"] == "warm":
                _warm(message["what"], kept)
                tell({"event": "Warm"})
            elif boss.begin(message["task"]):
                _run(message["what"], kept, boss, tell)
            else:
                tell({"event": "Stopped", "record": {"status": "cancelled"}})
        except RestoreError as error:
            data = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
            tell({"event": "Error", **data})
        except Exception as error:
            tell({"event": "Error", "kind": "RestoreError", "message": repr(error), "hint": ""})
            sys.excepthook(*sys.exc_info())
        finally:
            boss.end()


def _run(task: Message, kept: _Kept, boss: _Boss, tell: _Told) -> None:
    from napari_restore.engine import Job

    job = Job(kept.plan(task), keep=True, wait=True)
    boss.take(job)
    # `Stopped` has told it.
    with contextlib.suppress(Cancelled):
        for event in job:
            tell(event.to_dict())


def _warm(task: Message, kept: _Kept) -> None:
    """Load the libraries and what `task` needs; what goes wrong shows when it is run."""
    from napari_restore.engine import warm_up

    if task:
        with contextlib.suppress(RestoreError):
            warm_up(kept.plan(task))


class _Kept:
    """Images and models of earlier tasks, the longest unused go first."""

    def __init__(self) -> None:
        self._images: OrderedDict[str, Image] = OrderedDict()
        self._models: OrderedDict[str, RestorationModel] = OrderedDict()

    def plan(self, task: Message) -> Plan:
        """The plan a task describes, settled already."""
        from napari_restore.engine import deserialise_plan

        whole, part = task["image"], None
        if task["mosaic"] is not None:
            whole, part = task["mosaic"], self._image(task["image"])
        image = self._image(whole, task["fingerprint"])
        return deserialise_plan(task["settled"], image, self._model(task["model"]), part)

    def _image(self, spec: Message, fingerprint: str | None = None) -> Image:
        from napari_restore.images import Image

        key = json.dumps(spec, sort_keys=True)
        known = self._images.pop(key, None)
        if known is not None and fingerprint not in (None, known.fingerprint):
            known.close()
            known = None
        image = self._images[key] = known or Image.from_spec(spec)
        if fingerprint not in (None, image.fingerprint):
            self._images.pop(key).close()
            raise SourceChanged(f"{image.name} has changed since it was opened.", "Open it again.")
        while len(self._images) > KEPT_IMAGES:
            self._images.popitem(last=False)[1].close()
        return image

    def _model(self, spec: Message) -> RestorationModel:
        """The model of a task; the process that sends one has loaded it with its user's consent."""
        from napari_restore import api

        stamp = api.stamp_of(str(spec.get("model") or ""), spec.get("weights"))
        key = json.dumps([spec, stamp], sort_keys=True, default=str)
        known = self._models.pop(key, None)
        model = self._models[key] = known or api.load_described(spec, trust=True)
        while len(self._models) > KEPT_MODELS:
            self._models.popitem(last=False)
        return model


class _Boss:
    """Hears the parent's commands, before there is a job to obey them and while it runs."""

    def __init__(self) -> None:
        self.tasks: queue.Queue[Message | None] = queue.Queue()
        self._lock = threading.Lock()
        self._cancelled: set[int] = set()
        self._gone = False
        self._task = 0
        self._job: Job | None = None

    def begin(self, task: int) -> bool:
        """A task begins; False if it was cancelled before."""
        with self._lock:
            self._task = task
            return not (self._gone or task in self._cancelled)

    def take(self, job: Job) -> None:
        """Commands about the present task go to `job` from now on."""
        with self._lock:
            self._job = job
            if self._gone or self._task in self._cancelled:
                job.cancel()

    def end(self) -> None:
        """The present task has ended."""
        with self._lock:
            self._cancelled.discard(self._task)
            self._task, self._job = 0, None

    def listen(self) -> None:
        """Hear commands until the parent closes the pipe or dies; then stop."""
        try:
            for line in sys.stdin:
                # A parent that dies while writing leaves half a line.
                with contextlib.suppress(ValueError):
                    self._obey(json.loads(line))
        finally:
            with self._lock:
                self._gone = True
                if self._job is not None:
                    self._job.cancel()
            self.tasks.put(None)

    def _obey(self, message: Message) -> None:
        command, task = message["command"], message["task"]
        if command in ("run", "warm"):
            self.tasks.put(message)
        elif command == "cancel":
            self._cancel(task)
        elif command == "prioritise":
            from napari_restore.engine import Region

            with self._lock:
                job = self._job if task == self._task else None
            if job is not None:
                job.prioritise(Region(*message["region"]))

    def _cancel(self, task: int) -> None:
        with self._lock:
            self._cancelled.add(task)
            if self._job is not None and task == self._task:
                self._job.cancel()


class _Told:
    """Writes the events of one task."""

    def __init__(self, stream: TextIO, task: int) -> None:
        self._stream = stream
        self._task = task

    def __call__(self, event: Message) -> None:
        # A parent that has died hears nothing more; `listen` ends the child.
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(json.dumps({**event, "task": self._task}) + "\n")
            self._stream.flush()


if __name__ == "__main__":
    main()
