"""What a run is of: one description of all that decides its pixels, and its keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from napari_restore.images import Image
from napari_restore.models import RestorationModel, definition_of

Description = dict[str, Any]
"""Everything but the image that may change a value, JSON-able: the model, and the settings.

Targets, masks and adjustments are no part of it: they choose and mix pixels, they change none."""


def describe(model: RestorationModel, content: str, settings: Mapping[str, Any]) -> Description:
    """Return the description of a run with `model`, of which `content` is the `content_of`."""
    return {
        "version": _version(),
        "content": content,
        "definition": definition_of(model),
        **settings,
    }


def run_key(image: Image, description: Description) -> str:
    """Return the key of the pixels a run makes: same key, same pixels."""
    return digest_of([image.frames_fingerprint, description])


def size_key(image: Image, description: Description) -> str:
    """Return a key that images of the same size share under the same description."""
    others = image.companions
    place = None if others is None else [len(image.frames), others.reference]
    return digest_of([[image.height, image.width, float(image.scale), place], description])


def names_key(image: Image, model: RestorationModel, settings: Any) -> str:
    """Return a key of what the user names: it stays when an image or a model changes under its name."""
    source = image.fingerprint if image.path is None else str(image.path)
    return digest_of([source, image.spec, model.card.id, model.spec, settings])


def folder_name(key: str, maps: Sequence[str], pyramid: bool) -> str:
    """Return the name of the folder of a run: the same run has one for each layout."""
    return key if not maps and not pyramid else digest_of([key, maps, pyramid])


@cache
def _version() -> str:
    # Read once: it takes a tenth of a plan.
    return version("napari-restore")


def digest_of(parts: Any) -> str:
    """Return a digest of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
