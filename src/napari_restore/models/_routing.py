"""What a layer decides, which is no smooth function of its input: made once, then fixed."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor


class Routing:
    """Which experts a cell asks, which tokens lie side by side: the decisions of one layer.

    The layer that is given an empty one makes its decisions and leaves them here; given again,
    they are taken from here, whatever the input. Between two changes of mind a network is smooth;
    with its routing fixed it is smooth everywhere.
    """

    def __init__(self) -> None:
        self.made: dict[Hashable, Tensor] = {}

    def fixed(self, name: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """Return the decision of that name; `make` is called where there is none yet."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]
