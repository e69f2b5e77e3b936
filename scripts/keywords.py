"""Write the keywords of questions for type checkers: `questions/_keywords.py`, which is compared."""

from __future__ import annotations

from pathlib import Path

from napari_restore.questions import (
    Adjustment,
    Attend,
    Attribute,
    Format,
    Machine,
    Reading,
    Restore,
    options_of,
)

FILE = Path(__file__).resolve().parent.parent / "src/napari_restore/questions/_keywords.py"
HEAD = '''"""Keywords of questions as typed dictionaries; written by `scripts/keywords.py`, not by hand."""

# Types as such: those who read them at run time need not know this module's names.
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Required

from annotated_types import Len
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from napari_restore.questions._region import Region
from napari_restore.questions._types import (
    ContextGradient,
    OtherBands,
    Pathlike,
    Routing,
    Size,
    Tile,
)

Box = Annotated[list[int], Len(4, 4)]
"""[y0, x0, y1, x1], half open."""
'''
OF_RESTORE = "ReadingKeywords", "MachineKeywords", "AdjustmentShared", "RestoreShared"
OF_RECORD = "AdjustmentRecord", "ReadingShared", "RestoreShared"
LINE = 100
"""Most characters of a line."""


def both(question: type, *groups: type) -> str:
    """Return the class of what a record holds as its keywords have it; without that of `groups`."""
    kinds = {name: kind for name, kind in _keywords(question).items() if _is_kept(question, name)}
    kinds = {name: kind for name, kind in kinds.items() if name not in options_of(*groups)}
    return _class(question, (), "Shared", "Keywords that a record holds as they are, of", kinds)


def keywords(question: type, *bases: str, groups: tuple[type, ...] = ()) -> str:
    """Return the class of a question's keywords; those of `groups` are among the `bases`."""
    found = _keywords(question).items()
    kinds = {name: kind for name, kind in found if name not in options_of(*groups)}
    if any(base.endswith("Shared") for base in bases):
        kinds = {name: kind for name, kind in kinds.items() if not _is_kept(question, name)}
    return _class(question, bases, "Keywords", "Keywords of", kinds)


def record(question: type, *bases: str, groups: tuple[type, ...] = ()) -> str:
    """Return the class of what a record holds of a question; that of `groups` is among the `bases`."""
    asked = options_of(question)
    kinds = {
        name: each.json or each.kind
        for name, each in asked.items()
        if each.recorded and not _is_kept(question, name) and name not in options_of(*groups)
    }
    return _class(question, bases, "Record", "What a record holds of", kinds)


def _keywords(question: type) -> dict[str, str]:
    return {name: each.keyword or each.kind for name, each in options_of(question).items()}


def _is_kept(question: type, name: str) -> bool:
    """Return whether a record holds a field of a question as its keyword has it."""
    each = options_of(question)[name]
    return each.recorded and (each.json or each.kind) == (each.keyword or each.kind)


def _class(
    question: type, bases: tuple[str, ...], suffix: str, about: str, kinds: dict[str, str]
) -> str:
    name = question.__name__
    head = f"\n\nclass {name}{suffix}({', '.join(bases) or 'TypedDict'}, total=False):\n"
    if len(head) > 2 + LINE:
        listed = "".join(f"    {base},\n" for base in (*bases, "total=False"))
        head = f"\n\nclass {name}{suffix}(\n{listed}):\n"
    head += f'    """{about} `{name}`."""\n\n'
    # Python quotes what it keeps of a type in its own way.
    return head + "".join(f"    {key}: {kind}\n" for key, kind in kinds.items()).replace("'", '"')


def text() -> str:
    """Return the content of the file."""
    return HEAD + "".join(
        (
            both(Reading),
            both(Adjustment),
            both(Restore, Reading, Adjustment),
            keywords(Reading, "ReadingShared"),
            keywords(Machine),
            keywords(Restore, *OF_RESTORE, groups=(Reading, Machine)),
            record(Adjustment, "AdjustmentShared"),
            record(Restore, *OF_RECORD, groups=(Adjustment,)),
            keywords(Attribute),
            keywords(Attend),
            keywords(Format),
        )
    )


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
