"""Converts a task to the command that runs it.

A task is what `api.task_of` returns: a plan as JSON. Options of the machine – memory, workers –
are part of neither.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from napari_restore.errors import InputError
from napari_restore.questions import (
    Adjustment,
    Attend,
    Attribute,
    Computing,
    Format,
    Machine,
    Opening,
    Reading,
    Target,
    options_of,
    recorded,
)

PROGRAM = "napari-restore"
EXPORT_OPTIONS = tuple(recorded(Format()))
"""Options of `Result.save` that are options of the command, and in the record for `rerun`."""
MAX_COMMAND_LENGTH = 8191
"""Characters that cmd.exe accepts in one command."""
_PLAIN = re.compile(r"--?[A-Za-z0-9-]+|[A-Za-z0-9_./\\:][A-Za-z0-9_./\\:-]*", re.ASCII)
"""Arguments that need no quotes in any shell. PowerShell splits flags at a dot."""
_NOT_QUOTABLE = (
    (re.compile(r"[\"“”„`\x00-\x1f\x7f]"), "the character {!r}"),
    # `C$\scenes` and `5 $.tif` stay as they are, `$HOME` and `$(…)` do not.
    (re.compile(r"\$(?![\\/. ]|\Z)"), "a $"),
    (re.compile(r"%[A-Za-z_][\w()]*(:[^%]*)?%"), "{}"),
)
"""Patterns that no quoting protects in both cmd.exe and PowerShell, and their names."""


def quoted(arguments: Sequence[str], system: str = os.name) -> str:
    """Quote arguments as one command; `system` is "nt" for Windows, else for a POSIX shell.

    On Windows the command means the same in cmd.exe and PowerShell: arguments that are not plainly
    safe are put in double quotes, within which both leave spaces and ``& | < > ( ) ^ ; , ' @ #``
    unchanged. What no common quoting protects raises `InputError`: double quotes of any kind,
    backticks and control characters, ``$`` before a name or bracket (expanded by PowerShell),
    ``%NAME%`` of the usual names (expanded by cmd.exe), an empty argument (PowerShell 5 drops it)
    and more than `MAX_COMMAND_LENGTH` characters. A lone ``%`` and ``!`` are safe: at its prompt
    cmd.exe changes neither, unless started with delayed expansion (``/V:ON``).
    """
    if system != "nt":
        return shlex.join(arguments)
    command = " ".join(map(_quoted_for_windows, arguments))
    if len(command) > MAX_COMMAND_LENGTH:
        raise InputError(
            f"The command has {len(command)} characters; Windows takes {MAX_COMMAND_LENGTH}.",
            "Draw fewer areas, or export from here.",
        )
    return command


def _quoted_for_windows(argument: str) -> str:
    if _PLAIN.fullmatch(argument):
        return argument
    if not argument:
        raise InputError("The command contains an empty argument.", "Export from here.")
    for pattern, name in _NOT_QUOTABLE:
        if found := pattern.search(argument):
            raise InputError(
                f"{argument} contains {name.format(found[0])}, which a Windows shell would change.",
                "Choose another name for the file, or export from here.",
            )
    # Programs read \" as a literal quote, so a backslash at the end is doubled.
    trailing = len(argument) - len(argument.rstrip("\\"))
    return f'"{argument}{argument[-1:] * trailing}"'


def command_arguments(
    task: Mapping[str, Any],
    size: Sequence[int],
    output: str | os.PathLike[str],
    *,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return the arguments of the command that writes `output` with the pixels of `task`.

    `task` is portable: its masks are text, or files by absolute path. `size` is (height, width) of
    the task's image, `options` are those of `Result.save`; a task with a question has none. Raises `InputError` for
    what the command cannot express.
    """
    if "question" in task:
        return [PROGRAM, *_explained(task, output, device)]
    others = task["image"].get("companions")
    asked = _meant({"device": device, **task["options"]})
    return [
        PROGRAM,
        *(["restore", *_image(task)] if others is None else ["fuse", *_bracket(task, others)]),
        "-o",
        os.fspath(output),
        *_region(asked, size),
        *_flags(asked, Target),
        *_model(task["model"]),
        *_flags(asked, Adjustment, Reading, Computing, Machine),
        *_flags(options or {}, Format),
    ]


def _explained(task: Mapping[str, Any], output: Any, device: str) -> Iterator[str]:
    """Yield the arguments of the command that asks the question of `task`, without the program.

    An attribution's has a ``scale``: the pixels of the image along a side of one of its level's.
    """
    question, image = task["question"], dict(task["image"])
    level, scale = image.pop("level", 0), task.get("scale", 1)
    queries, task = question.get("queries"), {**task, "image": image}
    others = image.get("companions")
    yield "attribute" if queries is None else "attend"
    yield from _image(task) if others is None else ("--bracket", *_bracket(task, others))
    yield from ("-o", os.fspath(output), *_model(task["model"]))
    if queries is None:
        yield from _target(question, scale)
        for name, value in question["arguments"].items():
            yield from ("--argument", f"{name}={_text(value)}")
        if ".py:" in question["objective"] and not task["model"].get("code"):
            yield "--yes"
    else:
        for query in queries:
            x, y, *sides = _box(query["box"], scale)
            is_pixel = sides == [str(scale)] * 2
            yield from ("--query", x, y) if is_pixel else ("--box", x, y, *sides)
        layers = question["layers"]
        for layer in [layers] if isinstance(layers, str) else layers:
            yield from _flag_with_value("--layer", layer)
    if level:
        yield from ("--level", str(level))
    yield from _flags(question, Attribute if queries is None else Attend)
    yield from _flags({"device": device, **_meant(task["options"])}, Reading, Machine)


