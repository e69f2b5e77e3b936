"""Writes the pages of the site that are made from code: commands, Python, and files of the root.

They lie in docs/reference, which git ignores. `write` replaces a page only if it has changed, so that a
second build reads only what is new.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import napari_restore
from napari_restore.commands import build_parser
from napari_restore.explain.kinds import KINDS, OF_METHOD, OF_SITE

DOCS = Path(__file__).resolve().parent.parent
FOLDER = DOCS / "reference"
ROOT_PAGES = {
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "CREDITS.md": "credits",
}
"""Pages of the repository's root that the site shows, and their names there."""

CLASSES = (
    "images.Image",
    "images.Bracket",
    "models.RestorationModel",
    "models.ModelCard",
    "engine.Plan",
    "engine.Job",
    "engine.Result",
    "engine.Cluster",
    "explain.Attribution",
    "explain.AttributionTable",
    "explain.attention.attention.Attention",
    "api.BandMathChange",
)
"""What public functions take and return, below `napari_restore`."""
INSIDE = {
    "Image": (
        "as_light balanced cells chunk_bytes fetch_ahead from_spec has_landed is_built level_scale placed "
        "read_band_valid read_landed read_representative read_valid_landed refreshed take_levels uncached "
        "viewed with_companions"
    ).split(),
}
"""Members of these classes that only the program itself calls: they are on no page."""
INHERITED = "   :inherited-members: Module, tuple\n"
"""Shows members of our own base classes, less those of torch and Python."""


def pages() -> dict[str, str]:
    """Return the text of every page by its name below docs/reference."""
    return {
        "kinds.md": kinds_page(),
        **dict(command_pages()),
        **dict(python_pages()),
        **dict(root_pages()),
    }


def write() -> None:
    """Write all pages; remove those that are no more."""
    texts = pages()
    for old in FOLDER.rglob("*.*"):
        if old.relative_to(FOLDER).as_posix() not in texts:
            old.unlink()
    for name, text in texts.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def public_names() -> list[str]:
    """Return the names that ``napari_restore`` offers, less the version."""
    return sorted(name for name in napari_restore.__all__ if name != "__version__")


def classes() -> dict[str, str]:
    """Return the dotted names of all classes that have a page, by their own names."""
    found = {name.rpartition(".")[2]: f"napari_restore.{name}" for name in CLASSES}
    return {"Region": "napari_restore.Region", **found}


def fields() -> Iterator[str]:
    """Yield the dotted name of each field of these classes."""
    for path in classes().values():
        module, _, name = path.rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        for base in kind.__mro__:
            yield from (f"{path}.{each}" for each in vars(base).get("__annotations__", ()))


def python_pages() -> Iterator[tuple[str, str]]:
    """Yield a page for each public name, for each class that they return, and for the errors."""
    functions = [name for name in public_names() if name != "Region"]
    rows = "\n".join(f"   {name}" for name in functions)
    listed = "\n".join(f"   ~{path.partition('.')[2]}" for path in classes().values())
    yield (
        "python.rst",
        f"""{heading("Python reference")}
For those who call the program from Python: every public name, from its docstring. :doc:`/api` has examples.

.. currentmodule:: napari_restore

.. autosummary::
   :nosignatures:

{rows}

.. autosummary::
   :nosignatures:

{listed}

:doc:`python/errors` lists the errors.
""",
    )
    for name in functions:
        yield f"python/{name}.rst", f"{heading(name)}\n.. autofunction:: napari_restore.{name}\n"
    for name, path in classes().items():
        # What conf.py leaves out of every page, as an option replaces the one there.
        hidden = ", ".join(["__init__", "__new__", *INSIDE.get(name, ())])
        yield (
            f"python/{name}.rst",
            f"{heading(name)}\n.. autoclass:: {path}\n   :members:\n   :exclude-members: {hidden}\n{INHERITED}",
        )
    yield (
        "python/errors.rst",
        f"{heading('Errors')}\n.. automodule:: napari_restore.errors\n   :members:\n"
        "   :show-inheritance:\n",
    )


