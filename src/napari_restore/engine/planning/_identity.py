"""What identifies a run: keys of the pixels it makes, and the name of its folder."""

from __future__ import annotations

import hashlib
import json
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from napari_restore.images import Image
from napari_restore.models import WITHOUT, RestorationModel, sha256_of_file, sha256_of_state


def run_key(image: Image, model: RestorationModel, settings: dict[str, Any]) -> str:
    """Return the key of the pixels a run makes: same key, same pixels.

    `settings` contains everything but image and model that may change a value. Targets and masks
    are not part of it: they select pixels, they change none.
    """
    content = image.frames_fingerprint
    return _digest([version("napari-restore"), content, model_key(model), settings])


def size_key(image: Image, model: RestorationModel, settings: dict[str, Any]) -> str:
    """Return a key that images of the same size share, in the same model and `settings`."""
    others = image.companions
    place = None if others is None else [len(image.frames), others.reference]
    size = [image.height, image.width, float(image.scale), place]
    return _digest([version("napari-restore"), size, model_key(model), settings])


def folder_name(image: Image, model: RestorationModel, settings: dict[str, Any]) -> str:
    """Return the name of a run's folder: the same for files that changed under their names."""
    source = image.fingerprint if image.path is None else str(image.path)
    made_of = [model.card.id, dict(model.card.values), model.spec]
    return _digest([source, image.spec, *made_of, settings])


def model_key(model: RestorationModel) -> list[Any]:
    """Return everything that determines what `model` computes.

    This is card, values, weights, and foreign code. A module passed in from Python cannot be
    identified by its code; it gets a random name for its lifetime.
    """
    card, spec = model.card, model.spec
    code = ""
    if not spec:
        code = _OWN_NAMES.setdefault(model, uuid.uuid4().hex)
    elif ".py:" in str(spec.get("model", "")):
        code = sha256_of_file(Path(str(spec["model"]).rpartition(":")[0]))
    changed = [spec[WITHOUT]] if WITHOUT in spec else []
    return [card.id, dict(card.values), sha256_of_state(model), code, *changed]


_OWN_NAMES: WeakKeyDictionary[RestorationModel, str] = WeakKeyDictionary()


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
