"""The part of `api` that is about attribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore._image_api import Pathlike, open_image
from napari_restore.engine import Region

if TYPE_CHECKING:
    from napari_restore.explain import Attribution

KEPT = ("extent", "black", "white", "exclude", "context", "other_bands")
"""Options of a plan that change a map; what belongs to one machine is left out of a record."""


def attribute(image: Any, model: Any, box: Sequence[int], **options: Any) -> Attribution:
    """Which pixels made what `model` does in `box`: `.map`, `.record`, `.save(path)`.

    `box` is (y0, x0, y1, x1) in level-0 pixels. Options are method, objective, baseline, steps,
    rule, gap, facts, emit, stop and watch, see `napari_restore.explain.attribute`, and those of `plan` that say how
    the image is read and on what the model runs.
    """
    from napari_restore.explain import attribute
    from napari_restore.models import load

    opened = open_image(image)
    loaded = load(model) if isinstance(model, str) else model
    found = attribute(opened, loaded, Region(*(int(v) for v in box)), **options)
    if opened.spec is not None and loaded.spec:
        found.record["task"] = {
            "image": opened.spec,
            "model": loaded.spec,
            "question": found.record["attribution"].pop("request"),
            "options": {name: options[name] for name in KEPT if options.get(name) is not None},
        }
    else:
        found.record["task"] = None
        found.record["attribution"].pop("request")
    return found


def draw_attribution(found: Attribution, path: Pathlike, **options: Any) -> Path:
    """Draw a figure (.png, .pdf, .svg) of an attribution with all that was asked.

    Options are width_mm, exponent and overwrite; see `napari_restore.explain.draw`.
    """
    from napari_restore.explain import draw

    return draw(found, Path(path), **options)


def check_figure(path: Pathlike, *, overwrite: bool = False) -> None:
    """Raise `BadOutput` for a figure that `draw_attribution` could not draw."""
    from napari_restore.explain import check_figure

    check_figure(Path(path), overwrite=overwrite)


def is_attribution(record: Mapping[str, Any]) -> bool:
    """Whether a record tells of an attribution rather than of a restoration."""
    return "attribution" in record


def repeat_attribution(record: Pathlike, **options: Any) -> Attribution:
    """Ask again what a record tells of; options are those that belong to one machine.

    Raises `InputError` when the record does not say enough and `SourceChanged` when the image
    is not the one it tells of.
    """
    from napari_restore.errors import InputError, SourceChanged
    from napari_restore.images import Image
    from napari_restore.models import load
    from napari_restore.records import read_record

    told: dict[str, Any] = dict(read_record(Path(record)))
    task = told.get("task")
    if not is_attribution(told) or task is None:
        raise InputError(
            f"{record} does not say enough to ask again.",
            "Only attributions of images and models that lie in files can be repeated.",
        )
    image = Image.from_spec(task["image"])
    if image.fingerprint != told["input"]["fingerprint"]:
        raise SourceChanged(
            f"{image.name} is not the image that {record} tells of.",
            "Ask anew: napari-restore attribute.",
        )
    question = dict(task["question"])
    clear = told["attribution"].get("baseline_fingerprint")
    if clear is not None and open_image(question["baseline"]).fingerprint != clear:
        raise SourceChanged(
            f"{question['baseline']} is not the clear image that {record} tells of.",
            "Ask anew: napari-restore attribute.",
        )
    return attribute(
        image, load(**task["model"]), question.pop("box"), **question, **task["options"], **options
    )
