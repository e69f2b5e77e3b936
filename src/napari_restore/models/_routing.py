"""Discrete decisions of a layer, made once and then fixed."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor


class Routing:
    """Routing of one layer: its experts of each cell, its order of tokens.

    A layer called with an empty routing stores its decisions in it; called with it again, it reuses
    them, whatever the input. A network is smooth only between two changes of a decision; with its
    routing fixed it is smooth everywhere. One that only `records` stores what is decided anyway, so
    that the layer's result is to the bit the one without it.
    """

    def __init__(self, *, records: bool = False) -> None:
        self.made: dict[Hashable, Tensor] = {}
        self.records = records

    def fixed(self, name: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """Return the decision of that name; `make` is called where there is none yet."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]
