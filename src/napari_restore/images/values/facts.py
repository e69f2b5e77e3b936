"""Precedence of sources: the first that states a value is taken, those that disagree are named.

The order of the sources is that in which they are given; what the user says comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=str)
T = TypeVar("T")


class OpeningNote(str):
    """A note that the window shows when it opens a file: what is not read, and bands or colours in doubt."""


@dataclass(frozen=True)
class Fact(Generic[S, T]):
    """What is taken, of which source, and which sources say something else."""

    value: T | None = None
    source: S | None = None
    others: tuple[tuple[S, T], ...] = ()
    """Sources that say something else, and what: each value once, of its first source."""

    def disputes(self, what: str, form: Callable[[T], str] = str) -> tuple[str, ...]:
        """Return a note that names the sources that disagree on `what`, and what they say; else none."""
        if self.value is None or not self.others:
            return ()
        others = " and not ".join(f"{form(value)} by {source}" for source, value in self.others)
        return (f"Its {what} is {form(self.value)} by {self.source}, not {others}.",)


def resolve(sources: Iterable[tuple[S, T | None]]) -> Fact[S, T]:
    """Return the value of the first of `sources`; one that states none (None) is passed over."""
    claims = [(source, value) for source, value in sources if value is not None]
    if not claims:
        return Fact()
    (source, first), *rest = claims
    others = {value: (other, value) for other, value in reversed(rest) if value != first}
    return Fact(first, source, tuple(reversed(others.values())))
