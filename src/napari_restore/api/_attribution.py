"""Attributions of one box, and their files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from napari_restore.api._images import Bands, Pathlike, open_image
from napari_restore.api._models import as_model, load_described
from napari_restore.api._options import AttributeOptions, checked_region, shows
from napari_restore.api._progress_bar import progress_bar
from napari_restore.api._recorded import Recorded, read_recorded
from napari_restore.engine import Region

if TYPE_CHECKING:
    from torch import nn

    from napari_restore.engine import Event
    from napari_restore.explain import Attribution, MethodInfo

KEPT = ("extent", "black", "white", "exclude", "context", "other_bands")
"""Options of a plan that change a map; what belongs to one machine is left out of a record."""

FILES = ("exclude", "context")
"""Of these, those that name files."""


@shows(AttributeOptions)
def attribute(
    image: Any,
    model: str | os.PathLike[str] | nn.Module,
    box: Region | None = None,
    *,
    polygon: Sequence[Sequence[float]] | None = None,
    level: int = 0,
    bands: Bands | None = None,
    progress: bool | None = None,
    emit: Callable[[Event], None] | None = None,
    stop: threading.Event | None = None,
    **options: Unpack[AttributeOptions],
) -> Attribution:
    """Ask which pixels made what `model` does in `box`: `.map`, `.record`, `.save(path)`.

    Parameters
    ----------
    image, model
        As for `plan`.
    box
        A `Region` of level-0 pixels of the result: ``Region(y0, x0, y1, x1)`` or
        ``Region.from_xywh(x, y, width, height)``; bare tuples are refused. This or `polygon`.
    polygon
        Vertices (y, x) in level-0 pixels, edges at whole numbers.
    level
        Above 0 an overview of the image is asked in the place of its true pixels: another question,
        and map and record are in its pixels.
    bands
        Which band is what, counted from 1: ``"red=4,green=3,blue=2"`` or a mapping.
    progress
        Whether to draw a progress bar (tqdm). Default: in a terminal and in a notebook, where no
        `emit` is given.
    emit, stop
        Takes the events; ends the work when it is set.
    method, objective, baseline, steps, rule, gap, context_gradient, routing, arguments, check
        The question, see `napari_restore.explain.attribute` and docs/attribution.md.
    watch
        Takes the map as it comes.
    exclude, extent, context, other_bands, black, white
        How the image is read, as for `plan`.
    memory, device_memory, device, workers, scratch
        What the run may take of this machine, as for `plan`.

    Raises
    ------
    napari_restore.errors.RestoreError
        With one sentence naming the cause, and the next step.
    """
    from napari_restore.explain import attribute

    opened = open_image(image, bands=bands).level_view(level)
    # An overview may be asked in its own right, as a record tells of one.
    scale = opened.scale if level else 1
    loaded = as_model(model)
    region = None if box is None else _smaller(checked_region(box, "box"), scale)
    if polygon is not None:
        polygon = [[value / scale for value in vertex] for vertex in polygon]
    with progress_bar(False if emit is not None and progress is None else progress) as show:
        found = attribute(
            opened, loaded, region, polygon=polygon, emit=emit or show, stop=stop, **options
        )
    found.record["attribution"]["scale"] = opened.scale
    request = found.record["attribution"].pop("request")
    found.record["task"] = None
    if opened.spec is not None and loaded.spec:
        given: Mapping[str, Any] = options
        kept = lasting({name: given[name] for name in KEPT if given.get(name) is not None})
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
    from napari_restore.images import is_inline

    return {
        name: os.path.abspath(value)
        if name in FILES and value is not None and not is_inline(value)
        else value
        for name, value in options.items()
    }


def digests(options: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of every file that `lasting` options name, by its path."""
    from napari_restore.engine import digest
    from napari_restore.images import is_inline

    named = [options[name] for name in FILES if options.get(name) is not None]
    return {name: digest(Path(name)) for name in named if not is_inline(name)}


def _smaller(box: Region, scale: int) -> Region:
    """The pixels of an overview that hold any of `box`."""
    y0, x0, y1, x1 = box
    return Region(y0 // scale, x0 // scale, -(-y1 // scale), -(-x1 // scale))


def explainers() -> list[MethodInfo]:
    """The methods of `attribute` that go along no path: name, source, takes_baseline, settings.

    ``settings`` are text that `arguments_in` reads. Not for the GUI thread: captum is imported.
    """
    from napari_restore.explain import method_list

    return method_list()


def arguments_in(text: str) -> dict[str, Any]:
    """Arguments of such a method from ``name=value name=value``; raises `BadParameter`."""
    from napari_restore.explain import arguments_in

    return arguments_in(text)


def argument_value(text: str) -> Any:
    """The value of one: a number, a word that Python knows, or a tuple of them; all else is text."""
    from napari_restore.explain import value_of_text

    return value_of_text(text)


def draw_attribution(found: Attribution, path: Pathlike, **options: Any) -> Path:
    """Draw a figure (.png, .pdf, .svg) of an attribution with all that was asked.

    Options are width_mm, exponent and overwrite; see `napari_restore.explain.draw`.
    """
    from napari_restore.engine import peak_in
    from napari_restore.explain import draw

    with peak_in(found.record):
        return draw(found, Path(path), **options)


def check_figure(path: Pathlike, *, overwrite: bool = False) -> None:
    """Raise `BadOutput` for a figure that `draw_attribution` could not draw."""
    from napari_restore.explain import check_figure

    check_figure(Path(path), overwrite=overwrite)


def overview_path(path: Pathlike) -> Path:
    """Where the shares of an overview go that belong to the map at `path`."""
    from napari_restore.explain import overview_path

    return overview_path(Path(path))


def repeat_attribution(
    record: Pathlike | Recorded,
    *,
    trust: bool = False,
    allow_outside: bool = False,
    **options: Any,
) -> Attribution:
    """Ask again what a record tells of; options are those that belong to one machine.

    Code that the record names runs only with `trust`; a VRT takes pixels from files outside
    its folder only with `allow_outside`.

    Raises `InputError` when the record does not say enough and `SourceChanged` when image, weights
    or another file that was read are not those it tells of.
    """
    from napari_restore.images import Image

    recorded = read_recorded(record)
    task = recorded.task("attribution", allow_outside=allow_outside)
    told = recorded.told
    model = load_described(task["model"], trust=trust)
    image = Image.from_spec(task["image"])
    question = dict(task["question"])
    if question.get("box") is not None:
        question["box"] = Region(*question["box"])
    recorded.check_image(image, told["input"]["fingerprint"])
    recorded.check_model(model, told["model"]["weights_sha256"])
    recorded.check_files(task.get("files", {}))
    clear = told["attribution"].get("baseline_fingerprint")
    if clear is not None and question.get("baseline") is not None:
        recorded.check_image(open_image(question["baseline"]), clear, "clear image")
    return attribute(image, model, **question, **task["options"], **options)
