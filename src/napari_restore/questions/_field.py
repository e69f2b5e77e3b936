"""Fields of questions: what is said of one beside its name, type and default, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal, TypeVar

from napari_restore.errors import BadParameter

Change = Literal["pixels", "answer", "machine", "file"]
"""What an option changes. "pixels": what the model computes, and so the key of a run; "answer": what
is made of that; "machine": no value; "file": what is kept beside the answer, or where."""
Q = TypeVar("Q")


@dataclass(frozen=True)
class Asked:
    """A field of a question."""

    changes: Change
    help: str | None = None
    """For ``--help`` and `help`; ``%(default)s`` is the default."""
    python: str | None = None
    """The help for Python, where a flag takes more."""
    has_flag: bool = True
    among: str = ""
    """The option whose flag takes it as NAME=VALUE; empty: it has a flag of its own."""
    metavar: str | tuple[str, ...] | None = None
    nargs: int | None = None
    choices: Sequence[str | int] | None = None
    """Those of the flag."""
    parse: Callable[[str], Any] | None = None
    """Reads the flag's text; None: the text itself."""
    limits: tuple[float, float] | None = None
    """The least and the largest number."""
    unit: str = ""
    hint: str = ""
    """What to do about a number beyond the limits."""
    record: bool | None = None
    """Whether it is part of a record; None: where it changes the answer or its pixels."""
    keyword: str | None = None
    """Type of the keyword, where it takes more than the field."""
    json: str | None = None
    """Type in a record, where it is not that of the field."""
    name: str = ""
    kind: str = ""
    """The field's type, as text."""
    default: Any = None

    @property
    def recorded(self) -> bool:
        """Whether it is part of a record."""
        return self.changes in ("pixels", "answer") if self.record is None else self.record

    @property
    def flag(self) -> str:
        """The flag of the command line; that of what is done by default says no."""
        return f"--{self.among or ('no-' if self.default is True else '') + self.word}"

    @property
    def word(self) -> str:
        """The name on the command line."""
        return self.name.replace("_", "-")

    @property
    def argument(self) -> dict[str, Any]:
        """The keywords of `add_argument`."""
        if isinstance(self.default, bool):
            action = "store_false" if self.default else "store_true"
            return {"action": action, "dest": self.name, "help": self.help}
        how = {
            "type": self.parse,
            "choices": self.choices,
            "metavar": self.metavar,
            "nargs": self.nargs,
            "help": self.help,
        }
        return {"default": self.default} | {k: v for k, v in how.items() if v is not None}

    @property
    def text(self) -> str:
        """The help in sentences, for Python."""
        text = self.python or (self.help or "") % {"default": self.default}
        sentences = f"{text[:1].upper()}{text[1:]}."
        if self.limits is not None:
            low, high = self.limits
            sentences += f" From {low:g} to {high:g} {self.unit}".rstrip() + "."
        return sentences

    def check(self, value: Any) -> None:
        """Raise `BadParameter` for a number beyond the limits, and for what is no choice."""
        # A name of several words is an option, which no capital begins.
        name = self.word if "_" in self.name else self.name.capitalize()
        if self.choices is not None and value not in (None, *self.choices):
            hint = f"Write {' or '.join(map(str, self.choices))}."
            raise BadParameter(f"{name} cannot be {value!r}.", hint)
        if self.limits is None or isinstance(value, str | None):
            return
        low, high = self.limits
        if not low <= value <= high:
            beyond = f"{name} {value} is outside {low:g} … {high:g} {self.unit}"
            raise BadParameter(f"{beyond.rstrip()}.", self.hint)


def asked(
    default: Any = MISSING, help: str | None = None, *, factory: Any = MISSING, **about: Any
) -> Any:
    """Declare a field of a frozen dataclass: `about` are the fields of `Asked`."""
    metadata = {"asked": Asked(help=help, **about)}
    return field(default=default, default_factory=factory, metadata=metadata)


def options_of(*questions: type) -> Mapping[str, Asked]:
    """Return the options of questions and of their groups, by name, in order."""
    return _options_of(questions)


@cache
def _options_of(questions: tuple[type, ...]) -> Mapping[str, Asked]:
    return {each.name: each for question in questions for each in _options(question)}


def _options(question: Any) -> Iterator[Asked]:
    for each in fields(question):
        if "asked" in each.metadata:
            factory: Any = each.default_factory
            default = factory() if each.default is MISSING else each.default
            about: Asked = each.metadata["asked"]
            yield replace(about, name=each.name, kind=str(each.type), default=default)
        else:
            yield from _options(each.default_factory)


def keywords_of(question: Any) -> dict[str, Any]:
    """Return all options of a question with their values, by name."""
    found: dict[str, Any] = {}
    for each in fields(question):
        value = getattr(question, each.name)
        found |= {each.name: value} if "asked" in each.metadata else keywords_of(value)
    return found


def question_of(kind: type[Q], keywords: Mapping[str, Any]) -> Q:
    """Return the question that `keywords` ask; `TypeError` for one that it has not."""
    for name in keywords:
        if name not in options_of(kind):
            raise TypeError(
                f"{kind.__name__.lower()}() got an unexpected keyword argument {name!r}"
            )
    made: Q = _made(kind, keywords)
    return made


def _made(kind: Any, keywords: Mapping[str, Any]) -> Any:
    own: dict[str, Any] = {}
    for each in fields(kind):
        if "asked" not in each.metadata:
            own[each.name] = _made(each.default_factory, keywords)
        elif each.name in keywords:
            own[each.name] = keywords[each.name]
    return kind(**own)


def recorded(question: Any) -> dict[str, Any]:
    """Return the options of a question that are part of a record."""
    options = options_of(type(question))
    return {k: v for k, v in keywords_of(question).items() if options[k].recorded}


def part_of(keywords: Mapping[str, Any], *questions: type) -> dict[str, Any]:
    """Return those of `keywords` that are options of `questions`."""
    return {name: keywords[name] for name in options_of(*questions) if name in keywords}


def refuse_others(what: str, keywords: Mapping[str, Any], *questions: type) -> None:
    """Raise `BadParameter` for the first of `keywords` that is no option of `questions`."""
    for name in without(keywords, *questions):
        names = ", ".join(options_of(*questions))
        raise BadParameter(f"{what} takes no option {name}.", f"It takes {names}.")


def without(keywords: Mapping[str, Any], *questions: type) -> dict[str, Any]:
    """Return `keywords` but for the options of `questions`, unknown ones included."""
    return {k: v for k, v in keywords.items() if k not in options_of(*questions)}


def check_values(question: Any) -> None:
    """Raise `BadParameter` for the first value that its field does not take."""
    for name, each in options_of(type(question)).items():
        each.check(getattr(question, name))
