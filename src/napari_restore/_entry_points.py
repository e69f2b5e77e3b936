"""What other packages offer by entry points: models, metrics, attribution methods."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

T = TypeVar("T")


def offered(
    group: str, what: str, accept: Callable[[EntryPoint, object], T | None], expected: str
) -> dict[str, T | str]:
    """Load the objects of an entry-point group, by name; a message in place of one that cannot be used."""
    # `accept` converts an object, or returns None if it is not the `expected` kind. One broken
    # package must not disable the others.
    objects: dict[str, T | str] = {}
    for point in entry_points(group=group):
        try:
            loaded = point.load()
        except Exception as error:
            objects[point.name] = f"{what} {point.name} of another package cannot load: {error}."
            continue
        accepted = accept(point, loaded)
        objects[point.name] = (
            f"{what} {point.name} of another package is no {expected}."
            if accepted is None
            else accepted
        )
    return objects
