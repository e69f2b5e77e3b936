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


def keywords(question: type, *groups: type) -> str:
    """Return the class of a question's keywords; those of `groups` are inherited."""
    kinds = {name: each.keyword or each.kind for name, each in options_of(question).items()}
    return _class(question, groups, "Keywords", "Keywords of", kinds)


def record(question: type, *groups: type) -> str:
    """Return the class of what a record holds of a question; that of `groups` is inherited."""
    asked = options_of(question)
    kinds = {name: each.json or each.kind for name, each in asked.items() if each.recorded}
    return _class(question, groups, "Record", "What a record holds of", kinds)


def _class(
    question: type, groups: tuple[type, ...], suffix: str, about: str, kinds: dict[str, str]
) -> str:
    bases = ", ".join(f"{each.__name__}{suffix}" for each in groups) or "TypedDict"
    lines = {name: kind for name, kind in kinds.items() if name not in options_of(*groups)}
    name = question.__name__
    head = f'\n\nclass {name}{suffix}({bases}, total=False):\n    """{about} `{name}`."""\n\n'
    # Python quotes what it keeps of a type in its own way.
    return head + "".join(f"    {key}: {kind}\n" for key, kind in lines.items()).replace("'", '"')


def text() -> str:
    """Return the content of the file."""
    return HEAD + "".join(
        (
            keywords(Reading),
            keywords(Machine),
            keywords(Restore, Reading, Machine),
            record(Adjustment),
            record(Restore, Adjustment),
            keywords(Attribute),
            keywords(Attend),
            keywords(Format),
        )
    )


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
