"""Converts options to arguments of the Python interface."""

from __future__ import annotations

import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore.commands import _streams
from napari_restore.commands._options import given
from napari_restore.commands._outputs import FIRST
from napari_restore.commands._progress import reporter
from napari_restore.errors import BadModel, BadRegion, InputError
from napari_restore.questions import Opening, Restore, options_of

RESTORE = options_of(Restore)


def command_of(options: Namespace) -> str:
    """Return the command as a user types it in a shell."""
    return shlex.join(["napari-restore", *options.argv])


def open_image(options: Namespace, paths: Sequence[str], *, plane: int | None = None) -> Any:
    """Open the one image of `paths`, which join or are bands; `plane` instead of that of the options."""
    source = list(paths) if len(paths) > 1 or options.stack else paths[0]
    how = given(options, options_of(Opening))
    return api.open_image(source, **how if plane is None else how | {"plane": plane})


def open_attributed(options: Namespace, paths: Sequence[str]) -> Any:
    """Open the one image of `paths`, with --bracket that of all frames."""
    if not options.bracket:
        return open_image(options, paths)

    return api.open_bracket(
        [open_image(options, [path]) for path in paths],
        reference=reference_of(options),
        exposures=options.ev,
        align=options.align,
    )


def reference_of(options: Namespace) -> int | None:
    """Return which of the frames --reference names: by its path, or by its name."""
    wanted = options.reference
    if wanted is None:
        return None
    # Of one picture the frames are exposures: then it is one of --ev.
    if len(options.paths) == 1 and options.ev:
        try:
            return int(options.ev.index(float(wanted)))
        except ValueError:
            raise InputError(
                f"{wanted} is none of the exposures.", "Give one of --ev as --reference."
            ) from None
    for same in (lambda path: path == wanted, lambda path: Path(path).name == Path(wanted).name):
        found = [number for number, path in enumerate(options.paths) if same(path)]
        if found:
            return found[0]
    raise InputError(f"{wanted} is none of the frames.", "Name one of them with --reference.")


def load_model(options: Namespace) -> Any:
    """Load the model; code in files runs only with consent."""
    return api.load_model(
        options.model,
        **of_models(options, [options.model]),
        card=card_of(options),
        memory=options.memory,
        emit=reporter(options.progress),
    )


def of_models(options: Namespace, models: Sequence[str]) -> dict[str, Any]:
    """Return weights, parameters and whether code runs, as keywords; asks at the terminal."""
    return {
        "weights": options.weights,
        "parameters": dict(options.set),
        "trust": may_run_code(models, yes=options.yes),
    }


def card_of(options: Namespace) -> dict[str, Any] | None:
    """Return the fields of --card, as they are in JSON; text where a value is none. None without any."""
    fields = {}
    for name, text in options.card:
        try:
            fields[name] = json.loads(text)
        except ValueError:
            fields[name] = text
    return fields or None


def load_models(options: Namespace) -> list[Any]:
    """Load the models of a repeated --model, each with a label."""
    named = of_models(options, options.models)
    emit = reporter(options.progress)
    return api.load_models(options.models, **named, memory=options.memory, emit=emit)


def may_run_code(models: Sequence[str], *, yes: bool) -> bool:
    """Return whether code files among `models` may run, by --yes or the terminal; raises `BadModel` if refused."""
    code_files = [file for file in map(api.code_file, models) if file is not None]
    if yes or not code_files:
        return yes
    files = ", ".join(code_files)
    if not confirm(f"Run the code in {files}?"):
        raise BadModel(f"The code in {files} was not run.", "Add --yes if you trust its author.")
    return True


def consent_of(options: Namespace, record_file: Any) -> dict[str, Any]:
    """Return what a `RecordFile` that is repeated may do, as keywords; asks at the terminal."""
    trust = may_run_code(record_file.code, yes=options.yes)
    return {"trust": trust, "allow_outside": options.allow_outside}


def plan_arguments(options: Namespace, image: Any) -> dict[str, Any]:
    """Return the options as keywords of `nr.plan`."""
    if options.feather and options.mask is None:
        raise InputError(
            "--feather softens the edge of a mask, but there is none.",
            "Give one with --mask, or leave --feather out.",
        )
    # Others of these names, as --maps, are options of the command.
    arguments = given(options, (name for name, each in RESTORE.items() if each.has_flag))
    arguments["shared"] = options.cluster is not None
    return {**arguments, "region": region_of(options, image), "context": context_of(options)}


def context_of(options: Namespace) -> str | None:
    """Return the file of --context for one image; None for ``first``. Raises `InputError` without such a file."""
    context: str | None = options.context
    if context == FIRST:
        return None
    if context is not None and not Path(context).is_file():
        raise InputError(f"There is no context file {context}.", "Use first or an existing file.")
    return context


def region_of(options: Namespace, image: Any) -> Any:
    """Return the boxes of pixels to restore; None for the whole image."""
    if options.srcwin is not None:
        return [api.Region.from_xywh(*box) for box in options.srcwin]
    if options.projwin is not None:
        return [api.Region(*box) for box in boxes_of_projwin(options.projwin, image)]
    return api.common_region(image) if options.crop and not options.mask else None


def boxes_of_projwin(window: Sequence[float], image: Any) -> list[tuple[int, int, int, int]]:
    """Return the pixels (y0, x0, y1, x1) of a window (ulx, uly, lrx, lry) in map coordinates."""
    georeference = image.georeference
    if georeference is None or georeference.transform is None:
        raise BadRegion(
            f"{image.name} is not georeferenced, so --projwin has no meaning.",
            "Give the region in pixels with --srcwin.",
        )
    size = image.height, image.width
    boxes: list[tuple[int, int, int, int]] = georeference.boxes(window, size)
    if not any(y0 < size[0] and x0 < size[1] and min(y1, x1) > 0 for y0, x0, y1, x1 in boxes):
        corners = [georeference.to_world(x, y) for x in (0, size[1]) for y in (0, size[0])]
        (left, *_, right), (low, *_, high) = map(sorted, zip(*corners, strict=True))
        raise BadRegion(
            f"The window of --projwin lies outside of {image.name}.",
            f"--projwin ULX ULY LRX LRY is in the image's coordinate system, in which it spans "
            f"{left:.9g} {high:.9g} {right:.9g} {low:.9g}.",
        )
    return boxes


def confirm(question: str) -> bool:
    """Ask for consent at a terminal; return False without one."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    _streams.clear_status()
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
