"""A layer's input and what rows need beside it, in memory: `LayerTokens` for tests."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from torch import Tensor


class TokensInMemory:
    def __init__(self, grid: Tensor, kept: Mapping[Hashable, Tensor] | None = None) -> None:
        self.shape = tuple(grid.shape)
        self._tokens, self._kept = grid.reshape(-1, grid.shape[-1]).clone(), dict(kept or {})
        self.read = 0
        """Tokens that were read."""

    def tokens(self, numbers: Tensor) -> Tensor:
        self.read += len(numbers)
        return self._tokens[numbers]

    def kept(self, name: Hashable) -> Tensor:
        return self._kept[name]
