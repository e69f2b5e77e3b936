"""The line of the command that does what a task does.

A task is what `api.task_of` gives: all that is needed to make a plan again. What
belongs to one machine – memory, workers – is in neither.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from napari_restore.errors import InputError

PROGRAM = "napari-restore"
FILE_OPTIONS = ("cog", "compress", "bit_depth", "quality")
"""Options of `Result.save` that the command has, too."""
LONGEST_LINE = 8191
"""Characters that cmd.exe takes in one line."""
_PLAIN = re.compile(r"--?[A-Za-z0-9-]+|[A-Za-z0-9_./\\:][A-Za-z0-9_./\\:-]*", re.ASCII)
"""Words that mean themselves in every shell. PowerShell cuts flags at a dot."""
_CHANGED = (
    (re.compile(r"[\"“”„`\x00-\x1f\x7f]"), "the character {!r}"),
    # `C$\scenes` and `5 $.tif` stay as they are, `$HOME` and `$(…)` do not.
    (re.compile(r"\$(?![\\/. ]|\Z)"), "a $"),
    (re.compile(r"%[A-Za-z_][\w()]*(:[^%]*)?%"), "{}"),
)
"""What no quotes keep both cmd.exe and PowerShell from changing, and its name."""


def quoted(words: Sequence[str], system: str = os.name) -> str:
    """Words as one line to paste; `system` is "nt" for Windows, else a POSIX shell reads it.

    On Windows the line means the same in cmd.exe and PowerShell: whatever is not plainly
    safe stands in double quotes, which both take off and within which both leave spaces
    and ``& | < > ( ) ^ ; , ' @ #`` alone. Some things no common quoting carries; they
    raise `InputError`: double quotes of any kind, backticks and control characters, ``$``
    before a name or bracket (PowerShell fills it in), ``%NAME%`` of the usual names (cmd.exe
    does), an empty word (PowerShell 5 drops it) and more than `LONGEST_LINE` characters. A lone ``%`` and ``!`` are carried: at its prompt
    cmd.exe changes neither, unless it was started with delayed expansion (``/V:ON``).
    """
    if system != "nt":
        return shlex.join(words)
    line = " ".join(map(_quoted_for_windows, words))
    if len(line) > LONGEST_LINE:
        raise InputError(
            f"The command has {len(line)} characters; Windows takes {LONGEST_LINE}.",
            "Draw fewer areas, or export from here.",
        )
    return line


def _quoted_for_windows(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    if not word:
        raise InputError("The command holds an empty word.", "Export from here.")
    for pattern, name in _CHANGED:
        if found := pattern.search(word):
            raise InputError(
                f"{word} holds {name.format(found[0])}, which a Windows shell would change.",
                "Choose another name for the file, or export from here.",
            )
    # Programs take \" for a quote that is meant: a backslash at the end is doubled.
    trailing = len(word) - len(word.rstrip("\\"))
    return f'"{word}{word[-1:] * trailing}"'


def words_of(
    task: Mapping[str, Any],
    size: Sequence[int],
    output: str | os.PathLike[str],
    *,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """The words of the command that writes `output` with the pixels of `task`.

    `task` is one that lasts: its masks are text, or files by their full path. `size` is
    (height, width) of the task's image, `options` are those of `Result.save`. Raises `InputError` for what the command has no words for.
    """
    return [
        PROGRAM,
        "restore",
        *_image(task),
        "-o",
        os.fspath(output),
        *_region(task["options"], size),
        *_model(task["model"]),
        *_settings(task["options"]),
        *(("--device", device) if device != "auto" else ()),
        *_file(options or {}),
    ]


def _image(task: Mapping[str, Any]) -> Iterator[str]:
    spec = task["image"]
    source = spec["source"]
    paths = [os.path.abspath(path) for path in ([source] if isinstance(source, str) else source)]
    stacked = bool(spec.get("stack"))
    if task.get("mosaic") is not None or (len(paths) > 1 and not stacked):
        raise _wordless("a mosaic of files", "Restore the files into a folder.")
    if spec.get("level"):
        raise _wordless("a coarser level of an image", "Restore the image itself.")
    if "select" in spec and task["options"].get("other_bands") != "drop":
        raise _wordless("a selection of bands", "Export from here.")
    yield from paths
    if stacked:
        yield "--stack"
    if spec.get("bands") is not None:
        yield from _given("--bands", _bands(spec["bands"]))
    if spec.get("sensor") is not None:
        yield from _given("--sensor", spec["sensor"])
    if spec.get("allow_outside"):
        yield "--allow-outside"


def _bands(bands: Any) -> str:
    if isinstance(bands, str):
        return bands
    if isinstance(bands, Mapping):
        return ",".join(f"{role}={number}" for role, number in bands.items())
    return ",".join("-" if item is None else str(item) for item in bands)


def _region(options: Mapping[str, Any], size: Sequence[int]) -> Iterator[str]:
    """A box for every target, none for the whole image; and the mask within them."""
    extent = options.get("extent", "image")
    if extent not in ("image", "region"):
        raise _wordless("a draft", "Export from here.")
    if extent == "region":
        yield from ("--extent", "region")
    boxes = [tuple(int(value) for value in box) for box in options["region"]]
    for y0, x0, y1, x1 in boxes if boxes != [(0, 0, *size)] else ():
        yield from ("--srcwin", str(x0), str(y0), str(x1 - x0), str(y1 - y0))
    if options.get("mask") is not None:
        yield from _given("--mask", options["mask"])
        if options.get("feather"):
            yield from _given("--feather", options["feather"])


def _model(spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("card"):
        raise _wordless(
            "a model with a card of its own", "Save the card beside the file, as FILE.json."
        )
    yield from ("--model", spec["model"])
    if spec.get("weights") is not None:
        yield from _given("--weights", spec["weights"])
    for name, value in sorted((spec.get("parameters") or {}).items()):
        yield from _given("--set", f"{name}={_text(value)}")
    if spec.get("code"):
        yield "--yes"


def _settings(options: Mapping[str, Any]) -> Iterator[str]:
    yield from _look(options)
    if options.get("exclude") is not None:
        yield from _given("--exclude", options["exclude"])
    if options.get("context") is not None:
        yield from _given("--context", os.path.abspath(options["context"]))
    for name in ("other_bands", "black", "white", "tile"):
        if options.get(name) is not None:
            yield from _given(_flag(name), options[name])
    if (options.get("tile_batch") or 1) > 1:
        yield from _given("--tile-batch", options["tile_batch"])
    precision = options.get("precision", "float32")
    if precision != "float32":
        yield from _given("--precision", precision)
    if options.get("residual_dtype") not in (None, precision):
        yield from _given("--residual-dtype", options["residual_dtype"])


def _look(options: Mapping[str, Any]) -> Iterator[str]:
    """What is done to the restored pixels after the model."""
    for name, usual in LOOK.items():
        value = options.get(name, usual)
        if value is True:
            yield _flag(name)
        elif value != usual:
            yield from _given(_flag(name), value)


LOOK: dict[str, Any] = {
    "strength": 1.0,
    "luminance_only": False,
    "protect_shadows": 0.0,
    "protect_highlights": 0.0,
}
"""Options of the look, and what they are when they are not given."""


def _file(options: Mapping[str, Any]) -> Iterator[str]:
    for name in FILE_OPTIONS:
        value = options.get(name)
        if value is True:
            yield _flag(name)
        elif value not in (None, False):
            yield from _given(_flag(name), value)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _given(flag: str, value: Any) -> tuple[str, ...]:
    """A flag and its value; in one word where the value looks like a flag."""
    text = _text(value)
    return (f"{flag}={text}",) if text.startswith("-") else (flag, text)


def _text(value: Any) -> str:
    """A value so that the parser finds the same one: floats to their last digit."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(float(value)) if isinstance(value, float) else str(value)


def _wordless(what: str, hint: str) -> InputError:
    return InputError(f"The command line has no words for {what}.", hint)
