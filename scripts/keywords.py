"""Write the keywords of questions for type checkers: `questions/_keywords.py`, which is compared."""

from __future__ import annotations

from pathlib import Path

from napari_restore.questions import (
    Attend,
    Attribute,
    Evaluate,
    Format,
    HazePairs,
    Machine,
    Reading,
    Restore,
    options_of,
)

FILE = Path(__file__).resolve().parent.parent / "src/napari_restore/questions/_keywords.py"
HEAD = '''"""Keywords of questions as typed dictionaries; written by `scripts/keywords.py`, not by hand."""

# Types as such: those who read them at run time need not know this module's names.
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Required

from annotated_types import Len
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from napari_restore.questions._region import Region
from napari_restore.questions._types import (
    ContextGradient,
    Degradation,
    OtherBands,
    Pathlike,
    Routing,
    SceneKind,
    Size,
    Tile,
)

Box = Annotated[list[int], Len(4, 4)]
"""[y0, x0, y1, x1], half open."""
'''


def keywords(question: type, *within: type) -> str:
    """Return the class of a question's keywords; those of `within` are inherited."""
    inherited = options_of(*within)
    own = {n: each for n, each in options_of(question).items() if n not in inherited}
    bases = [f"{each.__name__}Keywords" for each in within] or ["TypedDict"]
    lines = {name: each.keyword or each.kind for name, each in own.items()}
    return _class(
        f"{question.__name__}Keywords", bases, f"Keywords of `{question.__name__}`.", lines
    )


def record(question: type) -> str:
    """Return the class of what a record holds of a question."""
    lines = {n: each.json or each.kind for n, each in options_of(question).items() if each.recorded}
    about = f"What a record holds of `{question.__name__}`."
    return _class(f"{question.__name__}Record", ["TypedDict"], about, lines)


def _class(name: str, bases: list[str], about: str, lines: dict[str, str]) -> str:
    head = f'\n\nclass {name}({", ".join(bases)}, total=False):\n    """{about}"""\n\n'
    # Python quotes what it keeps of a type in its own way.
    return head + "".join(f"    {key}: {kind}\n" for key, kind in lines.items()).replace("'", '"')


def text() -> str:
    """Return the content of the file."""
    return HEAD + "".join(
        (
            keywords(Reading),
            keywords(Machine),
            keywords(Restore, Reading, Machine),
            record(Restore),
            keywords(Attribute),
            keywords(Attend),
            keywords(Evaluate),
            keywords(HazePairs),
            keywords(Format),
        )
    )


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
