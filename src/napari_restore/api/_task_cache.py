"""Images and models of serialised tasks, kept in a process that runs one after another."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from napari_restore import engine, images
from napari_restore.errors import SourceChanged

if TYPE_CHECKING:
    from napari_restore.engine import Plan
    from napari_restore.images import Image
    from napari_restore.models import RestorationModel

Task = dict[str, Any]
CACHED_IMAGES = 8
CACHED_MODELS = 8


class TaskCache:
    """Least-recently-used cache of images and models of earlier tasks."""

    def __init__(self) -> None:
        self._images: OrderedDict[str, Image] = OrderedDict()
        self._models: OrderedDict[str, RestorationModel] = OrderedDict()

    def plan(self, task: Task) -> Plan:
        """Return the plan that a serialised task describes."""
        image = self.image(task["image"], task["fingerprint"])
        return engine.deserialise_plan(task["plan"], image, self.model(task["model"]))

    def image(self, spec: Task, fingerprint: str | None = None) -> Image:
        """Return the image of a task; raises `SourceChanged` for another `fingerprint`."""
        key = json.dumps(spec, sort_keys=True)
        cached = self._images.pop(key, None)
        if cached is not None and (
            fingerprint not in (None, cached.fingerprint) or _has_other_frames(cached)
        ):
            cached.close()
            cached = None
        image = self._images[key] = cached or images.Image.from_spec(spec)
        if fingerprint not in (None, image.fingerprint):
            self._images.pop(key).close()
            raise SourceChanged(f"{image.name} has changed since it was opened.", "Open it again.")
        while len(self._images) > CACHED_IMAGES:
            self._images.popitem(last=False)[1].close()
        return image

    def model(self, spec: Task, *, trust: bool = True) -> RestorationModel:
        """Return the model of a task; of a plan's the parent process has the consent to run its code."""
        from napari_restore.api._models import load_described

        key = _key_of(spec)
        cached = self._models.pop(key, None)
        model = self._models[key] = cached or load_described(spec, trust=trust)
        while len(self._models) > CACHED_MODELS:
            self._models.popitem(last=False)
        return model


def _key_of(spec: Task) -> str:
    from napari_restore.api._models import stamp_of

    stamp = stamp_of(str(spec.get("model") or ""), spec.get("weights"))
    return json.dumps([spec, stamp], sort_keys=True, default=str)


def _has_other_frames(image: Image) -> bool:
    """Return whether files of a bracket have changed, whose fingerprints no task has."""
    if image.companions is None:
        return False
    try:
        return any(frame.reader.fingerprint() != frame.fingerprint for frame in image.frames)
    except OSError:
        return True