def heading(text: str) -> str:
    """Return a title in reStructuredText."""
    return f"{text}\n{'=' * len(text)}\n"


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of every command."""
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def command_pages() -> Iterator[tuple[str, str]]:
    """Yield a page for each command, from its parser, and one that lists them."""
    found = commands()
    listed = "\n".join(
        f"| [`{name}`](commands/{name}.md) | {cell(parser.description or '')} |"
        for name, parser in found.items()
    )
    yield (
        "commands.md",
        "# Options of each command\n\nFor those who look up an option: what `napari-restore COMMAND --help` "
        f"prints.\n\n| command | what it does |\n| --- | --- |\n{listed}\n",
    )
    for name, parser in found.items():
        yield f"commands/{name}.md", command_page(name, parser)


def command_page(name: str, parser: argparse.ArgumentParser) -> str:
    """Return usage and options of one command, a table for each group of them."""
    needed = [
        " ".join([*action.option_strings[:1], value_of(action)])
        for action in sorted(parser._actions, key=lambda action: bool(action.option_strings))
        if action.required or not action.option_strings
    ]
    usage = " ".join([parser.prog, *needed, "[OPTION …]"])
    text = f"# {name}\n\n{sentence(parser.description or '')}\n\n```text\n{usage}\n```\n"
    for group in parser._action_groups:
        rows = [
            f"| {spelled(action)} | {cell(action.help % vars(action) if action.help else '')} |"
            for action in group._group_actions
            if action.help != argparse.SUPPRESS
        ]
        if rows:
            title = (group.title or "options").capitalize()
            about = f"{sentence(group.description)}\n\n" if group.description else ""
            text += f"\n## {title}\n\n{about}| | |\n| --- | --- |\n" + "\n".join(rows) + "\n"
    return text


def spelled(action: argparse.Action) -> str:
    """Return an option as one writes it, with its value, as code."""
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`".replace("|", "\\|")
    value = " " + value_of(action) if action.nargs != 0 else ""
    return ", ".join(f"`{flag}{value}`" for flag in action.option_strings).replace("|", "\\|")


def value_of(action: argparse.Action) -> str:
    """Return what stands for the value of an option or argument."""
    return argparse.HelpFormatter("")._format_args(action, action.dest.upper())


def sentence(text: str) -> str:
    """Return a text of argparse with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def cell(text: str) -> str:
    """Return a text of argparse as it may stand in a table."""
    return re.sub(r"([|*_<>$\[\]\\])", r"\\\1", " ".join(text.split()))


def kinds_page() -> str:
    """Return the page of all kinds of maps, from the table that figures, window and records have."""
    makers: dict[str, list[str]] = {}
    for made_by, kind in (*OF_METHOD.items(), *OF_SITE.items()):
        makers.setdefault(kind, []).append(f"`{made_by}`")
    rows = "".join(
        f"| {cell(kind.title)} | {', '.join(makers.get(name, ()))} | "
        f"{' | '.join(map(cell, (kind.value, kind.scale, kind.total, kind.blank, kind.says)))} |\n"
        for name, kind in KINDS.items()
    )
    return (
        "# Kinds of maps\n\nFor those who read a map: what its values, colours and sums are, in the words "
        "of figures, window and records. D is the [objective](../attribution.md#objective).\n\n"
        "| map | methods, or kinds of layers | one value | colours | sum of all | grey or clear | what it says |\n"
        f"| --- | --- | --- | --- | --- | --- | --- |\n{rows}"
    )


def root_pages() -> Iterator[tuple[str, str]]:
    """Yield the pages of the repository's root, links of which begin at docs/reference."""
    for file, name in ROOT_PAGES.items():
        text = (DOCS.parent / file).read_text(encoding="utf-8")
        yield f"{name}.md", re.sub(r"\]\((?![a-z]+:|#)", "](../../", text)