def _target(question: Mapping[str, Any], scale: int) -> Iterator[str]:
    """Yield the box or polygon of an attribution, which is in pixels of its level."""
    if question["polygon"] is None:
        yield from ("--box", *_box(question["box"], scale))
    else:
        corners = ((x * scale, y * scale) for y, x in question["polygon"])
        yield from ("--polygon", *(_text(float(each)) for corner in corners for each in corner))


def _box(box: Sequence[int], scale: int) -> list[str]:
    """Return X Y WIDTH HEIGHT of a box (y0, x0, y1, x1)."""
    y0, x0, y1, x1 = (scale * int(each) for each in box)
    return [str(each) for each in (x0, y0, x1 - x0, y1 - y0)]


def _image(task: Mapping[str, Any]) -> Iterator[str]:
    spec = task["image"]
    source = spec["source"]
    paths = [os.path.abspath(path) for path in ([source] if isinstance(source, str) else source)]
    if spec.get("level"):
        raise _not_expressible("a coarser level of an image", "Restore the image itself.")
    if "select" in spec and task["options"].get("other_bands") != "drop":
        raise _not_expressible("a selection of bands", "Export from here.")
    yield from paths
    yield from _flags({**spec, "bands": _bands(spec.get("bands"))}, Opening)


def _bracket(task: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[str]:
    """Yield the frames of a bracket, dark to bright, and which of them is the reference."""
    alone = {**task, "image": {k: v for k, v in task["image"].items() if k != "companions"}}
    reference, *options = _image(alone)
    frames = [os.path.abspath(each["source"]) for each in others["images"]]
    frames.insert(others["reference"], reference)
    own = task["image"].get("exposed")
    if own is not None:
        evs = [each["exposed"] for each in others["images"]]
        evs.insert(others["reference"], own)
        yield reference
        yield from ("--ev", *map(_ev, evs))
        yield from _flag_with_value("--reference", _ev(own))
        yield from options
        return
    yield from frames
    yield from ("--reference", reference)
    if not any(each.get("placement") for each in others["images"]):
        yield from ("--align", "off")
    elif "question" not in task and task["options"].get("mask") is None:
        # Where the plan has a part of the image, that is a region of its own.
        yield "--no-crop"
    yield from ("--ev", *map(_ev, others["exposures"]))
    yield from options


def _ev(value: float) -> str:
    """Return an EV that parses back exactly, without digits that say nothing."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _bands(bands: Any) -> str | None:
    if isinstance(bands, str | None):
        return bands
    if isinstance(bands, Mapping):
        return ",".join(f"{role}={number}" for role, number in bands.items())
    return ",".join("-" if item is None else str(item) for item in bands)


def _region(options: Mapping[str, Any], size: Sequence[int]) -> Iterator[str]:
    """Yield a box for every target, none for the whole image."""
    boxes = [tuple(int(value) for value in box) for box in options["region"]]
    for y0, x0, y1, x1 in boxes if boxes != [(0, 0, *size)] else ():
        yield from ("--srcwin", str(x0), str(y0), str(x1 - x0), str(y1 - y0))


def _model(spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("card"):
        raise _not_expressible(
            "a model with a card of its own", "Save the card beside the file, as FILE.json."
        )
    if spec.get("without_heads"):
        raise _not_expressible("a network without some of its heads", "Run it in Python.")
    yield from ("--model", spec["model"])
    if spec.get("weights") is not None:
        yield from _flag_with_value("--weights", spec["weights"])
    for name, value in sorted((spec.get("parameters") or {}).items()):
        yield from _flag_with_value("--set", f"{name}={_text(value)}")
    if spec.get("code"):
        yield "--yes"


def _meant(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task without those that say what is so anyway."""
    meant = dict(options)
    if meant.get("extent", "image") not in ("image", "region"):
        raise _not_expressible("a draft", "Export from here.")
    if meant.get("context") is not None:
        meant["context"] = os.path.abspath(meant["context"])
    if meant.get("mask") is None:
        meant.pop("feather", None)
    if meant.get("tile_batch") == 1:
        meant["tile_batch"] = None
    if meant.get("residual_dtype") == meant.get("precision", Computing.precision):
        meant["residual_dtype"] = None
    return meant


def _flags(options: Mapping[str, Any], *questions: type) -> Iterator[str]:
    """Yield the flags of what differs from the defaults of `questions`."""
    for name, each in options_of(*questions).items():
        value = options.get(name)
        if not each.has_flag or value is None or value == each.default:
            continue
        if each.among:
            yield from (each.flag, each.word if value is True else f"{each.word}={_text(value)}")
        elif isinstance(value, bool):
            yield each.flag
        else:
            yield from _flag_with_value(each.flag, value)


def _flag_with_value(flag: str, value: Any) -> tuple[str, ...]:
    """Return a flag and its value; as one argument where the value looks like a flag."""
    text = _text(value)
    return (f"{flag}={text}",) if text.startswith("-") else (flag, text)


def _text(value: Any) -> str:
    """Format a value that parses back exactly, floats with all digits."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(float(value)) if isinstance(value, float) else str(value)


def _not_expressible(what: str, hint: str) -> InputError:
    """Return the error for a task that the command line cannot express."""
    return InputError(f"The command line has no option for {what}.", hint)
