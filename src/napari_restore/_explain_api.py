"""The part of `api` that is about attribution."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore._image_api import Pathlike, open_image
from napari_restore._recorded_api import Recorded, read_recorded
from napari_restore.engine import Region

if TYPE_CHECKING:
    from napari_restore.explain import Attribution, Offer

KEPT = ("extent", "black", "white", "exclude", "context", "other_bands")
"""Options of a plan that change a map; what belongs to one machine is left out of a record."""

FILES = ("exclude", "context")
"""Of these, those that name files."""


def attribute(
    image: Any,
    model: Any,
    box: Sequence[int] | None = None,
    *,
    polygon: Sequence[Sequence[float]] | None = None,
    level: int = 0,
    **options: Any,
) -> Attribution:
    """Which pixels made what `model` does in `box`: `.map`, `.record`, `.save(path)`.

    `box` is (y0, x0, y1, x1) in level-0 pixels; in its place `polygon` has vertices (y, x), edges
    at whole numbers. Above `level` 0 an overview of the image is asked in the place of its true
    pixels: another question, and map and record are in its pixels. Options are method, objective, baseline, steps,
    rule, gap, facts, choices, emit, stop and watch, see `napari_restore.explain.attribute`, and those of `plan` that say how
    the image is read and on what the model runs.
    """
    from napari_restore.explain import attribute
    from napari_restore.models import load

    opened = open_image(image).level_view(level)
    # An overview may be asked in its own right, as a record tells of one.
    scale = opened.scale if level else 1
    loaded = load(model) if isinstance(model, str) else model
    region = None if box is None else _smaller(Region(*(int(v) for v in box)), scale)
    if polygon is not None:
        polygon = [[value / scale for value in vertex] for vertex in polygon]
    found = attribute(opened, loaded, region, polygon=polygon, **options)
    found.record["attribution"]["scale"] = opened.scale
    request = found.record["attribution"].pop("request")
    found.record["task"] = None
    if opened.spec is not None and loaded.spec:
        kept = lasting({name: options[name] for name in KEPT if options.get(name) is not None})
        found.record["task"] = {
            "image": opened.spec,
            "model": loaded.spec,
            "question": request,
            "options": kept,
            "files": digests(kept),
        }
    return found


def lasting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose files are found from any folder."""
    return {
        name: os.path.abspath(value) if name in FILES and value is not None else value
        for name, value in options.items()
    }


def digests(options: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of every file that `lasting` options name, by its path."""
    from napari_restore.engine import digest

    named = [options[name] for name in FILES if options.get(name) is not None]
    return {name: digest(Path(name)) for name in named}


def _smaller(box: Region, scale: int) -> Region:
    """The pixels of an overview that hold any of `box`."""
    y0, x0, y1, x1 = box
    return Region(y0 // scale, x0 // scale, -(-y1 // scale), -(-x1 // scale))


def explainers() -> list[Offer]:
    """The methods of `attribute` that go along no path: name, source, takes_baseline, settings.

    ``settings`` are text that `arguments_in` reads. Not for the GUI thread: captum is imported.
    """
    from napari_restore.explain import offered

    return offered()


def arguments_in(text: str) -> dict[str, Any]:
    """Arguments of such a method from ``name=value name=value``; raises `BadParameter`."""
    from napari_restore.explain import arguments_in

    return arguments_in(text)


def argument_value(text: str) -> Any:
    """The value of one: a number, a word that Python knows, or a tuple of them; all else is text."""
    from napari_restore.explain import literal

    return literal(text)


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


def overview_path(path: Pathlike) -> Path:
    """Where the shares of an overview go that belong to the map at `path`."""
    from napari_restore.explain import overview_path

    return overview_path(Path(path))


def repeat_attribution(record: Pathlike | Recorded, **options: Any) -> Attribution:
    """Ask again what a record tells of; options are those that belong to one machine.

    Raises `InputError` when the record does not say enough and `SourceChanged` when image, weights
    or another file that was read are not those it tells of.
    """
    from napari_restore.images import Image
    from napari_restore.models import load

    recorded = read_recorded(record)
    task, told = recorded.task("attribution"), recorded.told
    image, model, question = Image.from_spec(task["image"]), load(**task["model"]), task["question"]
    recorded.check_image(image, told["input"]["fingerprint"])
    recorded.check_model(model, told["model"]["weights_sha256"])
    recorded.check_files(task.get("files", {}))
    clear = told["attribution"].get("baseline_fingerprint")
    if clear is not None:
        recorded.check_image(open_image(question["baseline"]), clear, "clear image")
    return attribute(image, model, **question, **task["options"], **options)
